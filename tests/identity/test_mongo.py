"""What is the MongoDB adapter's own: its news, its bounds, what it keeps, and a database that is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import bson
import pytest
from blockbuster import BlockBuster

from identity.adapters.mongo.adapter import MongoIdentity
from identity.adapters.mongo.database import Database
from identity.connect import connect
from identity.model import Alias, Changes, NewAccount, Origin, Role, Verdict
from identity.port import Reason, Refused, Unavailable
from identity.shared_guesses import SharedGuesses
from runtime.clock import ManualClock
from tests.identity.mongo_town import HOME, SETTINGS, D, Town, town_of
from tests.mongo import dropped, mongo_url

ELSEWHERE = Origin("203.0.113.7", "imap")


@pytest.fixture(params=["mongomock", "mongodb"])
async def town(request: pytest.FixtureRequest) -> AsyncIterator[Town]:
    async with town_of(request.param) as town:
        yield town


async def reason(call: Awaitable[object]) -> Reason:
    with pytest.raises(Refused) as caught:
        await call
    return caught.value.reason


async def until(condition: Callable[[], bool]) -> None:
    """Let the others run until it is so, thirty seconds at most."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # what is waited for tells nobody
            await asyncio.sleep(0)


async def test_it_is_found_by_its_url() -> None:
    url = mongo_url("mongodb")
    try:
        identity = await connect(url, SETTINGS, ManualClock())
        await identity.add_domain(D)
        await identity.close()
        identity = await connect(url, SETTINGS, ManualClock())
        assert [domain.name for domain in await identity.domains()] == [D]
        await identity.close()
    finally:
        await dropped(url)


async def test_a_database_that_is_away() -> None:
    with pytest.raises(Unavailable):
        await connect("mongodb://127.0.0.1:1/x?serverSelectionTimeoutMS=100", SETTINGS)
    with pytest.raises(ValueError, match="MongoDB URL"):
        await connect("mongodb://", SETTINGS)


async def test_history_is_bounded_and_says_so(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("identity.adapters.mongo.news.HISTORY", 3)
    monkeypatch.setattr("identity.adapters.mongo.news.TRIM_EVERY", 1)
    one = await town.settled()
    alice = await town.add(one, "alice")
    begin = (await one.changes_since(0, 0)).seq
    for n in range(5):
        await one.set_password(alice.id, f"new {n}")
    assert len((await one.changes_since(begin, 0)).changes) == 5, "kept for an hour at least"
    town.clock.advance(3601)
    await one.set_password(alice.id, "the last")
    late = await one.changes_since(begin, 0)
    assert late.reset
    assert late.changes == ()
    assert late.seq == begin + 6
    assert [change.seq for change in (await one.changes_since(begin + 3, 0)).changes] == [
        begin + 4,
        begin + 5,
        begin + 6,
    ]


async def test_more_changes_than_one_answer_holds(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("identity.adapters.mongo.news.CHANGES_AT_ONCE", 2)
    one = await town.settled()
    alice = await town.add(one, "alice")
    begin = seq = (await one.changes_since(0, 0)).seq
    for n in range(5):
        await one.set_password(alice.id, f"new {n}")
    heard: list[int] = []
    while news := (await one.changes_since(seq, 0)).changes:
        heard += [change.seq for change in news]
        seq = heard[-1]
    assert heard == list(range(begin + 1, begin + 6))


class Stream:
    """A change stream that tells when the test says so."""

    def __init__(self) -> None:
        self.told = asyncio.Event()
        self.opened = 0
        self.broken = False

    @asynccontextmanager
    async def __call__(self, collection: str) -> AsyncIterator[Callable[[], Awaitable[bool]]]:
        self.opened += 1
        if self.broken:
            raise Unavailable("no change stream now")

        async def ask() -> bool:
            await asyncio.wait_for(self.told.wait(), 60)
            self.told.clear()
            if self.broken:
                raise Unavailable("the change stream has ended")
            return True

        yield ask


def looks_of(identity: MongoIdentity, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where each look into the database stood, noted when it has ended."""
    look, looks = identity._news._since, []

    async def noted(seq: int) -> Changes:
        changes = await look(seq)
        looks.append(changes.seq)
        return changes

    monkeypatch.setattr(identity._news, "_since", noted)
    return looks


async def test_a_change_stream_wakes_and_when_it_ends_polling_does(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Database, "has_streams", True)
    one, two = await town.settled(), await town.process()
    alice = await town.add(one, "alice")
    stream = Stream()
    two._database.inserts = stream  # type: ignore[method-assign,assignment]  # a server's that is not here
    seq = (await two.changes_since(0, 0)).seq
    looks = looks_of(two, monkeypatch)
    waiting = asyncio.create_task(two.changes_since(seq, 60))
    # One before it waits, one before the stream is open, and one for what was told until it was.
    await until(lambda: len(looks) == 3)
    assert stream.opened == 1
    await one.set_password(alice.id, "new")
    done, _ = await asyncio.wait([waiting], timeout=0.3)
    assert not done, "nobody asks the database while a stream is open"
    stream.told.set()
    seq = (await asyncio.wait_for(waiting, 30)).seq
    waiting = asyncio.create_task(two.changes_since(seq, 60))
    stream.broken = True
    stream.told.set()
    await one.set_password(alice.id, "newer")
    assert (await asyncio.wait_for(waiting, 30)).seq == seq + 1


async def test_no_secret_is_kept_in_clear(town: Town) -> None:
    one = await town.settled()
    alice = await town.add(one, "alice", "not in the database")
    token = await one.issue_token(await one.authenticate("alice", "not in the database", HOME))
    token = await one.refresh_token(token.refresh)
    _, secret = await one.add_app_password(alice.id, "phone")
    await one.authenticate("alice", secret, HOME)
    assert await reason(one.authenticate("alice", "wrong guess", HOME)) is Reason.BAD_CREDENTIALS
    client = await town.client()
    stored = b""
    for name in await client.database.list_collection_names():
        for document in await client.database[name].find({}).to_list():
            stored += bson.encode(document)
    await client.close()
    assert b"alice" in stored
    for text in ("not in the database", "wrong guess", token.access, token.refresh, secret, secret.replace("-", "")):
        assert text.encode() not in stored


async def test_counters_and_devices_are_bounded(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("identity.adapters.mongo.guess_store.MAX_COUNTERS", 10)
    monkeypatch.setattr("identity.adapters.mongo.guess_store.MAX_DEVICES", 3)
    one = await town.settled()
    for n in range(20):
        assert await reason(one.authenticate(f"name{n}", "x", HOME)) is Reason.BAD_CREDENTIALS
    await one.sweep()
    client = await town.client()
    assert len(await client.database["identity_guess"].find({}).to_list()) == 10
    for n in range(5):
        await one.authenticate("admin", "secret", Origin(f"198.18.0.{n}", "imap"))
        town.clock.advance(1)
    devices = await client.database["identity_device"].find({"name": f"admin@{D}"}).to_list()
    assert sorted(device["_id"].rpartition("|")[2] for device in devices) == ["198.18.0.2", "198.18.0.3", "198.18.0.4"]
    await client.close()


async def test_a_cancelled_change_is_made_and_told(town: Town) -> None:
    one = await town.settled()
    alice = await town.add(one, "alice")
    seq = (await one.changes_since(0, 0)).seq
    task = asyncio.create_task(one.update_account(alice.id, enabled=False))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await one._writes.close()
    assert not (await one.account(alice.id)).enabled
    assert len((await one.changes_since(seq, 0)).changes) == 1


async def test_a_wide_list_is_read_a_level_at_a_time(town: Town) -> None:
    one = await town.settled()
    await one.add_domain("other.example")
    for n in range(30):
        await one.put_alias(Alias(f"l{n}@other.example", (f"x{n}@else.example", f"admin@{D}")))
    await one.put_alias(Alias(f"all@{D}", tuple(f"l{n}@other.example" for n in range(30))))
    steps: list[str] = []
    one._database.on_step = steps.append
    resolution = await one.resolve(f"all@{D}")
    assert resolution.verdict is Verdict.LOCAL
    assert (len(resolution.local), len(resolution.remote)) == (1, 30)
    # name and domain, domain of the targets, the targets, their domains and the last name
    assert len([step for step in steps if step.endswith("find")]) <= 7


async def test_a_sign_in_asks_by_id_and_name_and_a_good_one_remembered_writes_nothing(town: Town) -> None:
    one = await town.settled()
    await one.authenticate("admin", "secret", HOME)
    steps: list[str] = []
    one._database.on_step = steps.append
    await one.authenticate("admin", "secret", HOME)
    asked = [step for step in steps if step != "done"]
    assert asked == ["identity_guess find", "identity_device find", "identity_name find"]


async def test_an_overload_costs_nobody_a_guess(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    one = await town.settled()
    monkeypatch.setattr(one._passwords, "_limit", 0)
    for n in range(20):
        with pytest.raises(Unavailable):
            await one.authenticate("admin", f"wrong {n}", ELSEWHERE)
        await one._guesses.close()
    monkeypatch.setattr(one._passwords, "_limit", 10)
    await one.authenticate("admin", "secret", ELSEWHERE)


async def test_who_leaves_a_check_that_others_wait_for_takes_no_charge_with_him(town: Town) -> None:
    one = await town.settled()
    slowed = 0
    guesses = one._guesses
    assert isinstance(guesses, SharedGuesses)
    for n in range(8):
        first = asyncio.create_task(one.authenticate("admin", f"guess {n}", ELSEWHERE))
        second = asyncio.create_task(one.authenticate("admin", f"guess {n}", ELSEWHERE))
        await asyncio.wait([first], timeout=0.01)
        first.cancel()
        outcome = await reason(second)
        slowed += outcome is Reason.SLOW_DOWN
        await asyncio.gather(first, return_exceptions=True)
        await guesses.close()
    assert slowed >= 3


async def test_the_loop_never_blocks(town: Town) -> None:
    one = await town.settled()
    blocking = BlockBuster(scanned_modules=["identity"])
    blocking.activate()
    try:
        await one.import_accounts([NewAccount(f"u{n}@{D}", f"pw {n}") for n in range(20)])
        principal = await one.authenticate("u1", "pw 1", HOME)
        await one.verify_token((await one.issue_token(principal)).access)
        await one.resolve(f"u2@{D}")
        assert await reason(one.authenticate("u2", "wrong", HOME)) is Reason.BAD_CREDENTIALS
    finally:
        blocking.deactivate()


async def test_names_that_no_document_can_have(town: Town) -> None:
    one = await town.settled()
    for id in ("\ud800", "a\0b", "", "é", "$where", "a.b"):
        assert await reason(one.account(id)) is Reason.NO_SUCH_ACCOUNT
        assert await reason(one.set_password(id, "x")) is Reason.NO_SUCH_ACCOUNT
        assert await reason(one.app_passwords(id)) is Reason.NO_SUCH_ACCOUNT
        await one.finish_removal(id)
    alice = await town.add(one, "alice", role=Role.USER)
    for id in ("\ud800", "a.b", "$x", ""):
        assert await reason(one.revoke_app_password(alice.id, id)) is Reason.NO_SUCH_CREDENTIAL
