"""Reports about TLS to the domains that ask for them, once a day (RFC 8460)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

import structlog

import identity.port
import storage.port
from identity.model import Verdict
from identity.port import Identity
from mail.address import AddressError, parse_mailbox
from mail.dnsrecords import tlsrpt_name, tlsrpt_places
from runtime.clock import Clock, SystemClock
from runtime.dns import Answer, DnsTemporary, NoSuchName
from runtime.ids import new_id
from runtime.web import WebError
from smtp import traceheaders
from smtp.outbound.notes import Notes, NotesUnavailable
from smtp.outbound.notices import OWN
from smtp.outbound.tlspolicy import Noted
from smtp.outbound.tlsreport import MEDIA_TYPE, About, message, report
from smtp.outbound.tlstally import DAY, KEPT_SECONDS, SPACE, Counts, Tally, merge, parts_of
from smtp.outbound.transport import TLS_OPTIONAL
from storage.model import SYSTEM, Delivery, LocalRecipient, Operation, RemoteRecipient
from storage.port import Storage

SENT: Final = "tls-report-sent"
"""Who sends the report of a domain and day: the first process that says so."""
FLUSH_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 600.0
"""Between two looks for reports that are due."""
DELAY_SECONDS: Final = 900.0
"""After the end of a day, for the counts that other processes have not written yet."""
SPREAD_SECONDS: Final = 4 * 3600.0
"""Over so long the reports of a day are spread. # RFC 8460 §4.1"""
CLAIM_SECONDS: Final = 3600.0
"""A process that has not sent a report for so long after it said that it does has ended."""
PLACES_MAX: Final = 5
"""Places of one domain that get its report."""
POST_SECONDS: Final = 60.0

log = structlog.get_logger("tls-report")


class Txt(Protocol):
    """What is asked of the resolver."""

    async def txt(self, name: str) -> Answer[str]: ...


Post = Callable[[str, bytes, str], Awaitable[None]]
"""Posts a body of a media type to an https: URL: ``Web.post``. Raises WebError."""


@dataclass(frozen=True, slots=True)
class Reporter:
    """Who sends reports. organization: a name for people; contact: an address of ours; domain: our own."""

    organization: str
    contact: str
    domain: str


class TlsReports:
    """Counts, and sends what is due. A service: start, drain, stop. Any number of processes may have one each.

    process: an id that no other process has, now or before.
    """

    def __init__(
        self,
        reporter: Reporter,
        *,
        resolver: Txt,
        notes: Notes,
        storage: Storage,
        identity: Identity,
        post: Post,
        clock: Clock | None = None,
        process: str | None = None,
    ) -> None:
        self._reporter = reporter
        self._resolver = resolver
        self._notes = notes
        self._storage = storage
        self._identity = identity
        self._post = post
        self._clock = clock or SystemClock()
        self._process = process or new_id()
        self._tally = Tally(notes, self._process)
        self._task: asyncio.Task[None] | None = None

    def note(self, noted: Noted) -> None:
        """For ``TlsPolicies(report=…)``."""
        self._tally.add(noted)

    async def start(self) -> None:
        self._task = asyncio.create_task(self._forever(), name="tls reports")

    async def drain(self) -> None:
        return None

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._tally.flush(self._today())

    async def flush(self) -> None:
        """Write the counts of this process."""
        await self._tally.flush(self._today())

    async def _forever(self) -> None:
        look = self._clock.monotonic() + FLUSH_SECONDS
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await self.flush()
                if self._clock.monotonic() >= look:
                    look = self._clock.monotonic() + LOOK_SECONDS
                    await self.send_due()
            except Exception:
                log.exception("TLS reports failed")

    async def send_due(self) -> int:
        """Send the reports that are due now and that no other process sends: how many."""
        try:
            groups = await self._groups()
        except NotesUnavailable as error:
            log.info("TLS reports wait", reason=str(error))
            return 0
        sent = 0
        for (day, domain), keys in groups.items():
            if self._clock.now() < (day + 1) * DAY + DELAY_SECONDS + _spread(day, domain):
                continue
            try:
                sent += await self._send(day, domain, keys)
            except (
                NotesUnavailable,
                DnsTemporary,
                WebError,
                identity.port.Unavailable,
                storage.port.Unavailable,
            ) as error:
                log.info("a TLS report waits", domain=domain, reason=str(error))
        return sent

    async def _groups(self) -> dict[tuple[int, str], dict[str, str]]:
        """Of the days that are over: text by key."""
        groups: dict[tuple[int, str], dict[str, str]] = {}
        after = ""
        while page := await self._notes.page(SPACE, after):
            for note in page:
                day, domain = parts_of(note.key)
                if day >= self._today():
                    return groups
                groups.setdefault((day, domain), {})[note.key] = note.text
            after = page[-1].key
        return groups

    async def _send(self, day: int, domain: str, texts: dict[str, str]) -> bool:
        if not await self._is_ours(day, domain):
            return False
        try:
            places = tlsrpt_places((await self._resolver.txt(tlsrpt_name(domain))).values)[:PLACES_MAX]
        except NoSuchName:
            places = ()
        if places:
            await self._deliver(day, domain, merge(texts.values()), places)
        await self._notes.remove(SPACE, tuple(texts))
        return bool(places)

    async def _is_ours(self, day: int, domain: str) -> bool:
        """Does this process send it? It does where it said so first, or where who said so has gone."""
        now = self._clock.now()
        key, until = f"{day:06d}/{domain}", float((day + 1) * DAY + KEPT_SECONDS + DAY)
        claim = f"{self._process} {now:.0f}"
        found = await self._notes.first(SENT, key, claim, until)
        process, _, at = found.partition(" ")
        if process == self._process:
            return True
        if now - float(at) < CLAIM_SECONDS:
            return False
        # Two that take it over at the same moment send it twice at most over HTTPS: mail is accepted once.
        await self._notes.put(SENT, key, claim, until)
        return True

    async def _deliver(self, day: int, domain: str, counts: Counts, places: Sequence[str]) -> None:
        reporter = self._reporter
        id = hashlib.sha256(f"{day}/{domain}/{reporter.domain}".encode()).hexdigest()[:24]
        about = About(domain, day, reporter.organization, reporter.contact, reporter.domain, id)
        body = await asyncio.to_thread(report, about, counts)
        for place in places:
            if place.lower().startswith("https:"):
                try:
                    # RFC 8460 §5.4
                    await self._post(place, body, MEDIA_TYPE)
                except WebError as error:
                    log.info("a TLS report was not taken", domain=domain, place=place, reason=str(error))
            else:
                await self._mail(about, unquote(urlsplit(place).path), body)

    async def _mail(self, about: About, to: str, body: bytes) -> None:
        try:
            mailbox = parse_mailbox(to)
            found = await self._identity.resolve(str(mailbox))
        except (AddressError, identity.port.Refused) as error:
            log.info("a TLS report has nobody to go to", domain=about.domain, reason=str(error))
            return
        now = self._clock.now()
        # RFC 3461 §4.1: nobody is told what became of it.
        quiet = {"NOTIFY": "NEVER"}
        remote = (str(mailbox),) if found.verdict is Verdict.NOT_OURS else found.remote
        for target in found.local:
            await self._storage.open_account(Operation(new_id(), SYSTEM), target.account)
        local = tuple(
            LocalRecipient(target.account, str(mailbox), traceheaders.prefix(self._reporter.contact, str(mailbox)))
            for target in found.local
        )
        if not (local or remote):
            return
        delivery = Delivery(
            # The same from every process, so that it is accepted once.
            op=Operation(f"tlsrpt-{about.id}-{hashlib.sha256(to.encode()).hexdigest()[:16]}", SYSTEM),
            content=message(about, str(mailbox), body, int(now)),
            sender=self._reporter.contact,
            received_at=now,
            trace=new_id(),
            local=local,
            remote=tuple(RemoteRecipient(address, quiet) for address in remote),
            # RFC 8460 §3: it goes whatever is wrong with the TLS that it tells of.
            params={OWN: "", TLS_OPTIONAL: ""},
        )
        (outcome,) = await self._storage.accept([delivery])
        if isinstance(outcome, storage.port.Unavailable):
            raise outcome
        if isinstance(outcome, storage.port.Refused):
            log.warning("a TLS report was not accepted", domain=about.domain, reason=str(outcome))

    def _today(self) -> int:
        return int(self._clock.now() // DAY)


def _spread(day: int, domain: str) -> float:
    chance = int.from_bytes(hashlib.sha256(f"{day}/{domain}".encode()).digest()[:4], "big")
    return SPREAD_SECONDS * chance / 2**32
