"""One SQLite database of one process: a single writer with group commit, and a few readers.

The contract, which callers may rely on:

- `write(job)` answers only after the COMMIT that holds the job's changes has been synced to the disk
  (`synchronous="FULL"`), and the changes are then visible to every later `read`.
- A job is all or nothing. Jobs that wait together share one transaction and one sync, yet a job that raises takes
  back its own changes alone, and its exception reaches its own caller as it is.
- Jobs run one after the other, in the order in which they were handed in.
- When the disk is full or the file cannot be read, written or synced, SQLite takes the whole transaction back, and all
  whose jobs were in it get `DatabaseUnavailable`: nothing of their jobs is kept (after a failed sync that can be in
  doubt until the next start, so repeatable operations carry an id). The writer tries afresh with every batch, so it
  recovers by itself.
- A job once handed in runs, even when its caller has been cancelled meanwhile.

A job is a function of the connection that runs on the database's own thread. It must not BEGIN, COMMIT or ROLLBACK
(savepoints of its own are fine), must return plain values (no cursor), must have no effect but on the connection, and
must not wait for anything while others may want the writer. Deferred foreign keys would fail at the shared COMMIT, so
schemas do not use them.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Literal, TypeVar

from runtime.jobs import Job, JobQueue, QueueRefused, answer

T = TypeVar("T")
Connection = sqlite3.Connection
"""What a job is given."""
SQLITE_VERSION = sqlite3.sqlite_version

# Primary result codes (https://www.sqlite.org/rescode.html) that mean "not now", not "this job is wrong".
_UNAVAILABLE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
    }
)
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

IDLE = 0.005
"""Seconds without a job after which the writer folds the log back into the file."""
WORTH_FOLDING = 2_000
"""Rows changed since then for which it does, so that now and then a job is no more than one write to the disk."""

_UNSYNCED = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})


class DatabaseUnavailable(Exception):
    """The database cannot do this now: disk full, I/O error, locked, not open, or too many jobs wait. Try later.

    full: there is no room on the disk. damaged: the file is no database, or not whole, and waiting mends nothing.
    SQLite's own error, if there was one, is the `__cause__`.
    """

    def __init__(self, text: str, *, full: bool = False, damaged: bool = False) -> None:
        super().__init__(text)
        self.full = full
        self.damaged = damaged


class SchemaTooNew(Exception):
    """The file was written by a later release than this one, and must not be touched."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema; its version is its place in the sequence, counted from 1, and never changes.

    `apply` is SQL (any number of statements, triggers too) or a function of the connection. It runs in a transaction
    of its own together with the new version number, with foreign keys unenforced and checked at the end.
    """

    name: str
    apply: str | Callable[[sqlite3.Connection], None]


@dataclass(frozen=True, slots=True)
class DatabaseStats:
    """Counters since `open`: `waiting` jobs now, committed `batches` and `jobs`, and why the last batch failed."""

    waiting: int
    batches: int
    jobs: int
    failure: str | None


class Database:
    """A database file, owned by this process. See the module's contract.

    `queue_limit` bounds the jobs that wait for the writer (and, separately, for the readers): one more raises
    `DatabaseUnavailable` at once. A batch ends after `batch_jobs` jobs or `batch_seconds`, whichever is first.
    `on_step` is for tests: it is called on the writer's thread with "begin", "job", "commit" (before it),
    "committed", "answered", "fold", with whatever name a job hands to `step`, and may block or raise there.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        migrations: Sequence[Migration],
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        readers: int = 3,
        queue_limit: int = 8192,
        batch_jobs: int = 512,
        batch_seconds: float = 0.05,
        page_size: int = 4096,
        cache_kib: int = 16384,
        checkpoint_pages: int = 4000,
        on_step: Callable[[str], None] | None = None,
    ) -> None:
        self.path = Path(path)
        self.on_step = on_step
        self._migrations = tuple(migrations)
        self._synchronous = synchronous
        self._batch_jobs = batch_jobs
        self._batch_seconds = batch_seconds
        self._page_size = page_size
        self._cache_kib = cache_kib
        self._checkpoint_pages = checkpoint_pages
        self._writes = JobQueue(queue_limit, self.path.name)
        self._reads = JobQueue(queue_limit, self.path.name)
        self._reader_count = readers
        self._threads: list[threading.Thread] = []
        self._writer: sqlite3.Connection | None = None
        self._lasting = True
        self._doubtful = False
        self._folded = 0
        self._batches = 0
        self._jobs = 0
        self._last_used = monotonic()
        self._failure: str | None = None

    # -- life ------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Make or open the file (mode 0600), bring its schema up to date, start the threads.

        Raises `SchemaTooNew`, `DatabaseUnavailable`, or whatever a migration raises; then nothing runs.
        """
        await asyncio.to_thread(self.open_now)

    def open_now(self) -> None:
        """`open` for a thread without an event loop."""
        started: concurrent.futures.Future[None] = concurrent.futures.Future()
        # Daemons: a process that ends without `close` is not held up, and loses nothing that was acknowledged.
        writer = threading.Thread(
            target=self._write_forever, args=(started,), name=f"{self.path.name}:writer", daemon=True
        )
        writer.start()
        started.result()
        self._writes.open()
        self._reads.open()
        self._threads = [
            threading.Thread(target=self._read_forever, name=f"{self.path.name}:reader{number}", daemon=True)
            for number in range(self._reader_count)
        ]
        for thread in self._threads:
            thread.start()
        self._threads.append(writer)

    async def close(self) -> None:
        """Finish what has been handed in, write the log back into the file, end the threads. May be repeated."""
        await asyncio.to_thread(self.close_now)

    def close_now(self) -> None:
        """`close` for a thread without an event loop."""
        self._reads.close()
        for thread in self._threads[:-1]:
            thread.join()
        # The writer is the last to close, so that it can fold the write-ahead log into the file.
        self._writes.close()
        for thread in self._threads[-1:]:
            thread.join()
        self._threads = []

    # -- use -------------------------------------------------------------------------------------------------------

    async def write(
        self,
        job: Callable[[sqlite3.Connection], T],
        *,
        lasting: bool = True,
        background: bool = False,
        heard: Callable[[T], None] | None = None,
    ) -> T:
        """Run `job` in a write transaction and return its value once it is durable. The job is handed in before this
        waits for anything.

        With `lasting` false it answers once the job is committed, without a sync of its own: a power cut may take the
        change back, until the next lasting write, which makes all before it durable too (the write-ahead log keeps
        their order). For what nobody is told of before such a write follows. One in the `background` is not seen in
        `last_used`. `heard` is given the value on the event loop, before the caller has it, and also when the caller
        was cancelled meanwhile. Raises what the job raises, or `DatabaseUnavailable`.
        """
        return await self._ask(self._writes, job, lasting=lasting, background=background, heard=heard)

    async def read(self, job: Callable[[sqlite3.Connection], T], *, background: bool = False) -> T:
        """Run `job` on a reader: one short transaction, one snapshot. A write inside it fails.

        Raises what the job raises, or `DatabaseUnavailable`. Readers do not wait for the writer, nor it for them;
        but a slow read keeps the write-ahead log from being reused, so many rows are read in pages. One in the
        `background` is not seen in `last_used`.
        """
        return await self._ask(self._reads, job, background=background)

    @property
    def last_used(self) -> float:
        """When somebody last asked for something, by `time.monotonic`: who works in the background stands back."""
        return self._last_used

    def submit(self, job: Callable[[sqlite3.Connection], T]) -> concurrent.futures.Future[T]:
        """`write` for threads: the future is done once the job is durable (or has failed)."""
        return self._submit(self._writes, job)

    def submit_read(self, job: Callable[[sqlite3.Connection], T]) -> concurrent.futures.Future[T]:
        """`read` for threads."""
        return self._submit(self._reads, job)

    def step(self, name: str) -> None:
        """Tell the test hook, if there is one, that the writer has come to `name`."""
        if self.on_step is not None:
            self.on_step(name)

    def stats(self) -> DatabaseStats:
        """Counters for metrics and health; `failure` is None once a batch has committed again."""
        return DatabaseStats(len(self._writes), self._batches, self._jobs, self._failure)

    def _ask(
        self,
        queue: JobQueue,
        job: Callable[[sqlite3.Connection], T],
        *,
        lasting: bool = True,
        background: bool = False,
        heard: Callable[[T], None] | None = None,
    ) -> asyncio.Future[T]:
        if not background:
            self._last_used = monotonic()
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[T] = loop.create_future()
        _put(queue, Job(job, waiter, loop, lasting=lasting, heard=heard))
        return waiter

    def _submit(self, queue: JobQueue, job: Callable[[sqlite3.Connection], T]) -> concurrent.futures.Future[T]:
        waiter: concurrent.futures.Future[T] = concurrent.futures.Future()
        # It runs whatever happens, so it cannot be cancelled either.
        waiter.set_running_or_notify_cancel()
        _put(queue, Job(job, waiter, None))
        return waiter

    # -- the writer's thread -----------------------------------------------------------------------------------------

    def _write_forever(self, started: concurrent.futures.Future[None]) -> None:
        try:
            self._writer = self._open_writer()
            migrate(self._writer, self._migrations, str(self.path))
        except BaseException as error:
            if self._writer is not None:
                self._writer.close()
            started.set_exception(_told(error, self.path.name))
            return
        started.set_result(None)
        while self._write_next():
            self.step("answered")
            self._fold_when_idle()
        if self._writer is not None:
            # On a full disk the log stays as it is, and the next start folds it back.
            with contextlib.suppress(sqlite3.Error):
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._writer.close()

    def _write_next(self) -> bool:
        """Do the next batch; False when the queue is closed. Nothing of a batch is held beyond it."""
        item = self._writes.take()
        if item is None:
            return False
        batch = [item]
        try:
            self._run(batch)
        except BaseException as error:
            self._fail(batch, error)
        answer(batch)
        return True

    def _run(self, batch: list[Job]) -> None:
        """Run the batch's first job and those that wait behind it in one transaction. Raises when all is lost."""
        deadline = monotonic() + self._batch_seconds
        try:
            self.step("begin")
            self._writer = connection = self._writer or self._open_writer()
            if self._doubtful:
                self._begin_log_anew(connection)
            lasting = batch[0].lasting
            if lasting != self._lasting:
                connection.execute(f"PRAGMA synchronous = {self._synchronous if lasting else 'NORMAL'}")
                self._lasting = lasting
            connection.execute("BEGIN IMMEDIATE")
        except BaseException:
            # It can have taken the whole busy timeout, so those who wait are not made to wait for the same again.
            batch.extend(self._writes.take_all())
            raise
        kept = 0
        item: Job | None = batch[0]
        while item is not None:
            self.step("job")
            kept += self._run_one(connection, item, alone=kept == 0)
            if len(batch) >= self._batch_jobs or monotonic() >= deadline:
                break
            item = self._writes.take_waiting(lasting=lasting)
            if item is not None:
                batch.append(item)
        self.step("commit")
        connection.execute("COMMIT")
        if kept:
            self._batches += 1
            self._jobs += kept
            self._failure = None
        self.step("committed")

    def _fold_when_idle(self) -> None:
        """Fold the log back while nobody waits, for under load a job waits for it once the log is full."""
        writer = self._writer
        if writer is None or writer.total_changes - self._folded < WORTH_FOLDING or self._writes.wait(IDLE):
            return
        self._folded = writer.total_changes
        try:
            self.step("fold")
            writer.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.Error as error:
            # What cannot be written now stays in the log.
            self._doubtful = self._doubtful or getattr(error, "sqlite_errorcode", None) in _UNSYNCED

    def _begin_log_anew(self, connection: sqlite3.Connection) -> None:
        """Fold the log back after a sync failed. That may have left earlier commits that were not lasting
        unwritten while later syncs succeed: with such a gap in the log, a power cut would take all behind it."""
        (busy, *_) = connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        if busy:
            raise DatabaseUnavailable("after a failed sync the log waits for its readers")
        self._doubtful = False

    def _run_one(self, connection: sqlite3.Connection, item: Job, *, alone: bool) -> bool:
        """Run one job; True when its changes stand. The first that stands needs no savepoint: ROLLBACK serves it."""
        try:
            if not alone:
                connection.execute("SAVEPOINT job")
            item.result = item.job(connection)
            if not connection.in_transaction:
                raise RuntimeError("a job ended the transaction it was given")
            if not alone:
                connection.execute("RELEASE job")
        except BaseException as error:
            item.result, item.error = None, _told(error, self.path.name)
            if alone:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                connection.execute("BEGIN IMMEDIATE")
            elif connection.in_transaction:
                connection.execute("ROLLBACK TO job")
                connection.execute("RELEASE job")
            else:
                # SQLite answers some I/O errors by rolling the whole transaction back.
                raise
            return False
        return True

    def _fail(self, batch: list[Job], error: BaseException) -> None:
        """Give every job of the batch the reason; begin the next batch with a new connection."""
        reason = _reason(error, self.path.name)
        self._failure = reason
        if getattr(error, "sqlite_errorcode", None) in _UNSYNCED:
            self._doubtful = True
        for item in batch:
            if item.error is None:
                item.result, item.error = None, _unavailable(reason, error)
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except sqlite3.Error as closing:
                self._failure = f"{reason}; and on closing: {closing}"

    # -- the readers' threads ----------------------------------------------------------------------------------------

    def _read_forever(self) -> None:
        connection: sqlite3.Connection | None = None
        while (item := self._reads.take()) is not None:
            connection = self._read_one(connection, item)
            answer([item])
            # Its value may be large, and the next job may be long in coming.
            del item
        if connection is not None:
            connection.close()

    def _read_one(self, connection: sqlite3.Connection | None, item: Job) -> sqlite3.Connection | None:
        """Run one job; the connection to use for the next."""
        try:
            connection = self._open_reader() if connection is None else connection
            connection.execute("BEGIN")
            try:
                item.result = item.job(connection)
            finally:
                connection.execute("ROLLBACK")
        except BaseException as error:
            item.error = _told(error, self.path.name)
            if isinstance(item.error, DatabaseUnavailable) and connection is not None:
                connection.close()
                return None
        return connection

    # -- connections and schema --------------------------------------------------------------------------------------

    def _open_writer(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        connection = self._connect()
        # A page size counts only before the first page and before WAL; on an existing file it changes nothing.
        connection.execute(f"PRAGMA page_size = {self._page_size}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        self._lasting = True
        self._folded = 0
        # The writer itself folds the log back: at that moment nothing newer is in it, so the next batch begins it
        # anew and it stays bounded under constant load, which a checkpointer on another thread does not achieve.
        # And SQLite before 3.51.3 can damage a file of which one connection checkpoints while another one commits
        # (https://www.sqlite.org/wal.html#walresetbug): here one does both.
        connection.execute(f"PRAGMA wal_autocheckpoint = {self._checkpoint_pages}")
        # After one large burst (or a slow reader) the log gives its space back; what it takes every time it keeps, for
        # a sync of what was written over costs half of one that makes the file longer.
        connection.execute(f"PRAGMA journal_size_limit = {4 * self._checkpoint_pages * self._page_size}")
        return connection

    def _open_reader(self) -> sqlite3.Connection:
        connection = self._connect()
        connection.execute("PRAGMA query_only = ON")
        return connection

    def _connect(self) -> sqlite3.Connection:
        # Another program (a backup, the sqlite3 shell) may hold the file for a moment: wait for it up to 5 s.
        connection = sqlite3.connect(self.path, timeout=5.0, isolation_level=None, cached_statements=512)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA cache_size = -{self._cache_kib}")
        # No mmap: an I/O error on a mapped page is a SIGBUS for the whole process instead of an exception.
        connection.execute("PRAGMA mmap_size = 0")
        return connection


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration], name: str) -> None:
    """Bring a database (told as `name` in errors) to the newest version, and enforce foreign keys from then on.

    Raises SchemaTooNew, or what a migration raises; its changes are then taken back, those before it stay.
    """
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found > len(migrations):
        raise SchemaTooNew(
            f"{name} has schema version {found}, this release knows {len(migrations)}: "
            "start the release that wrote it, or a later one"
        )
    connection.execute("PRAGMA foreign_keys = OFF")
    for version, migration in enumerate(migrations[found:], start=found + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            if callable(migration.apply):
                migration.apply(connection)
            else:
                for statement in statements(migration.apply):
                    connection.execute(statement)
            broken = connection.execute("PRAGMA foreign_key_check").fetchone()
            if broken is not None:
                raise sqlite3.IntegrityError(f"migration {version} ({migration.name}) breaks a key of {broken[0]}")
            connection.execute(f"PRAGMA user_version = {version}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    connection.execute("PRAGMA foreign_keys = ON")


def statements(script: str) -> list[str]:
    """Cut a script into its statements (`executescript` would COMMIT first). Triggers stay whole."""
    found: list[str] = []
    begun = ""
    for piece in script.split(";"):
        begun += piece + ";"
        if sqlite3.complete_statement(begun):
            if begun.strip() != ";":
                found.append(begun.strip())
            begun = ""
    if begun.strip("; \t\r\n"):
        found.append(begun.rstrip(";").strip())
    return found


def _told(error: BaseException, name: str) -> BaseException:
    """The error as callers see it: `DatabaseUnavailable` where SQLite says "not now", else unchanged."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        if code is not None and code & 0xFF in _UNAVAILABLE:
            return _unavailable(_reason(error, name), error)
    return error


def _reason(error: BaseException, name: str) -> str:
    """What happened to which file."""
    code = getattr(error, "sqlite_errorcode", 0)
    if code & 0xFF in _DAMAGED:
        return f"{name} is damaged: {error}"
    return f"{name}: {error}" + (": the disk is full" if code == sqlite3.SQLITE_IOERR_SHMSIZE else "")


def _unavailable(text: str, error: BaseException) -> DatabaseUnavailable:
    """That for this reason nothing can be done now."""
    cause = error.__cause__ if isinstance(error, DatabaseUnavailable) and error.__cause__ is not None else error
    code = getattr(cause, "sqlite_errorcode", 0)
    # Where the file beside the log cannot grow, SQLite tells of an I/O error: the disk is full then, too.
    full = code & 0xFF == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_SHMSIZE
    unavailable = DatabaseUnavailable(text, full=full, damaged=code & 0xFF in _DAMAGED)
    unavailable.__cause__ = cause
    return unavailable


def _put(queue: JobQueue, job: Job) -> None:
    try:
        queue.put(job)
    except QueueRefused as error:
        raise DatabaseUnavailable(str(error)) from None
