"""Usual header lines after an upgrade: what an earlier release kept is not told, and FETCH is right all the while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from imap.session import House
from mail import headers
from storage import ingest
from storage.adapters.sqlite.adapter import SqliteStorage
from storage.adapters.sqlite.schema import MIGRATIONS
from storage.model import ALL_UIDS, INLINE_MAX, NewMessage, Want
from tests.imap.fakes import Client, FakeIdentity, make_house
from tests.served import Behind

OLD = {b"DATE", b"FROM", b"RETURN-PATH", b"SUBJECT", b"TO", b"X-MAILER"}
"""Some of the fields that the release kept whose version was OLD_VERSION."""
OLD_VERSION = 2001
PREFIX = b"Return-Path: <p@example.net>\r\nDelivered-To: ann@example.org\r\n"
HEADER = (
    b"From: Eve <eve@example.net>\r\nNEWSGROUPS: a.b,\r\n\tc.d\r\nX-Mailer: m/1\r\nSubject: one\r\n two\r\n"
    b"Disposition-Notification-To : eve@example.net\r\nReturn-Path: <x@example.net>\r\nsubject: again\r\nX-Odd: y\r\n"
)
MESSAGES = (
    HEADER + b"\r\nshort\r\n",
    HEADER.replace(b"\r\n", b"\n") + b"\nbare line ends\n",
    b"X-Odd: y\r\n\r\nnothing of the usual\r\n",
    b"",
    HEADER + b"".join(b"To: %08d@example.org\r\n" % n for n in range(1000)) + b"\r\nmore than is kept\r\n",
    HEADER + b"\r\n" + b"long\r\n" * (INLINE_MAX // 6),
)
LISTS = (
    "From To Cc Bcc Subject Date Message-ID Priority References Newsgroups In-Reply-To Content-Type Reply-To",
    "DATE FROM TO SUBJECT LIST-POST DISPOSITION-NOTIFICATION-TO X-PRIORITY X-DRAFT-INFO SENDER DELIVERED-TO",
    "newsgroups",
    "Return-Path Subject X-Mailer",
)


def _usual_of_before(block: bytes) -> bytes:
    return b"".join(line for name, line in headers.lines(block) if name in OLD)


@contextmanager
def earlier_release() -> Iterator[None]:
    """Within it messages are described as that release did."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest, "VERSION", OLD_VERSION)
        patch.setattr(headers, "usual", _usual_of_before)
        yield


async def upgraded(store: Any) -> None:
    """What the first start of this release does to the database."""
    inner = store._keeper.app.port if isinstance(store, Behind) else store
    if isinstance(inner, SqliteStorage):
        (step,) = [one.apply for one in MIGRATIONS if one.name.startswith("usual header lines of version")]
        assert callable(step)
        await inner.database.write(step)


async def told(store: Any, ref: Any) -> list[bytes | None]:
    """The lines, asked for by themselves and with all else."""
    pages = [await store.columns(ref, ALL_UIDS, want) for want in (Want.HEADERS, Want.HEADERS | Want.PREFIX, ~Want(0))]
    assert len({tuple(page.headers) for page in pages}) == 1
    alone = [await store.columns(ref, ((uid, uid),), Want.HEADERS) for uid in pages[0].uids]
    assert [page.headers[0] for page in alone] == list(pages[0].headers)
    return list(pages[0].headers)


async def fetched(client: Client, fields: str, partial: str) -> bytes:
    await client.run(f"x FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS ({fields})]{partial})")
    answer = bytes(client.out.sent)
    client.out.sent.clear()
    return answer


def expected(fields: str, first: int | None, count: int) -> bytes:
    names = frozenset(field.upper().encode() for field in fields.split())
    answer = b""
    for number, message in enumerate(MESSAGES, 1):
        end = max(message.find(b"\r\n\r\n") + 2, message.find(b"\n\n") + 1)
        chosen = headers.select(PREFIX + message[:end], names)
        origin = b""
        if first is not None:
            chosen, origin = chosen[first : first + count], b"<%d>" % first
        answer += b"* %d FETCH (UID %d BODY[HEADER.FIELDS (%b)]%b {%d}\r\n%b)\r\n" % (
            number, number, fields.encode(), origin, len(chosen), chosen,
        )  # fmt: skip
    return answer + b"x OK Fetched\r\n"


async def deliver_all(bench: Any) -> Any:
    for content in MESSAGES:
        await bench.deliver(
            content=content if len(content) <= INLINE_MAX else await bench.store.stage(bench.chunks(content)),
            prefix=PREFIX,
        )
    return await bench.ref()


async def test_lines_of_an_earlier_release_are_not_told_until_described_again(bench: Any) -> None:
    with earlier_release():
        ref = await deliver_all(bench)
        # How far that release had come is no place to go on from.
        assert await bench.store.reparse() == ""
    await upgraded(bench.store)
    assert await told(bench.store, ref) == [None] * len(MESSAGES)
    # What comes from now on is told at once, between those too.
    await bench.store.append(bench.op(), ref, [NewMessage(MESSAGES[0])], None)
    today = [headers.usual(message.partition(b"\r\n\r\n")[0] + b"\r\n") for message in MESSAGES]
    today[1] = today[0].replace(b"\r\n", b"\n") if today[0] else None
    today[2] = today[3] = b""
    assert today[4] is None
    assert await told(bench.store, ref) == [None] * len(MESSAGES) + [today[0]]
    after = await bench.store.reparse("", 2)
    assert after
    assert await told(bench.store, ref) == [*today[:2], None, None, None, None, today[0]]
    while after:
        after = await bench.store.reparse(after, 2)
    assert await told(bench.store, ref) == [*today, today[0]]


async def test_header_fields_are_right_before_and_after(bench: Any) -> None:
    with earlier_release():
        await deliver_all(bench)
    await upgraded(bench.store)
    house: House = make_house(bench.store, FakeIdentity(ann="secret"))
    await house.hub.start()
    await house.sign_ins.start()
    try:
        client = await Client(house).signed_in("ann")
        await client("x SELECT INBOX")
        for described in (False, True):
            for fields in LISTS:
                for first, count in ((None, 0), (0, 30), (20, 50)):
                    partial = "" if first is None else f"<{first}.{count}>"
                    assert await fetched(client, fields, partial) == expected(fields, first, count), (described, fields)
            assert await bench.store.reparse() == ""
    finally:
        await house.hub.stop()
        await house.sign_ins.stop()
