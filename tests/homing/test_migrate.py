"""`homing migrate`, run as an administrator runs it."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from homing.cli.migrate import Plain
from homing.connect import connect_overrides, connect_turns
from homing.migrate import Place, migrate
from identity.adapters.sqlite.adapter import SqliteIdentity, open_sqlite
from identity.model import Account, Alias, NewAccount, Origin, Role
from identity.settings import IdentitySettings, PasswordSettings
from runtime.admin import FolderLock, make_folder
from runtime.clock import SystemClock
from runtime.lifecycle import StartError
from runtime.mongo import open_mongo
from storage.adapters.mongo.adapter import MongoStorage
from storage.adapters.sqlite.adapter import SqliteStorage
from storage.adapters.sqlite.transfer import SqliteTransfer
from storage.model import (
    ALL_UIDS,
    SYSTEM,
    All,
    Delivery,
    FlagMode,
    HeaderContains,
    LocalRecipient,
    MailboxRef,
    NewMessage,
    Operation,
    RemoteRecipient,
    Want,
)
from storage.port import Storage, Unavailable
from tests import forking
from tests.mongo import dropped, mongo_url
from tests.reading import entries_of, lost_rows_of, rows_of
from tests.storage.consistency import problems

from .conftest import environment

MESSAGES = 5_000
CHEAP = IdentitySettings(
    default_domain="example.org", passwords=PasswordSettings(memory_kib=64, iterations=1, lanes=1, threads=2)
)
HOME = Origin("127.0.0.1", "imap")


def op() -> Operation:
    return Operation(uuid.uuid4().hex, SYSTEM)


def message(number: int) -> bytes:
    head = f"From: eve@example.net\r\nTo: ann@example.org\r\nSubject: number {number}\r\n\r\n"
    return (head + f"text of {number}\r\n" * (number % 40)).encode()


async def fill(storage: Storage, ids: dict[str, str], messages: int) -> None:
    ann, bob = ids["ann"], ids["bob"]
    for account in (ann, bob):
        await storage.open_account(op(), account)
    inbox = (await storage.mailbox(ann, "INBOX")).ref
    for first in range(0, messages, 200):
        numbers = range(first, min(messages, first + 200))
        await storage.append(
            op(), inbox, [NewMessage(message(n), n % 16, ("work",) if n % 7 == 0 else (), 1_600_000_000 + n)
                          for n in numbers], None,
        )  # fmt: skip
    both = (LocalRecipient(ann, "ann@example.org", b"X-For: ann\r\n"), LocalRecipient(bob, "bob@example.org"))
    remote = (RemoteRecipient("out@example.net", {"NOTIFY": "NEVER"}),)
    await storage.accept(
        [Delivery(op(), b"Subject: shared\r\n\r\n" + b"x" * 5000, "", time.time(), "trace-1", both, remote)]
    )
    await storage.copy(op(), inbox, ((1, 50),), "Archive", None)
    await storage.move(op(), inbox, ((60, 70),), "Trash")
    await storage.expunge(op(), inbox, ((1, 40),))
    await storage.store_flags(op(), inbox, ((100, 120),), FlagMode.ADD, 1, ("later",))
    await storage.subscribe(op(), bob, "Not there", True)


async def house(folder: Path, messages: int) -> None:
    """A data folder with all that can be moved."""
    make_folder(folder)
    identity = await open_sqlite(folder / "identity.db", CHEAP, SystemClock())
    ids: dict[str, str] = {}
    try:
        await identity.add_domain("example.org", "ann@example.org")
        for name in ("ann", "bob", "carol"):
            role = Role.ADMIN if name == "ann" else Role.USER
            made = await identity.add_account(
                NewAccount(
                    f"{name}@example.org", f"secret of {name}", role=role, quota=10**9, display_name=name.title()
                )
            )
            ids[name] = made.id
        await identity.update_account(ids["bob"], enabled=False)
        await identity.remove_account(ids["carol"])
        await identity.put_alias(Alias("sales@example.org", ("ann@example.org", "out@example.net")))
        _, secret = await identity.add_app_password(ids["ann"], "phone")
        (folder / "secret").write_text(secret)
    finally:
        await identity.close()
    storage = SqliteStorage(folder)
    await storage.open(index=False)
    try:
        await fill(storage, ids, messages)
    finally:
        await storage.close()
    overrides = await connect_overrides(f"sqlite://{folder}")
    await overrides.replace(0, {"log.level": "debug"})
    await overrides.close()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "homing", "migrate", *arguments]


def run(folder: Path, *arguments: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
    """`homing migrate`, its end."""
    return ended(folder, command(*arguments), folder / "data", status)


def ended(folder: Path, words: list[str], data: Path, status: int | None) -> subprocess.CompletedProcess[str]:
    done = forking.run(words, env=environment(data), cwd=folder, timeout=300)
    assert status is None or done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done


async def accounts(identity: Any) -> list[Account]:
    return list(await identity.accounts())


async def everything(folder: Path) -> dict[str, Any]:
    """All that doors can see of a house."""
    found: dict[str, Any] = {}
    identity = await open_sqlite(folder / "identity.db", CHEAP, SystemClock())
    try:
        found["domains"] = await identity.domains()
        found["accounts"] = await accounts(identity)
        found["removed"] = await identity.removed_accounts()
        found["aliases"] = await identity.aliases()
        found["hashes"] = await identity.export_accounts()
        found["apps"] = [await identity.app_passwords(one.id) for one in found["accounts"]]
    finally:
        await identity.close()
    storage = SqliteStorage(folder)
    await storage.open(index=False)
    try:
        assert await storage.database.read(lambda conn: problems(conn, octets=True)) == []
        for account in found["accounts"]:
            listed = await storage.list_mailboxes(account.id)
            found[account.id] = listed, await storage.usage(account.id)
            for mailbox in listed.mailboxes:
                found[mailbox.ref] = (
                    await pages(partial(rows_of, storage), mailbox.ref),
                    await pages(partial(lost_rows_of, storage), mailbox.ref),
                    await storage.changes(mailbox.ref, 0, 16_384),
                )
        found["spool"] = await storage.spool(None)
        found["trace"] = await storage.trace("trace-1", None)
    finally:
        await storage.close()
    return found


async def pages(read: Callable[..., Awaitable[Any]], ref: MailboxRef) -> list[Any]:
    found: list[Any] = []
    after = 0
    while page := await read(ref, ((after + 1, 0xFFFF_FFFF),), Want(1023)):
        found += page
        after = page[-1].entry.uid
    return found


@pytest.fixture
async def old(tmp_path: Path) -> Path:
    """A house whose migration takes long enough to be killed on the way."""
    await house(tmp_path / "old", MESSAGES)
    return tmp_path / "old"


def place_of(new: Path | str) -> str:
    """How far a migration into the folder, or the database, has come."""
    if isinstance(new, str):
        client: MongoClient[dict[str, Any]] = MongoClient(new)
        try:
            return str(client.get_default_database()["transfer"].find_one({"_id": "marker"}))
        finally:
            client.close()
    folder = new
    try:
        with sqlite3.connect(f"file:{folder / 'storage.db'}?mode=ro", uri=True, timeout=1) as connection:
            return str(connection.execute("SELECT place FROM transfer").fetchone())
    except sqlite3.Error:
        return ""


def killed_at_its_next_step(folder: Path, new: Path | str, arguments: tuple[str, ...]) -> bool:
    """Start it, and kill it as soon as it has come further. False: it ended before."""
    before = place_of(new)
    process = subprocess.Popen(
        command(*arguments),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(folder / "data"),
        cwd=folder,
    )
    try:
        deadline = time.monotonic() + 60
        while place_of(new) == before:
            if process.poll() is not None:
                return False
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGKILL)
        return process.wait() == -signal.SIGKILL
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
async def test_killed_five_times_and_gone_on_with(old: Path, tmp_path: Path) -> None:
    wanted = await everything(old)
    new = tmp_path / "new"
    arguments = ("--from", "sqlite:old", "--to", f"sqlite://{new}")
    kills = 0
    while kills < 5:
        assert killed_at_its_next_step(tmp_path, new, arguments), f"it ended before kill {kills + 1}"
        kills += 1
    done = run(tmp_path, *arguments)
    assert "All is the same" in done.stdout
    assert "DIFFERS" not in done.stdout
    assert f"{sum(len(wanted[ref][0]) for ref in wanted if isinstance(ref, MailboxRef)):,}" in done.stdout
    assert await everything(new) == wanted
    # Nothing is left of the migration, the source is as it was, and neither is taken twice.
    assert place_of(new) == ""
    assert await everything(old) == wanted
    assert "not empty" in run(tmp_path, *arguments, status=1).stderr


async def test_the_new_house_can_be_lived_in(tmp_path: Path) -> None:
    await house(tmp_path / "old", 50)
    run(tmp_path, "--from", "sqlite:old", "--to", "sqlite:new")
    identity: SqliteIdentity = await open_sqlite(tmp_path / "new" / "identity.db", CHEAP, SystemClock())
    try:
        for password in ("secret of ann", (tmp_path / "old" / "secret").read_text()):
            ann = (await identity.authenticate("ann@example.org", password, HOME)).account
    finally:
        await identity.close()
    storage = SqliteStorage(tmp_path / "new")
    await storage.open()
    try:
        ref = (await storage.mailbox(ann, "INBOX")).ref
        before = {entry.uid for entry in await entries_of(storage, ref, ALL_UIDS)}
        (uid,) = (await storage.append(op(), ref, [NewMessage(message(77))], None)).uids
        assert uid == max(before) + 1
        # The index of search begins empty, and its answers are whole all the same.
        found = await storage.search(ref, HeaderContains("subject", "number 49"))
        assert len(found.uids) == 1
        assert {uid for first, last in (await storage.search(ref, All())).uids for uid in range(first, last + 1)} == {
            *before,
            uid,
        }
    finally:
        await storage.close()
    overrides = await connect_overrides(f"sqlite://{tmp_path / 'new'}")
    assert dict((await overrides.read()).values) == {"log.level": "debug"}
    await overrides.close()


@pytest.fixture
async def database() -> AsyncIterator[str]:
    """A MongoDB database that is not there yet."""
    url = mongo_url("mongodb")
    yield url
    await dropped(url)


async def test_to_mongodb_and_back(old: Path, tmp_path: Path, database: str) -> None:
    """Killed on both ways; what comes back is equal to the last id, for MongoDB keeps all of SQLite's."""
    wanted = await everything(old)
    there = ("--from", "sqlite:old", "--to", database, "--yes-no-server-runs")
    for _ in range(2):
        assert killed_at_its_next_step(tmp_path, database, there)
    assert "All is the same" in run(tmp_path, *there).stdout
    back = ("--from", database, "--to", "sqlite:back", "--yes-no-server-runs")
    for _ in range(2):
        assert killed_at_its_next_step(tmp_path, tmp_path / "back", back)
    done = run(tmp_path, *back)
    assert "All is the same" in done.stdout
    assert "other ids" not in done.stderr
    assert await everything(tmp_path / "back") == wanted
    # What is made from now on has ids that nothing had before, not even on the way.
    storage = SqliteStorage(tmp_path / "back")
    await storage.open(index=False)
    try:
        ann = next(one.id for one in wanted["accounts"] if one.address.startswith("ann"))
        made = await storage.create_mailbox(op(), ann, "New")
        assert int(made.ref.mailbox[1:], 16) > max(
            int(ref.mailbox[1:], 16) for ref in wanted if isinstance(ref, MailboxRef)
        )
    finally:
        await storage.close()


async def test_ids_of_mongodb_are_not_kept_by_sqlite(tmp_path: Path, database: str) -> None:
    """And that is said; all else is."""
    storage = MongoStorage(await open_mongo(database, app="homing-tests"))
    await storage.open()
    try:
        await storage.open_account(op(), "ann")
        inbox = (await storage.mailbox("ann", "INBOX")).ref
        await storage.append(op(), inbox, [NewMessage(message(n)) for n in range(3)], None)
    finally:
        await storage.close()
    done = run(tmp_path, "--from", database, "--to", "sqlite:new", "--yes-no-server-runs")
    assert "All is the same" in done.stdout
    assert "6 mailboxes and 3 messages have other ids" in done.stderr
    assert "MAILBOXID" in done.stderr


async def test_services_that_run_over_mongodb_are_noticed(tmp_path: Path, database: str) -> None:
    await house(tmp_path / "old", 3)
    turns = await connect_turns(database)
    try:
        assert await turns.mine("sweep", 60.0)
        arguments = ("--from", "sqlite:old", "--to", database)
        assert "--yes-no-server-runs" in run(tmp_path, *arguments, status=1).stderr
        assert "still runs" in run(tmp_path, *arguments, "--yes-no-server-runs", status=1).stderr
    finally:
        await turns.close()


@pytest.mark.slow
async def test_damage_on_the_way_is_found(tmp_path: Path) -> None:
    """The copy is damaged between the copying and the comparing: the comparison says what, and nobody starts on it."""
    await house(tmp_path / "old", 300)
    new = tmp_path / "new"
    arguments = ("--from", "sqlite:old", "--to", "sqlite:new")
    while '"COPIED"' not in place_of(new) and "[3," not in place_of(new):
        assert killed_at_its_next_step(tmp_path, new, arguments)
    with sqlite3.connect(new / "storage.db") as connection:
        connection.execute("UPDATE entry SET flags = flags | 4 WHERE uid = 45 AND size = (SELECT max(size) FROM entry)"
                           " OR (uid, mailbox) IN (SELECT uid, mailbox FROM entry LIMIT 1)")  # fmt: skip
        connection.execute("UPDATE chunk SET data = zeroblob(length(data)) WHERE key = (SELECT max(key) FROM chunk)")
        connection.execute("DELETE FROM vanished")
        connection.execute(
            "DELETE FROM entry WHERE (uid, mailbox) IN (SELECT uid, mailbox FROM entry LIMIT 1 OFFSET 5)"
        )
    with sqlite3.connect(new / "identity.db") as connection:
        connection.execute("UPDATE account SET password_hash = 'x' WHERE key LIKE 'bob%'")
    connection.close()
    done = run(tmp_path, *arguments, status=1)
    for sentence in (
        "flags is",
        "not what its SHA-256 says",
        "history of expunges",
        "is missing",
        "password_hash differs",
    ):
        assert sentence in done.stdout
    assert "secret" not in done.stdout
    assert "$argon2" not in done.stdout
    assert "unfinished migration" in ended(tmp_path, [sys.executable, "-m", "homing", "up"], new, 1).stderr
    assert "All is the same" in run(tmp_path, *arguments, "--begin-anew").stdout
    assert await everything(new) == await everything(tmp_path / "old")


@pytest.mark.slow
async def test_who_may_not_be_moved(tmp_path: Path) -> None:
    await house(tmp_path / "old", 5)
    with FolderLock(tmp_path / "old"):
        assert (
            f"in use by process {os.getpid()}"
            in run(tmp_path, "--from", "sqlite:old", "--to", "sqlite:new", status=69).stderr
        )
    (tmp_path / "bare").mkdir()
    for source, target, status, words in (
        ("sqlite:bare", "sqlite:new", 1, "nothing to move"),
        ("sqlite:old", "sqlite:old", 2, "same place"),
        ("http://127.0.0.1", "sqlite:new", 2, "no place to move"),
        ("sqlite:old", "env:HOMING_NOWHERE", 2, "no HOMING_NOWHERE"),
        ("sqlite:old", "mongodb://127.0.0.1:1/new", 1, "--yes-no-server-runs"),
        ("sqlite:old", "sqlite:old/secret", 1, "cannot be used"),
    ):
        assert words in run(tmp_path, "--from", source, "--to", target, status=status).stderr
    away = "mongodb://me:secret@127.0.0.1:1/new"
    done = run(tmp_path, "--from", "sqlite:old", "--to", away, "--yes-no-server-runs", status=69)
    assert "cannot be reached" in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("begin_anew", [False, True])
async def test_killed_between_the_two_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin_anew: bool) -> None:
    """Identity is finished, storage is not: the next run finishes that."""
    await house(tmp_path / "old", 30)
    places = Place.of(f"sqlite:{tmp_path}/old"), Place.of(f"sqlite:{tmp_path}/new")

    async def killed(self: SqliteTransfer) -> None:
        raise Unavailable("killed")

    with monkeypatch.context() as patched:
        patched.setattr(SqliteTransfer, "finish", killed)
        with pytest.raises(Unavailable):
            await migrate(*places, Plain(), nobody_runs=False, begin_anew=False)
    # It would start already.
    await (await open_sqlite(tmp_path / "new" / "identity.db", CHEAP, SystemClock())).close()
    outcome = await migrate(*places, Plain(), nobody_runs=False, begin_anew=begin_anew)
    assert outcome.count == 0
    assert all(row.same for row in outcome.rows)
    assert await everything(tmp_path / "new") == await everything(tmp_path / "old")


async def test_a_store_that_is_away_for_a_moment_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await house(tmp_path / "old", 600)
    places = Place.of(f"sqlite:{tmp_path}/old"), Place.of(f"sqlite:{tmp_path}/new")
    put, away = SqliteTransfer.put, 0

    async def shaky(self: SqliteTransfer, *arguments: Any) -> None:
        nonlocal away
        away += 1
        if away in (2, 3):
            raise Unavailable("no primary")
        await put(self, *arguments)

    monkeypatch.setattr(SqliteTransfer, "put", shaky)
    monkeypatch.setattr("homing.migrate.PAUSES", (0.0,) * 5)
    outcome = await migrate(*places, Plain(), nobody_runs=False, begin_anew=False)
    assert outcome.count == 0
    assert away > 3
    assert "no primary: going on" in capsys.readouterr().err
    assert await everything(tmp_path / "new") == await everything(tmp_path / "old")


def test_a_place_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGODB_URL", "mongodb://me:secret@db/homing")
    assert Place.of("env:MONGODB_URL") == Place.of("mongodb://me:secret@db/homing")
    assert Place.of("mongodb://me:secret@db/homing?tls=true").name == "mongodb://db/homing"
    assert Place.of("sqlite:here").folder == Path("here").absolute()
    for wrong in ("", "here", "sqlite:", "mongodb://db", "https://x/y"):
        with pytest.raises(StartError):
            Place.of(wrong)


def test_progress_on_a_terminal(tmp_path: Path) -> None:
    """The bar shows messages, MiB, speed and the time left."""
    import pty

    asyncio.run(house(tmp_path / "old", 300))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command("--from", "sqlite:old", "--to", "sqlite:new"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**environment(tmp_path / "data"), "COLUMNS": "140", "TERM": "xterm"},
        cwd=tmp_path,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 65536)
        except OSError:
            break
    os.close(ours)
    assert process.wait() == 0, shown
    text = shown.decode()
    for word in ("Mail", "Comparing", "messages", "MiB/s", "0:00 left", "All is the same"):
        assert word in text, text
