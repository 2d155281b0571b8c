"""Who is banned, and who is spared."""

from __future__ import annotations

import asyncio
from typing import Any

from identity.limiting.gate import Gate
from identity.limiting.rates import Rate
from identity.limiting.rules import BanRules, Offence, RateRules
from identity.model import Ban, BannedBy, BanNews, NewBan
from imap.dialogue import Peer, Tls
from imap.figures import Figures
from imap.service import Admission
from runtime.clock import ManualClock
from runtime.metrics import Metrics
from tests.imap.fakes import Client, FakeIdentity, FakeOut, FakeStorage, make_house

AFAR = Peer("192.0.2.7", 4000, "192.0.2.1", 143, Tls("TLSv1.3", "x"))


class Keeper:
    """The part of identity that a gate asks."""

    def __init__(self) -> None:
        self.known = False
        self.made: list[NewBan] = []

    async def bans_since(self, _revision: str) -> BanNews:
        return BanNews("1", (Ban("b", "192.0.2.0/24", "private", 0.0, None, BannedBy.ADMINISTRATOR),))

    async def signed_in_from(self, _address: str) -> bool:
        return self.known

    async def ban(self, new: NewBan) -> Ban:
        self.made.append(new)
        return Ban("r", new.target, new.reason, 0.0, None, new.by)


def gate_of(keeper: Any, rates: RateRules | None = None) -> Gate:
    rules = BanRules({Offence.SIGN_IN: Rate(2, 3600)})
    return Gate(keeper, rates or RateRules(), rules, trusted=(), clock=ManualClock(), metrics=Metrics("homing"))


async def test_who_is_banned_is_told_bye(storage: FakeStorage, who: FakeIdentity) -> None:
    keeper = Keeper()
    gate = gate_of(keeper)
    await gate._refresh("")
    house = make_house(storage, who, gate=gate)
    out = FakeOut(AFAR)
    await Client(house, out).session.greet()
    assert b"* BYE Connections from your address are refused for now" in bytes(out.sent)
    assert b"private" not in bytes(out.sent)
    assert (house.figures.connections, house.figures.connections_refused) == (0, 1)
    assert gate._hits == {"b": 1}


async def test_where_an_account_signed_in_well_lately_sign_in_goes_on(storage: FakeStorage, who: FakeIdentity) -> None:
    keeper = Keeper()
    keeper.known = True
    gate = gate_of(keeper)
    await gate._refresh("")
    house = make_house(storage, who, gate=gate)
    out = FakeOut(AFAR)
    client = Client(house, out)
    await client.session.greet()
    assert bytes(out.sent).startswith(b"* OK")
    assert "a OK" in await client("a LOGIN alice secret")
    assert house.figures.sign_ins == 1


async def test_wrong_passwords_are_offences_and_the_same_again_is_none(storage: FakeStorage, who: FakeIdentity) -> None:
    keeper = Keeper()
    gate = gate_of(keeper)
    house = make_house(storage, who, gate=gate)
    for password in ("old", "old", "old", "old", "one", "two"):
        await Client(house, FakeOut(AFAR))(f"a LOGIN alice {password}")
    await asyncio.gather(*gate._works)
    assert [new.target for new in keeper.made] == ["192.0.2.7"]
    assert house.figures.sign_ins_failed == 6


def test_connections_come_no_faster_than_the_rate() -> None:
    figures = Figures()
    gate = gate_of(Keeper(), RateRules(connections=Rate(3, 60)))
    admission = Admission(50, 100, exempt=("127.0.0.0/8",), gate=gate, figures=figures)
    assert [admission.try_enter("192.0.2.7") for _ in range(5)] == [True, True, True, False, False]
    assert admission.try_enter("192.0.2.8")
    assert all(admission.try_enter("127.0.0.1") for _ in range(9))
    assert figures.connections_refused == 2
