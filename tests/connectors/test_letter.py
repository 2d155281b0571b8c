"""Messages that are made: what another parser reads out of them is what went in."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import letter, recipients
from connectors.exceptions import MessageError
from connectors.letter import Attachment
from mail import addresslist, headers, params, structure, text, words

ALICE = recipients.one("alice@test.example", "sender")
BOB = recipients.several("bob@test.example")
TEXT = st.text(alphabet=st.characters(exclude_categories=("Cs",), exclude_characters="\r\x00"), max_size=300)


@given(subject=st.text(max_size=200), body=TEXT, html=st.none() | TEXT, name=TEXT, data=st.binary(max_size=300))
def test_comes_back(subject: str, body: str, html: str | None, name: str, data: bytes) -> None:
    files = [Attachment(name, "application/x-thing", data)]
    raw = letter.write(ALICE, BOB, subject, text=body, html=html, attachments=files).raw
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert b"\r" not in raw.replace(b"\r\n", b"")
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert raw.isascii()
    tree = structure.parse(raw)
    assert tree.fields is not None
    names = [name for name, _ in headers.lines(raw)]
    assert names == [b"FROM", b"TO", b"SUBJECT", b"DATE", b"MESSAGE-ID", b"MIME-VERSION", b"CONTENT-TYPE"]
    tidy = letter._tidy(subject)
    assert words.decode(tree.fields.first(b"SUBJECT") or b"").split() == tidy.split()
    first, file = tree.children
    texts = list(first.children) if html is not None else [first]
    for part, wanted in zip(texts, [body, html], strict=False):
        got = "".join(text.leaf_text(raw, part)).replace("\r\n", "\n")
        assert got in (wanted, f"{wanted}\n")
    assert b"".join(text.transfer_decode(raw, file.body_start, file.body_end, 4)) == data
    shown = params.decoded(file.disposition_params)["filename"]
    assert shown == (letter._tidy(name)[:255] or "attachment")


@given(name=st.text(max_size=80), local=st.from_regex(r"[a-z]{1,20}", fullmatch=True))
def test_names_come_back(name: str, local: str) -> None:
    try:
        person = recipients.one(
            '"' + name.replace("\\", "\\\\").replace('"', '\\"') + f'" <{local}@b.example>', "sender"
        )
    except MessageError:
        return
    raw = letter.write(ALICE, [person], "s", text="t").raw
    (entry,) = addresslist.parse(headers.parse(raw).first(b"TO") or b"")
    assert (entry.mailbox, entry.host, entry.valid) == (local.encode(), b"b.example", True)
    assert words.line(entry.name or b"") == person.name


def test_text_of_html() -> None:
    html = "<style>x</style><h1>Title</h1><p>one&nbsp;two<br>three</p>\n\n<ul><li>a</li><li>b &amp; c</li></ul>"
    assert letter.text_of(html) == "Title\none two\nthree\n\na\nb & c"


def test_limits() -> None:
    with pytest.raises(MessageError, match="subject is longer"):
        letter.write(ALICE, BOB, "x" * (letter.MAX_SUBJECT_CHARS + 1), text="t")
    letter.write(ALICE, BOB, "x" * letter.MAX_SUBJECT_CHARS, text="t")
    with pytest.raises(MessageError, match="text is longer"):
        letter.write(ALICE, BOB, "s", text="x" * (letter.MAX_TEXT_CHARS + 1))
    with pytest.raises(MessageError, match="have to be text"):
        letter.write(ALICE, BOB, None, text="t")  # type: ignore[arg-type]
    many = [Attachment("x", "a/b", b"")] * letter.MAX_ATTACHMENTS
    assert len(letter.read_files(many, 0)) == letter.MAX_ATTACHMENTS
    with pytest.raises(MessageError, match="at most 100 attachments"):
        letter.read_files([*many, many[0]], 0)


def test_a_file_at_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"x" * 1000)
    assert letter.read_files([path], 1000)[0].data == b"x" * 1000
    with pytest.raises(MessageError, match=r"'.*x.bin' has 1000"):
        letter.read_files([path], 999)
