"""BINARY (RFC 3516, RFC 9051 §6.4.5): the decoded octets, their size, windows of them, large or small."""

from __future__ import annotations

import base64
import quopri
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imap.commands import binary
from imap.session import House
from imap.wire.forms import Binary, BinarySize
from mail.ingestform import describe
from storage.model import INLINE_MAX, Entry, Row
from tests.imap.conftest import Deliver
from tests.imap.fakes import Client

SHOWN = re.compile(rb"(~?)\{(\d+)\}\r\n")
LARGE = bytes(range(256)) * (INLINE_MAX // 256 + 7)
LINES = b"one\r\ntwo\nthree" * (INLINE_MAX // 10)


def message(*parts: tuple[bytes, bytes, bytes]) -> bytes:
    """A multipart of leaves: content type, transfer encoding, encoded body."""
    bodies = b"".join(
        b"--b\r\nContent-Type: %b\r\nContent-Transfer-Encoding: %b\r\n\r\n%b\r\n" % part for part in parts
    )
    return (
        b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + bodies + b"--b--\r\n"
    )


def crlf(raw: bytes) -> bytes:
    return re.sub(rb"(?<!\r)\n", b"\r\n", raw)


def shown(said: bytes) -> tuple[bool, bytes]:
    """Whether it is a literal8, and the octets."""
    head = SHOWN.search(said)
    assert head is not None, said[:200]
    return bool(head[1]), said[head.end() : head.end() + int(head[2])]


async def fetched(client: Client, item: str) -> tuple[bool, bytes]:
    await client.run(f"f FETCH 1 {item}")
    said = bytes(client.out.sent)
    client.out.sent.clear()
    assert said.endswith(b")\r\nf OK Fetched\r\n"), said[-200:]
    return shown(said)


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
async def test_decoded_octets(any_house: House, deliver: Deliver, large: bool) -> None:
    client = await Client(any_house).signed_in()
    octets, lines = (LARGE, LINES) if large else (LARGE[:600], LINES[:600])
    raw = message(
        (b"application/octet-stream", b"base64", base64.encodebytes(octets)),
        (b"text/plain", b"base64", base64.encodebytes(lines)),
        (b"text/plain", b"quoted-printable", quopri.encodestring(b"caf\xc3\xa9 =\n" * 200)),
        (b"application/x", b"8bit", b"a\nb\r\n\xff"),
    )
    await deliver("alice", raw, b"Return-Path: <>\r\n")
    await client("s SELECT INBOX")
    expected = [octets, crlf(lines), crlf(b"caf\xc3\xa9 =\n" * 200), b"a\nb\r\n\xff"]
    for number, part in enumerate(expected, 1):
        has_nul, got = await fetched(client, f"BINARY.PEEK[{number}]")
        assert got == part
        assert has_nul == (b"\0" in part)
        assert f"BINARY.SIZE[{number}] {len(part)})" in await client(f"f FETCH 1 BINARY.SIZE[{number}]")
        for first, count in ((0, 7), (1, len(part)), (len(part) - 2, 1), (len(part) + 5, 9)):
            has_nul, got = await fetched(client, f"BINARY.PEEK[{number}]<{first}.{count}>")
            assert got == part[first : first + count]
            # of what is sent, not of the whole part
            assert has_nul == (b"\0" in got)
    _, whole = await fetched(client, "BINARY.PEEK[]")
    assert whole == b"Return-Path: <>\r\n" + raw
    assert f"BINARY.SIZE[] {len(whole)})" in await client("f FETCH 1 BINARY.SIZE[]")


async def test_one_line_for_all_items(any_house: House, deliver: Deliver) -> None:
    client = await Client(any_house).signed_in()
    await deliver(
        "alice", message((b"image/png", b"base64", base64.encodebytes(LARGE)), (b"text/plain", b"7bit", b"hi"))
    )
    await client("s SELECT INBOX")
    await client.run("f FETCH 1 (UID BINARY[2] BINARY.SIZE[1] BINARY[1] FLAGS)")
    said = bytes(client.out.sent)
    size = len(LARGE)
    assert said.startswith(b"* 1 FETCH (UID 1 BINARY[2] {2}\r\nhi BINARY.SIZE[1] %d BINARY[1] ~{%d}\r\n" % (size, size))
    assert said.count(LARGE) == 1
    # RFC 3516 §4.2: it sets \Seen
    assert said.endswith(b" FLAGS (\\Seen \\Recent))\r\nf OK Fetched\r\n")
    assert client.out.largest_write < 2 * INLINE_MAX


@pytest.mark.parametrize("filler", [b"", b"x" * (INLINE_MAX + 1)], ids=["small", "large"])
async def test_an_unknown_encoding_fails_the_request(any_house: House, deliver: Deliver, filler: bytes) -> None:
    client = await Client(any_house).signed_in()
    odd = message((b"text/plain", b"7bit", b"hi"), (b"x/y", b"x-uue", filler))
    for raw in (odd, message((b"text/plain", b"7bit", b"hi"), (b"x/y", b"binary", b"z"))):
        await deliver("alice", raw)
    await client("s SELECT INBOX")
    said = await client("f FETCH 1:2 (BINARY.PEEK[1] BINARY.PEEK[2])")
    # RFC 3516 §4.3: no half of an answer for the one, all of it for the other
    assert said.startswith("* 2 FETCH (BINARY[1] {2}\nhi BINARY[2] {1}\nz)\nf NO [UNKNOWN-CTE] ")
    assert (await client("f FETCH 1 (UID BINARY.SIZE[1])")).startswith("* 1 FETCH (UID 1 BINARY.SIZE[1] 2)\nf OK")
    # of what was not told nothing has been read, and of the rest all that was
    said = await client("f FETCH 1:2 BINARY[2]")
    assert said.startswith("* 2 FETCH (BINARY[2] {1}\nz FLAGS (\\Seen \\Recent))\nf NO [UNKNOWN-CTE] ")
    assert await client("n NOOP") == "n OK Done\n"
    assert await client("s SEARCH UNSEEN") == "* SEARCH 1\ns OK Searched\n"


BODIES = st.tuples(
    st.sampled_from([b"text/plain", b"image/png", b"nonsense", b"message/rfc822", b"multipart/mixed; boundary=c"]),
    st.sampled_from([b"7bit", b"base64", b"quoted-printable", b"binary", b"BASE64", b""]),
    st.binary(max_size=60).map(lambda raw: raw.replace(b"\0", b"=")),
)


@given(
    st.lists(BODIES, min_size=1, max_size=3),
    st.lists(st.integers(1, 3), max_size=2),
    st.integers(0, 70),
    st.integers(1, 70),
)
def test_size_and_window_are_of_the_same_octets(
    bodies: list[tuple[bytes, bytes, bytes]], path: list[int], first: int, count: int
) -> None:
    raw = message(*bodies)
    made = describe(raw)
    entry = Entry(1, 1, 0, (), "e", 0, 0)
    row = Row(entry, len(raw), b"", None, None, None, made.parts, None, None, None, raw)
    whole = binary.at_hand(Binary(True, tuple(path), None, b"B"), row)
    size = binary.at_hand(BinarySize(tuple(path), b"S"), row)
    window = binary.at_hand(Binary(True, tuple(path), (first, count), b"B"), row)
    assert isinstance(whole, bytes)
    assert isinstance(size, bytes)
    assert isinstance(window, bytes)
    if whole == b"B NIL":
        assert (size, window) == (b"S 0", b"B NIL")
        return
    assert size == b"S %d" % len(shown(whole)[1])
    assert shown(window)[1] == shown(whole)[1][first : first + count]
