"""FETCH against plain slicing: prefix and blob, partials, large messages in slices, lines beyond the kept ones."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imap.commands.sections import Place
from imap.session import House
from storage.model import INLINE_MAX
from storage.port import Unavailable
from tests.imap.fakes import Client, FakeStorage

PREFIX = b"Return-Path: <q@x.example>\r\nDelivered-To: alice@example.org\r\n"
HEADER = b"From: a@x.example\r\nSubject: big\r\nX-Odd: y\r\n\r\n"
BIG = HEADER + b"0123456789abcdef\r\n" * 40_000
SMALL = HEADER + b"hello\r\n"


async def fetch(client: Client, line: str) -> bytes:
    """What is answered, as octets."""
    await client.run(line)
    answer = bytes(client.out.sent)
    client.out.sent.clear()
    return answer


@pytest.mark.parametrize("blob", [SMALL, BIG], ids=["small", "big"])
@pytest.mark.parametrize("prefix", [b"", PREFIX], ids=["plain", "prefixed"])
async def test_every_section_is_the_octets_that_came_in(
    any_house: House, deliver: Any, blob: bytes, prefix: bytes
) -> None:
    client = await Client(any_house).signed_in()
    await deliver("alice", blob, prefix)
    await client("x SELECT INBOX")
    whole = prefix + blob
    assert f"RFC822.SIZE {len(whole)})" in await client("x FETCH 1 RFC822.SIZE")
    wanted = {
        "BODY[]": whole,
        "RFC822": whole,
        "BODY[HEADER]": prefix + HEADER,
        "RFC822.HEADER": prefix + HEADER,
        "BODY[TEXT]": blob[len(HEADER) :],
        "BODY[1]": blob[len(HEADER) :],
        "BODY[HEADER.FIELDS (Return-Path X-Odd)]": prefix[: len(prefix) and 28] + b"X-Odd: y\r\n\r\n",
        "BODY[HEADER.FIELDS (Subject)]": b"Subject: big\r\n\r\n",
        "BODY[HEADER.FIELDS.NOT (Subject From Delivered-To Return-Path)]": b"X-Odd: y\r\n\r\n",
    }
    for label, octets in wanted.items():
        answer = await fetch(client, f"x FETCH 1 {label}")
        opening = b"* 1 FETCH (%b {%d}\r\n" % (label.encode(), len(octets))
        assert answer.startswith(opening + octets), (label, answer[:200])
        assert answer.endswith((b")\r\nx OK Fetched\r\n",))
    for first, count in [(0, 10), (5, 100), (len(prefix), 3), (len(prefix) - 1 if prefix else 0, 3), (len(whole), 9)]:
        answer = await fetch(client, f"x FETCH 1 BODY.PEEK[]<{first}.{count}>")
        part = whole[first : first + count]
        assert answer == b"* 1 FETCH (BODY[]<%d> {%d}\r\n%b)\r\nx OK Fetched\r\n" % (first, len(part), part)
    answer = await fetch(client, f"x FETCH 1 (BODY.PEEK[TEXT]<{INLINE_MAX - 5}.10> UID BODY.PEEK[TEXT]<0.3>)")
    part = blob[len(HEADER) :][INLINE_MAX - 5 : INLINE_MAX + 5]
    expected = (len(part), part, blob[len(HEADER) :][:3])
    assert (
        answer
        == b"* 1 FETCH (BODY[TEXT]<262139> {%d}\r\n%b UID 1 BODY[TEXT]<0> {3}\r\n%b)\r\nx OK Fetched\r\n" % expected
    )


async def test_a_large_body_is_written_in_slices(house: House, storage: FakeStorage) -> None:
    client = await Client(house).signed_in()
    storage.deliver("alice", BIG)
    await client("x SELECT INBOX")
    drains = client.out.drains
    client.out.largest_write = 0
    await client("x FETCH 1 BODY.PEEK[]")
    assert client.out.largest_write <= INLINE_MAX
    assert client.out.drains - drains >= len(BIG) // INLINE_MAX


async def test_an_error_within_a_literal_ends_the_connection(house: House, storage: FakeStorage) -> None:
    client = await Client(house).signed_in()
    storage.deliver("alice", BIG)
    await client("x SELECT INBOX")

    def fail() -> None:
        raise Unavailable("disk")

    storage.before["read"] = fail
    answer = await client("x FETCH 1 BODY.PEEK[]")
    assert "x NO" not in answer
    assert client.out.is_closed


async def test_more_usual_lines_than_are_kept(any_house: House, deliver: Any) -> None:
    client = await Client(any_house).signed_in()
    many = b"".join(b"To: user%d@x.example\r\n" % n for n in range(2000))
    for body in (b"\r\nx\r\n", b"\r\n" + b"x" * 300_000 + b"\r\n"):
        await deliver("alice", b"Subject: many\r\n" + many + body, PREFIX)
    await client("x SELECT INBOX")
    for n in (1, 2):
        answer = await fetch(client, f"x FETCH {n} BODY.PEEK[HEADER.FIELDS (Delivered-To Subject)]")
        assert b"{50}\r\nDelivered-To: alice@example.org\r\nSubject: many\r\n\r\n)" in answer


async def test_many_without_usual_lines_are_read_together(
    house: House, storage: FakeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an upgrade: some were described again, some are long, and some are gone when they are read."""
    expected = b""
    client = await Client(house).signed_in()
    for n in range(600):
        header = b"Subject: %d\r\nTo: a\r\n" % n
        storage.deliver("alice", header + b"X-Odd: y\r\n\r\n" + (b"x" * INLINE_MAX if n in (7, 300) else b"x"), PREFIX)
        if n not in (4, 200):
            expected += b"* %d FETCH (UID %d BODY[HEADER.FIELDS (Subject To)] {%d}\r\n%b\r\n)\r\n" % (
                n + 1, n + 1, len(header) + 2, header,
            )  # fmt: skip
    await client("x SELECT INBOX")
    for number, email in enumerate(storage.emails.values()):
        if number % 3:
            email.described = email.described._replace(usual=None)
    box = storage.find("alice", "INBOX")
    whole, asked = storage.columns, list[int]()

    async def columns(*args: Any, **how: Any) -> Any:
        page = await whole(*args, **how)
        asked.append(len(page.uids))
        if len(asked) == 1:
            assert 5 in page.uids
            del box.entries[5], box.entries[201]
        return page

    monkeypatch.setattr(storage, "columns", columns)
    answer = await fetch(client, "x UID FETCH 1:* BODY.PEEK[HEADER.FIELDS (Subject To)]")
    assert answer == expected + b"x OK Fetched\r\n"
    # What is missing of a page comes as one more, each of the two long ones by itself, and what is gone is looked for.
    assert len(asked) <= 2 * -(-600 // max(asked)) + 4


async def test_a_whole_mailbox_comes_in_order(any_house: House, deliver: Any) -> None:
    client = await Client(any_house).signed_in()
    for n in range(25):
        await deliver("alice", b"Subject: %d\r\n\r\n%d\r\n" % (n, n))
    await client("x SELECT INBOX")
    await client("x STORE 3:20 +FLAGS.SILENT (\\Deleted)")
    await client("x UID EXPUNGE 7,9:11")
    answer = await client("x FETCH 1:* (UID BODY[TEXT])")
    uids = [uid for uid in range(1, 26) if uid not in (7, 9, 10, 11)]
    lines = [line for line in answer.splitlines() if line.startswith("* ")]
    assert [line.split()[1] for line in lines] == [str(n) for n in range(1, 22)]
    assert [line.split()[4] for line in lines] == [str(uid) for uid in uids]
    flags = await client("x FETCH 1:* (UID FLAGS)")
    assert [line.split()[4] for line in flags.splitlines()[:-1]] == [str(uid) for uid in uids]
    assert flags.count("\\Seen") == 21
    some = await client("x UID FETCH 1,8:12,24:* FLAGS")
    assert [line.split()[4] for line in some.splitlines()[:-1]] == ["1", "8", "12", "24", "25"]


async def test_large_messages_between_small_ones(any_house: House, deliver: Any) -> None:
    client = await Client(any_house).signed_in()
    blobs = [SMALL, BIG, b"x", SMALL, BIG, BIG, b"Subject: last\r\n\r\n"]
    for blob in (BIG, *blobs):
        await deliver("alice", blob, PREFIX)
    await client("x SELECT INBOX")
    await client("x STORE 1 +FLAGS.SILENT (\\Deleted)")
    await client("x EXPUNGE")
    for asked, label, cut in (("", b"", slice(None)), ("<3.400000>", b"<3>", slice(3, 400_003))):
        expected = b""
        for number, blob in enumerate(blobs, 1):
            octets = (PREFIX + blob)[cut]
            expected += b"* %d FETCH (BODY[]%b {%d}\r\n%b UID %d)\r\n" % (
                number, label, len(octets), octets, number + 1,
            )  # fmt: skip
        assert await fetch(client, f"a FETCH 1:* (BODY.PEEK[]{asked} UID)") == expected + b"a OK Fetched\r\n"


@given(
    st.binary(max_size=20),
    st.integers(0, 20),
    st.integers(0, 20),
    st.tuples(st.integers(0, 50), st.integers(1, 50)) | st.none(),
)
def test_cut_is_slicing(head: bytes, start: int, length: int, partial: tuple[int, int] | None) -> None:
    blob = bytes(range(100))
    whole = head + blob[start : start + length]
    cut = Place(head, start, start + length).cut(partial)
    expected = whole if partial is None else whole[partial[0] : sum(partial)]
    assert cut.head + blob[cut.start : cut.end] == expected
    assert cut.size == len(expected)


@pytest.mark.parametrize("blob", [SMALL, BIG], ids=["small", "big"])
@pytest.mark.parametrize("name", ["X%Y", "%d", "%b", "100%", "%%"])
async def test_a_percent_sign_in_a_field_name(any_house: House, deliver: Any, blob: bytes, name: str) -> None:
    client = await Client(any_house).signed_in()
    await deliver("alice", blob)
    await client("x SELECT INBOX")
    told = name.encode()
    assert await fetch(client, f'a FETCH 1 BODY.PEEK[HEADER.FIELDS ("{name}" X-Odd)]') == (
        b'* 1 FETCH (BODY[HEADER.FIELDS ("%b" X-Odd)] {12}\r\nX-Odd: y\r\n\r\n)\r\na OK Fetched\r\n' % told
    )
    rest = b"From: a@x.example\r\nSubject: big\r\n\r\n"
    assert await fetch(client, f'a FETCH 1 BODY.PEEK[HEADER.FIELDS.NOT ("{name}" X-Odd)]') == (
        b'* 1 FETCH (BODY[HEADER.FIELDS.NOT ("%b" X-Odd)] {%d}\r\n%b)\r\na OK Fetched\r\n' % (told, len(rest), rest)
    )
    assert await fetch(client, f'a FETCH 1 BODY.PEEK[2.HEADER.FIELDS ("{name}")]') == (
        b'* 1 FETCH (BODY[2.HEADER.FIELDS ("%b")] NIL)\r\na OK Fetched\r\n' % told
    )
