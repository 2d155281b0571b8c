"""MTA-STS for who sends (RFC 8461): the policy of a domain found, kept, renewed.

A policy that was found once holds until its max_age is over, whatever becomes of the domain's record and web server
meanwhile; that is the whole protection. So it is kept where all processes have it and a restart does not lose it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, Protocol

import structlog

from mail.address import AddressError, domain_key
from mail.dnsrecords import sts_host, sts_id, sts_name
from runtime.clock import Clock, SystemClock
from runtime.dns import Answer, DnsTemporary, NoSuchName
from runtime.web import Fetched, Trouble, WebError
from smtp.outbound.notes import Notes, NotesUnavailable
from smtp.outbound.tlsresult import TlsResult

SPACE: Final = "mta-sts"
POLICY_MAX: Final = 64 * 1024
"""Octets of a policy. # RFC 8461 §3.3"""
FETCH_SECONDS: Final = 60.0
"""For one fetch, all of it. # RFC 8461 §3.3"""
AGAIN_SECONDS: Final = 300.0
"""After a fetch that failed the domain is left alone for so long. # RFC 8461 §3.3"""
RENEW_SECONDS: Final = 86400.0
"""A policy is fetched again after so long, whether or not its id has changed. # RFC 8461 §3.3"""
MAX_AGE_MAX: Final = 31_557_600
"""# RFC 8461 §3.2"""
MX_MAX: Final = 1000
FAILURES_MAX: Final = 10_000
KNOWN_MAX: Final = 10_000
ABSENT_SECONDS: Final = 60.0
"""How long it is remembered that no policy of a domain is kept; another process may find one meanwhile."""
RENEWALS_MAX: Final = 10
"""Policies that are renewed beside the mail at the same time."""

log = structlog.get_logger("mta-sts")


class Mode(Enum):
    ENFORCE = "enforce"
    TESTING = "testing"
    NONE = "none"


class BadPolicy(ValueError):
    """The text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Policy:
    """mx: patterns, A-labels in lower case ("mx.example.org", "*.example.org"). max_age: seconds."""

    mode: Mode
    mx: tuple[str, ...]
    max_age: int

    def allows(self, host: str) -> bool:
        """May mail go to this MX host (A-labels)? A wildcard stands for one label, the leftmost. # RFC 8461 §4.1"""
        host = host.rstrip(".").lower()
        parent = host.partition(".")[2]
        return any(host == one or (one.startswith("*.") and parent == one[2:] and parent != "") for one in self.mx)

    def lines(self) -> tuple[str, ...]:
        """As it is published, without line ends."""
        return (
            "version: STSv1",
            f"mode: {self.mode.value}",
            *(f"mx: {one}" for one in self.mx),
            f"max_age: {self.max_age}",
        )


_FIELD: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,31}):[ \t]*(.*?)[ \t]*")
_AGE: Final = re.compile(r"[0-9]{1,10}")


def parse(body: bytes) -> Policy:
    """The policy of a body. Raises BadPolicy. # RFC 8461 §3.2"""
    if len(body) > POLICY_MAX:
        raise BadPolicy(f"it is longer than {POLICY_MAX} octets")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise BadPolicy("it is not UTF-8") from None
    found: dict[str, str] = {}
    patterns: list[str] = []
    for line in re.split(r"\r?\n", text):
        if not line.strip(" \t"):
            continue
        match = _FIELD.fullmatch(line)
        if match is None:
            raise BadPolicy("a line is no field")
        if match[1] == "mx":
            patterns.append(match[2])
        else:
            # RFC 8461 §3.2: of a field that stands more than once the first counts. Unknown ones are passed over.
            found.setdefault(match[1], match[2])
    if found.get("version") != "STSv1":
        raise BadPolicy("it has no version: STSv1")
    try:
        mode = Mode(found.get("mode", ""))
    except ValueError:
        raise BadPolicy("it has no mode") from None
    if _AGE.fullmatch(found.get("max_age", "")) is None:
        raise BadPolicy("it has no max_age")
    if len(patterns) > MX_MAX:
        raise BadPolicy(f"it has more than {MX_MAX} hosts")
    mx = tuple(dict.fromkeys(_pattern(one) for one in patterns))
    if not mx and mode is not Mode.NONE:
        raise BadPolicy("it has no mx")
    return Policy(mode, mx, min(int(found["max_age"]), MAX_AGE_MAX))


def _pattern(text: str) -> str:
    wildcard = text.startswith("*.")
    try:
        name = domain_key(text[2:] if wildcard else text)
    except AddressError:
        raise BadPolicy("an mx is no name of a host") from None
    if name.startswith("[") or "*" in name:
        raise BadPolicy("an mx is no name of a host")
    return f"*.{name}" if wildcard else name


@dataclass(frozen=True, slots=True)
class Kept:
    """A policy as it is kept. id: of the record that led to it. fetched: when (Unix seconds)."""

    policy: Policy
    id: str
    fetched: float

    @property
    def until(self) -> float:
        return self.fetched + self.policy.max_age

    def text(self) -> str:
        return json.dumps(
            {
                "mode": self.policy.mode.value,
                "mx": self.policy.mx,
                "max_age": self.policy.max_age,
                "id": self.id,
                "fetched": self.fetched,
            }
        )

    @classmethod
    def of(cls, text: str) -> Kept:
        value = json.loads(text)
        policy = Policy(Mode(value["mode"]), tuple(value["mx"]), value["max_age"])
        return cls(policy, value["id"], value["fetched"])


@dataclass(frozen=True, slots=True)
class Found:
    """What holds for a domain now. policy: None where it has none. failure: why a newer one could not be had, if so,
    with the words of a TLS report (``TlsResult``)."""

    policy: Policy | None = None
    failure: TlsResult | None = None
    detail: str = ""


class Txt(Protocol):
    """What is asked of the resolver."""

    async def txt(self, name: str) -> Answer[str]: ...


Get = Callable[[str], Awaitable[Fetched]]
"""Fetches a URL: ``Web.get`` with its limits. Raises WebError."""


class StsPolicies:
    """The policies of the domains that mail goes to. One per process; any number of calls at the same time."""

    def __init__(self, resolver: Txt, get: Get, notes: Notes, clock: Clock | None = None) -> None:
        self._resolver = resolver
        self._get = get
        self._notes = notes
        self._clock = clock or SystemClock()
        self._known: dict[str, Kept] = {}
        self._absent: dict[str, float] = {}
        self._failed: dict[str, tuple[float, Found]] = {}
        self._fetching: dict[str, asyncio.Task[Found]] = {}
        self._renewals: set[asyncio.Task[Found]] = set()

    async def find(self, domain: str) -> Found:
        """domain: A-labels. Raises DnsTemporary where nothing is known of the domain, and whether it has a policy
        cannot be asked now."""
        kept = await self._kept(domain)
        try:
            id = sts_id((await self._resolver.txt(sts_name(domain))).values)
        except NoSuchName:
            id = None
        except DnsTemporary:
            # RFC 8461 §5.1: without a live policy the one that is kept holds.
            if kept is None:
                raise
            return Found(kept.policy)
        if id is None:
            return Found(None if kept is None else kept.policy)
        if kept is None or kept.id != id:
            found = await self._renewed(domain, id)
            return replace(found, policy=kept.policy) if found.policy is None and kept is not None else found
        if self._clock.now() - kept.fetched >= min(RENEW_SECONDS, kept.policy.max_age / 2):
            self._renew_beside(domain, id)
        return Found(kept.policy)

    async def close(self) -> None:
        """Let fetches in hand go."""
        tasks = [*self._fetching.values(), *self._renewals]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _renew_beside(self, domain: str, id: str) -> None:
        """Fetch what is known already, without anybody waiting for it: before it is over, and not at each mail."""
        if len(self._renewals) >= RENEWALS_MAX or domain in self._fetching:
            return
        task = asyncio.create_task(self._renewed(domain, id), name=f"mta-sts {domain}")
        self._renewals.add(task)
        task.add_done_callback(self._renewals.discard)

    async def _renewed(self, domain: str, id: str) -> Found:
        failed = self._failed.get(domain)
        if failed is not None and self._clock.monotonic() < failed[0]:
            return failed[1]
        task = self._fetching.get(domain)
        if task is None:
            task = asyncio.create_task(self._fetch(domain, id), name=f"mta-sts fetch {domain}")
            self._fetching[domain] = task
            task.add_done_callback(lambda _: self._fetching.pop(domain, None))
        return await asyncio.shield(task)

    async def _fetch(self, domain: str, id: str) -> Found:
        try:
            # RFC 8461 §3.3: HTTPS alone, the host's certificate verified.
            fetched = await self._get(f"https://{sts_host(domain)}/.well-known/mta-sts.txt")
            # RFC 8461 §3.2: the media type is text/plain.
            if fetched.kind != "text/plain":
                raise BadPolicy("it is not text/plain")
            policy = parse(fetched.body)
        except WebError as error:
            result = TlsResult.STS_WEBPKI_INVALID if error.trouble is Trouble.TLS else TlsResult.STS_FETCH_ERROR
            return self._missed(domain, Found(None, result, str(error)))
        except BadPolicy as error:
            return self._missed(domain, Found(None, TlsResult.STS_INVALID, str(error)))
        self._failed.pop(domain, None)
        await self._keep(domain, Kept(policy, id, self._clock.now()))
        return Found(policy)

    def _missed(self, domain: str, found: Found) -> Found:
        log.info("no policy", domain=domain, reason=found.detail)
        if len(self._failed) >= FAILURES_MAX:
            del self._failed[next(iter(self._failed))]
        self._failed[domain] = (self._clock.monotonic() + AGAIN_SECONDS, found)
        return found

    async def _kept(self, domain: str) -> Kept | None:
        now = self._clock.now()
        known = self._known.get(domain)
        if (
            known is not None
            and known.until > now
            and now - known.fetched < min(RENEW_SECONDS, known.policy.max_age / 2)
        ):
            return known
        absent = self._absent.get(domain)
        if known is None and absent is not None and self._clock.monotonic() < absent:
            return None
        # Not known here, or to be renewed: another process may have done that.
        try:
            text = await self._notes.get(SPACE, domain)
        except NotesUnavailable as error:
            if known is not None and known.until > now:
                return known
            raise DnsTemporary(f"what is known of {domain} cannot be had now: {error}") from error
        kept = None if text is None else Kept.of(text)
        if kept is None or kept.until <= now:
            self._known.pop(domain, None)
            if len(self._absent) >= KNOWN_MAX:
                del self._absent[next(iter(self._absent))]
            self._absent[domain] = self._clock.monotonic() + ABSENT_SECONDS
            return None
        self._remember(domain, kept)
        return kept

    async def _keep(self, domain: str, kept: Kept) -> None:
        self._remember(domain, kept)
        try:
            await self._notes.put(SPACE, domain, kept.text(), kept.until)
        except NotesUnavailable as error:
            log.warning("a policy is known to this process alone", domain=domain, reason=str(error))

    def _remember(self, domain: str, kept: Kept) -> None:
        if domain not in self._known and len(self._known) >= KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[domain] = kept
        self._absent.pop(domain, None)
