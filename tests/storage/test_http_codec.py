"""Every call of the storage port, its answers and its errors, there and back as octets."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, get_type_hints

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.portcall import BadCall
from runtime.portframes import FRAME_OCTETS, FRAME_ROWS, LENGTH, BadFrame
from storage import wire
from storage.model import And, Changes, Columns, Entry, HasFlags, Keys, MailboxRef, Not, Operation, Query, Unrepeated
from storage.port import Refused, Storage, Unavailable
from tests.hurry import examples
from tests.portvalues import same, values

CODEC = wire.codec()
METHODS = sorted(CODEC.methods() - {"close"})
CALLS = sorted(set(METHODS) - CODEC.streams())


def hints_of(method: str) -> dict[str, Any]:
    return get_type_hints(getattr(Storage, method))


def joined(method: str, frames: list[bytes]) -> Any:
    joiner = CODEC.joiner(method)
    for frame in frames:
        assert not joiner.done
        assert len(frame) == LENGTH + int.from_bytes(frame[:LENGTH], "big")
        joiner.feed(frame[LENGTH:])
    assert joiner.done
    return joiner.result()


def test_an_operation_that_is_not_repeated_may_be_on_its_way() -> None:
    args = {"op": Unrepeated("once", "ann", sequence="s"), "account": "ann"}
    (op, account) = CODEC.unpack_call("open_account", CODEC.pack_call("open_account", (), args)).values()
    assert (type(op), op.id, op.actor, op.sequence, account) == (Operation, "once", "ann", "s", "ann")


def test_every_method_is_of_one_kind() -> None:
    """A method that is added must be thought of: may it be done twice?"""
    kinds = (wire.READS, wire.OPERATIONS, wire.UPKEEP, wire.ONCE)
    assert sorted(name for kind in kinds for name in kind) == METHODS
    takes_op = {name for name in METHODS if "op" in CODEC.parameters(name)}
    assert takes_op == wire.OPERATIONS - {"accept", "settle"}
    assert CODEC.streams() == {"stage"}
    assert {name for name in METHODS if "wait" in CODEC.parameters(name)} == wire.POLLS


@pytest.mark.parametrize("method", CALLS)
@settings(max_examples=examples(40), deadline=None)
@given(data=st.data())
def test_arguments_come_as_they_went(method: str, data: st.DataObject) -> None:
    hints = hints_of(method)
    args = {name: data.draw(values(hints[name]), name) for name in CODEC.parameters(method)}
    there = CODEC.unpack_call(method, CODEC.pack_call(method, (), args))
    assert same(there, args)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=examples(40), deadline=None)
@given(data=st.data())
def test_results_come_as_they_went(method: str, data: st.DataObject) -> None:
    result = data.draw(values(hints_of(method)["return"]))
    assert same(joined(method, list(CODEC.frames(method, result))), result)


@given(error=values(Refused | Unavailable))
def test_errors_come_as_they_went(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        joined("usage", [CODEC.error_frame(error)])
    assert same(caught.value, error)


@pytest.mark.parametrize("method", CALLS)
@settings(max_examples=examples(60), deadline=None)
@given(octets=st.binary(max_size=60))
def test_no_octets_make_anything_but_a_call_or_a_bad_call(method: str, octets: bytes) -> None:
    for start in (b"", b"\x91", b"\x93", b"\x95"):
        try:
            CODEC.unpack_call(method, start + octets)
        except BadCall:
            continue


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=examples(60), deadline=None)
@given(octets=st.binary(max_size=60))
def test_no_octets_make_anything_but_an_answer_or_a_bad_frame(method: str, octets: bytes) -> None:
    for start in (b"", b"\x92\xa3end", b"\x93\xa4rows\x00", b"\x93\xa5error\xa7Refused"):
        joiner = CODEC.joiner(method)
        try:
            joiner.feed(start + octets)
        except BadFrame:
            assert not joiner.done


def test_an_older_side_and_a_newer_one_understand_each_other() -> None:
    """Fields with defaults may be missing at the end, and more may follow."""
    call = msgpack.packb([["a", "M1"], [[1, 5]], 3])
    assert CODEC.unpack_call("columns", call)["uids"] == ((1, 5),)
    assert "limit" not in CODEC.unpack_call("columns", call)
    call = msgpack.packb([["a", "M1", "a field to come"], [[1, 5]], 3, 7, True, "an argument to come"])
    assert CODEC.unpack_call("columns", call)["limit"] == 7
    with pytest.raises(BadCall):
        CODEC.unpack_call("columns", msgpack.packb([["a", "M1"], [[1, 5]]]))


def test_the_deepest_query_crosses() -> None:
    query: Query = HasFlags(1)
    for depth in range(200):
        query = And((query, HasFlags(2))) if depth % 2 else Not(query)
    args = {"ref": MailboxRef("ann", "M1"), "query": query}
    assert same(CODEC.unpack_call("search", CODEC.pack_call("search", (), args)), args)
    for _ in range(5000):
        query = Not(query)
    with pytest.raises(BadCall):
        CODEC.pack_call("search", (), {**args, "query": query})


def entry(uid: int, keyword: str = "$Forwarded") -> Entry:
    return Entry(uid, uid + 7, 3, (keyword,), f"E{uid}", 1_700_000_000, 1_700_000_001)


def changes(entries: Iterable[Entry]) -> Changes:
    return Changes(tuple(entries), ((1, 3),), 9, False)


def test_frames_are_bounded() -> None:
    frames = list(CODEC.frames("changes", changes(entry(uid) for uid in range(1, 2001))))
    assert len(frames) == -(-2000 // FRAME_ROWS) + 2
    frames += list(CODEC.frames("changes", changes(entry(uid, "k" * 100_000) for uid in range(1, 12))))
    assert max(map(len, frames)) <= FRAME_OCTETS + 100
    huge = changes((entry(1, "k" * 3 * FRAME_OCTETS), entry(2)))
    frames = list(CODEC.frames("changes", huge))
    assert len(frames) == 4
    assert joined("changes", frames) == huge


def columns(count: int) -> Columns:
    keys = Keys("subject", "a", "b", "c", "d", "e", 1, "<m>", ("<r1>", "<r2>"))
    return Columns(
        range(1, count + 1),
        False,
        count,
        flags=[3] * count,
        keywords=[(uid, ("$Forwarded",)) for uid in range(1, count + 1, 3)],
        modseqs=range(count),
        emails=[f"E{uid}" for uid in range(count)],
        sizes=[1234] * count,
        prefixes=[b"p" * 80] * count,
        envelopes=[b"e" * 400] * count,
        headers=[None, *[b"h" * 500] * (count - 1)],
        keys=[keys] * count,
    )


def test_columns_are_packed_and_read_fast() -> None:
    """A page in one frame. The aim is 250,000 messages a second each way; the test allows for a slow machine."""
    page = columns(1000)
    best_out = best_in = float("inf")
    for _ in range(5):
        start = time.process_time()
        (frame,) = CODEC.frames("columns", page)
        best_out = min(best_out, time.process_time() - start)
        joiner = CODEC.joiner("columns")
        start = time.process_time()
        joiner.feed(frame[LENGTH:])
        best_in = min(best_in, time.process_time() - start)
        read = joiner.result()
        assert isinstance(read, Columns)
        assert [list(column) for column in (read[0], *read[3:])] == [list(column) for column in (page[0], *page[3:])]
    assert 1000 / best_out > 50_000
    assert 1000 / best_in > 50_000
