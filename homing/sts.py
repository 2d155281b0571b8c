"""The MTA-STS policy of our own domains, as the settings say (RFC 8461)."""

from __future__ import annotations

import hashlib

from homing.settings import Settings
from mail.address import AddressError, domain_key
from mail.dnsrecords import sts_text
from runtime.lifecycle import StartError
from smtp.outbound.mtasts import Mode, Policy

ID_LENGTH = 20


def own_policy(settings: Settings) -> Policy | None:
    """None where none is published. Raises StartError for hosts that are none."""
    sts = settings.sts
    if sts.mode == "off":
        return None
    try:
        hosts = tuple(
            "*." + domain_key(host[2:]) if host.startswith("*.") else domain_key(host)
            for host in sts.mx or (settings.name,)
        )
    except AddressError as error:
        raise StartError(f"sts.mx: {error}.", exit_code=78) from error
    return Policy(Mode(sts.mode), () if sts.mode == "none" else hosts, sts.max_age)


def policy_text(policy: Policy) -> str:
    """As it is served. # RFC 8461 §3.2"""
    return "".join(f"{line}\r\n" for line in policy.lines())


def policy_record(policy: Policy) -> str:
    """The text of the record at _mta-sts: its id is another one with each change of the policy. # RFC 8461 §3.1"""
    return sts_text(hashlib.sha256(policy_text(policy).encode()).hexdigest()[:ID_LENGTH])
