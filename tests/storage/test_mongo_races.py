"""Several processes of the MongoDB adapter writing to one account at the same time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import ranges
from storage.adapters.mongo.adapter import MongoStorage
from storage.model import ALL_UIDS, Accepted, FlagMode, MailboxRef, NewMessage, Operation, Ranges
from storage.port import Reason, Refused
from tests.hurry import examples
from tests.reading import entries_of
from tests.storage.mongo_world import KINDS, Steps, World, delivery, operation, world

BOXES = ("INBOX", "Sent", "Trash")


class Shuffle(Steps):
    """Lets others go first, for as many turns of the event loop as chance says."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)

    def act(self, step: str) -> Awaitable[None] | None:
        return self._turns(self._random.choice((0, 0, 1, 3, 9)))

    @staticmethod
    async def _turns(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)


class Ledger:
    """What the writers were told."""

    def __init__(self) -> None:
        self.given: Counter[tuple[str, int]] = Counter()
        self.made = self.expunged = 0

    def new(self, mailbox: str, uids: Ranges) -> None:
        self.given.update((mailbox, uid) for uid in ranges.each(uids))


PLANS = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["deliver", "several", "append", "store", "copy", "move", "replace", "expunge", "select", "sweep"]
            ),
            st.sampled_from(BOXES),
            st.sampled_from(BOXES),
            st.integers(0, 31),
            st.lists(st.integers(1, 12), min_size=1, max_size=5, unique=True).map(lambda uids: ranges.of(sorted(uids)))
            | st.just(ALL_UIDS),
        ),
        min_size=1,
        max_size=6,
    ),
    min_size=2,
    max_size=3,
)


async def _write(
    store: MongoStorage, refs: dict[str, MailboxRef], step: tuple[str, str, str, int, Ranges], ledger: Ledger
) -> None:
    what, name, other, flags, uids = step
    ref = refs[name]
    match what:
        case "deliver" | "several":
            accounts = ("ann",) if what == "deliver" else ("ann", "bob")
            batch = [delivery(str(n), *accounts, mailbox=name, flags=flags) for n in range(2)]
            for outcome in await store.accept(batch):
                assert isinstance(outcome, Accepted), outcome
                for at in outcome.stored:
                    ledger.new(at.mailbox, ((at.uid, at.uid),))
                ledger.made += 1
        case "append":
            appended = await store.append(operation(), ref, [NewMessage(b"x", flags, ("k",))] * 2, None)
            ledger.new(ref.mailbox, ranges.of(appended.uids))
            ledger.made += 2
        case "store":
            await store.store_flags(operation(), ref, uids, random.Random(flags).choice(list(FlagMode)), flags, (name,))
        case "copy" | "move" if what == "copy" or name != other:
            if what == "copy":
                copied = await store.copy(operation(), ref, uids if uids != ALL_UIDS else ((1, 3),), other, None)
                ledger.made += ranges.count(copied.target)
            else:
                copied = await store.move(operation(), ref, uids, other)
            assert ranges.count(copied.source) == ranges.count(copied.target)
            ledger.new(refs[other].mailbox, copied.target)
        case "replace":
            try:
                new = NewMessage(b"new", flags)
                replaced = await store.replace(operation(), ref, uids[0][0] if uids else 1, refs[other], new, None)
            except Refused as error:
                if error.reason is not Reason.NO_SUCH_MESSAGE:
                    raise
                return
            ledger.new(refs[other].mailbox, ranges.of(replaced.uids))
            ledger.made += 1
            ledger.expunged += 1
        case "expunge":
            expunged = await store.expunge(operation(), ref, uids)
            ledger.expunged += ranges.count(expunged.uids)
        case "select":
            await store.open_mailbox(operation(), ref, True)
        case "sweep":
            await store.sweep()


async def _follow(store: MongoStorage, ref: MailboxRef, ended: asyncio.Event) -> None:
    """A session: what it hears is in order, and in the end it has heard everything."""
    since, told, highest_uid = 0, {}, 0
    last = False
    while True:
        page = await store.changes(ref, since, 5)
        for entry in page.entries:
            assert since < entry.modseq <= page.through
            if entry.uid not in told:
                assert entry.uid > highest_uid
        highest_uid = max([highest_uid, *[entry.uid for entry in page.entries]])
        told |= {entry.uid: entry for entry in page.entries}
        for uid in ranges.each(page.vanished):
            told.pop(uid, None)
        since = page.through
        entries = await entries_of(store, ref, ALL_UIDS)
        if last and not page.more:
            assert tuple(told[uid] for uid in sorted(told)) == entries
            return
        last = ended.is_set()
        await asyncio.sleep(0)


async def _play(there: World, plans: list[list[Any]], seed: int) -> None:
    first = await there.store()
    for account in ("ann", "bob"):
        await first.open_account(operation(), account)
    refs = {box.name: box.ref for box in (await first.list_mailboxes("ann")).mailboxes}
    await first.append(operation(), refs["INBOX"], [NewMessage(b"old", 8)] * 4, None)
    ledger = Ledger()
    ledger.new(refs["INBOX"].mailbox, ((1, 4),))
    ledger.made = 4
    ended = asyncio.Event()

    async def writer(n: int, plan: list[Any]) -> None:
        store = await there.store(Shuffle(seed + n))
        for step in plan:
            await _write(store, refs, step, ledger)

    followers = [asyncio.create_task(_follow(await there.store(), refs[name], ended)) for name in BOXES]
    try:
        await asyncio.gather(*[writer(n, plan) for n, plan in enumerate(plans)])
    finally:
        ended.set()
    await asyncio.gather(*followers)
    assert max(ledger.given.values()) == 1, "a uid was given twice"
    assert (await first.usage("ann")).messages == ledger.made - ledger.expunged
    assert await there.problems() == []
    assert await there.swept() == []


@given(plans=PLANS, seed=st.integers(0, 2**20))
@settings(max_examples=examples(40), deadline=None)
def test_whatever_races_all_is_told_in_order_and_counted_right(plans: list[list[Any]], seed: int) -> None:
    async def run() -> None:
        async with world("mongomock") as there:
            await _play(there, plans, seed)

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_races_on_a_server_all_is_told_in_order_and_counted_right(seed: int) -> None:
    chance = random.Random(seed)
    kinds = ["deliver", "several", "append", "store", "copy", "move", "replace", "expunge", "select", "sweep"]
    plans = [
        [
            (
                chance.choice(kinds),
                chance.choice(BOXES),
                chance.choice(BOXES),
                chance.randrange(32),
                chance.choice((ALL_UIDS, ((1, 5),), ((2, 3), (6, 9)))),
            )
            for _ in range(12)
        ]
        for _ in range(3)
    ]
    async with world("mongodb") as there:
        await _play(there, plans, seed)


@pytest.mark.parametrize("kind", KINDS)
async def test_two_moves_of_the_same_messages_move_each_once(kind: str) -> None:
    async with world(kind) as there:
        first = await there.store()
        await first.open_account(operation(), "ann")
        refs = {box.name: box.ref for box in (await first.list_mailboxes("ann")).mailboxes}
        for seed in range(5):
            appended = await first.append(operation(), refs["INBOX"], [NewMessage(b"x")] * 6, None)
            uids = ranges.of(appended.uids)
            stores = [await there.store(Shuffle(seed * 7 + n)) for n in range(3)]
            moved = await asyncio.gather(
                *[
                    store.move(operation(), refs["INBOX"], uids, name)
                    for store, name in zip(stores, BOXES[1:] * 2, strict=False)
                ],
            )
            assert sum(ranges.count(one.source) for one in moved) == 6
            assert ranges.union([pair for one in moved for pair in one.source]) == uids
        assert (await first.usage("ann")).messages == 30
        assert await there.problems() == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(6))
async def test_one_operation_through_several_processes_happens_once(kind: str, seed: int) -> None:
    async with world(kind) as there:
        first = await there.store()
        for account in ("ann", "bob"):
            await first.open_account(operation(), account)
        ref = (await first.mailbox("ann", "INBOX")).ref
        stores = [await there.store(Shuffle(seed * 5 + n)) for n in range(3)]
        calls: list[Callable[[MongoStorage, Operation], Awaitable[Any]]] = [
            lambda store, op: store.append(op, ref, [NewMessage(b"x", 8)] * 2, None),
            lambda store, op: store.accept([delivery("x", "ann", op=op)]),
            lambda store, op: store.accept([delivery("x", "ann", "bob", op=op, remote=("r@far",))]),
            lambda store, op: store.copy(op, ref, ((1, 1),), "INBOX", None),
            lambda store, op: store.create_mailbox(op, "ann", "new"),
        ]
        for call in calls:
            op = operation()
            outcomes = await asyncio.gather(*[call(store, op) for store in stores])
            assert outcomes[0] == outcomes[1] == outcomes[2]
        assert (await first.mailbox("ann", "INBOX")).messages == 5
        assert (await first.mailbox("bob", "INBOX")).messages == 1
        assert len(await first.spool(None)) == 1
        assert len(await first.trace("trace", None)) == 4
        assert await there.problems() == []
        assert await there.swept() == []


@pytest.mark.parametrize("kind", KINDS)
async def test_deliveries_that_wait_are_committed_together(kind: str) -> None:
    async with world(kind) as there:
        steps: list[str] = []

        def on_step(step: str) -> None:
            steps.append(step)

        store = await there.store(on_step)
        for account in ("ann", "bob"):
            await store.open_account(operation(), account)
        await store.accept([delivery("first", "ann")])
        steps.clear()
        outcomes = await store.accept([delivery(str(n), "ann") for n in range(50)])
        assert [outcome.stored[0].uid for outcome in outcomes if isinstance(outcome, Accepted)] == list(range(2, 52))
        commands = [step for step in steps if step != "done"]
        # One of each: operations, entries, emails, blobs, chunks, texts; the commit; three that carry it out; the end.
        assert len(commands) <= 11, commands
        steps.clear()
        batches = [[delivery(f"{n} {m}", "ann") for m in range(3)] for n in range(20)]
        await asyncio.gather(*[store.accept(batch) for batch in batches])
        assert steps.count("account swap") <= 20, Counter(steps)
        assert (await store.mailbox("ann", "INBOX")).messages == 111
        assert await there.problems() == []


@pytest.mark.parametrize("kind", KINDS)
async def test_news_of_another_process_wakes_who_waits(kind: str) -> None:
    async with world(kind) as there:
        one, other = await there.store(), await there.store()
        await one.open_account(operation(), "ann")
        now = dict(await one.watch({"ann": 0}, 0))["ann"]
        waiting = asyncio.create_task(one.watch({"ann": now, "nobody": 0}, 60))
        await asyncio.sleep(0.01)
        begun = asyncio.get_running_loop().time()
        await other.accept([delivery("x", "ann")])
        assert dict(await waiting) == {"ann": now + 1}
        assert asyncio.get_running_loop().time() - begun < 20
