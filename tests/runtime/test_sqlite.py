"""The contract of runtime.sqlite.Database."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from runtime.sqlite import WORTH_FOLDING, Database, DatabaseUnavailable, Migration, SchemaTooNew, statements
from tests.live import until

NOTES = Migration("notes", "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)")
ROOT = Path(__file__).parents[2]


def put(text: str) -> Callable[[sqlite3.Connection], int]:
    def job(connection: sqlite3.Connection) -> int:
        return int(connection.execute("INSERT INTO note (text) VALUES (?)", (text,)).lastrowid or 0)

    return job


def texts(connection: sqlite3.Connection) -> list[str]:
    return [text for (text,) in connection.execute("SELECT text FROM note ORDER BY id")]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    made = Database(tmp_path / "a.db", migrations=[NOTES])
    await made.open()
    yield made
    made.on_step = None
    await made.close()


class Gate:
    """Stops the writer at a step until it is opened."""

    def __init__(self, database: Database, name: str) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()
        self._name = name
        database.on_step = self._step

    def _step(self, name: str) -> None:
        if name == self._name and not self.opened.is_set():
            self.reached.set()
            assert self.opened.wait(60)

    async def wait(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, 10)


async def test_what_is_written_is_read(database: Database) -> None:
    assert await database.write(put("one")) == 1
    assert await database.read(texts) == ["one"]


async def test_the_file_is_its_owners_alone(database: Database) -> None:
    assert stat.S_IMODE(database.path.stat().st_mode) == 0o600


async def test_waiting_jobs_share_one_transaction_in_order(database: Database) -> None:
    gate = Gate(database, "begin")
    first = asyncio.create_task(database.write(put("0")))
    await gate.wait()
    rest = [asyncio.create_task(database.write(put(str(number)))) for number in range(1, 50)]
    await asyncio.sleep(0)
    before = database.stats().batches
    gate.opened.set()
    await asyncio.gather(first, *rest)
    assert database.stats().batches == before + 1
    assert await database.read(texts) == [str(number) for number in range(50)]


@pytest.mark.parametrize("bad", [0, 1, 4])
async def test_a_failing_job_takes_back_its_own_changes_alone(database: Database, bad: int) -> None:
    def failing(connection: sqlite3.Connection) -> None:
        put("half")(connection)
        raise KeyError("mine")

    gate = Gate(database, "begin")
    jobs = [put(str(number)) for number in range(4)]
    jobs.insert(bad, failing)
    writes = [asyncio.create_task(database.write(job)) for job in jobs]
    await gate.wait()
    gate.opened.set()
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert isinstance(results[bad], KeyError)
    assert sum(isinstance(result, int) for result in results) == 4
    assert await database.read(texts) == ["0", "1", "2", "3"]


async def test_a_constraint_fails_its_own_caller_as_it_is(database: Database) -> None:
    await database.write(put("one"))
    results = await asyncio.gather(
        *(database.write(put(text)) for text in ("two", "one", "three")), return_exceptions=True
    )
    assert isinstance(results[1], sqlite3.IntegrityError)
    assert await database.read(texts) == ["one", "two", "three"]


async def test_nobody_is_answered_before_the_commit(database: Database) -> None:
    gate = Gate(database, "commit")
    write = asyncio.create_task(database.write(put("one")))
    await gate.wait()
    await asyncio.sleep(0.01)
    assert not write.done()
    assert await database.read(texts) == []
    gate.opened.set()
    await write
    assert await database.read(texts) == ["one"]


async def test_what_need_not_last_is_not_synced_and_what_must_is(database: Database) -> None:
    def synchronous(connection: sqlite3.Connection) -> int:
        return int(connection.execute("PRAGMA synchronous").fetchone()[0])

    full, normal = 2, 1
    gate = Gate(database, "begin")
    first = asyncio.create_task(database.write(put("first"), lasting=False))
    await gate.wait()
    rest = [
        asyncio.create_task(database.write(synchronous, lasting=lasting)) for lasting in (False, True, False, False)
    ]
    await asyncio.sleep(0)
    gate.opened.set()
    await first
    # A lasting job never joins a batch without a sync; one that need not last joins any.
    assert await asyncio.gather(*rest) == [normal, full, full, full]
    assert await database.write(synchronous, lasting=False) == normal
    assert await database.write(synchronous) == full


async def test_a_batch_is_bounded_by_count(tmp_path: Path) -> None:
    database = Database(tmp_path / "b.db", migrations=[NOTES], batch_jobs=10, batch_seconds=60)
    await database.open()
    gate = Gate(database, "begin")
    writes = [asyncio.create_task(database.write(put(str(number)))) for number in range(25)]
    await gate.wait()
    gate.opened.set()
    await asyncio.gather(*writes)
    assert database.stats().batches == 3
    await database.close()


async def test_a_batch_is_bounded_by_time(tmp_path: Path) -> None:
    database = Database(tmp_path / "b.db", migrations=[NOTES], batch_seconds=0)
    await database.open()
    await asyncio.gather(*(database.write(put(str(number))) for number in range(5)))
    assert database.stats().batches == 5
    await database.close()


async def test_the_queue_is_bounded(tmp_path: Path) -> None:
    database = Database(tmp_path / "q.db", migrations=[NOTES], queue_limit=2)
    await database.open()
    gate = Gate(database, "begin")
    first = database.submit(put("0"))
    await gate.wait()
    waiting = [database.submit(put("1")), database.submit(put("2"))]
    with pytest.raises(DatabaseUnavailable, match="2 jobs wait"):
        await database.write(put("3"))
    gate.opened.set()
    for future in (first, *waiting):
        await asyncio.wrap_future(future)
    assert await database.write(put("3")) == 4
    await database.close()


async def test_a_full_disk_is_unavailable_and_passes(database: Database) -> None:
    def bound(pages: int) -> Callable[[sqlite3.Connection], object]:
        return lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()

    await database.write(bound(20))
    assert await database.write(lambda c: c.execute("PRAGMA max_page_count").fetchone()) == (20,)
    big = "x" * 200_000
    results = await asyncio.gather(
        database.write(put("before")), database.write(put(big)), database.write(put("after")), return_exceptions=True
    )
    assert isinstance(results[1], DatabaseUnavailable)
    kept = [text for text, result in zip(("before", big, "after"), results, strict=True) if isinstance(result, int)]
    assert await database.read(texts) == kept
    await database.write(put("small"))
    await database.write(bound(1_000_000))
    await database.write(put(big))
    assert await database.read(texts) == [*kept, "small", big]


async def test_a_failed_commit_fails_the_batch_and_the_next_one_works(database: Database) -> None:
    def trip(name: str) -> None:
        if name == "commit":
            raise sqlite3.OperationalError("disk I/O error")

    database.on_step = trip
    results = await asyncio.gather(*(database.write(put(str(n))) for n in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [DatabaseUnavailable] * 3
    assert database.stats().failure is not None
    database.on_step = None
    assert await database.read(texts) == []
    await database.write(put("again"))
    assert database.stats().failure is None
    assert await database.read(texts) == ["again"]


async def test_a_job_that_ends_the_transaction_is_a_bug_of_its_own(database: Database) -> None:
    with pytest.raises(RuntimeError, match="ended the transaction"):
        await database.write(lambda connection: connection.execute("COMMIT"))
    await database.write(put("one"))
    assert await database.read(texts) == ["one"]


async def test_readers_work_side_by_side(database: Database) -> None:
    all_three = threading.Barrier(3)
    await asyncio.gather(*(database.read(lambda _: all_three.wait(60)) for _ in range(3)))


async def test_readers_cannot_write(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable, match="readonly"):
        await database.read(put("one"))
    assert await database.read(texts) == []


async def test_a_read_sees_one_moment(database: Database) -> None:
    await database.write(put("one"))
    begun, go_on = threading.Event(), threading.Event()

    def twice(connection: sqlite3.Connection) -> tuple[list[str], list[str]]:
        before = texts(connection)
        begun.set()
        assert go_on.wait(60)
        return before, texts(connection)

    reading = asyncio.create_task(database.read(twice))
    assert await asyncio.to_thread(begun.wait, 60)
    await database.write(put("two"))
    go_on.set()
    assert await reading == (["one"], ["one"])


async def test_a_cancelled_waiter_does_not_undo(database: Database) -> None:
    gate = Gate(database, "commit")
    write = asyncio.create_task(database.write(put("one")))
    await gate.wait()
    write.cancel()
    with pytest.raises(asyncio.CancelledError):
        await write
    gate.opened.set()
    await database.write(put("two"))
    assert await database.read(texts) == ["one", "two"]


async def test_who_hears_does_so_before_who_waits_and_also_where_nobody_does(database: Database) -> None:
    gate = Gate(database, "commit")
    told: list[str] = []

    async def write(text: str) -> None:
        await database.write(put(text), heard=lambda _: told.append(f"{text} heard"))
        told.append(f"{text} answered")

    gone, twice = asyncio.create_task(write("one")), asyncio.create_task(write("one"))
    stays = asyncio.create_task(write("two"))
    await gate.wait()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    gate.opened.set()
    await stays
    with pytest.raises(sqlite3.IntegrityError):
        await twice
    assert told == ["one heard", "two heard", "two answered"]


async def test_one_that_cannot_hear_keeps_nobody_from_it(database: Database) -> None:
    gate = Gate(database, "begin")
    heard: list[int] = []
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))

    def fails(number: int) -> None:
        raise LookupError(number)

    writes = [
        asyncio.create_task(database.write(put(text), heard=hear)) for text, hear in (("1", fails), ("2", heard.append))
    ]
    await gate.wait()
    gate.opened.set()
    assert await asyncio.gather(*writes) == [1, 2]
    assert heard == [2]
    assert [repr(error) for error in errors] == ["LookupError(1)"]


async def test_threads_submit(database: Database) -> None:
    number = await asyncio.to_thread(lambda: database.submit(put("one")).result(10))
    assert number == 1
    assert await asyncio.to_thread(lambda: database.submit_read(texts).result(10)) == ["one"]


async def test_close_finishes_what_waits_and_refuses_more(tmp_path: Path) -> None:
    database = Database(tmp_path / "c.db", migrations=[NOTES])
    await database.open()
    gate = Gate(database, "begin")
    writes = [asyncio.create_task(database.write(put(str(number)))) for number in range(5)]
    await gate.wait()
    closing = asyncio.create_task(database.close())
    gate.opened.set()
    await asyncio.gather(closing, *writes)
    with pytest.raises(DatabaseUnavailable, match="closed"):
        await database.write(put("late"))
    await database.close()
    with sqlite3.connect(tmp_path / "c.db") as left:
        assert len(texts(left)) == 5
    left.close()
    assert not (tmp_path / "c.db-wal").exists()


async def test_what_is_not_open_refuses_at_once(tmp_path: Path) -> None:
    database = Database(tmp_path / "n.db", migrations=[NOTES])
    with pytest.raises(DatabaseUnavailable, match="not open"):
        await asyncio.wait_for(database.write(put("early")), 5)
    with pytest.raises(DatabaseUnavailable, match="not open"):
        database.submit_read(texts)
    (tmp_path / "n.db").write_bytes(b"this is no database" * 1000)
    with pytest.raises(DatabaseUnavailable, match=r"^n\.db is damaged: file is not a database$"):
        await database.open()
    with pytest.raises(DatabaseUnavailable, match="not open"):
        await asyncio.wait_for(database.read(texts), 5)
    await database.close()


async def test_full_is_told_apart(database: Database) -> None:
    await database.write(lambda c: c.execute("PRAGMA max_page_count = 20").fetchone())
    with pytest.raises(DatabaseUnavailable) as full:
        await database.write(put("x" * 200_000))
    assert full.value.full
    with pytest.raises(DatabaseUnavailable) as readonly:
        await database.read(put("x"))
    assert not readonly.value.full

    def no_room(_: sqlite3.Connection) -> None:
        # The file beside the log could not be made longer.
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE
        raise error

    with pytest.raises(DatabaseUnavailable, match=r"^a\.db: disk I/O error: the disk is full$") as told:
        await database.read(no_room)
    assert told.value.full


async def test_an_error_at_commit_keeps_its_cause(database: Database) -> None:
    def trip(name: str) -> None:
        if name == "commit":
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

    database.on_step = trip
    with pytest.raises(DatabaseUnavailable, match=r"a\.db: database or disk is full") as told:
        await database.write(put("one"))
    assert isinstance(told.value.__cause__, sqlite3.OperationalError)
    assert told.value.full


async def test_after_a_failed_sync_the_log_begins_anew(database: Database, tmp_path: Path) -> None:
    """What was committed without a sync may have been lost with the failed one, though later ones succeed."""

    def trip(name: str) -> None:
        if name == "commit":
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error

    await database.write(put("staged"), lasting=False)
    # A reader's connection keeps the log from being folded back when the writer's is closed.
    assert await database.read(texts) == ["staged"]
    database.on_step = trip
    with pytest.raises(DatabaseUnavailable):
        await database.write(put("failed"))
    database.on_step = None
    await database.write(put("after"))
    # The file alone, without its log, has what was committed before the failure.
    copy = tmp_path / "copy.db"
    copy.write_bytes((tmp_path / "a.db").read_bytes())
    with contextlib.closing(sqlite3.connect(copy)) as found:
        assert texts(found) == ["staged"]
    assert await database.read(texts) == ["staged", "after"]


def many(connection: sqlite3.Connection) -> None:
    """As much as is folded back when nobody writes."""
    connection.executemany("INSERT INTO note (text) VALUES (?)", [(str(n),) for n in range(WORTH_FOLDING)])


def folded(database: Database) -> bool:
    """Whether the file alone, without its log, has what `many` wrote."""
    alone = database.path.with_name("alone.db")
    shutil.copyfile(database.path, alone)
    with contextlib.closing(sqlite3.connect(f"file:{alone}?immutable=1", uri=True)) as connection:
        try:
            return len(texts(connection)) == WORTH_FOLDING
        except sqlite3.DatabaseError:
            # it is being written
            return False


async def test_after_a_failed_sync_of_an_idle_writer_the_log_begins_anew(database: Database) -> None:
    tried = threading.Event()

    def trip(name: str) -> None:
        if name == "fold":
            tried.set()
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error

    database.on_step = trip
    await database.write(many, lasting=False)
    assert await asyncio.to_thread(tried.wait, 60)
    assert not folded(database)
    await database.write(put("after"))
    assert folded(database)


async def test_the_log_is_folded_back_while_nobody_writes(database: Database) -> None:
    await database.write(many)
    await asyncio.to_thread(until, lambda: folded(database))
    assert await database.write(put("later")) == WORTH_FOLDING + 1


async def test_a_job_that_raises_stop_iteration_disturbs_no_other(database: Database) -> None:
    def stop(connection: sqlite3.Connection) -> int:
        raise StopIteration

    gate = Gate(database, "begin")
    writes = [asyncio.create_task(database.write(job)) for job in (put("one"), stop, put("two"))]
    await gate.wait()
    gate.opened.set()
    one, bug, two = await asyncio.wait_for(asyncio.gather(*writes, return_exceptions=True), 5)
    assert (one, two) == (1, 2)
    assert isinstance(bug, RuntimeError)


async def test_a_damaged_file_is_closed_all_the_same(tmp_path: Path) -> None:
    database = Database(tmp_path / "d.db", migrations=[NOTES])
    await database.open()
    await database.write(put("x" * 100_000))
    for name in ("d.db", "d.db-wal"):
        path = tmp_path / name
        path.write_bytes(b"\x7f" * path.stat().st_size)
    await asyncio.wait_for(database.close(), 10)
    with pytest.raises(DatabaseUnavailable, match="closed"):
        await database.read(texts)


DYING = """
import sys
from runtime.sqlite import Database, Migration

database = Database(sys.argv[1], migrations=[Migration("t", "CREATE TABLE t (x)")])
database.open_now()
database.submit(lambda c: c.execute("INSERT INTO t VALUES (1)").rowcount).result()
raise KeyError("nobody closes it")
"""


def test_a_process_that_dies_without_closing_ends_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "e.db"
    ended = subprocess.run([sys.executable, "-c", DYING, str(path)], cwd=ROOT, capture_output=True, timeout=20)
    assert ended.returncode == 1
    assert b"nobody closes it" in ended.stderr
    with contextlib.closing(sqlite3.connect(path)) as found:
        assert found.execute("SELECT x FROM t").fetchall() == [(1,)]


# -- schema


async def test_migrations_run_once_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    first = Database(path, migrations=[NOTES])
    await first.open()
    await first.write(put("kept"))
    await first.close()

    def fill(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE note SET mark = upper(text)")

    script = """
        ALTER TABLE note ADD COLUMN mark TEXT;  -- a comment; with a semicolon
        CREATE TRIGGER shout AFTER INSERT ON note BEGIN
            UPDATE note SET mark = 'a;b' WHERE id = NEW.id;
        END;
    """
    second = Database(path, migrations=[NOTES, Migration("mark", script), Migration("fill", fill)])
    await second.open()
    await second.write(put("new"))
    assert await second.read(lambda c: c.execute("SELECT mark FROM note ORDER BY id").fetchall()) == [
        ("KEPT",),
        ("a;b",),
    ]
    await second.close()

    older = Database(path, migrations=[NOTES])
    with pytest.raises(SchemaTooNew, match="schema version 3, this release knows 1"):
        await older.open()
    await older.close()


async def test_a_failing_migration_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    bad = Migration("bad", "CREATE TABLE half (id); INSERT INTO nowhere VALUES (1)")
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        await Database(path, migrations=[NOTES, bad]).open()
    good = Database(path, migrations=[NOTES])
    await good.open()
    tables = await good.read(lambda c: c.execute("SELECT name FROM sqlite_schema WHERE type='table'").fetchall())
    assert tables == [("note",)]
    await good.close()


async def test_a_migration_may_not_break_a_foreign_key(tmp_path: Path) -> None:
    keyed = Migration(
        "keyed",
        "CREATE TABLE a (id INTEGER PRIMARY KEY); CREATE TABLE b (a INTEGER REFERENCES a);INSERT INTO b VALUES (7)",
    )
    with pytest.raises(sqlite3.IntegrityError, match="breaks a key of b"):
        await Database(tmp_path / "k.db", migrations=[keyed]).open()


async def test_what_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(DatabaseUnavailable, match="not a database"):
        await Database(tmp_path / "x.db", migrations=[NOTES]).open()


def test_statements_keep_triggers_and_the_last_one_whole() -> None:
    assert statements("A ; ; CREATE TRIGGER t AFTER INSERT ON n BEGIN SELECT 1; END; SELECT 2") == [
        "A ;",
        "CREATE TRIGGER t AFTER INSERT ON n BEGIN SELECT 1; END;",
        "SELECT 2;",
    ]
    assert statements(" ;\n") == []


# -- the process and the machine

WRITER = """
import asyncio, sys
from runtime.sqlite import Database, Migration
async def main():
    database = Database(sys.argv[1], migrations=[Migration("n", "CREATE TABLE note (id INTEGER PRIMARY KEY, text)")])
    await database.open()
    async def one(k):
        for n in range(100000):
            text = f"{k}-{n}"
            await database.write(lambda c: c.execute("INSERT INTO note (text) VALUES (?)", (text,)).lastrowid)
            print(text, flush=True)
    await asyncio.gather(*(one(k) for k in range(8)))
asyncio.run(main())
"""


@pytest.mark.parametrize("after", [20, 150, 400])
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, after: int) -> None:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "k.db")], stdout=subprocess.PIPE, text=True, env=environ
    ) as child:
        assert child.stdout is not None
        told = [child.stdout.readline().strip() for _ in range(after)]
        child.send_signal(signal.SIGKILL)
        told += [line.strip() for line in child.stdout if line.endswith("\n")]
    kept = sqlite3.connect(tmp_path / "k.db")
    found = texts(kept)
    kept.close()
    assert set(told) <= set(found)
    assert len(found) == len(set(found))


FULL = """
import asyncio, resource, sys
from runtime.sqlite import Database, DatabaseUnavailable, Migration
def put(n):
    return lambda c: c.execute("INSERT INTO note (text) VALUES (?)", ("x" * n,)).lastrowid
async def main():
    database = Database(sys.argv[1], migrations=[Migration("n", "CREATE TABLE note (id INTEGER PRIMARY KEY, text)")])
    await database.open()
    await database.write(put(10))
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    outcomes = await asyncio.gather(*(database.write(put(100_000)) for _ in range(8)), return_exceptions=True)
    print(sum(isinstance(o, DatabaseUnavailable) for o in outcomes), sum(isinstance(o, int) for o in outcomes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await database.write(put(100_000))
    print(await database.read(lambda c: c.execute("SELECT count(*) FROM note").fetchone()[0]))
    print(await database.read(lambda c: c.execute("PRAGMA integrity_check").fetchone()[0]))
    await database.close()
asyncio.run(main())
"""


def test_a_file_that_cannot_grow_is_unavailable_and_recovers(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    out = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "f.db")],
        capture_output=True,
        text=True,
        env=environ,
        timeout=60,
        check=True,
    ).stdout.split()
    refused, kept = int(out[0]), int(out[1])
    assert refused >= 1
    assert refused + kept == 8
    # The small one, those that were acknowledged, and the one after there was room again.
    assert int(out[2]) == kept + 2
    assert out[3] == "ok"
