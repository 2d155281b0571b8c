"""What can be set about rates and bans: how much of something one client may do."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator

from identity.limiting.rates import Rate
from identity.limiting.rates import parse as parse_rate
from runtime.config import Group, setting


def _rate(value: object) -> object:
    return value if value is None or isinstance(value, Rate) else parse_rate(str(value))


RateText = Annotated[Rate | None, BeforeValidator(_rate)]


class Rates(Group):
    """How much of something one client may do in how long: "100/1h", "5/30s", "2000/1d"; empty or "off" for no limit.
    Who has used up a rate is told to come again, and when. IPv6 addresses count by their /64; loopback and trusted
    networks are exempt from all but the rates of an account. See limits.md."""

    connections: RateText = setting("300/1m", "Connections of one address to one door.", live=True)
    address: RateText = setting("1000/1h", "Messages from one address whose sender has not signed in.", live=True)
    network: RateText = setting("5000/1h", "The same from one network (IPv4: one /24, IPv6: one /48).", live=True)
    recipients: RateText = setting("5000/1h", "Recipients named by one address, likewise.", live=True)
    sender: RateText = setting(
        "1000/1h", "Messages in the name of one sender's address, wherever they come from.", live=True
    )
    account: RateText = setting("2000/1h", "Messages of one account that has signed in.", live=True)
    account_recipients: RateText = setting("20000/1d", "Recipients of one account that has signed in.", live=True)


class Bans(Group):
    """When an address is banned by itself: for more of something than these rates allow, from there, without having
    signed in. Loopback, trusted networks and addresses from which an account has signed in well lately can still sign
    in. `homing ban` shows, makes and lifts bans. See limits.md."""

    sign_ins: RateText = setting("30/1h", "Different wrong passwords. Empty: no ban for these.", live=True)
    recipients: RateText = setting("50/1h", "Different recipients that there are not. Empty: likewise.", live=True)
    errors: RateText = setting("20/1h", "Connections ended for too many errors. Empty: likewise.", live=True)
    first: float = setting(
        600.0, "Seconds of the first ban; each further one within 30 days is four times as long.", live=True, ge=1
    )
    longest: float = setting(604800.0, "Seconds of the longest of them.", live=True, ge=1, le=31536000)
