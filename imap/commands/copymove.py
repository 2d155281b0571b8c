"""Messages to other mailboxes and out of this one: COPY MOVE EXPUNGE."""

from __future__ import annotations

from imap import messagelimit
from imap.errors import try_create
from imap.places import Place
from imap.session import Entry, News, Reply, Session, State
from imap.view import Slices, View
from imap.wire import writer
from imap.wire.forms import Bare, Copy, Expunge
from imap.wire.numset import Ranges as NumRanges
from mail.flags import DELETED
from storage.model import ALL_UIDS, And, Copied, HasFlags, Ranges, Rights, Uids
from storage.port import Reason, Refused


async def copy(session: Session, form: Copy) -> Reply:
    """All of the messages or none: RFC 3501 §6.4.7, RFC 4315 §3."""
    view = session.selected
    slices = session.messages(form.numset, form.uid)
    messagelimit.check_all(view, slices, session.house.limits.messages)
    ranges = view.ranges(slices)
    if not ranges:
        return await _nothing(session, form)
    try:
        to = await session.places.of(session.account, form.mailbox)
        readable = await _is_readable(session, form, to)
        quota = await session.quota(to.account)
        copied = await session.storage.copy(
            session.operation(), view.ref, ranges, to.name, quota, to.account, _count(form, slices)
        )
    except Refused as error:
        raise await of_two(session, form.mailbox, error) from error
    session.wrote(copied.modseq, owner=to.account)
    return Reply("Copied", _code(copied) if readable else None)


async def move(session: Session, form: Copy) -> Reply:
    """Copy and expunge in one change: RFC 6851 §3.1, RFC 6851 §4.3."""
    view = session.writable
    slices, limited = messagelimit.highest(view, session.messages(form.numset, form.uid), session.house.limits.messages)
    ranges = view.ranges(slices)
    if not ranges:
        return await _nothing(session, form)
    try:
        to = await session.places.of(session.account, form.mailbox)
        readable = await _is_readable(session, form, to)
        quota = await session.quota(to.account)
        moved = await session.storage.move(
            session.operation(), view.ref, ranges, to.name, quota, to.account, _count(form, slices)
        )
    except Refused as error:
        raise await of_two(session, form.mailbox, error) from error
    session.wrote(moved.modseq)
    code = _code(moved)
    if code is not None:
        # RFC 6851 §4.3: before the EXPUNGEs, so that the client knows where the messages have gone
        if readable:
            session.out.write(writer.untagged("OK", "Moved", code))
        # RFC 6851 §4.4
        return _ended(session, "Moved", await session.highest_modseq(moved.modseq), limited)
    return _ended(session, "Moved", None, limited)


async def expunge(session: Session, form: Bare) -> Reply:
    """All that is flagged \\Deleted: RFC 3501 §6.4.3."""
    view = session.writable
    return await _expunge(session, view, ALL_UIDS)


async def uid_expunge(session: Session, form: Expunge) -> Reply:
    """Those of a set that are flagged \\Deleted: RFC 4315 §2.1."""
    view = session.writable
    slices = session.messages(form.uids, by_uid=True)
    limited, most = None, session.house.limits.messages
    if most is not None and messagelimit.count(slices) > most:
        # RFC 9738 §3.1: what counts is flagged \\Deleted
        deleted = And((Uids(view.ranges(slices)), HasFlags(DELETED)))
        uids = (await session.storage.search(view.ref, deleted)).uids
        slices, limited = messagelimit.highest(view, tuple(NumRanges(uids).slices(view.uids)), most)
    ranges = view.ranges(slices)
    return await _expunge(session, view, ranges, limited) if ranges else Reply("Expunged")


async def _expunge(session: Session, view: View, ranges: Ranges, limited: str | None = None) -> Reply:
    done = await session.storage.expunge(session.operation(), view.ref, ranges)
    session.wrote(done.modseq)
    # RFC 7162 §3.2.7
    return _ended(session, "Expunged", await session.highest_modseq(done.modseq) if done.uids else None, limited)


def _ended(session: Session, text: str, code: str | None, limited: str | None) -> Reply:
    if code is None or limited is None:
        return Reply(text, code or limited)
    session.out.write(messagelimit.untold(limited))
    return Reply(text, code)


def _count(form: Copy, slices: Slices) -> int | None:
    """How many messages there must be when they are copied: of those that others have expunged the client may not have
    been told yet."""
    # RFC 9051 §6.4.7, RFC 2180 §4.4.1: all of them or none; of UIDs those that are there (RFC 9051 §6.4.9)
    return None if form.uid else messagelimit.count(slices)


async def _nothing(session: Session, form: Copy) -> Reply:
    """None of the UIDs is there, which is no error (RFC 3501 §6.4.8); a target that is not there is one (§6.4.7)."""
    try:
        await session.find(form.mailbox, Rights.INSERT)
    except Refused as error:
        raise try_create(error) from error
    return Reply("Nothing to do")


async def of_two(session: Session, target: str, error: Refused) -> Exception:
    """The error of a change of the selected mailbox and a target: storage does not say which of them is not there."""
    if error.reason is not Reason.NO_SUCH_MAILBOX:
        return error
    try:
        await session.find(target)
    except Refused as missing:
        return try_create(missing)
    return error


async def _is_readable(session: Session, form: Copy, to: Place) -> bool:
    """Whether the user may look into the target: RFC 9051 §6.4.7 tells nobody else the UIDs there. Raises storage's
    Refused."""
    if to.actor is None:
        return True
    return bool((await session.find(form.mailbox, Rights.INSERT)).rights & Rights.READ)


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
