"""Messages to other mailboxes and out of this one: COPY MOVE EXPUNGE."""

from __future__ import annotations

from imap.errors import No, try_create
from imap.session import Entry, News, Reply, Session, State
from imap.view import View
from imap.wire import writer
from imap.wire.forms import Bare, Copy, Expunge
from storage.model import ALL_UIDS, Copied, Ranges
from storage.port import Refused


async def copy(session: Session, form: Copy) -> Reply:
    """All of the messages or none: RFC 3501 §6.4.7, RFC 4315 §3."""
    view = session.selected
    ranges = _named(session, view, form)
    if not ranges:
        return await _nothing(session, form)
    try:
        copied = await session.storage.copy(session.operation(), view.ref, ranges, form.mailbox, await session.quota())
    except Refused as error:
        raise try_create(error) from error
    session.wrote(copied.modseq)
    return Reply("Copied", _code(copied))


async def move(session: Session, form: Copy) -> Reply:
    """Copy and expunge in one change: RFC 6851 §3.1, RFC 6851 §4.3."""
    view = session.writable
    ranges = _named(session, view, form)
    if not ranges:
        return await _nothing(session, form)
    try:
        moved = await session.storage.move(session.operation(), view.ref, ranges, form.mailbox)
    except Refused as error:
        raise try_create(error) from error
    session.wrote(moved.modseq)
    code = _code(moved)
    if code is not None:
        # RFC 6851 §4.3: before the EXPUNGEs, so that the client knows where the messages have gone
        session.out.write(writer.untagged("OK", "Moved", code))
        # RFC 6851 §4.4
        return Reply("Moved", await session.highest_modseq(moved.modseq))
    return Reply("Moved")


async def expunge(session: Session, form: Bare) -> Reply:
    """All that is flagged \\Deleted: RFC 3501 §6.4.3."""
    view = session.writable
    return await _expunge(session, view, ALL_UIDS)


async def uid_expunge(session: Session, form: Expunge) -> Reply:
    """Those of a set that are flagged \\Deleted: RFC 4315 §2.1."""
    view = session.writable
    ranges = view.ranges(session.messages(form.uids, by_uid=True))
    return await _expunge(session, view, ranges) if ranges else Reply("Expunged")


async def _expunge(session: Session, view: View, ranges: Ranges) -> Reply:
    done = await session.storage.expunge(session.operation(), view.ref, ranges)
    session.wrote(done.modseq)
    # RFC 7162 §3.2.7
    return Reply("Expunged", await session.highest_modseq(done.modseq) if done.uids else None)


def _named(session: Session, view: View, form: Copy) -> Ranges:
    slices = session.messages(form.numset, form.uid)
    if not form.uid and view.missing(slices):
        # RFC 2180 §4.4.1: all of them or none
        raise No("Some of the messages have been expunged", "EXPUNGEISSUED")
    return view.ranges(slices)


async def _nothing(session: Session, form: Copy) -> Reply:
    """None of the UIDs is there, which is no error (RFC 3501 §6.4.8); a target that is not there is one (§6.4.7)."""
    try:
        await session.storage.mailbox(session.account, form.mailbox)
    except Refused as error:
        raise try_create(error) from error
    return Reply("Nothing to do")


def _code(copied: Copied) -> str | None:
    """None where all messages of the set were gone."""
    return writer.code_copyuid(copied.uidvalidity, copied.source, copied.target) if copied.source else None


_N = News.IF_ANY

ENTRIES = (
    Entry("COPY", State.SELECTED, Copy, copy, _N, may_expunge=True),
    Entry("UID COPY", State.SELECTED, Copy, copy, _N, may_expunge=True),
    Entry("MOVE", State.SELECTED, Copy, move, _N, may_expunge=True, capability="MOVE"),
    Entry("UID MOVE", State.SELECTED, Copy, move, _N, may_expunge=True),
    Entry("EXPUNGE", State.SELECTED, Bare, expunge, _N, may_expunge=True),
    Entry("UID EXPUNGE", State.SELECTED, Expunge, uid_expunge, _N, may_expunge=True, capability="UIDPLUS"),
)
