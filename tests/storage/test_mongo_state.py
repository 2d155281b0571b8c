"""The account's next state, and sets of uids as conditions: without a database."""

from __future__ import annotations

from typing import Any

import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from mail.flags import DELETED, SEEN
from storage import ranges
from storage.adapters.mongo import state
from storage.adapters.mongo.mailboxes import first_state
from storage.adapters.mongo.state import Count, Draft, Item, entries_of, uids_of
from storage.adapters.mongo.uidsets import NAMED, SPANS, above, among, exact, pack, unpack, windows
from storage.limits import UID_MAX
from storage.model import Ranges
from storage.port import Reason, Refused

NOW = 1_700_000_000.0


def applied(doc: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    """What a server makes of an update with $set and $unset, on a document of dictionaries."""
    found: dict[str, Any] = {**doc, "mailboxes": {name: dict(box) for name, box in doc["mailboxes"].items()}}
    for path, value in update.get("$set", {}).items():
        place = found
        *above_, last = path.split(".")
        for name in above_:
            place = place[name]
        place[last] = value
    for path in update.get("$unset", {}):
        _, mailbox = path.split(".")
        found["mailboxes"].pop(mailbox, None)
    return found


@given(st.lists(st.tuples(st.sampled_from("menlrkd"), st.integers(0, 6), st.integers(0, 31)), max_size=12))
def test_the_update_says_what_the_draft_has_become(steps: list[tuple[str, int, int]]) -> None:
    doc = first_state("ann", NOW)
    draft = Draft(doc)
    names = 0
    for what, which, number in steps:
        boxes = [mailbox for mailbox, box in draft.doc["mailboxes"].items() if box["name"] != "INBOX"]
        mailbox = boxes[which % len(boxes)] if boxes else next(iter(draft.doc["mailboxes"]))
        match what:
            case "m":
                names += 1
                draft.make([f"n{names}"], None, NOW)
            case "e" | "l":
                entries = [{"flags": number, "size": 10, "uid": n} for n in range(which)]
                modseq = draft.next_modseq(size=10 * which, messages=which)
                if what == "e":
                    draft.enter(mailbox, modseq, Count(entries))
                else:
                    draft.leave(mailbox, modseq, Count(entries), ((1, which + 1),), None)
            case "n":
                draft.change(mailbox, name=f"renamed {number}")
            case "r":
                draft.take_recent(mailbox)
            case "k":
                draft.keywords([f"k{number}"], make=True)
            case "d" if len(boxes) > 1:
                draft.drop(mailbox)
    update, after = draft.update({"publish": []})
    assert applied(doc, update) == after
    assert after["rev"] == doc["rev"] + 1
    # No path of the update lies within another: a server refuses that.
    paths = [*update["$set"], *update.get("$unset", {})]
    assert not [one for one in paths for other in paths if one.startswith(other + ".")]


def test_a_draft_leaves_the_document_as_it_was() -> None:
    doc = first_state("ann", NOW)
    (inbox,) = [mailbox for mailbox, box in doc["mailboxes"].items() if box["name"] == "INBOX"]
    before = applied(doc, {})
    draft = Draft(doc)
    draft.enter(inbox, draft.next_modseq(size=5, messages=1), Count([{"flags": 0, "size": 5}]))
    draft.keywords(["x"], make=True)
    draft.make(["new"], "\\All", NOW)
    assert doc == before


def test_uids_end() -> None:
    draft = Draft(first_state("ann", NOW))
    mailbox = next(iter(draft.doc["mailboxes"]))
    draft.change(mailbox, uidnext=UID_MAX)
    one = Count([{"flags": SEEN | DELETED, "size": 1}])
    with pytest.raises(Refused) as refused:
        draft.enter(mailbox, 9, Count([{"flags": 0, "size": 1}] * 2))
    assert refused.value.reason is Reason.LIMIT
    assert draft.enter(mailbox, 9, one) == UID_MAX
    box = draft.doc["mailboxes"][mailbox]
    assert (box["unseen"], box["deleted"], box["messages"], box["size"]) == (0, 1, 1, 1)
    with pytest.raises(Refused):
        draft.enter(mailbox, 10, one)


def test_uidvalidity_rises_and_begins_at_the_clock() -> None:
    draft = Draft(state.new_account("ann", state.OPEN))
    assert [draft.next_uidvalidity(now) for now in (100.0, 100.9, 50.0, 200.0)] == [100, 101, 102, 200]


def test_an_item_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "ITEM_OCTETS", 40)
    item = Item()
    item.enter("M1", 5, 7, [ObjectId(), ObjectId()])
    item.flag("M1", 5, 1, (), ((1, 2),))
    item.flag("M1", 5, 2, (), ((4, 4),))
    assert item.document["flags"]
    item.flag("M1", 5, 3, (), ((6, 6),))
    with pytest.raises(Refused) as refused:
        _ = item.document
    assert refused.value.reason is Reason.LIMIT


def test_an_items_outcome_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "ITEM_OCTETS", 40)
    item = Item()
    item.end("op", ObjectId(), "outcome", "[" + "1," * 10 + "1]", [{"data": "x" * 10}])
    assert item.document["done"]
    item.end("other", ObjectId(), "outcome", "[1]", [{"data": "x" * 10}])
    with pytest.raises(Refused):
        _ = item.document


def test_an_item_can_be_read_back() -> None:
    item, entries = Item(), [ObjectId() for _ in range(5)]
    item.enter("M1", 9, 40, entries)
    item.take_away("M2", 9, ((3, 5), (9, UID_MAX)), ObjectId(), NOW, None)
    document = item.document
    assert entries_of(document["publish"][0]) == [(entry, 40 + n) for n, entry in enumerate(entries)]
    assert uids_of(document["expunge"][0]) == ((3, 5), (9, UID_MAX))


def test_names_of_an_account_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "ACCOUNT_OCTETS", 3500)
    draft = Draft(first_state("ann", NOW))
    draft.make(["x" * 900], None, NOW)
    with pytest.raises(Refused) as refused:
        draft.make(["y" * 900], None, NOW)
    assert refused.value.reason is Reason.LIMIT


SETS = st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 300)), max_size=30).map(
    lambda pairs: ranges.union((first, first + more) for first, more in pairs)
)


@given(SETS, st.integers(1, 100), st.integers(0, 6000), st.integers(0, 5500))
def test_windows_cover_the_set_in_order(uids: Ranges, lowest: int, highest: int, start: int) -> None:
    found = windows(uids, lowest, highest)
    wanted = [uid for uid in ranges.each(uids) if lowest <= uid <= highest]
    covered: list[int] = []
    for window in found:
        condition = window.from_(window.first)
        mine = list(condition["$in"]) if "$in" in condition else list(range(condition["$gte"], condition["$lte"] + 1))
        assert len(mine) <= NAMED + 64 or "$in" not in condition
        covered += mine
        later = window.from_(start)
        rest = later["$in"] if "$in" in later else range(later["$gte"], later["$lte"] + 1)
        assert list(rest) == [uid for uid in mine if uid >= start]
    assert covered == sorted(set(covered))
    assert set(wanted) <= set(covered)
    assert all(lowest <= uid <= highest for uid in covered)
    assert [entry["uid"] for entry in among([{"uid": uid} for uid in covered], uids)] == wanted


def test_windows_of_a_hostile_set_are_few() -> None:
    uids = tuple((n * 1000 + 1, n * 1000 + 500) for n in range(5000))
    assert len(windows(uids, 1, 10_000_000)) == 1
    assert len(windows(uids[:SPANS], 1, 10_000_000)) == SPANS


@given(SETS)
def test_exact_conditions_are_exact(uids: Ranges) -> None:
    covered = [
        uid
        for condition in exact(uids)
        for uid in (condition["$in"] if "$in" in condition else range(condition["$gte"], condition["$lte"] + 1))
    ]
    assert sorted(covered) == list(ranges.each(uids))


@given(SETS, st.integers(0, 6000))
def test_packed_sets_and_what_is_above(uids: Ranges, uid: int) -> None:
    assert unpack(pack(uids)) == uids
    assert list(ranges.each(above(uids, uid))) == [one for one in ranges.each(uids) if one > uid]
