"""The search index: search.db, what keeps it up with storage.db, and what is asked of it.

It is a copy that can be made again: never wrong while it is behind (what it has not seen is read from storage.db at
every question), thrown away and begun anew when it is missing, damaged, of another release, or ahead of storage.db.
It waits for a pause between deliveries (CALM, within the bounds of DELAY and BACKLOG): what it costs an email falls to
a third with batches, and while mail pours in the processor is the deliveries' alone. Then it goes page by page, and
stands back for those who use storage.db (GAP, at most GAP_DELAY, and while it is not too far behind): where somebody
comes, a page that has begun waits too, and ends where he stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import monotonic, thread_time
from typing import NamedTuple, TypeVar

import structlog

from mail.structure import Part
from runtime.clock import Clock, SystemClock
from runtime.sqlite import Database, DatabaseUnavailable, SchemaTooNew
from storage.adapters.sqlite import search_build, search_lookup, search_source
from storage.adapters.sqlite.search_build import Added, Handed
from storage.adapters.sqlite.search_lookup import Possible
from storage.adapters.sqlite.search_schema import ACCOUNT_BITS, EMAIL_MASK, MIGRATIONS, PAGE_SIZE
from storage.adapters.sqlite.search_source import Source
from storage.model import IndexHealth
from storage.search.document import FORM, body_pieces
from storage.search.keys import TextKey, scan

CALM = 1.0
"""Seconds without a new email after which those that wait are indexed."""
DELAY = 15.0
"""Seconds that a new email waits at most for such a pause."""
BACKLOG = 16_384
"""Emails that wait at most for such a pause: so many have to be read by whoever searches meanwhile."""
GAP = 0.25
"""Seconds for which nobody has used storage.db before the next page is indexed."""
GAP_DELAY = 1.0
"""Seconds that a page waits at most for that; a shorter one, in proportion, less."""
POLL = 30.0
"""Seconds after which the index looks by itself, should nobody have told it of news."""
RETRY = 5.0
"""Seconds between attempts while search.db or storage.db cannot be used."""
HANDED_OCTETS = 32 * 1024 * 1024
"""Octets of messages, taken apart at delivery, that wait in memory for the index."""
PART_OCTETS = 2048
"""What a message counts for beside its own octets, for each of its parts: a part taken apart takes 1 to 2 KiB."""
CHECK_PAGE = 10_000
"""Keys compared with storage.db at a time, once after the start."""


class _Round(NamedTuple):
    """Of one page: how many emails were done, are there more, and how many numbers of emails are above it?"""

    done: int
    more: bool
    behind: int


_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

T = TypeVar("T")
log = structlog.get_logger("search")


class SearchIndex:
    """One per store. Its methods are called on the event loop; the work is done on the threads of both databases.

    path: of search.db. storage: the open database whose emails are indexed; it is only read. Methods raise
    DatabaseUnavailable where storage cannot be read; what is wrong with search.db alone never reaches the caller of
    ``find`` or ``remove``, but stands in the health and the log.
    """

    def __init__(self, path: str | os.PathLike[str], storage: Database, clock: Clock | None = None) -> None:
        self.path = Path(path)
        self._storage = storage
        self._clock = clock or SystemClock()
        self._database: Database | None = None
        self._mark = 0
        self._handed: dict[int, Handed] = {}
        self._handed_octets = 0
        self._removed: set[int] = set()
        self._checked = False
        self._building = asyncio.Lock()
        self._told = 0
        self._last_told = 0.0
        self._news = asyncio.Event()
        self._many = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = threading.Event()
        self._cpu = 0.0
        self._error: str | None = None
        self._damaged = False

    # -- life ------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open search.db, or begin it anew. Where not even that can be done (disk full) the index stays behind and
        tries again in the background."""
        async with self._building:
            try:
                await self._ready()
            except DatabaseUnavailable as error:
                self._failed(error)

    def start(self) -> None:
        """Keep up with storage in the background until ``close``."""
        self._closing.clear()
        self._task = asyncio.create_task(self._keep_up(), name="search index")

    async def close(self) -> None:
        """End the background task and close search.db once the batch in hand is written. May be repeated."""
        self._closing.set()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        database, self._database = self._database, None
        if database is not None:
            await database.close()

    # -- what storage tells it -------------------------------------------------------------------------------------

    def wake(self, emails: int = 1) -> None:
        """So many new emails have been committed."""
        self._told += emails
        self._news.set()
        self._last_told = monotonic()
        if self._told >= BACKLOG:
            self._many.set()

    def hand(self, blob: int, raw: bytes, part: Part) -> None:
        """A committed blob (its number) as delivery took it apart: this spares the index reading and parsing it. Call
        it before ``wake``. Let go when too much waits; no answer depends on it."""
        handed = Handed(raw, part)
        if blob not in self._handed and self._handed_octets + (weight := _weight(handed)) <= HANDED_OCTETS:
            self._handed[blob] = handed
            self._handed_octets += weight

    async def remove(self, emails: Sequence[tuple[int, int]]) -> None:
        """Let emails leave the index: (account number, email number) each. Called before storage deletes them; if
        this commit is lost, or search.db cannot be written now, a later ``check`` finds what was left over."""
        # Storage still has them, so a page that is on its way or read before their end must not bring them in.
        # (While search.db cannot be opened there are no pages, and nothing that would end the list.)
        if self._database is not None or self._building.locked():
            self._removed.update([email for _, email in emails if email > self._mark])
        try:
            self._cpu += await self._write(lambda conn: search_build.remove(conn, emails))
        except DatabaseUnavailable as error:
            self._checked = False
            self._failed(error)

    async def rebuild(self) -> None:
        """Throw search.db away and begin anew; ``catch_up`` or the background task fills it, and meanwhile questions
        are answered from the messages themselves."""
        async with self._building:
            await self._begin_anew("asked for")
        self.wake()

    # -- what is asked of it ---------------------------------------------------------------------------------------

    async def lag(self) -> IndexHealth:
        """How far it is behind, what it has cost since ``open`` (CPU of reading and writing, in seconds), and what is
        wrong with it."""
        # Who looks at the figures does not hold it up.
        count, since = await self._storage.read(lambda conn: search_source.backlog(conn, self._mark), background=True)
        seconds = max(0.0, self._clock.now() - since) if since is not None else 0.0
        return IndexHealth(lag=count, lag_seconds=seconds, cpu_seconds=self._cpu, error=self._error)

    async def find(self, keys: Sequence[TextKey], account: int, emails: Sequence[int]) -> list[set[int]]:
        """For each key which of these emails (numbers, of one account) hold its text: exactly, whatever the index has.

        The sets may name other emails of the account too. An email that is swept while this runs may be left out: it
        was expunged a grace before.
        """
        try:
            held, unread = await self._read(lambda conn: search_lookup.answer(conn, keys, account, emails))
        except DatabaseUnavailable as error:
            self._failed(error)
            held, unread = [set() for _ in keys], sorted(set(emails))
        while unread:
            page, handed, covered = await self._page_of(unread)
            unread = unread[covered:]
            for email, answers in await asyncio.to_thread(_scan_page, keys, page, handed):
                for holding, answer in zip(held, answers, strict=True):
                    if answer:
                        holding.add(email)
        return held

    async def possible(self, keys: Sequence[TextKey], account: int) -> Possible | None:
        """The emails of an account to which ``find`` for all these texts can be confined; None where that is not
        known."""
        try:
            return await self._read(lambda conn: search_lookup.possible(conn, keys, account))
        except DatabaseUnavailable as error:
            self._failed(error)
            return None

    async def _page_of(self, emails: Sequence[int]) -> tuple[list[Source], Mapping[int, Handed], int]:
        handed = dict(self._handed)
        page, covered = await self._storage.read(lambda conn: search_source.of(conn, emails, handed))
        return page, handed, covered

    # -- keeping up ------------------------------------------------------------------------------------------------

    async def catch_up(self) -> None:
        """Index all that storage has by now."""
        async with self._building:
            await self._ready()
            while (await self._round(gently=False)).done:
                continue
            self._error = None

    async def _follow(self) -> None:
        """Index what fills whole pages now, and what was there at the beginning: under load the next few emails wait
        until they are many."""
        self._told = 0
        self._news.clear()
        self._many.clear()
        async with self._building:
            await self._ready()
            last = _Round(search_source.PAGE_EMAILS, True, 0)
            while last.more:
                gently = last.behind < BACKLOG
                if gently:
                    await self._stand_back(_delay(last.done))
                last = await self._round(gently=gently)
            self._error = None

    async def _stand_back(self, most: float) -> None:
        """Let those who use storage.db go first, for so many seconds at most."""
        latest = monotonic() + most
        # Use is nothing that could be waited for.
        while (wait := min(self._storage.last_used + GAP, latest) - monotonic()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(wait)

    def _at_rest(self, begun: float, latest: float) -> bool:
        """Wait, in a page begun at this time, for those who have come to storage.db since; False where they stay
        longer, or the index is closed.

        To end the page at once would be worse: FTS5 would write out what it has gathered just then. Nobody is in the
        way of this thread's wait: search.db is read beside it, and who else writes there is in the background too.
        """
        while (used := self._storage.last_used) > begun and (wait := used + GAP - (now := monotonic())) > 0:
            if now >= latest or self._closing.wait(min(wait, latest - now)):
                return False
        return True

    async def check(self) -> None:
        """Take out of the index what storage no longer has: removals that failed, or were lost in a power cut."""
        self._checked = True
        last = 0
        while keys := await self._read(partial(search_lookup.keys_above, last=last, limit=CHECK_PAGE)):
            last = keys[-1]
            accounts = {key & EMAIL_MASK: key >> ACCOUNT_BITS for key in keys}
            gone = await self._storage.read(partial(search_source.gone, emails=list(accounts)))
            if gone:
                await self.remove([(accounts[email], email) for email in gone])

    async def _keep_up(self) -> None:
        while True:
            try:
                await self._follow()
                if not self._checked:
                    await self.check()
            except DatabaseUnavailable as error:
                self._checked = False
                self._failed(error)
                await asyncio.sleep(RETRY)
            except Exception:
                self._checked = False
                log.exception("the search index met an error that nobody foresaw")
                await asyncio.sleep(RETRY)
            else:
                await self._wait_for_news()

    async def _wait_for_news(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL):
                await self._news.wait()
        latest = monotonic() + DELAY
        while self._news.is_set() and (wait := min(self._last_told + CALM, latest) - monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._many.wait()
                    return

    async def _round(self, *, gently: bool) -> _Round:
        """Index one page. gently: a short one while storage.db is in use; another one waits while it is, and ends where
        that lasts."""
        handed = dict(self._handed)
        now = monotonic()
        in_use = gently and self._storage.last_used + GAP > now
        most = search_source.SHORT_PAGE if in_use else search_source.PAGE_EMAILS

        def read(conn: sqlite3.Connection) -> tuple[list[Source], bool, int, float]:
            begun = thread_time()
            page, full = search_source.above(conn, self._mark, most, handed)
            return page, full, search_source.last_number(conn), thread_time() - begun

        def goes_on() -> bool:
            return in_use or not gently or self._at_rest(now, now + _delay(len(page)))

        def add(conn: sqlite3.Connection) -> Added:
            return search_build.add(conn, page, handed, self._removed, goes_on)

        removed = set(self._removed)
        page, full, last_number, cpu = await self._storage.read(read, background=True)
        self._cpu += cpu
        left = 0
        if page:
            self._mark, left, cpu = await self._write(add)
            self._cpu += cpu
            # No page will have them any more.
            self._removed = {email for email in self._removed if email > self._mark}
            # What is handed over has a blob of its own, made with its first email: below the last one's there is
            # nothing that a later page needs, though it may have been handed over after its page was read.
            last = max((source.blob for source in page if source.email <= self._mark), default=0)
            self._let_go([blob for blob in self._handed if blob <= last])
        else:
            # What is not there by now came to nothing.
            self._removed -= removed
            self._let_go(list(handed))
        return _Round(len(page) - left, full or left > 0, last_number - self._mark)

    def _let_go(self, blobs: Sequence[int]) -> None:
        for blob in blobs:
            handed = self._handed.pop(blob, None)
            if handed is not None:
                self._handed_octets -= _weight(handed)

    # -- search.db -------------------------------------------------------------------------------------------------

    async def _ready(self) -> None:
        """Have search.db open and fit for use."""
        if self._database is not None and not self._damaged:
            return
        if self._damaged:
            await self._begin_anew(self._error or "damaged")
            return
        try:
            self._mark, form = await self._open()
        except (SchemaTooNew, sqlite3.Error) as error:
            # Of a later release, or with other tables than it says.
            await self._begin_anew(str(error))
            return
        except DatabaseUnavailable as error:
            if not _is_damage(error):
                raise
            await self._begin_anew(str(error))
            return
        if form != FORM:
            await self._begin_anew("its texts were folded in another way")
            return
        last = await self._storage.read(search_source.last_number)
        if self._mark > last:
            await self._begin_anew("it is ahead of storage.db, which must have been restored")
        elif last and not self._mark:
            log.warning("search index is empty", path=str(self.path))
            self._error = "being built anew: it was missing or empty"

    async def _open(self) -> tuple[int, int]:
        database = Database(self.path, migrations=MIGRATIONS, synchronous="NORMAL", readers=2, page_size=PAGE_SIZE)
        try:
            await database.open()
            state = await database.read(search_lookup.mark_of)
        except BaseException:
            await database.close()
            raise
        self._database = database
        return state

    async def _begin_anew(self, reason: str) -> None:
        log.warning("search index begun anew", path=str(self.path), reason=reason)
        self._error = f"being built anew: {reason}"
        database, self._database = self._database, None
        self._mark = 0
        if database is not None:
            await database.close()
        await asyncio.to_thread(_delete, self.path)
        self._damaged = False
        self._mark, _ = await self._open()

    async def _read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        database = self._at_hand()
        try:
            return await database.read(job)
        except DatabaseUnavailable as error:
            self._damaged = self._damaged or _is_damage(error)
            raise

    async def _write(self, job: Callable[[sqlite3.Connection], T]) -> T:
        database = self._at_hand()
        try:
            return await database.write(job)
        except DatabaseUnavailable as error:
            self._damaged = self._damaged or _is_damage(error)
            raise

    def _at_hand(self) -> Database:
        if self._database is None or self._damaged:
            raise DatabaseUnavailable(f"{self.path.name} cannot be used now")
        return self._database

    def _failed(self, error: DatabaseUnavailable) -> None:
        """Say what is wrong, once, and have the background task see to it."""
        if str(error) != self._error:
            log.error("search index cannot be used", error=str(error), damaged=self._damaged)
            self._error = str(error)
        if self._damaged:
            self.wake(BACKLOG)


def _delay(emails: int) -> float:
    """Seconds that a page of so many waits at most."""
    return GAP_DELAY * max(emails, search_source.SHORT_PAGE) / search_source.PAGE_EMAILS


def _weight(handed: Handed) -> int:
    """Octets of memory, roughly."""
    total = len(handed.raw)
    parts = [handed.part]
    while parts:
        total += PART_OCTETS
        parts.extend(parts.pop().children)
    return total


def _is_damage(error: DatabaseUnavailable) -> bool:
    code = getattr(error.__cause__, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _DAMAGED


def _delete(path: Path) -> None:
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(name).unlink(missing_ok=True)


def _scan_page(
    keys: Sequence[TextKey], page: Sequence[Source], handed: Mapping[int, Handed]
) -> list[tuple[int, list[bool]]]:
    """Each email's answers, from the message itself."""
    answers: list[tuple[int, list[bool]]] = []
    for source in page:
        message = search_build.taken_apart(source, handed)
        header = search_build.header_of(source, message)
        answers.append((source.email, scan(keys, header, body_pieces(message.raw, message.part))))
    return answers
