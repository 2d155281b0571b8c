"""Writing out all mail of an account, byte for byte, in order of mailbox and uid."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from homing.exporting.forms import FORMS, Message, Written
from homing.exporting.index import Index, open_index, told
from homing.importing.bring import Show, patiently
from mail import flags
from storage import ranges
from storage.model import INLINE_MAX, Mailbox, MailboxList, MailboxRef, Ranges, Row, Want
from storage.port import Storage

_WANT = Want.ENTRY | Want.SIZE | Want.PREFIX | Want.KEYS | Want.CONTENT


@dataclass(frozen=True, slots=True)
class Summary:
    """Of the whole export, what earlier runs have written included. lost: keywords that the form had no room for."""

    mailboxes: int
    messages: int
    octets: int
    lost: int


async def export(storage: Storage, account: str, address: str, form: str, folder: Path, show: Show) -> Summary:
    """Export, or go on with it; annotations as they are when it begins. Errors: IndexRefused, OSError, storage's."""
    listed = await patiently(lambda: storage.list_mailboxes(account), show)
    writer = FORMS[form](folder)
    heads: list[dict[str, Any]] = []
    for one in listed.mailboxes:
        head: dict[str, Any] = {"name": one.name, "folder": writer.place(one.name).relative_to(folder).as_posix()}
        head |= {"special_use": one.special_use, "subscribed": one.name in listed.subscriptions}
        heads.append(head | {"annotations": await _annotations(storage, one.ref, listed, show)})
    own = await _annotations(storage, MailboxRef(account, ""), listed, show)
    index = open_index(folder, account, address, form, {"annotations": own, "mailboxes": heads})
    try:
        before = index.before
        messages, octets, lost = before.messages, before.octets, 0
        count = sum(one.messages for one in listed.mailboxes)
        show.begin("Mail", "messages", count, sum(one.size for one in listed.mailboxes))
        show.at(messages, octets)
        for mailbox in listed.mailboxes:
            writer.open(mailbox, before.ends.get(mailbox.ref.mailbox, 0))
            async for row in _rows(storage, mailbox, before.uids.get(mailbox.ref.mailbox, 0), show):
                pieces = _pieces(storage, mailbox.ref.account, row)
                written = await writer.write(Message(row.entry, row.size or 0, pieces))
                _note(index, mailbox, row, written)
                messages, octets, lost = messages + 1, octets + written.octets, lost + written.lost
                show.at(messages, octets)
        writer.close(listed.subscriptions)
        index.finish(messages, octets)
        show.end()
    finally:
        index.close()
    return Summary(len(listed.mailboxes), messages, octets, lost)


async def _annotations(storage: Storage, ref: MailboxRef, listed: MailboxList, show: Show) -> dict[str, Any]:
    if not listed.annotated:
        return {}
    found = await patiently(lambda: storage.annotations([ref]), show)
    return told({one.entry: one.value or b"" for one in found})


async def _rows(storage: Storage, mailbox: Mailbox, after: int, show: Show) -> AsyncIterator[Row]:
    left: Ranges = ((after + 1, 0xFFFF_FFFF),)
    while left:
        page = await patiently(partial(storage.columns, mailbox.ref, left, _WANT), show)
        for row in page.rows():
            yield row
        left = ranges.after(left, page.uids[-1]) if page.more else ()


async def _pieces(storage: Storage, account: str, row: Row) -> AsyncIterator[bytes]:
    """The message as FETCH gives it: its own trace headers, then its body."""
    prefix = row.prefix or b""
    if row.content is not None:
        yield prefix + row.content
        return
    if prefix:
        yield prefix
    at, size = 0, (row.size or 0) - len(prefix)
    while at < size:
        octets = await storage.read(account, row.entry.email, at, min(size, at + INLINE_MAX))
        if not octets:
            return
        yield octets
        at += len(octets)


def _note(index: Index, mailbox: Mailbox, row: Row, written: Written) -> None:
    entry, place = row.entry, written.place
    line: dict[str, Any] = {"mailbox": mailbox.name, "id": mailbox.ref.mailbox, "uidvalidity": mailbox.uidvalidity}
    line |= {"uid": entry.uid, "file": place.file}
    if place.length is not None:
        line |= {"offset": place.offset, "head": place.head, "length": place.length}
    line |= {
        "octets": written.octets,
        "sha256": written.sha256,
        "flags": flags.names_of(entry.flags),
        "keywords": entry.keywords,
        "internaldate": entry.internaldate,
        "message_id": row.keys.message_id if row.keys is not None else "",
    }
    index.add(line)
