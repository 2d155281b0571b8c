"""What is the SQLite adapter's own: nothing remembered too long, cancelled writes, a full disk, a free loop."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading
from pathlib import Path

import pytest
from blockbuster import BlockBuster

from identity.adapters.sqlite.adapter import SqliteIdentity
from identity.adapters.sqlite.memo import MISSING, Memo
from identity.model import Alias, NewAccount, Origin, Verdict
from identity.port import Reason, Refused, Unavailable
from runtime.clock import ManualClock

D = "test.example"
HOME = Origin("192.0.2.1", "imap")


def test_memo_drops_what_was_read_before_a_change() -> None:
    memo: Memo[str, int] = Memo(2)
    before = memo.generation
    memo.clear()
    memo.put("a", 1, before)
    assert memo.get("a") is MISSING
    for n, key in enumerate("abc"):
        memo.put(key, n, memo.generation)
    assert (memo.get("a"), memo.get("b"), memo.get("c")) == (MISSING, 1, 2)


async def test_a_change_is_seen_by_what_is_asked_after_it(identity: SqliteIdentity) -> None:
    await identity.add_account(NewAccount(f"a@{D}", "x"))
    for n in range(20):
        await identity.put_alias(Alias(f"list@{D}", (f"x{n}@else.example",)))
        assert (await identity.resolve(f"list@{D}")).remote == (f"x{n}@else.example",)
        await identity.update_domain(D, f"a@{D}" if n % 2 else None, "+")
        verdict = (await identity.resolve(f"nobody@{D}")).verdict
        assert verdict is (Verdict.LOCAL if n % 2 else Verdict.UNKNOWN)
    assert not await identity.domain_exists("new.example")
    await identity.add_domain("new.example")
    assert await identity.domain_exists("new.example")


async def test_a_question_on_its_way_does_not_outlive_a_change(identity: SqliteIdentity) -> None:
    await identity.put_alias(Alias(f"list@{D}", ("old@else.example",)))
    held, go = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> None:
        connection.execute("SELECT count(*) FROM alias").fetchone()
        held.set()
        assert go.wait(60)

    # both readers are busy, so the question waits behind them while the change is made
    database = identity._database
    busy = [asyncio.create_task(database.read(slow)) for _ in range(2)]
    await asyncio.to_thread(held.wait)
    question = asyncio.create_task(identity.resolve(f"list@{D}"))
    await asyncio.sleep(0)
    await identity.put_alias(Alias(f"list@{D}", ("new@else.example",)))
    go.set()
    await asyncio.gather(*busy, question)
    assert (await identity.resolve(f"list@{D}")).remote == ("new@else.example",)


async def test_long_lists_fill_no_memory(identity: SqliteIdentity) -> None:
    for count in (16, 17):
        await identity.put_alias(Alias(f"list{count}@{D}", tuple(f"x{n}@else.example" for n in range(count))))
    for n in range(10):
        assert len((await identity.resolve(f"list16+{n}@{D}")).remote) == 16
        assert len((await identity.resolve(f"list17+{n}@{D}")).remote) == 17
    assert len(identity._resolved._answers) == 10


async def test_a_cancelled_change_is_made_and_told(identity: SqliteIdentity) -> None:
    assert (await identity.resolve(f"list@{D}")).verdict is Verdict.UNKNOWN
    task = asyncio.create_task(identity.put_alias(Alias(f"list@{D}", ("x@else.example",))))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await identity._writes.close()
    assert (await identity.resolve(f"list@{D}")).verdict is Verdict.LOCAL


async def test_a_full_disk_is_unavailable_and_passes(identity: SqliteIdentity) -> None:
    account = await identity.add_account(NewAccount(f"a@{D}", "x"))
    full = True

    def on_step(name: str) -> None:
        if full and name == "commit":
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

    identity._database.on_step = on_step
    with pytest.raises(Unavailable):
        await identity.set_password(account.id, "new")
    principal = await identity.authenticate("a", "x", HOME)
    with pytest.raises(Unavailable):
        await identity.issue_token(principal)
    for n in range(5):
        with pytest.raises(Refused) as caught:
            await identity.authenticate("a", f"wrong {n}", Origin("203.0.113.1", "imap"))
        assert caught.value.reason is Reason.BAD_CREDENTIALS
    with pytest.raises(Refused) as caught:
        await identity.authenticate("a", "x", Origin("203.0.113.1", "imap"))
    assert caught.value.reason is Reason.SLOW_DOWN, "guesses count while nothing can be written"
    full = False
    await identity.set_password(account.id, "new")
    await identity.authenticate("a", "new", HOME)


async def test_a_usual_device_writes_seldom(identity: SqliteIdentity, clock: ManualClock) -> None:
    await identity.add_account(NewAccount(f"a@{D}", "x"))
    await identity.authenticate("a", "x", HOME)
    await identity._guesses.close()
    jobs = identity._database.stats().jobs
    for _ in range(50):
        await identity.authenticate("a", "x", HOME)
        clock.advance(60)
    await identity._guesses.close()
    assert identity._database.stats().jobs == jobs
    clock.advance(3600)
    await identity.authenticate("a", "x", HOME)
    await identity._guesses.close()
    assert identity._database.stats().jobs == jobs + 1


async def test_history_is_bounded_and_says_so(identity: SqliteIdentity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("identity.adapters.sqlite.rows.HISTORY", 3)
    account = await identity.add_account(NewAccount(f"a@{D}", "x"))
    begin = (await identity.changes_since(0, 0)).seq
    for n in range(5):
        await identity.set_password(account.id, f"new {n}")
    late = await identity.changes_since(begin, 0)
    assert late.reset
    assert late.changes == ()
    assert late.seq == begin + 5
    assert len((await identity.changes_since(begin + 2, 0)).changes) == 3


async def test_guess_counters_are_bounded(identity: SqliteIdentity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("identity.adapters.sqlite.guess_store.MAX_COUNTERS", 10)
    monkeypatch.setattr("identity.adapters.sqlite.guess_store._LOOKED", 1)
    for n in range(30):
        with pytest.raises(Refused):
            await identity.authenticate(f"name{n}", "x", Origin("127.0.0.1", "imap"))

    def count(connection: sqlite3.Connection) -> int:
        return int(connection.execute("SELECT count(*) FROM guess_counter").fetchone()[0])

    assert await identity._database.read(count) == 10


async def test_the_file_is_for_its_owner(identity: SqliteIdentity, tmp_path: Path) -> None:
    await identity.add_account(NewAccount(f"a@{D}", "not in the file"))
    principal = await identity.authenticate("a", "not in the file", HOME)
    token = await identity.issue_token(principal)
    _, secret = await identity.add_app_password(principal.account, "phone")
    assert stat.S_IMODE((tmp_path / "identity.db").stat().st_mode) == 0o600
    stored = await asyncio.to_thread(lambda: b"".join(path.read_bytes() for path in tmp_path.glob("identity.db*")))
    for text in ("not in the file", token.access, token.refresh, secret, secret.replace("-", "")):
        assert text.encode() not in stored


async def test_the_loop_never_blocks(identity: SqliteIdentity) -> None:
    blocking = BlockBuster(scanned_modules=["identity"])
    blocking.activate()
    try:
        await identity.import_accounts([NewAccount(f"u{n}@{D}", f"pw {n}") for n in range(20)])
        principal = await identity.authenticate("u1", "pw 1", HOME)
        await identity.verify_token((await identity.issue_token(principal)).access)
        await identity.resolve(f"u2@{D}")
        with pytest.raises(Refused):
            await identity.authenticate("u2", "wrong", HOME)
    finally:
        blocking.deactivate()
