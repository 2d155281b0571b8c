"""Opening and leaving a mailbox: SELECT EXAMINE CLOSE UNSELECT."""

from __future__ import annotations

from imap.commands import announce
from imap.commands.resync import resync
from imap.errors import Bad
from imap.session import SIGNED_IN, Entry, Reply, Session, State
from imap.view import View, is_read_only
from imap.wire import writer
from imap.wire.forms import Bare, Select
from storage.model import ALL_UIDS, Rights
from storage.port import Reason, Refused


async def select(session: Session, form: Select) -> Reply:
    """Open a mailbox: RFC 3501 §6.3.1, RFC 3501 §6.3.2, RFC 7162 §3.1.8, RFC 7162 §3.2.5."""
    if form.resync is not None and "QRESYNC" not in session.enabled:
        # RFC 7162 §3.2.5
        raise Bad("QRESYNC is for those who have enabled it")
    # RFC 3501 §6.3.1: whatever comes of it, the mailbox selected before is not so any more
    if session.view is not None:
        await session.leave_mailbox()
        # RFC 7162 §3.2.11: what follows is of the mailbox selected now
        session.out.write(writer.untagged("OK", "The mailbox selected before is closed", "CLOSED"))
    # RFC 4314 §4
    mailbox = await session.find(form.mailbox, Rights.READ)
    read_only = form.read_only or is_read_only(mailbox.rights)
    opened = await session.storage.open_mailbox(session.operation(), mailbox.ref, not read_only)
    if form.condstore:
        session.tell_modseq()
    view = View(
        opened,
        form.read_only,
        with_modseq=session.with_modseq,
        vanishing="QRESYNC" in session.enabled,
        rev2=session.rev2,
        uid_only=session.uid_only,
    )
    session.enter_mailbox(view)
    lines = [view.flags_lines(), view.exists_lines()]
    if session.rev2:
        # RFC 9051 §6.3.2
        lines.append(await announce.selected(session, form.mailbox))
    elif opened.first_unseen_uid is not None and not session.uid_only:
        number = view.number(opened.first_unseen_uid)
        lines.append(writer.untagged("OK", "First unseen", f"UNSEEN {number}"))
    lines.append(writer.untagged("OK", "UIDs are valid", f"UIDVALIDITY {opened.mailbox.uidvalidity}"))
    lines.append(writer.untagged("OK", "Predicted next UID", f"UIDNEXT {opened.mailbox.uidnext}"))
    # RFC 8474 §4.2
    lines.append(writer.untagged("OK", "Mailbox", f"MAILBOXID ({opened.mailbox.ref.mailbox})"))
    # RFC 7162 §3.1.2.1
    lines.append(writer.untagged("OK", "Highest", f"HIGHESTMODSEQ {opened.mailbox.highest_modseq}"))
    session.out.write(b"".join(lines))
    if form.resync is not None and form.resync.uidvalidity == opened.mailbox.uidvalidity:
        # RFC 7162 §3.2.5: of a mailbox that is another one the client knows nothing
        await resync(session, view, form.resync)
    return Reply("Selected", "READ-ONLY" if view.read_only else "READ-WRITE")


async def close(session: Session, form: Bare) -> Reply:
    """RFC 3501 §6.4.2: expunges without a word, where it may."""
    view = session.selected
    if not view.read_only:
        try:
            session.wrote((await session.storage.expunge(session.operation(), view.ref, ALL_UIDS)).modseq)
        except Refused as error:
            # RFC 3501 §6.4.2 has no NO: of a mailbox that another session deleted there is nothing left to expunge, and
            # who may not expunge does not (RFC 4314 §4)
            if error.reason not in (Reason.NO_SUCH_MAILBOX, Reason.NO_PERMISSION):
                raise
    await session.leave_mailbox()
    # RFC 7162 §3.2.8: without HIGHESTMODSEQ, since the client has not been told of all changes up to it
    return Reply("Closed")


async def unselect(session: Session, form: Bare) -> Reply:
    """RFC 3691 §2: as CLOSE, and expunges nothing."""
    await session.leave_mailbox()
    return Reply("Unselected")


ENTRIES = (
    Entry("SELECT", SIGNED_IN, Select, select),
    Entry("EXAMINE", SIGNED_IN, Select, select),
    Entry("CLOSE", State.SELECTED, Bare, close),
    Entry("UNSELECT", State.SELECTED, Bare, unselect, capability="UNSELECT"),
)
