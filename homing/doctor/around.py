"""What every look at something has at hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from homing.doctor.finding import Finding, State
from homing.doctor.hostchecks import HostFound
from homing.doctor.setup import Setup
from homing.ports import Listening
from homing.settings import Settings
from runtime.dns import NoSuchName, Resolver
from runtime.web import Web

STANDARD_PORTS = frozenset({25, 143, 465, 587, 993})
"""Where programs of people, and other servers, come to."""


@dataclass(frozen=True, slots=True)
class Around:
    """setup: what is wanted. sending: public addresses that mail leaves from, as far as they are known, by the DNS too.
    host: our hostname in the DNS, None where it was not to be had; host_trouble says why. listeners: what runs, None
    where the server is stopped or not on this machine. public: ports that are tried by the public name too."""

    settings: Settings
    setup: Setup
    resolver: Resolver
    web: Web
    sending: tuple[str, ...]
    host: HostFound | None
    host_trouble: str
    listeners: tuple[Listening, ...] | None
    public: frozenset[int] = STANDARD_PORTS

    @property
    def host_addresses(self) -> tuple[str, ...]:
        """Of our hostname in the DNS."""
        return () if self.host is None else self.host.addresses or ()

    async def texts(self, name: str) -> tuple[str, ...]:
        """The TXT records of a name, () where there is none. Raises DnsTemporary."""
        try:
            return (await self.resolver.txt(name)).values
        except NoSuchName:
            return ()

    async def addresses(self, host: str) -> tuple[str, ...]:
        """The addresses of a host, () where there is none. Raises DnsTemporary."""
        try:
            return (await self.resolver.addresses(host)).values
        except NoSuchName:
            return ()


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to look at. look: may raise DnsTemporary."""

    check: str
    subject: str
    look: Callable[[], Awaitable[Sequence[Finding]]]


def known(finding: Finding) -> Job:
    """What is clear without a look."""

    async def look() -> Sequence[Finding]:
        return (finding,)

    return Job(finding.check, finding.subject, look)


def skipped(check: str, subject: str, why: str) -> Job:
    """What is not looked at."""
    return known(Finding(check, subject, State.SKIPPED, why))
