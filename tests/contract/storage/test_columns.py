"""Messages read as columns: what is asked for, of whom, in which pages."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Any

import pytest

from mail.flags import DELETED, FLAGGED, SEEN
from storage import ranges
from storage.model import ALL_UIDS, INLINE_MAX, Columns, FlagMode, NewMessage, Row, Want
from storage.port import Reason, Refused
from tests.reading import entries_of

OF_ENTRY = {
    Want.FLAGS: "flags",
    Want.MODSEQ: "modseqs",
    Want.EMAIL: "emails",
    Want.INTERNALDATE: "internaldates",
    Want.SAVEDATE: "savedates",
}
FORMS = dict(zip([part for part in Want if part < Want.FLAGS], Columns._fields[9:], strict=True))
EVERYTHING = Want.ENTRY | sum(FORMS)


async def filled(bench: Any, count: int = 15) -> Any:
    """A mailbox with flags, keywords and gaps."""
    ref = await bench.ref()
    words = [("$Forwarded",), (), ("a", "$MDNSent"), (), ("a",)]
    messages = [NewMessage(bench.message(str(n)), keywords=words[n % 5]) for n in range(count)]
    await bench.store.append(bench.op(), ref, messages, None)
    await bench.store.store_flags(bench.op(), ref, ((2, 4), (11, 11)), FlagMode.ADD, SEEN | FLAGGED)
    return ref


async def test_each_want_brings_its_own_column(bench: Any) -> None:
    ref = await filled(bench)
    whole = await bench.store.columns(ref, ALL_UIDS, EVERYTHING)
    names = [name for name in Columns._fields if name not in ("uids", "more", "through", "keywords")]
    assert all(len(getattr(whole, name)) == 15 for name in names)
    for part, name in (OF_ENTRY | FORMS).items():
        page = await bench.store.columns(ref, ALL_UIDS, part)
        assert list(page.uids) == list(range(1, 16))
        assert list(getattr(page, name)) == list(getattr(whole, name))
        assert [other for other in names if len(getattr(page, other))] == [name]
        assert bool(page.keywords) == (part == Want.FLAGS)
    nothing = await bench.store.columns(ref, ALL_UIDS, Want(0))
    assert list(nothing.uids) == list(range(1, 16))
    assert not any(getattr(nothing, name) for name in names)


async def test_rows_are_the_columns_message_by_message(bench: Any) -> None:
    ref = await filled(bench)
    page = await bench.store.columns(ref, ALL_UIDS, Want.ENTRY | Want.SIZE | Want.ENVELOPE)
    entries, rows = page.entries(), page.rows()
    assert [row.entry for row in rows] == list(entries)
    assert [entry.keywords for entry in entries] == [("$Forwarded",), (), ("$MDNSent", "a"), (), ("a",)] * 3
    assert [entry.flags for entry in entries] == [0, 5, 5, 5] + [0] * 6 + [5] + [0] * 4
    assert page.keywords == [(entry.uid, entry.keywords) for entry in entries if entry.keywords]
    assert [row.size for row in rows] == [len(bench.message(str(n))) for n in range(15)]
    assert rows[0]._replace(entry=None) == Row(None, rows[0].size, None, page.envelopes[0], *(None,) * 7)
    with pytest.raises(ValueError, match="shorter"):
        (await bench.store.columns(ref, ALL_UIDS, Want.FLAGS)).entries()
    with pytest.raises(ValueError, match="shorter"):
        (await bench.store.columns(ref, ALL_UIDS, Want.SIZE)).rows()


@pytest.mark.parametrize(
    "uids", [ALL_UIDS, ((2, 3), (5, 5), (11, 99)), ((15, 15),), (), ((16, 20),), ((5, 9), (12, 13))]
)
@pytest.mark.parametrize("want", [Want(0), Want.ENTRY, Want.ENTRY | Want.SIZE | Want.HEADERS])
async def test_pages_join_to_the_whole_set(bench: Any, uids: Any, want: Want) -> None:
    ref = await filled(bench)
    await bench.store.store_flags(bench.op(), ref, ((6, 7), (12, 12)), FlagMode.ADD, DELETED)
    await bench.store.expunge(bench.op(), ref, ALL_UIDS)
    there = [uid for uid in ranges.each(ranges.intersect(uids, ((1, 15),))) if uid not in (6, 7, 12)]
    for limit in (1, 2, 3, 4, 12, 100):
        left, found = uids, []
        while left:
            page = await bench.store.columns(ref, left, want, limit)
            assert len(page.uids) <= limit
            assert page.more == (found + list(page.uids) != there)
            assert all(len(column) in (0, len(page.uids)) for column in (page[3], *page[5:]))
            found += page.uids
            left = ranges.after(left, page.uids[-1]) if page.more else ()
        assert found == there
    lost = await bench.store.columns(ref, uids, want, lost=True)
    assert list(lost.uids) == [uid for uid in (6, 7, 12) if any(low <= uid <= high for low, high in uids)]
    if want & Want.HEADERS:
        assert [row.headers for row in lost.rows()] == [
            bench.message(str(uid - 1)).split(b"\r\n\r\n")[0] + b"\r\n" for uid in lost.uids
        ]


async def test_no_modseq_is_above_the_page(bench: Any) -> None:
    """A reader that knows all changes up to ``through`` knows all there are of the page."""
    ref = await filled(bench)
    for uid in (3, 9, 1):
        await bench.store.store_flags(bench.op(), ref, ((uid, uid),), FlagMode.ADD, SEEN)
        known = (await bench.store.mailbox("ann", "INBOX")).highest_modseq
        for uids in (ALL_UIDS, ((uid, uid),)):
            page = await bench.store.columns(ref, uids, Want.MODSEQ)
            assert max(page.modseqs) <= page.through <= known
    assert max(page.modseqs) == page.through


async def test_octets_bound_a_page(bench: Any) -> None:
    ref = await bench.ref()
    body = b"A: b\r\n\r\n" + b"y" * 200_000
    for _ in range(3):
        await bench.store.append(bench.op(), ref, [NewMessage(body)] * 4, None)
    left, pages = ALL_UIDS, []
    while left:
        page = await bench.store.columns(ref, left, Want.CONTENT | Want.FLAGS, 100)
        assert len(page.uids) == len(page.contents) == len(page.flags)
        assert set(page.contents) == {body}
        pages.append(list(page.uids))
        left = ranges.after(left, page.uids[-1]) if page.more else ()
    assert list(chain.from_iterable(pages)) == list(range(1, 13))
    assert len(pages) >= 2
    assert max(map(len, pages)) < 12


async def test_what_is_too_long_to_come_along(bench: Any) -> None:
    ref = await bench.ref()
    header = b"Subject: x\r\n" + b"".join(b"To: %08d@example.org\r\n" % n for n in range(1000))
    messages = [b"A: b\r\n\r\nx", header + b"\r\n" + b"y" * INLINE_MAX, b"", b"A: b\r\n\r\nz"]
    for content in messages:
        staged = await bench.store.stage(bench.chunks(content)) if len(content) > INLINE_MAX else content
        await bench.store.append(bench.op(), ref, [NewMessage(staged)], None)
    page = await bench.store.columns(ref, ALL_UIDS, Want.CONTENT | Want.HEADERS | Want.SIZE)
    assert list(page.contents) == [messages[0], None, b"", messages[3]]
    assert page.headers[1] is None
    assert list(page.sizes) == list(map(len, messages))


async def test_forms_of_any_octets_and_lengths_are_told_apart(bench: Any) -> None:
    """In a page as each by itself: empty ones, long ones, and those that are not kept."""
    ref = await bench.ref()
    many = b"".join(b"To: %08d@example.org\r\n" % n for n in range(1000))
    blocks = [b"", b"Subject: \xff\xfe\x80\r\n", b"X: y\r\n", many, "Subject: \u20ac\n".encode(), b"From: a@b\r\n" * 99]
    contents = [block + b"\r\n" + body for block in blocks for body in (b"", "\u20ac\xe9".encode(), b"\xe2\x82")]
    await bench.store.append(bench.op(), ref, [NewMessage(content) for content in contents], None)
    forms = Want(sum(FORMS)) & ~Want.CONTENT
    for want in (forms, Want.HEADERS | Want.PREFIX, Want.PREVIEW, Want.KEYS):
        page = await bench.store.columns(ref, ALL_UIDS, want)
        assert len(page.uids) == len(contents)
        for at, uid in enumerate(page.uids):
            alone = await bench.store.columns(ref, ((uid, uid),), want)
            for name in FORMS.values():
                assert list(getattr(page, name)[at : at + 1]) == list(getattr(alone, name))
    page = await bench.store.columns(ref, ALL_UIDS, Want.HEADERS)
    assert list(page.headers) == [
        None if block is many else block.replace(b"X: y\r\n", b"") for block in blocks for _ in "123"
    ]


async def test_octets_of_forms_bound_a_page(bench: Any) -> None:
    ref = await bench.ref()
    lengths = [500, 10, 1, 600] * 25
    block = "To: %08d@example.org\r\n"
    contents = ["".join(block % n for n in range(length)).encode() + b"\r\n" for length in lengths]
    for start in range(0, 100, 20):
        await bench.store.append(bench.op(), ref, list(map(NewMessage, contents[start : start + 20])), None)
    left, pages = ALL_UIDS, []
    while left:
        page = await bench.store.columns(ref, left, Want.HEADERS | Want.ENVELOPE, 2048)
        assert len(page.uids) == len(page.headers) == len(page.envelopes)
        pages.append([usual + b"\r\n" for usual in page.headers])
        assert sum(map(len, pages[-1])) < 3 * 1024 * 1024 // 2
        left = ranges.after(left, page.uids[-1]) if page.more else ()
    assert list(chain.from_iterable(pages)) == contents
    assert len(pages) >= 2


async def test_another_account_has_no_columns(bench: Any) -> None:
    ref = await filled(bench)
    for lost in (False, True):
        with pytest.raises(Refused) as refused:
            await bench.store.columns(replace(ref, account="bob"), ALL_UIDS, Want.FLAGS, lost=lost)
        assert refused.value.reason is Reason.NO_SUCH_MAILBOX


async def test_a_page_is_of_one_kind_in_any_store(bench: Any) -> None:
    """The same messages, asked in one go and one by one."""
    ref = await filled(bench)
    page = await bench.store.columns(ref, ALL_UIDS, EVERYTHING)
    ones = [await bench.store.columns(ref, ((uid, uid),), EVERYTHING) for uid in range(1, 16)]
    joined = [
        list(chain.from_iterable(columns))
        for columns in zip(*[[list(c) for c in (one[0], *one[3:])] for one in ones], strict=True)
    ]
    assert joined == [list(column) for column in (page[0], *page[3:])]
    assert page.rows() == tuple(row for one in ones for row in one.rows())
    assert [row.entry for row in page.rows()] == list(await entries_of(bench.store, ref, ALL_UIDS))
