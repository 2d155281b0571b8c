"""ENVELOPE and BODYSTRUCTURE of every message of the corpus beside Dovecot's for the same bytes."""

from __future__ import annotations

import imaplib
import socket
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.corpus.make import messages
from tests.interop.dovecot import dovecot
from tests.live import PASSWORD, Live

pytestmark = pytest.mark.interop

CORPUS = messages()

BROKEN_TYPE = """The Content-Type cannot be read: ours is text/plain (RFC 2045 §5.2), or application/octet-stream where
it began with multipart/; Dovecot gives an empty type."""
DOUBLE_SEMICOLON = "After an empty parameter (;;) we still read the charset that follows; Dovecot does not."
CUT_HEADER = """A boundary cuts an inner message's header short: Dovecot counts the CRLF before the boundary in the
outer part; to us it belongs to the boundary (RFC 2046 §5.1.1)."""
GLOBAL = "message/global is a message (RFC 9051 §7.5.2), with envelope and structure; Dovecot 2.3 is of IMAP4rev1."
BROKEN_ADDRESS = "ann.(comment)author@x cannot be read by either; both report a broken address, filled in differently."

EXPLAINED: dict[str, str] = {
    **{
        f"BODYSTRUCTURE {name}": BROKEN_TYPE
        for name in (
            *(f"type-{n}" for n in (2, 3, 4, 5, 6, 14, 40, 47)),
            *(f"type-part-{n}" for n in (2, 3, 4, 5, 6, 14, 40, 47)),
            *(f"random-{n}" for n in (34, 54, 61, 64)),
        )
    },
    "BODYSTRUCTURE type-15": DOUBLE_SEMICOLON,
    "BODYSTRUCTURE type-part-15": DOUBLE_SEMICOLON,
    "BODYSTRUCTURE type-part-34": CUT_HEADER,
    "BODYSTRUCTURE structure-message-header-cut": CUT_HEADER,
    "BODYSTRUCTURE structure-message-base64": CUT_HEADER,
    "BODYSTRUCTURE type-38": GLOBAL,
    "BODYSTRUCTURE type-part-38": GLOBAL,
    "ENVELOPE address-from-36": BROKEN_ADDRESS,
    "ENVELOPE address-to-36": BROKEN_ADDRESS,
}
"""Message → why ours differs. An entry that no longer differs fails the test."""
FROM_CPYTHON = {"BODYSTRUCTURE cpython-msg_14": BROKEN_TYPE}
"""The same for messages that come with Python's own tests, where these are installed."""


def flat(row: bytes | tuple[bytes, ...]) -> bytes:
    """A FETCH row with its literals put back into one line, quoted strings and literals made alike."""
    return b"".join(row) if isinstance(row, tuple) else row


def tokens(text: bytes) -> list[object]:
    """The parenthesised form as nested lists of bytes (strings) and atoms, so that spelling does not count."""
    out: list[list[object]] = [[]]
    i, n = 0, len(text)
    while i < n:
        c = text[i : i + 1]
        if c == b"(":
            out.append([])
            i += 1
        elif c == b")":
            done = out.pop()
            out[-1].append(done)
            i += 1
        elif c == b'"':
            j, value = i + 1, bytearray()
            while text[j : j + 1] != b'"':
                if text[j : j + 1] == b"\\":
                    j += 1
                value += text[j : j + 1]
                j += 1
            out[-1].append(("s", bytes(value)))
            i = j + 1
        elif c == b"{":
            j = text.index(b"}", i)
            size = int(text[i + 1 : j].rstrip(b"+"))
            start = j + 3 if text[j + 1 : j + 3] == b"\r\n" else j + 1
            out[-1].append(("s", text[start : start + size]))
            i = start + size
        elif c in b" \r\n":
            i += 1
        else:
            j = i
            while j < n and text[j : j + 1] not in (b" ", b"(", b")", b"\r"):
                j += 1
            out[-1].append(text[i:j])
            i = j
    assert len(out) == 1, text
    return out[0]


def forms(imap: imaplib.IMAP4, item: str) -> dict[str, list[object]]:
    out = {}
    for number, (name, _) in enumerate(CORPUS, 1):
        _, rows = imap.fetch(str(number), f"({item})")
        text = b"\r\n".join(flat(row) if not isinstance(row, tuple) else b"\r\n".join(row) for row in rows if row)
        start = text.index(b"(")
        out[name] = tokens(text[start:])
    return out


def fill(imap: imaplib.IMAP4, user: str, password: str) -> imaplib.IMAP4:
    # imaplib ends a literal with a packet of two octets, which else waits 40 ms for the literal's acknowledgement.
    imap.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    imap.login(user, password)
    imap.create("Forms")
    for _, raw in CORPUS:
        imap.literal = raw
        word, told = imap._simple_command("APPEND", "Forms")
        assert word == "OK", told
    imap.select("Forms", readonly=True)
    return imap


def lower(form: object) -> object:
    """Types, subtypes, parameter names and encodings are case-insensitive (RFC 2045 §5.1)."""
    if isinstance(form, list):
        return [lower(x) for x in form]
    if isinstance(form, tuple):
        return form[1].lower()
    return form.lower() if isinstance(form, bytes) else form


def test_forms_equal_dovecots(program: Callable[[str], str], live: Live) -> None:
    differences: dict[str, tuple[object, object]] = {}
    with TemporaryDirectory() as folder, dovecot(program("dovecot"), program("doveadm"), Path(folder) / "d") as port:
        ours = fill(imaplib.IMAP4(live.host, live.ports["IMAP"]), "alice", PASSWORD)
        theirs = fill(imaplib.IMAP4("127.0.0.1", port), "alice", PASSWORD.replace(" ", "_"))
        for item in ("ENVELOPE", "BODYSTRUCTURE"):
            a, b = forms(ours, item), forms(theirs, item)
            for name, _ in CORPUS:
                if lower(a[name]) != lower(b[name]):
                    differences[f"{item} {name}"] = (a[name], b[name])
        ours.logout()
        theirs.logout()
    unexplained = {k: v for k, v in differences.items() if k not in EXPLAINED | FROM_CPYTHON}
    for name, (mine, other) in list(unexplained.items())[:20]:
        print(f"{name}\n  ours   {mine}\n  theirs {other}")
    assert not unexplained, f"{len(unexplained)} of {2 * len(CORPUS)} forms differ: {sorted(unexplained)[:40]}"
    assert set(EXPLAINED) <= set(differences), "explained, but equal"
