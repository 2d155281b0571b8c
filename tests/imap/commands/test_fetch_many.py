"""FETCH of very many sections of one message: the same answer as one after the other, and never much of it at once."""

from __future__ import annotations

import base64

from imap.commands.fetch import WRITE
from imap.commands.fetchplan import MANY
from storage.model import INLINE_MAX
from tests.imap.fakes import Client

BODY = b"0123456789abcdef" * 8_000
HEADER = b"Subject: x\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: %b\r\n\r\n"
MESSAGE = HEADER % b"base64" + base64.encodebytes(BODY).replace(b"\n", b"\r\n")
STRANGE = HEADER % b"x-own" + b"y\r\n"
HEADER_LIMIT = 8_192
"""Octets that a line has beside its sections."""


def asked(*items: str) -> str:
    """Each of them, all different, often enough."""
    return " ".join(item % at for at in range(MANY) for item in items)


async def test_many_sections_are_written_bit_by_bit(alice: Client) -> None:
    assert len(MESSAGE) < INLINE_MAX
    await alice("x APPEND INBOX", MESSAGE)
    await alice("x APPEND INBOX", MESSAGE)
    await alice("x SELECT INBOX")
    items = asked("BODY.PEEK[]<%d.99999>", "BINARY.PEEK[1]<%d.99999>", "BODY.PEEK[HEADER.FIELDS (Subject)]<%d.5>")
    alice.out.largest_write = 0
    await alice.run(f"x FETCH 1:2 (UID {items} BINARY.SIZE[1] FLAGS)")
    said = bytes(alice.out.sent)
    # one section at most beyond what is gathered anyhow
    assert alice.out.largest_write < WRITE + len(BODY) + HEADER_LIMIT
    lines = b""
    for number in (1, 2):
        lines += b"* %d FETCH (UID %d " % (number, number)
        for at in range(MANY):
            for label, octets in (
                (b"BODY[]", MESSAGE[at : at + 99_999]),
                (b"BINARY[1]", BODY[at : at + 99_999]),
                (b"BODY[HEADER.FIELDS (Subject)]", b"Subject: x\r\n\r\n"[at : at + 5]),
            ):
                lines += b"%b<%d> {%d}\r\n%b " % (label, at, len(octets), octets)
        lines += b"BINARY.SIZE[1] %d FLAGS (\\Recent))\r\n" % len(BODY)
    assert said == lines + b"x OK Fetched\r\n"


async def test_an_unknown_encoding_among_many_sections_leaves_no_line_half_written(alice: Client) -> None:
    await alice("x APPEND INBOX", STRANGE)
    await alice("x APPEND INBOX", MESSAGE)
    await alice("x SELECT INBOX")
    items = asked("BODY.PEEK[]<%d.9>", "BINARY.PEEK[1]<%d.9>")
    said = await alice(f"x FETCH 1:2 ({items})")
    assert said.startswith("* 2 FETCH (BODY[]<0> {9}\n")
    assert "x NO [UNKNOWN-CTE] " in said
    assert "y OK" in await alice("y NOOP")
