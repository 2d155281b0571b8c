"""Reading what remote servers answer."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp.outbound.replies import LINE_MAX, LINES_MAX, REPLY_MAX, BadReply, Reply, ReplyReader, clean
from smtp.outbound.transport import TEXT_MAX, Status

WORDS = st.binary(max_size=60).map(lambda octets: octets.replace(b"\n", b"").replace(b"\r", b""))
REPLIES = st.lists(st.tuples(st.integers(200, 599), st.lists(WORDS, min_size=1, max_size=5)), max_size=5)


def wire(code: int, lines: list[bytes]) -> bytes:
    return b"".join(
        b"%d%s%s\r\n" % (code, b" " if place == len(lines) - 1 else b"-", line) for place, line in enumerate(lines)
    )


@given(REPLIES, st.lists(st.integers(0, 2000), max_size=12))
def test_replies_are_the_same_however_they_are_cut(replies: list[tuple[int, list[bytes]]], cuts: list[int]) -> None:
    octets = b"".join(wire(*reply) for reply in replies)
    reader = ReplyReader()
    places = [0, *sorted(cut for cut in cuts if cut < len(octets)), len(octets)]
    found = [reply for start, end in pairwise(places) for reply in reader.feed(octets[start:end])]
    assert [(reply.code, list(reply.lines)) for reply in found] == replies
    assert not reader


@given(st.binary(max_size=400))
def test_anything_is_read_or_refused(octets: bytes) -> None:
    reader = ReplyReader()
    try:
        replies = reader.feed(octets)
    except BadReply as error:
        replies = [Reply(500, (str(error).encode(),))]
    for reply in replies:
        assert 200 <= reply.code <= 599
        assert reply.text.isprintable()
        assert reply.enhanced[0] in "245"


@given(st.text(max_size=3 * TEXT_MAX))
def test_clean_text_is_printable_and_short(text: str) -> None:
    cleaned = clean(text)
    assert cleaned.isprintable()
    assert len(cleaned) <= TEXT_MAX
    assert clean(cleaned) == cleaned


@pytest.mark.parametrize(
    "octets",
    [b"\r\n", b"25\r\n", b"100 x\r\n", b"600 x\r\n", b"250x\r\n", b"HTTP/1.1\r\n", b"2 5\r\n", b"+25\r\n", b"\xff\r\n"],
)  # fmt: skip
def test_what_is_no_reply(octets: bytes) -> None:
    with pytest.raises(BadReply):
        ReplyReader().feed(octets)


@pytest.mark.parametrize(
    "octets",
    [b"2" * (LINE_MAX + 1), b"250-x\r\n" * (LINES_MAX + 1), b"250-" + b"x" * 4000 + b"\r\n"],
)
def test_what_has_no_end(octets: bytes) -> None:
    reader = ReplyReader()

    def feed() -> None:
        for _ in range(1 + REPLY_MAX // len(octets)):
            reader.feed(octets)

    with pytest.raises(BadReply, match="no end"):
        feed()


def test_lf_alone_and_codes_alone_are_read() -> None:
    assert ReplyReader().feed(b"250\n354\r\n") == [Reply(250, (b"",)), Reply(354, (b"",))]


@pytest.mark.parametrize(
    ("octets", "status", "enhanced", "text"),
    [
        (b"250 2.1.5 Ok\r\n", Status.SENT, "2.1.5", "2.1.5 Ok"),
        (b"250 Ok\r\n", Status.SENT, "2.0.0", "Ok"),
        (b"550 4.1.1 Odd\r\n", Status.FAILED, "5.0.0", "4.1.1 Odd"),
        (b"550 Nobody\r\n", Status.FAILED, "5.0.0", "Nobody"),
        (b"421 Busy\r\n", Status.DEFERRED, "4.3.2", "Busy"),
        (b"450 4.7.1\r\n", Status.DEFERRED, "4.7.1", "4.7.1"),
        (b"556 No mail\r\n", Status.FAILED, "5.1.10", "No mail"),
        (b"550 5.7.1000 x\r\n", Status.FAILED, "5.0.0", "5.7.1000 x"),
        (b"550-5.7.1 one\r\n550-5.7.1  two\r\n550 5.7.1 three\r\n", Status.FAILED, "5.7.1", "5.7.1 one two three"),
    ],
)
def test_what_a_reply_means(octets: bytes, status: Status, enhanced: str, text: str) -> None:
    (reply,) = ReplyReader().feed(octets)
    assert (reply.status, reply.enhanced, reply.text) == (status, enhanced, text)
