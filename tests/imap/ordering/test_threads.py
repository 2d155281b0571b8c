"""THREAD against the RFC's own words, and on mailboxes made to be slow."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imap.sorting import TooMuch
from imap.threads import Forest, OrderedSubject, References
from storage.model import Keys
from tests.hurry import examples
from tests.imap.ordering.references import Mail, Shape, places, threaded


def keys(mail: Mail) -> Keys:
    return Keys(mail.subject, "", "", "", "", "", mail.sent, mail.id, mail.references)


def run(mails: list[Mail]) -> Forest:
    threads = References()
    for place, mail in enumerate(mails):
        threads.add(place, keys(mail))
    asked = threads.gather()
    return threads.finish({place for place in asked if mails[place].is_reply})


def shapes(forest: Forest) -> list[Shape]:
    def one(node: int) -> Shape:
        place = forest.places[node]
        return (None if place < 0 else place, tuple(map(one, forest.children.get(node, ()))))

    return list(map(one, forest.heads))


def leaf(place: int) -> Shape:
    return (place, ())


IDS = st.sampled_from("abcdefgh")
MAILS = st.lists(
    st.builds(
        Mail,
        id=st.one_of(IDS, IDS, st.just("")),
        references=st.lists(IDS, max_size=4).map(tuple),
        subject=st.sampled_from(["", "X", "Y"]),
        is_reply=st.booleans(),
        sent=st.integers(0, 3),
    ),
    max_size=10,
)


@settings(max_examples=examples(200), deadline=None)
@given(MAILS)
def test_it_is_the_algorithm_of_the_rfc(mails: list[Mail]) -> None:
    found = shapes(run(mails))
    assert found == threaded(mails)
    assert sorted(places(found)) == list(range(len(mails)))


@settings(max_examples=examples(50), deadline=None)
@given(MAILS)
def test_nothing_but_shared_subjects_is_asked_for(mails: list[Mail]) -> None:
    threads = References()
    for place, mail in enumerate(mails):
        threads.add(place, keys(mail))
    asked = threads.gather()
    subjects = [mails[place].subject for place in asked]
    assert "" not in subjects
    without_replies = {place for place in range(len(mails)) if place not in asked}
    # what was not asked for makes no difference
    told = threads.finish({place for place in asked if mails[place].is_reply} | without_replies)
    assert shapes(told) == threaded(mails)


def test_a_reply_goes_below_its_original_and_two_originals_below_a_dummy() -> None:
    mails = [Mail("a", subject="X", sent=1), Mail("b", subject="X", is_reply=True, sent=2)]
    assert shapes(run(mails)) == [(0, (leaf(1),))]
    mails = [Mail("a", subject="X", sent=1), Mail("b", subject="X", sent=2)]
    assert shapes(run(mails)) == [(None, (leaf(0), leaf(1)))]


def test_children_of_a_message_that_is_not_there_stay_together() -> None:
    # RFC 5256 §4: ((3)(5))
    mails = [Mail("b", ("a",)), Mail("c", ("a",)), Mail("d", ("z",))]
    assert shapes(run(mails)) == [(None, (leaf(0), leaf(1))), leaf(2)]


def test_of_two_messages_with_one_id_the_first_has_the_answers() -> None:
    mails = [Mail("a", sent=1), Mail("a", sent=2), Mail("b", ("a",), sent=3)]
    assert shapes(run(mails)) == [(0, (leaf(2),)), leaf(1)]


def test_a_loop_is_not_closed() -> None:
    mails = [Mail("a", ("b",), sent=1), Mail("b", ("a",), sent=2), Mail("c", ("c", "c"), sent=3)]
    assert shapes(run(mails)) == [(1, (leaf(0),)), leaf(2)]


def test_ordered_subject() -> None:
    threads = OrderedSubject()
    for place, (subject, sent) in enumerate([("B", 5), ("A", 4), ("B", 3), ("", 1), ("A", 4), ("B", 9)]):
        threads.add(place, keys(Mail("", subject=subject, sent=sent)))
    assert shapes(threads.finish()) == [leaf(3), (2, (leaf(0), leaf(5))), (1, (leaf(4),))]


def _deep(count: int) -> list[Mail]:
    """A chain, and then ever new threads of two that are hung below its end."""
    chain = [Mail(f"c{n}", (f"c{n - 1}",) if n else ()) for n in range(count)]
    pairs = [Mail(f"p{n}", (f"q{n}",)) for n in range(count)]
    hung = [Mail(f"h{n}", (f"c{count - 1}", f"q{n}")) for n in range(count)]
    return [*chain, *pairs, *hung]


def _cut(count: int) -> list[Mail]:
    """A chain built by others' references, which its messages then take apart and hang up elsewhere."""
    built = [Mail(f"b{n}", tuple(f"c{m}" for m in range(n, n + 3))) for n in range(count)]
    return [*built, *(Mail(f"c{n}", (f"c{n - 2}",) if n > 1 else ()) for n in range(count))]


@pytest.mark.parametrize("make", [_deep, _cut])
def test_time_is_nearly_linear(make: object) -> None:
    def seconds(count: int) -> float:
        mails = make(count)  # type: ignore[operator]  # one of the two above
        started = time.process_time()
        run(mails)
        return time.process_time() - started

    few, many = 1_000, 8_000
    # eight times as much takes sixty-four times as long where time is quadratic
    assert min(seconds(many) for _ in range(2)) < 24 * max(seconds(few), 0.005)


def test_long_chains_need_no_stack() -> None:
    mails = [Mail(f"c{n}", (f"c{n + 1}",)) for n in range(5_000)]
    forest = run(mails)
    assert len(forest.heads) == 1
    assert len(forest.children) == len(mails) - 1


def test_text_has_a_bound() -> None:
    threads = References(1_000)
    threads.add(0, keys(Mail("a", ("x" * 500,))))
    threads.add(1, keys(Mail("a", ("x" * 500,))))
    with pytest.raises(TooMuch):
        threads.add(2, keys(Mail("b", ("y" * 500,))))
