"""The framer: the same events however the octets are cut, and every limit at and past its edge."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imap.wire.framer import (
    CommandEnd,
    CommandLine,
    Event,
    Fatal,
    Framer,
    Line,
    LiteralChunk,
    LiteralStart,
    NeedContinuation,
    Refusal,
)
from imap.wire.limits import WireLimits
from tests.hurry import examples

SMALL = WireLimits(line=40, literal=10, command=60, message=30, discard=60)
WIDE = WireLimits(line=8192, literal=8192, command=16384, message=1 << 20)

Seen = Event | tuple[str, str, str, str | None]


def plain(event: Event) -> Seen:
    """An event that compares by what it says."""
    if isinstance(event, Refusal):
        error = event.error
        return ("refused", error.tag, error.condition, error.code)
    return event


def drive(pieces: list[bytes], limits: WireLimits = SMALL, refuse: bool = False) -> list[Seen]:
    """All events; chunks of one literal joined; each offered literal accepted or refused."""
    framer = Framer(limits)
    seen: list[Seen] = []
    for piece in pieces:
        framer.feed(piece)
        while (event := framer.next_event()) is not None:
            if isinstance(event, LiteralStart):
                framer.refuse() if refuse else framer.accept()
            last = seen[-1] if seen else None
            if isinstance(event, LiteralChunk) and isinstance(last, LiteralChunk):
                seen[-1] = LiteralChunk(last.data + event.data)
            else:
                seen.append(plain(event))
    return seen


def cut(octets: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(octets) + 1) for place in places), len(octets)]
    return [octets[start:stop] for start, stop in pairwise(edges)]


PIECES = [
    b"a NOOP", b"b APPEND x ", b"c APPEND ", b"d LOGIN ", b"{3}", b"{3+}", b"{0+}", b"{0}", b"{10+}", b"{11+}", b"{11}",
    b"{30}", b"{31+}", b"{61+}", b"{99999999999999999999999+}", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"xyz", b" ",
    b"\0", b"q" * 35, b'"{3}', b"~{5+}",
]  # fmt: skip


@given(
    st.lists(st.sampled_from(PIECES), max_size=14),
    st.lists(st.integers(0, 400), max_size=8),
    st.booleans(),
)
@settings(max_examples=examples(200))
def test_cuts_change_nothing(pieces: list[bytes], places: list[int], refuse: bool) -> None:
    octets = b"".join(pieces)
    whole = drive([octets], refuse=refuse)
    assert drive(cut(octets, places), refuse=refuse) == whole
    assert drive([octets[at : at + 1] for at in range(len(octets))], refuse=refuse) == whole


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
@settings(max_examples=examples(200))
def test_any_octets(octets: bytes, places: list[int]) -> None:
    assert drive(cut(octets, places)) == drive([octets])


def test_commands_and_literals() -> None:
    assert drive([b"a NOOP\r\nb LOGIN {1}\r\nx {2+}\r\n\r\n\nc\n"]) == [
        CommandLine(b"a NOOP"),
        NeedContinuation(),
        CommandLine(b"b LOGIN {1}\r\nx {2+}\r\n\r\n"),
        CommandLine(b"c"),
    ]


def test_append_is_streamed() -> None:
    assert drive([b"a APPEND x {3}\r\nabc\r\nb append {1+}\r\nx (\\Seen) {0+}\r\n tail\r\n"]) == [
        LiteralStart(b"a APPEND x {3}", 3, True),
        LiteralChunk(b"abc"),
        CommandEnd(b""),
        LiteralStart(b"b append {1+}\r\nx (\\Seen) {0+}", 0, False),
        CommandEnd(b" tail"),
    ]


def test_a_second_literal_in_an_append() -> None:
    for name in (b"REPLACE 4", b"uid replace *"):
        assert drive([b"a " + name + b" x (\\Seen) {2+}\r\nzz\r\n"])[0] == LiteralStart(
            b"a " + name + b" x (\\Seen) {2+}", 2, False
        )
        # the name of the mailbox stays in the command
        assert drive([b"a " + name + b" {1+}\r\nx {2+}\r\nzz\r\n"])[0] == LiteralStart(
            b"a " + name + b" {1+}\r\nx {2+}", 2, False
        )
    assert drive([b"a APPEND x {1+}\r\ny {2+}\r\nzz\r\n"]) == [
        LiteralStart(b"a APPEND x {1+}", 1, False),
        LiteralChunk(b"y"),
        LiteralStart(b" {2+}", 2, False),
        LiteralChunk(b"zz"),
        CommandEnd(b""),
    ]


def test_a_refused_synchronizing_literal_is_not_waited_for() -> None:
    assert drive([b"a APPEND x {30}\r\nb NOOP\r\n"], refuse=True) == [
        LiteralStart(b"a APPEND x {30}", 30, True),
        CommandLine(b"b NOOP"),
    ]


def test_a_refused_non_synchronizing_literal_is_skipped_with_its_command() -> None:
    octets = b"a APPEND x {30+}\r\n" + b"n NOOP\r\n" * 3 + b"012345 (\\Seen) {4+}\r\nb X\n rest\r\nc NOOP\r\n"
    assert drive([octets], refuse=True) == [LiteralStart(b"a APPEND x {30+}", 30, False), CommandLine(b"c NOOP")]


def test_refused_in_the_middle() -> None:
    framer = Framer(SMALL)
    framer.feed(b"a APPEND x {30+}\r\n")
    assert isinstance(framer.next_event(), LiteralStart)
    assert framer.next_event() is None
    framer.accept()
    framer.feed(b"0123456789")
    assert framer.next_event() == LiteralChunk(b"0123456789")
    framer.refuse()
    framer.feed(b"b NOOP\r\n" * 2 + b"6789\r\nc NOOP\r\n")
    assert framer.next_event() == CommandLine(b"c NOOP")
    assert framer.at_rest


TOO_BIG = ("refused", "a", "NO", "TOOBIG")


@pytest.mark.parametrize(("verb", "limit"), [(b"LOGIN", SMALL.literal), (b"APPEND x", SMALL.message)])
def test_literals_at_the_limit_and_past_it(verb: bytes, limit: int) -> None:
    # RFC 7888 §4
    taken = drive([b"a %b {%d+}\r\n%b\r\n" % (verb, limit, b"x" * limit)])
    assert isinstance(taken[-1], CommandLine | CommandEnd)
    assert drive([b"a %b {%d}\r\nb NOOP\r\n" % (verb, limit + 1)]) == [TOO_BIG, CommandLine(b"b NOOP")]
    skipped = b"a %b {%d+}\r\n%b\r\nb NOOP\r\n" % (verb, limit + 1, b"\n" * (limit + 1))
    assert drive([skipped]) == [TOO_BIG, CommandLine(b"b NOOP")]
    at_most = SMALL.discard
    assert drive([b"a %b {%d+}\r\n%b" % (verb, at_most, b"x" * (at_most - 1))]) == []
    (fatal,) = drive([b"a %b {%d+}\r\nb NOOP\r\n" % (verb, at_most + 1)])
    assert isinstance(fatal, Fatal)
    assert fatal.code == "TOOBIG"


def test_lines_at_the_limit_and_past_it() -> None:
    line = b"a " + b"x" * (SMALL.line - 4)
    assert drive([line + b"\r\n"]) == [CommandLine(line)]
    assert drive([line + b"y\r\nb NOOP\r\n"]) == [("refused", "a", "BAD", None), CommandLine(b"b NOOP")]
    assert drive([b"x" * (SMALL.line + 1) + b"\n"]) == [("refused", "*", "BAD", None)]
    (fatal,) = drive([b"a " + b"x" * (SMALL.discard - 1)])
    assert isinstance(fatal, Fatal)
    assert fatal.code is None


def test_a_long_line_that_ends_in_a_literal() -> None:
    long = b"a " + b"x" * 40
    assert drive([long + b"{3+}\r\n\r\n\n\r\nb\r\n"]) == [("refused", "a", "BAD", None), CommandLine(b"b")]
    assert drive([long + b"{3}\r\nb\r\n"]) == [("refused", "a", "BAD", None), CommandLine(b"b")]


def test_a_command_of_many_literals_is_bounded() -> None:
    part = b"{9+}\r\n123456789"
    assert drive([b"a X " + part * 3 + b"\r\n"]) == [CommandLine(b"a X " + part * 3)]
    assert drive([b"a X " + part * 4 + b"\r\nb\r\n"]) == [TOO_BIG, CommandLine(b"b")]
    longer = b"a X " + part * 3 + b"123456789\r\nc\r\nb\r\n"
    assert drive([longer]) == [CommandLine(longer[:-8]), CommandLine(b"c"), CommandLine(b"b")]
    longer = b"a X " + part * 3 + b"1234567890\r\nb\r\n"
    assert drive([longer]) == [("refused", "a", "BAD", None), CommandLine(b"b")]


def test_an_expected_line_is_no_command() -> None:
    framer = Framer(SMALL)
    framer.feed(b"a IDLE\r\nDONE {5}\r\nb\0")
    assert framer.next_event() == CommandLine(b"a IDLE")
    framer.expect_line()
    assert framer.next_event() == Line(b"DONE {5}")
    framer.expect_line()
    assert framer.next_event() is None
    framer.feed(b"\nc NOOP\r\n")
    refused = framer.next_event()
    assert isinstance(refused, Refusal)
    assert framer.next_event() == CommandLine(b"c NOOP")
    framer.expect_line()
    framer.feed(b"x" * 41 + b"{9+}\r\nd\r\n")
    refused = framer.next_event()
    assert isinstance(refused, Refusal)
    assert refused.error.tag == "*"
    assert framer.next_event() == CommandLine(b"d")


def test_forget_begins_again() -> None:
    framer = Framer(SMALL)
    framer.feed(b"a STARTTLS\r\nb NOOP\r\nc LOGIN {3}\r\n")
    assert framer.next_event() == CommandLine(b"a STARTTLS")
    framer.forget()
    assert framer.at_rest
    assert framer.next_event() is None
    framer.feed(b"d NOOP\r\n")
    assert framer.next_event() == CommandLine(b"d NOOP")


def test_one_octet_at_a_time_is_linear() -> None:
    limits = WireLimits(line=300_000, literal=300_000, command=700_000, message=300_000)
    octets = b"a " + b"x" * 250_000 + b" {100000+}\r\n" + b"\n" * 100_000 + b"\r\n"
    framer = Framer(limits)
    began = time.process_time()
    for at in range(len(octets)):
        framer.feed(octets[at : at + 1])
        event = framer.next_event()
    assert time.process_time() - began < 10
    assert event == CommandLine(octets[:-2])


def test_many_commands_in_one_piece_are_linear() -> None:
    began = time.process_time()
    assert len(drive([b"a NOOP\r\n" * 100_000], WIDE)) == 100_000
    assert time.process_time() - began < 10
