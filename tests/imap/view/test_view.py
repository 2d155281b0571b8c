"""The view by itself: numbers, news in the right order, memory."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imap.view import View
from imap.wire.numset import parse_numset
from storage import ranges
from storage.model import Changes, Entry, Mailbox, MailboxRef, Opened, Ranges
from tests.hurry import examples

REF = MailboxRef("a", "m")


def opened(uids: Ranges, uidnext: int, recent: Ranges = (), modseq: int = 10) -> Opened:
    count = ranges.count(uids)
    return Opened(Mailbox(REF, "INBOX", 1, uidnext, modseq, count, 0, 0, 0, 0), uids, recent, None, ())


def entry(uid: int, modseq: int, flags: int = 0, keywords: tuple[str, ...] = ()) -> Entry:
    return Entry(uid, modseq, flags, keywords, "e", 0, 0)


def news(*entries: Entry, vanished: Ranges = (), through: int, more: bool = False) -> Changes:
    return Changes(entries, vanished, through, more)


def told(view: View, may_expunge: bool = True) -> list[str]:
    return b"".join(view.tell(may_expunge)).decode().splitlines()


def test_new_messages_are_recent_and_counted() -> None:
    view = View(opened(((1, 2),), 3), read_only=False)
    view.learn(news(entry(3, 11), entry(4, 12), through=12))
    assert told(view) == ["* 4 EXISTS", "* 2 RECENT"]
    assert view.number(4) == 4
    assert view.is_recent(3)
    assert not view.is_recent(2)


def test_expunge_comes_before_exists_and_from_the_end() -> None:
    view = View(opened(((1, 5),), 6), read_only=False)
    view.learn(news(entry(6, 12), vanished=((2, 2), (4, 4)), through=12))
    assert told(view) == ["* 4 EXPUNGE", "* 2 EXPUNGE", "* 4 EXISTS", "* 1 RECENT"]
    assert list(view.uids) == [1, 3, 5, 6]


def test_expunge_waits_while_numbers_are_in_use() -> None:
    view = View(opened(((1, 3),), 4), read_only=False)
    view.learn(news(entry(4, 12), vanished=((1, 1),), through=12))
    assert told(view, may_expunge=False) == ["* 4 EXISTS", "* 1 RECENT"]
    assert view.number(4) == 4
    assert told(view) == ["* 1 EXPUNGE"]
    assert view.number(4) == 3


def test_how_far_the_client_is_is_said_while_something_waits_and_once_more() -> None:
    view = View(opened(((1, 3),), 4), read_only=False, with_modseq=True)
    assert view.reached() == b""
    view.learn(news(entry(2, 12, 1), vanished=((1, 1),), through=12))
    assert told(view, may_expunge=False) == ["* 2 FETCH (UID 2 FLAGS (\\Seen) MODSEQ (12))"]
    assert view.reached() == b"* OK [HIGHESTMODSEQ 10] Older changes are still to be told\r\n"
    # nothing else has been told since
    assert told(view, may_expunge=False) == []
    assert view.reached() == b""
    view.shows(12)
    assert b"HIGHESTMODSEQ 10]" in view.reached()
    assert told(view) == ["* 1 EXPUNGE"]
    assert view.reached() == b"* OK [HIGHESTMODSEQ 12] All changes have been told\r\n"
    assert view.reached() == b""
    # read before it was heard of
    view.told(3, 20)
    assert view.is_ahead
    assert b"HIGHESTMODSEQ 12]" in view.reached()


def test_how_far_the_client_is_is_said_once_of_what_it_does_not_want_to_hear() -> None:
    view = View(opened(((1, 3),), 4), read_only=False, with_modseq=True)
    for modseq in (11, 12):
        view.learn(news(entry(2, modseq, 1), through=modseq))
        view.withhold_flags()
        assert told(view) == []
        assert view.reached().count(b"HIGHESTMODSEQ 10]") == (modseq == 11)
    # newer flags of another message than that
    view.told(3, 13)
    assert b"HIGHESTMODSEQ 10]" in view.reached()
    assert view.reached() == b""
    view.resume_flags()
    view.learn(news(entry(2, 12, 1), entry(3, 13, 1), through=13))
    assert told(view) != []
    assert b"HIGHESTMODSEQ 13]" in view.reached()
    assert view.reached() == b""


def test_flags_of_others_are_told_with_uid_and_after_expunge() -> None:
    view = View(opened(((1, 3),), 4), read_only=False)
    view.learn(news(entry(3, 11, 1, ("work",)), vanished=((1, 1),), through=12))
    assert told(view) == [
        "* 1 EXPUNGE",
        "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft work)",
        "* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft work \\*)] Flags that can be kept",
        "* 2 FETCH (UID 3 FLAGS (\\Seen work))",
    ]
    assert told(view) == []


def test_what_the_client_was_told_by_its_own_command_is_not_told_again() -> None:
    view = View(opened(((1, 3),), 4), read_only=False)
    view.told(2, 11)
    view.learn(news(entry(2, 11, 1), entry(3, 12, 1), through=12))
    assert told(view) == ["* 3 FETCH (UID 3 FLAGS (\\Seen))"]


def test_a_newer_change_of_others_is_told_though_an_older_was_own() -> None:
    view = View(opened(((1, 3),), 4), read_only=False)
    view.told(2, 11)
    view.learn(news(entry(2, 13, 5), through=13))
    assert told(view) == ["* 2 FETCH (UID 2 FLAGS (\\Flagged \\Seen))"]


def test_pages_of_changes_are_one_piece_of_news() -> None:
    view = View(opened((), 1), read_only=False)
    view.learn(news(entry(2, 11), through=11, more=True))
    view.learn(news(entry(1, 12, 1), entry(3, 13), through=13, more=True))
    view.learn(news(vanished=((3, 3),), through=14))
    assert told(view) == ["* 2 EXISTS", "* 2 RECENT"]
    assert list(view.uids) == [1, 2]


def test_a_message_that_came_and_went_is_not_told() -> None:
    view = View(opened(((1, 1),), 2), read_only=False)
    view.learn(news(vanished=((2, 9),), through=30))
    assert told(view) == []


def test_flags_of_an_expunged_message_are_not_told() -> None:
    view = View(opened(((1, 2),), 3), read_only=False)
    view.learn(news(entry(2, 11, 1), through=11, more=True))
    view.learn(news(vanished=((2, 2),), through=12))
    assert told(view, may_expunge=False) == []


def test_sets_of_numbers_and_uids() -> None:
    view = View(opened(((10, 12), (20, 20)), 30), read_only=False)
    assert view.slices(parse_numset(b"2:*"), by_uid=False) == ((1, 4),)
    assert view.slices(parse_numset(b"5"), by_uid=False) is None
    assert view.slices(parse_numset(b"1:5"), by_uid=False) is None
    assert view.slices(parse_numset(b"11:100,5"), by_uid=True) == ((1, 4),)
    assert view.slices(parse_numset(b"500:*"), by_uid=True) == ((3, 4),)
    assert view.ranges(((1, 4),)) == ((11, 20),)
    assert view.ranges_of([10, 12, 20]) == ((10, 10), (12, 20))
    empty = View(opened((), 1), read_only=False)
    assert empty.slices(parse_numset(b"*"), by_uid=False) is None
    assert empty.slices(parse_numset(b"1:*"), by_uid=True) == ()


def test_a_hundred_thousand_messages_fit_in_two_megabytes() -> None:
    what = opened(((1, 100_000),), 100_001)
    tracemalloc.start()
    view = View(what, read_only=False)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(view) == 100_000
    assert held < 600_000
    assert peak < 2_000_000


def test_expunging_half_of_a_large_mailbox_is_quick() -> None:
    view = View(opened(((1, 100_000),), 100_001), read_only=False)
    view.learn(news(vanished=tuple((uid, uid) for uid in range(1, 100_001, 2)), through=11))
    lines = told(view)
    assert len(lines) == 50_000
    assert lines[0] == "* 99999 EXPUNGE"
    assert list(view.uids[:3]) == [2, 4, 6]


@pytest.mark.parametrize("count", [3, 20, 100])
def test_few_and_many_go_alike(count: int) -> None:
    view = View(opened(((1, 100),), 101), read_only=False)
    gone = sorted(random.Random(count).sample(range(1, 101), count))
    view.learn(news(vanished=ranges.of(gone), through=11))
    assert told(view) == [f"* {uid} EXPUNGE" for uid in reversed(gone)]
    assert list(view.uids) == [uid for uid in range(1, 101) if uid not in gone]


@given(
    start=st.sets(st.integers(1, 30)),
    steps=st.lists(
        st.tuples(st.lists(st.integers(0, 3), max_size=4), st.sets(st.integers(1, 60), max_size=6), st.booleans())
    ),
)
@settings(max_examples=examples(200))
def test_a_client_that_believes_all_it_is_told_is_right(
    start: set[int], steps: list[tuple[list[int], set[int], bool]]
) -> None:
    view = View(opened(ranges.of(sorted(start)), 31), read_only=False)
    client: list[int | None] = sorted(start)
    truth = set(start)
    uidnext, modseq = 31, 10
    for arrivals, expunged, may_expunge in steps:
        entries = []
        for gap in arrivals:
            uidnext += gap + 1
            modseq += 1
            entries.append(entry(uidnext - 1, modseq))
            truth.add(uidnext - 1)
        gone = sorted(expunged & truth)
        truth -= expunged
        modseq += 1
        kept = tuple(e for e in entries if e.uid not in expunged)
        view.learn(news(*kept, vanished=ranges.of(gone), through=modseq))
        for line in told(view, may_expunge):
            number, word = line.split()[1:3]
            if word == "EXPUNGE":
                assert may_expunge
                assert client.pop(int(number) - 1) not in truth
            elif word == "EXISTS":
                assert int(number) > len(client)
                client += [None] * (int(number) - len(client))
        # what it fetches now it will know by number
        assert len(client) == len(view)
        for at, uid in enumerate(view.uids):
            assert client[at] in (None, uid)
            client[at] = uid
    list(view.tell(may_expunge=True))
    assert list(view.uids) == sorted(truth)
