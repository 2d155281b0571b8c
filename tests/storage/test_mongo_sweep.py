"""The sweep on MongoDB: whoever dies at whatever step leaves nothing behind, and nothing that is needed is taken."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from storage.adapters.mongo import release
from storage.adapters.mongo.adapter import MongoStorage
from storage.limits import SWEEP_CHUNKS
from storage.model import ALL_UIDS, SYSTEM, Accepted, Event, NewMessage, Operation, StagedBlob, Want
from storage.port import Reason, Refused, Unavailable
from tests.reading import rows_of
from tests.storage.mongo_consistency import problems
from tests.storage.mongo_store import Store, message, mongo_store, op, pieces, sweep_all

STEPS = 300
"""More steps than any call here has."""


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with mongo_store() as found:
        yield found


class Died(Exception):
    """The process is gone."""


class Death:
    """Lets a process do so many steps, before or after a command, and no more."""

    def __init__(self, steps: int) -> None:
        self.left = steps
        self.dead = False

    def __call__(self, step: str) -> None:
        self.left -= 1
        if self.left < 0:
            self.dead = True
            raise Died


class Aside:
    """At the nth command of a process something else is done first; ``done`` says whether it came to that."""

    def __init__(self, n: int, what: Callable[[], Awaitable[Any]]) -> None:
        self.left = n
        self.what = what
        self.done = False

    async def __call__(self, step: str) -> None:
        if step == "done" or self.done:
            return
        self.left -= 1
        if self.left < 0:
            self.done = True
            await self.what()


async def begin(store: Store) -> MongoStorage:
    """Accounts with a few messages; some shared, one long."""
    storage = await store.open()
    for account in ("ann", "bob"):
        await storage.open_account(op(), account)
    staged = await storage.stage(pieces(message("long", 600_000)))
    for content in (message("one"), message("two"), staged):
        (outcome,) = await storage.accept([store.delivery("ann", "bob", content=content)])
        assert isinstance(outcome, Accepted)
    return storage


async def call(storage: MongoStorage, store: Store, what: str) -> None:
    ann = await store.ref(storage)
    match what:
        case "deliver":
            await accepted(storage, store.delivery("ann", content=message("new")))
        case "deliver to many":
            await accepted(storage, store.delivery("ann", "bob", content=message("new"), remote=("x@far.example",)))
        case "spool":
            await accepted(storage, store.delivery(content=message("new"), remote=("x@far.example",)))
        case "stage and deliver":
            staged = await storage.stage(pieces(message("staged", 1_500_000)))
            await accepted(storage, store.delivery("ann", "bob", content=staged))
        case "stage":
            await storage.stage(pieces(message("staged", 1_500_000)))
        case "append":
            await storage.append(op(), ann, [NewMessage(message("a")), NewMessage(message("b"))], None)
        case "copy":
            await storage.copy(op(), ann, ALL_UIDS, "Sent", None)
        case "move":
            await storage.move(op(), ann, ((1, 2),), "Sent")
        case "expunge":
            await storage.expunge(op(), ann, ((2, 3),))
        case "delete":
            await storage.move(op(), ann, ALL_UIDS, "Junk")
            await storage.delete_mailbox(op(), "ann", "Junk")
        case "purge":
            while not await storage.purge_account(op(), "ann"):
                continue
        case "sweep":
            await storage.expunge(op(), ann, ((1, 3),))
            store.clock.advance(3601)
            await sweep_all(storage)
        case "reparse":
            await store.mongo.database["blob"].update_many({}, {"$set": {"version": 1, "form": 0}})
            await storage.reparse()


async def accepted(storage: MongoStorage, delivery: Any) -> None:
    (outcome,) = await storage.accept([delivery])
    if isinstance(outcome, Refused | Unavailable):
        raise outcome


@pytest.mark.slow
@pytest.mark.parametrize(
    "what",
    [
        "deliver",
        "deliver to many",
        "spool",
        "stage and deliver",
        "stage",
        "append",
        "copy",
        "move",
        "expunge",
        "delete",
        "purge",
        "sweep",
        "reparse",
    ],
)
async def test_whoever_dies_at_any_step_leaves_nothing_behind(store: Store, what: str) -> None:
    for steps in range(STEPS):
        await begin(store)
        death = Death(10**9)
        dying = await store.open(death)
        await store.ref(dying)
        death.left = steps
        with contextlib.suppress(Died, Unavailable):
            await call(dying, store, what)
        survived = not death.dead
        # Nothing of the dead is heard of any more.
        death.left = 0
        assert await left_alone(store, await store.open()) == [], f"{what} died at step {steps}"
        await store.empty()
        if survived:
            assert steps > 3
            return
    pytest.fail("it never came through")


async def left_alone(store: Store, storage: MongoStorage) -> list[str]:
    """What is wrong when all have ended, what they left has been swept, and all mail was read."""
    store.clock.advance(3601)
    await sweep_all(storage)
    await storage.reparse()
    await everything_can_be_read(storage)
    # What was finished only now is an hour old in its turn.
    store.clock.advance(3601)
    await sweep_all(storage)
    await everything_can_be_read(storage)
    return await problems(store)


async def everything_can_be_read(storage: MongoStorage) -> None:
    for account in ("ann", "bob"):
        try:
            boxes = (await storage.list_mailboxes(account)).mailboxes
        except Refused:
            # Purged, or as good as.
            continue
        for box in boxes:
            for row in await rows_of(storage, box.ref, ALL_UIDS, Want.SIZE | Want.CONTENT | Want.ENVELOPE):
                assert row.size is not None
                octets = await storage.read(account, row.entry.email, 0, 2000)
                assert octets.startswith(b"From: Eve")
                assert row.content in (None, octets)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["copy", "move", "deliver", "deliver to many", "append", "stage and deliver", "sweep"])
async def test_a_sweep_at_any_step_of_a_call_does_no_harm(store: Store, what: str) -> None:
    """Another process expunges what the call is about and sweeps, an hour later as its clock has it."""
    for n in range(STEPS):
        storage = await begin(store)

        async def meddle(other: MongoStorage = storage) -> None:
            await other.expunge(op(), await store.ref(other), ((2, 3),))
            store.clock.advance(3601)
            await sweep_all(other)

        aside = Aside(n, meddle)
        calling = await store.open(aside)
        refusals = (Reason.NO_SUCH_BLOB,) if what == "stage and deliver" else ()
        try:
            await call(calling, store, what)
        except Refused as refused:
            if refused.reason not in refusals:
                raise
        except Unavailable as unavailable:
            # An hour between two commands: it knows itself that it was too slow.
            assert "too slow" in str(unavailable), unavailable  # noqa: PT017
        assert await left_alone(store, storage) == [], f"{what} with a sweep before command {n}"
        await store.empty()
        if not aside.done:
            assert n > 3
            return
    pytest.fail("it never came through")


@pytest.mark.slow
async def test_a_staged_body_swept_at_any_step_of_its_delivery(store: Store) -> None:
    """Without any grace: either the delivery names it in time, or it is refused; never half of both."""
    refused = 0
    for n in range(STEPS):
        storage = await begin(store)
        staged = await storage.stage(pieces(message("staged", 700_000)))
        aside = Aside(n, lambda: sweep_all(storage, 0.0))  # noqa: B023
        calling = await store.open(aside)
        (outcome,) = await calling.accept([store.delivery("ann", "bob", content=staged)])
        if isinstance(outcome, Accepted):
            for at in outcome.stored:
                assert await storage.read(at.account, at.email, 699_999, 700_000) == b"x"
        else:
            assert isinstance(outcome, Refused)
            assert outcome.reason is Reason.NO_SUCH_BLOB
            refused += 1
        assert await left_alone(store, storage) == [], f"a sweep before command {n}"
        await store.empty()
        if not aside.done:
            assert 0 < refused < n
            return
    pytest.fail("it never came through")


@pytest.mark.slow
async def test_a_body_named_at_any_step_of_the_sweep_that_takes_it(store: Store) -> None:
    refused = accepted_ = 0
    for n in range(STEPS):
        storage = await begin(store)
        staged = await storage.stage(pieces(message("staged", 700_000)))
        outcomes: list[Any] = []

        async def deliver(other: MongoStorage = storage, staged: Any = staged, told: Any = outcomes) -> None:
            told += await other.accept([store.delivery("ann", content=staged)])

        aside = Aside(n, deliver)
        sweeping = await store.open(aside)
        await sweep_all(sweeping, 0.0)
        for outcome in outcomes:
            if isinstance(outcome, Accepted):
                accepted_ += 1
                assert await storage.read("ann", outcome.stored[0].email, 699_999, 700_000) == b"x"
            else:
                assert isinstance(outcome, Refused)
                assert outcome.reason is Reason.NO_SUCH_BLOB
                refused += 1
        assert await left_alone(store, storage) == [], f"a delivery before command {n}"
        await store.empty()
        if not aside.done:
            assert refused
            assert accepted_
            return
    pytest.fail("it never came through")


@pytest.mark.slow
async def test_two_sweeps_at_once_do_no_harm(store: Store) -> None:
    """Each message is in two mailboxes and two accounts, and both ends come at once."""
    for n in range(STEPS):
        storage = await begin(store)
        for account in ("ann", "bob"):
            ref = await store.ref(storage, account)
            await storage.copy(op(), ref, ALL_UIDS, "Sent", None)
            await storage.expunge(op(), ref, ALL_UIDS)
            await storage.expunge(op(), await store.ref(storage, account, "Sent"), ((1, 2),))
        await storage.accept([store.delivery("ann", content=message("stays"))])
        store.clock.advance(3601)
        aside = Aside(n, lambda: storage.sweep(3600.0))  # noqa: B023
        sweeping = await store.open(aside)
        await sweeping.sweep()
        await sweep_all(sweeping)
        assert await problems(store) == [], f"a second sweep before command {n}"
        await everything_can_be_read(storage)
        assert await store.counts() == {
            "entry": 3,
            "email": 3,
            "blob": 2,
            "chunk": 4,
            "text": 2 + 2,
            "vanished": 4,
        }
        await store.empty()
        if not aside.done:
            assert n > 10
            return
    pytest.fail("it never came through")


async def test_sweeps_that_run_together_take_all_of_it(store: Store) -> None:
    storage = await begin(store)
    await storage.purge_account(op(), "bob")
    ref = await store.ref(storage)
    for start in range(3):
        await storage.append(op(), ref, [NewMessage(message(f"{start} {n}"), 8) for n in range(100)], None)
    await storage.copy(op(), ref, ALL_UIDS, "Sent", None)
    await storage.expunge(op(), ref, ALL_UIDS)
    await storage.delete_mailbox(op(), "ann", "Sent")
    store.clock.advance(3601)
    await asyncio.gather(*[sweep_all(await store.open()) for _ in range(4)])
    assert await problems(store) == []
    assert await store.counts() == {"vanished": 1}


async def test_a_staged_body_waits_for_its_name_and_no_longer(store: Store) -> None:
    storage = await begin(store)
    staged = await storage.stage(pieces(b"x" * 300_000))
    store.clock.advance(3599)
    await sweep_all(storage)
    assert await problems(store, unnamed=1) == []
    await storage.accept([store.delivery("ann", content=staged)])
    store.clock.advance(2)
    await sweep_all(storage)
    assert await problems(store) == []
    # It is looked at ever more seldom, and not forgotten.
    looks = []
    for _ in range(5):
        (blob,) = [one for one in await store.all("blob") if one["_id"] == staged.id]
        looks.append(blob["staged"] - store.clock.now())
        store.clock.advance(looks[-1] + 3601)
        await sweep_all(storage)
    assert looks == [release.LOOK * 2**n for n in range(5)]
    # Named again and again, as long as it is there at all.
    await storage.append(op(), await store.ref(storage), [NewMessage(staged, 8)], None)
    await storage.expunge(op(), await store.ref(storage), ALL_UIDS)
    await storage.append(op(), await store.ref(storage), [NewMessage(staged, 8)], None)
    store.clock.advance(3601)
    await sweep_all(storage)
    await storage.expunge(op(), await store.ref(storage), ALL_UIDS)
    store.clock.advance(3601)
    await sweep_all(storage)
    assert await problems(store) == []
    assert staged.id not in [blob["_id"] for blob in await store.all("blob")]


async def test_a_long_body_goes_in_bounded_steps(store: Store) -> None:
    storage = await store.open()
    staged = await storage.stage(pieces(b"x" * (40 * 1024 * 1024)))
    store.clock.advance(3601)
    before = await store.counts()
    assert before["chunk"] == 160
    left = []
    while (await storage.sweep()).more:
        left.append((await store.counts()).get("chunk", 0))
    # The first round only decides.
    assert left == [160, 160 - SWEEP_CHUNKS, 160 - 2 * SWEEP_CHUNKS]
    assert await store.counts() == {}
    assert isinstance(staged, StagedBlob)


async def test_the_emails_of_thousands_are_told_apart_in_bounded_answers(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "NAMED_MAX", 3)
    monkeypatch.setattr(release, "ACCOUNTS_AT_ONCE", 2)
    storage = await store.open()
    accounts = [f"a{n}" for n in range(7)]
    for account in accounts:
        await storage.open_account(op(), account)
    await storage.accept([store.delivery(*accounts, content=message(str(n))) for n in range(4)])
    for account in accounts[:-1]:
        ref = await store.ref(storage, account)
        await storage.copy(op(), ref, ((1, 2),), "Sent", None)
        await storage.expunge(op(), ref, ALL_UIDS)
    store.clock.advance(3601)
    reports = await sweep_all(storage)
    assert sum(report.emails for report in reports) == 6 * 2
    assert sum(report.blobs for report in reports) == 0
    await storage.expunge(op(), await store.ref(storage, accounts[-1]), ALL_UIDS)
    store.clock.advance(3601)
    reports = await sweep_all(storage)
    assert (sum(report.emails for report in reports), sum(report.blobs for report in reports)) == (4, 2)
    assert await problems(store) == []


async def test_a_purge_goes_on_where_it_stopped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.adapters.mongo.upkeep.PURGE_STEPS", 2)
    monkeypatch.setattr("storage.adapters.mongo.upkeep.SWEEP_ENTRIES", 10)
    storage = await begin(store)
    ref = await store.ref(storage)
    await storage.append(op(), ref, [NewMessage(message(str(n)), 8) for n in range(50)], None)
    await storage.copy(op(), ref, ((4, 33),), "Sent", None)
    await storage.expunge(op(), ref, ((4, 9),))
    first = Operation("purge-1", SYSTEM, (Event("trace", 1.0, "purged"),))
    assert not await storage.purge_account(first, "ann")
    assert not await storage.purge_account(first, "ann")
    assert len(await storage.trace("trace", None)) - 6 == 1
    left = (await store.counts())["entry"]
    calls = 0
    # Whoever goes on may be another process.
    other = await store.open()
    while not await other.purge_account(op(), "ann"):
        calls += 1
        assert (await store.counts())["entry"] <= left
        left = (await store.counts())["entry"]
        assert calls < 50
    assert calls > 3
    assert {entry["account"] for entry in await store.all("entry")} == {"bob"}
    assert {email["account"] for email in await store.all("email")} == {"bob"}
    await sweep_all(other)
    assert await problems(store) == []
    with pytest.raises(Refused):
        await other.open_account(op(), "ann")
