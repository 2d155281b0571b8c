"""Annotations of mailboxes and of the server: GETMETADATA SETMETADATA (RFC 5464), and of LIST (RFC 9590)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from imap.errors import No
from imap.session import SIGNED_IN, Entry, News, Reply, Session
from imap.wire import write_metadata
from imap.wire.forms_metadata import GetMetadata, SetMetadata
from storage.metadata import may_read
from storage.model import ANNOTATION_OCTETS, Depth, Mailbox, MailboxRef
from storage.port import Reason, Refused
from storage.rights import lacking

AT_ONCE = 16
"""Mailboxes whose annotations are read in one go."""
PIECE = 64 * 1024
"""Octets of values in one METADATA response, about."""
ADMIN = "/shared/admin"
"""RFC 5464 §6.2.1: how the administrator of the server is reached."""


async def get_metadata(session: Session, form: GetMetadata) -> Reply:
    """RFC 5464 §4.2."""
    ref, name = await _found(session, form.mailbox)
    depth = Depth(form.depth)
    found = await session.storage.annotations([ref], form.entries, depth)
    values = {one.entry: one.value for one in found}
    if not form.mailbox:
        values |= _of_server(session, form.entries, depth)
    pairs = named(form.entries, values) if depth is Depth.ENTRY else sorted(values.items())
    # RFC 5464 §4.2.1
    most = form.largest
    too_long = [len(value) for _, value in pairs if value is not None and most is not None and len(value) > most]
    fitting = [(entry, value) for entry, value in pairs if value is None or most is None or len(value) <= most]
    for piece in _pieces(fitting):
        session.out.write(write_metadata.values(name, piece, session.utf8))
        await session.out.drain()
    return Reply("Done", f"METADATA LONGENTRIES {max(too_long)}" if too_long else None)


async def set_metadata(session: Session, form: SetMetadata) -> Reply:
    """All of them or none: RFC 5464 §4.3."""
    ref, _ = await _found(session, form.mailbox)
    if not form.mailbox and any(entry.lower().startswith("/shared/") for entry, _ in form.values):
        # RFC 5464 §3.3: what all are shown is the administrator's to say, in the settings
        raise No("What the server says of itself to all is not changed here", "NOPERM")
    try:
        modseq = await session.storage.set_annotations(session.operation(), ref, dict(form.values))
    except Refused as error:
        match error.reason:
            case Reason.TOO_BIG:
                raise No(error.text, f"METADATA MAXSIZE {ANNOTATION_OCTETS}") from error
            case Reason.LIMIT:
                raise No(error.text, "METADATA TOOMANY") from error
        raise
    session.wrote(modseq, owner=ref.account)
    return Reply("Done")


async def _found(session: Session, name: str) -> tuple[MailboxRef, str]:
    """Whose annotations they are, and its name in the answer."""
    if not name:
        return MailboxRef(session.account, ""), ""
    mailbox = await session.find(name)
    if not may_read(mailbox.rights):
        raise lacking(mailbox.rights)
    return mailbox.ref, mailbox.name


def _of_server(session: Session, entries: Sequence[str], depth: Depth) -> Mapping[str, bytes]:
    """What is said to all of the server."""
    contact = session.house.administrator
    asked = {entry.lower() for entry in entries}
    if contact and (ADMIN in asked or ("/shared" in asked and depth is not Depth.ENTRY)):
        return {ADMIN: contact.encode()}
    return {}


def named(entries: Iterable[str], values: Mapping[str, bytes | None]) -> list[tuple[str, bytes | None]]:
    """The entries as they were asked for, with their values; None for one that has none."""
    return [(entry, values.get(entry.lower())) for entry in entries if entry.count("/") > 1]


def _pieces(pairs: Sequence[tuple[str, bytes | None]]) -> Iterable[Sequence[tuple[str, bytes | None]]]:
    piece: list[tuple[str, bytes | None]] = []
    size = 0
    for pair in pairs:
        piece.append(pair)
        size += len(pair[1] or b"")
        if size >= PIECE:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


async def lines_of(session: Session, mailboxes: Sequence[Mailbox], entries: Sequence[str]) -> dict[MailboxRef, bytes]:
    """For LIST, of each mailbox whose annotations may be read: a METADATA response with all of these entries."""
    readable = [mailbox for mailbox in mailboxes if may_read(mailbox.rights)]
    by_account: dict[str, list[Mailbox]] = {}
    for mailbox in readable:
        by_account.setdefault(mailbox.ref.account, []).append(mailbox)
    lines: dict[MailboxRef, bytes] = {}
    for some in by_account.values():
        for start in range(0, len(some), AT_ONCE):
            page = some[start : start + AT_ONCE]
            found = await session.storage.annotations([one.ref for one in page], entries, Depth.ENTRY)
            values: dict[str, dict[str, bytes | None]] = {}
            for one in found:
                values.setdefault(one.mailbox, {})[one.entry] = one.value
            for mailbox in page:
                # RFC 9590 §3: an entry without a value is told as NIL
                pairs = named(entries, values.get(mailbox.ref.mailbox, {}))
                if pairs:
                    lines[mailbox.ref] = write_metadata.values(mailbox.name, pairs, session.utf8)
    return lines


ENTRIES = (
    Entry("GETMETADATA", SIGNED_IN, GetMetadata, get_metadata, News.IF_ANY, may_expunge=True, capability="METADATA"),
    Entry("SETMETADATA", SIGNED_IN, SetMetadata, set_metadata, News.IF_ANY, may_expunge=True, capability="METADATA"),
)
