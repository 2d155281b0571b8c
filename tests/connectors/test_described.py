"""BODYSTRUCTURE and file names from strangers: any of them gives leaves, and no name leads out of a folder."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imapclient.response_parser import parse_fetch_response

from connectors import described
from mail import imapform, structure


def leaves_of(raw: bytes) -> list[described.Leaf]:
    body = imapform.structures(structure.parse(raw)).bodystructure
    row = parse_fetch_response([b"1 (UID 5 BODYSTRUCTURE " + body + b")"])[5]
    return described.leaves(row[b"BODYSTRUCTURE"])


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a.pdf", "a.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\x.exe", "x.exe"),
        (".bashrc", "bashrc"),
        ("..", ""),
        ("a\r\nb\0.txt", "ab.txt"),
        ("x" * 300 + ".pdf", "x" * 251 + ".pdf"),
        ("evil\u202efdp.exe", "evilfdp.exe"),
    ],
)
def test_safe_names(name: str, wanted: str) -> None:
    assert described.safe_name(name) == wanted


@given(st.text(max_size=400))
def test_any_name_is_one_name(name: str) -> None:
    safe = described.safe_name(name)
    assert "/" not in safe
    assert "\\" not in safe
    assert not safe.startswith(".")
    assert len(safe) <= 255


def test_kinds() -> None:
    raw = (
        b"Content-Type: multipart/mixed; boundary=m\r\n\r\n"
        b"--m\r\nContent-Type: multipart/related; boundary=r\r\n\r\n"
        b"--r\r\nContent-Type: text/html\r\n\r\n<img src=cid:1>\r\n"
        b"--r\r\nContent-Type: image/png\r\nContent-ID: <1>\r\nContent-Transfer-Encoding: base64\r\n"
        b"\r\nAAAA\r\n--r--\r\n"
        b"--m\r\nContent-Type: text/plain; name*0*=utf-8''%C3%A4; name*1=b.txt\r\n\r\nfile\r\n"
        b"--m\r\nContent-Type: text/plain\r\n\r\ntext\r\n"
        b"--m\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nx\r\n"
        b"--m\r\nContent-Type: application/zip\r\n\r\nz\r\n"
        b"--m\r\nContent-Type: text/plain\r\n\r\nfooter\r\n--m--\r\n"
    )
    assert [(one.section, one.kind, one.filename) for one in leaves_of(raw)] == [
        ("1.1", "html", "part-1.1.html"),
        ("1.2", "inline", "part-1.2.png"),
        ("2", "attachment", "äb.txt"),
        ("3", "plain", "part-3.txt"),
        ("4", "attachment", "part-4.eml"),
        ("5", "attachment", "part-5.zip"),
        ("6", "more", "part-6.txt"),
    ]


@pytest.mark.parametrize("known", [True, False])
def test_an_international_message_is_a_file_by_its_name(known: bool) -> None:
    """Whether the server knows message/global as a message, with envelope, body and lines, or not."""
    text = (b"text", b"plain", None, None, None, b"7BIT", 2, 1)
    head = (b"message", b"global", None, None, None, b"8BIT", 78)
    enclosed = ((None,) * 10, text, 4) if known else ()
    (leaf,) = described.leaves((*head, *enclosed, None, (b"ATTACHMENT", (b"FILENAME", b"x.eml")), None))
    assert (leaf.content_type, leaf.filename, leaf.kind) == ("message/global", "x.eml", "attachment")


def test_pieces_that_a_server_left_to_us() -> None:
    body = (b"application", b"pdf", (b"name*0*", b"utf-8''%C3%A4", b"name*1", b' "b".pdf'), None, None, b"BASE64", 78)
    (leaf,) = described.leaves((*body, None, (b"ATTACHMENT", None), None))
    assert leaf.filename == 'ä "b".pdf'
    assert described.decoded_size(leaf) == 57


WORDS = st.none() | st.integers(0, 9) | st.binary(max_size=8)
TREES: Any = st.recursive(WORDS, lambda inner: st.lists(inner, max_size=9).map(tuple), max_leaves=30)


@given(TREES | st.tuples(st.lists(TREES, max_size=4), WORDS))
def test_any_structure_gives_leaves(body: Any) -> None:
    assert isinstance(described.leaves(body), list)


@given(st.binary(max_size=400), st.binary(max_size=400))
def test_any_message_gives_a_dict(header: bytes, body: bytes) -> None:
    raw = header + b"\r\n\r\n" + body
    found = leaves_of(raw)
    texts = {leaf.section: body for leaf in found if leaf.kind in ("plain", "html")}
    row = {b"BODY[HEADER]": header, b"FLAGS": (b"\\Seen",), b"RFC822.SIZE": len(raw)}
    message = described.message(1, row, found, texts, text_max=100, gmail=False)
    assert isinstance(message["body"], str)
    assert isinstance(message["subject"], str)
    assert not message["unread"]
