"""SEARCH on MongoDB: every answer equals that of a naive evaluator, of one moment, in bounded memory."""

from __future__ import annotations

import asyncio
import itertools
import tracemalloc
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from bson import ObjectId
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import ranges
from storage.adapters.mongo import search, texts
from storage.adapters.mongo.adapter import MongoStorage
from storage.adapters.mongo.search_plan import plan
from storage.model import (
    ALL_UIDS,
    All,
    And,
    BodyContains,
    DateField,
    DateRange,
    FlagMode,
    HasFlags,
    HasKeyword,
    HeaderContains,
    MailboxRef,
    ModseqFrom,
    NewMessage,
    Not,
    Or,
    Query,
    SizeRange,
    TextContains,
    Uids,
)
from storage.port import Unavailable
from storage.search.document import header_text, joined_headers
from storage.search.tree import ready
from tests.hurry import examples
from tests.reading import entries_of, rows_of
from tests.storage.mongo_store import Store, message, mongo_store, op, pieces, sweep_all
from tests.storage.search.reference import Letter, holds, letters, queries

numbers = itertools.count()


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with mongo_store() as found:
        yield found


@pytest.fixture
async def storage(store: Store) -> MongoStorage:
    return await store.open()


async def keep(store: Store, storage: MongoStorage, ref: MailboxRef, some: list[Letter]) -> None:
    """Append letters, then make of them what no client can ask for: their prefix and the day they were saved."""
    if not some:
        return
    new = [NewMessage(one.raw(), one.flags, one.keywords, one.internaldate) for one in some]
    appended = await storage.append(op(), ref, new, None)
    for uid, one in zip(appended.uids, some, strict=True):
        place = {"account": ref.account, "mailbox": ref.mailbox, "uid": uid}
        changed = {"$set": {"saved": one.savedate}, "$inc": {"size": len(one.prefix)}}
        entry = await store.mongo.database["entry"].find_one_and_update(place, changed)
        assert entry is not None
        await store.mongo.database["email"].update_one(
            {"_id": entry["email"]}, {"$set": {"prefix": one.prefix}, "$inc": {"size": len(one.prefix)}}
        )


async def found(storage: MongoStorage, ref: MailboxRef, query: Query) -> list[int]:
    return list(ranges.each((await storage.search(ref, query)).uids))


@given(data=st.data())
@settings(max_examples=examples(120), deadline=None, suppress_health_check=list(HealthCheck))
async def test_equals_a_naive_evaluator(
    data: Any, store: Store, storage: MongoStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        # So short are pages, groups and pieces that each example has several.
        patch.setattr(search, "PAGE", data.draw(st.sampled_from([1, 3, 1000])))
        patch.setattr(search, "TEXT_OCTETS", data.draw(st.sampled_from([1, 3000, 10**6])))
        patch.setattr(texts, "TEXT_PIECE", data.draw(st.sampled_from([7, 100, 256 * 1024])))
        patch.setattr(texts, "TEXT_MAX", data.draw(st.sampled_from([0, 250, 10**6])))
        account = f"a{next(numbers)}"
        await storage.open_account(op(), account)
        ref = await store.ref(storage, account)
        some = st.lists(letters(Letter), max_size=8)
        everything = [data.draw(some), data.draw(some)]
        for one in everything:
            await keep(store, storage, ref, one)
        by_uid = dict(enumerate(itertools.chain(*everything), 1))
        gone = data.draw(st.sets(st.sampled_from(sorted(by_uid)), max_size=4)) if by_uid else set()
        if gone:
            await storage.move(op(), ref, ranges.of(sorted(gone)), "Trash")
        if data.draw(st.booleans()):
            # Text of another form is as good as none.
            await store.mongo.database["text"].update_many({}, {"$set": {"form": 0}})
        entries = await entries_of(storage, ref, ALL_UIDS)
        sizes = {row.entry.uid: row.size for row in await rows_of(storage, ref, ALL_UIDS, 1)}  # type: ignore[arg-type]
        for what in data.draw(st.lists(queries, min_size=1, max_size=8)):
            expected = [
                entry.uid
                for entry in entries
                if holds(what, entry.uid, entry.modseq, sizes[entry.uid], by_uid[entry.uid])
            ]
            assert await found(storage, ref, what) == expected, what


@pytest.mark.parametrize(
    ("query", "uids", "filter_"),
    [
        (All(), ALL_UIDS, {}),
        (HasFlags(1), ALL_UIDS, {"flags": {"$in": list(range(1, 32, 2))}}),
        (Not(HasFlags(1)), ALL_UIDS, {"flags": {"$in": list(range(0, 32, 2))}}),
        (And((HasFlags(3), Not(HasFlags(28)))), ALL_UIDS, {"flags": {"$in": [3, 7, 11, 15, 19, 23, 27]}}),
        (And((Uids(((2, 9),)), Uids(((5, 20),)), TextContains("x"))), ((5, 9),), {}),
        (And((SizeRange(10, None), SizeRange(5, 30))), ALL_UIDS, {"size": {"$gte": 11, "$lte": 29}}),
        (SizeRange(None, 10**30), ALL_UIDS, {}),
        (DateRange(DateField.INTERNAL, 5, None), ALL_UIDS, {"date": {"$gte": 5}}),
        (DateRange(DateField.INTERNAL, None, None), ALL_UIDS, {}),
        (DateRange(DateField.SAVED, None, 5), ALL_UIDS, {"saved": {"$lte": 4}}),
        (DateRange(DateField.SENT, 5, 6), ALL_UIDS, {}),
        (And((HasKeyword("B"), HasKeyword("a"), BodyContains("x"))), ALL_UIDS, {"kw": 1}),
        (Not(HasKeyword("none")), ALL_UIDS, {}),
        (ModseqFrom(7), ALL_UIDS, {"modseq": {"$gte": 7}}),
        (Or((HasFlags(1), HasFlags(2))), ALL_UIDS, {}),
    ],
)
def test_what_every_match_fulfils_is_asked_of_the_server(query: Query, uids: Any, filter_: Any) -> None:
    question = plan(ready(query), ["a", "b"]).question
    assert (question.none, question.uids, question.filter) == (False, uids, filter_)


@pytest.mark.parametrize(
    "query",
    [
        Or(()),
        HasKeyword("none"),
        HasFlags(32),
        Uids(()),
        And((HasFlags(1), Not(HasFlags(1)))),
        And((SizeRange(9, None), SizeRange(None, 5))),
    ],
)
def test_what_no_message_fulfils_is_not_asked(query: Query) -> None:
    assert plan(ready(query), ["a"]).question.none


@given(
    st.lists(
        st.lists(
            st.sampled_from(
                [b"A: b", b"C : caf\xc3\xa9", b" e\xcc\x81", b"\xcc\x81x: y", b"X: =?utf-8?q?=CC=81?=", b""]
            )
        ),
        max_size=3,
    )
)
def test_header_texts_are_joined_as_if_made_together(blocks: list[list[bytes]]) -> None:
    raw = [b"\r\n".join(block) for block in blocks]
    assert joined_headers(*map(header_text, raw)) == header_text(*raw)


async def test_a_long_text_is_found_across_its_pieces(store: Store, storage: MongoStorage) -> None:
    await storage.open_account(op(), "ann")
    ref = await store.ref(storage)
    needle = "needle in the haystack"
    for at in (0, texts.TEXT_PIECE - 10, 5 * texts.TEXT_PIECE - 5, 6 * texts.TEXT_PIECE):
        body = b"x" * at + needle.encode() + b"y" * 1000
        staged = await storage.stage(pieces(b"Subject: long\r\n\r\n" + body))
        await storage.append(op(), ref, [NewMessage(staged)], None)
    assert await found(storage, ref, BodyContains(needle.upper())) == [1, 2, 3, 4]
    assert await found(storage, ref, TextContains("haystacky")) == [1, 2, 3, 4]
    assert await found(storage, ref, BodyContains("xneedle")) == [2, 3, 4]
    assert await found(storage, ref, And((HeaderContains("Subject", "long"), BodyContains("nothing")))) == []
    # While a text is being renewed some of its pieces are not there: then the message itself is read.
    for gone in ("0001", "0005"):
        await store.mongo.database["text"].delete_many({"_id": {"$regex": f":{gone}$"}})
        assert await found(storage, ref, BodyContains(needle)) == [1, 2, 3, 4]


async def test_a_text_over_the_bound_is_read_at_every_question(
    store: Store, storage: MongoStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "TEXT_MAX", 300_000)
    await storage.open_account(op(), "ann")
    ref = await store.ref(storage)
    staged = await storage.stage(pieces(b"Subject: long\r\n\r\n" + b"z" * 900_000 + b"needle"))
    await storage.append(op(), ref, [NewMessage(staged), NewMessage(message("needle"))], None)
    kept = {text["_id"]: text for text in await store.all("text")}
    assert kept[staged.id]["large"]
    assert len(kept) == 2
    assert await found(storage, ref, BodyContains("needle")) == [1, 2]
    assert await found(storage, ref, And((TextContains("zneedle"), HeaderContains("Subject", "LONG")))) == [1]
    # Damaged: nothing can be found in it, and the search goes on.
    await store.mongo.database["chunk"].delete_many({"_id": {"$regex": staged.id}})
    assert await found(storage, ref, BodyContains("needle")) == [2]


class Meddler:
    """Does something else each time that a search comes to a step of this name."""

    def __init__(self, step: str) -> None:
        self.step = step
        self.todo: list[Callable[[], Any]] = []

    async def __call__(self, step: str) -> None:
        if step == self.step and self.todo:
            await self.todo.pop(0)()


@pytest.mark.parametrize("page", [1, 2, 1000])
@pytest.mark.parametrize("query", [HasFlags(4), And((TextContains("apple"), Not(HasFlags(4)))), All()])
async def test_an_answer_belongs_to_one_moment(
    store: Store, storage: MongoStorage, monkeypatch: pytest.MonkeyPatch, query: Query, page: int
) -> None:
    """While a search reads page after page, messages change, come and go; what it says was so at its modseq."""
    monkeypatch.setattr(search, "PAGE", page)
    meddler = Meddler("entry find")
    searching = await store.open(meddler)
    await storage.open_account(op(), "ann")
    ref = await store.ref(storage)
    await storage.append(op(), ref, [NewMessage(message("apple"), 8)] * 6, None)
    changes: list[Callable[[], Any]] = [
        lambda: storage.store_flags(op(), ref, ((1, 1), (5, 5)), FlagMode.ADD, 4),
        lambda: storage.expunge(op(), ref, ((2, 2),)),
        lambda: storage.append(op(), ref, [NewMessage(message("apple"), 4)], None),
        lambda: storage.move(op(), ref, ((4, 4),), "Trash"),
        lambda: storage.store_flags(op(), ref, ALL_UIDS, FlagMode.REPLACE, 12),
        lambda: storage.expunge(op(), ref, ((1, 1),)),
        lambda: storage.store_flags(op(), ref, ((3, 6),), FlagMode.REPLACE, 0),
    ]
    moments = {(now := await storage.search(ref, query)).highest_modseq: now}

    def told(change: Callable[[], Any]) -> Callable[[], Any]:
        async def changed() -> None:
            await change()
            moment = await storage.search(ref, query)
            moments[moment.highest_modseq] = moment

        return changed

    meddler.todo = [told(change) for change in changes]
    while meddler.todo:
        left = len(meddler.todo)
        answer = await searching.search(ref, query)
        assert answer == moments[answer.highest_modseq]
        # What was so before it was asked for is not told any more.
        assert len(meddler.todo) < left
    assert len(moments) == len(changes) + 1


async def test_a_mailbox_that_never_rests_is_unavailable(
    store: Store, storage: MongoStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "LATER_MAX", 2)
    meddler = Meddler("entry find")
    searching = await store.open(meddler)
    await storage.open_account(op(), "ann")
    ref = await store.ref(storage)
    await storage.append(op(), ref, [NewMessage(message("apple"))] * 6, None)
    flags = itertools.cycle([1, 2])
    meddler.todo = [lambda: storage.store_flags(op(), ref, ALL_UIDS, FlagMode.REPLACE, next(flags)) for _ in range(100)]
    with pytest.raises(Unavailable):
        await searching.search(ref, HasFlags(1))
    meddler.todo = meddler.todo[:1]
    assert (await searching.search(ref, Not(HasFlags(4)))).uids == ((1, 6),)


async def test_a_message_swept_while_it_is_searched_is_not_found(store: Store, storage: MongoStorage) -> None:
    meddler = Meddler("email find")
    searching = await store.open(meddler)
    await storage.open_account(op(), "ann")
    ref = await store.ref(storage)
    await storage.append(op(), ref, [NewMessage(message("apple"), 8)] * 3, None)

    async def swept() -> None:
        await storage.expunge(op(), ref, ((2, 2),))
        store.clock.advance(3601)
        await sweep_all(storage)

    meddler.todo = [swept]
    assert await found(searching, ref, TextContains("apple")) == [1, 3]


@pytest.mark.slow
async def test_a_hundred_thousand_messages_are_searched_in_bounded_memory(store: Store, storage: MongoStorage) -> None:
    await storage.open_account(op(), "ann")
    ref = await store.ref(storage)
    await storage.append(op(), ref, [NewMessage(message("apple"), 1)], None)
    (first,) = await store.all("entry")
    many = 100_000
    for start in range(2, many + 1, 5_000):
        await store.mongo.database["entry"].insert_many(
            [
                first | {"_id": ObjectId(), "uid": uid, "flags": uid % 2}
                for uid in range(start, min(start + 5_000, many + 1))
            ]
        )
    box = f"mailboxes.{ref.mailbox}"
    await store.mongo.database["account"].update_one(
        {"_id": "ann"}, {"$set": {f"{box}.uidnext": many + 1, f"{box}.messages": many}, "$inc": {"rev": 1}}
    )
    searching = await store.open()
    await searching.search(ref, HasFlags(31))
    tracemalloc.start()
    try:
        answer = await asyncio.wait_for(searching.search(ref, And((HasFlags(1), TextContains("apple")))), 120)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert ranges.count(answer.uids) == many // 2
    # The uids themselves, and one page.
    assert peak < 32 * 1024 * 1024
