"""Opening and leaving a mailbox: SELECT EXAMINE CLOSE UNSELECT."""

from __future__ import annotations

from imap.session import SIGNED_IN, Entry, Reply, Session, State
from imap.view import View
from imap.wire import writer
from imap.wire.forms import Bare, Select
from storage.model import ALL_UIDS
from storage.port import Reason, Refused


async def select(session: Session, form: Select) -> Reply:
    """Open a mailbox: RFC 3501 §6.3.1, RFC 3501 §6.3.2."""
    # RFC 3501 §6.3.1: whatever comes of it, the mailbox selected before is not so any more
    await session.leave_mailbox()
    mailbox = await session.storage.mailbox(session.account, form.mailbox)
    opened = await session.storage.open_mailbox(session.operation(), mailbox.ref, not form.read_only)
    view = View(opened, form.read_only)
    session.enter_mailbox(view)
    lines = [
        view.flags_lines(),
        writer.numbered(len(view), b"EXISTS"),
        writer.numbered(view.count_recent(), b"RECENT"),
    ]
    if opened.first_unseen_uid is not None:
        number = view.number(opened.first_unseen_uid)
        lines.append(writer.untagged("OK", "First unseen", f"UNSEEN {number}"))
    lines.append(writer.untagged("OK", "UIDs are valid", f"UIDVALIDITY {opened.mailbox.uidvalidity}"))
    lines.append(writer.untagged("OK", "Predicted next UID", f"UIDNEXT {opened.mailbox.uidnext}"))
    session.out.write(b"".join(lines))
    return Reply("Selected", "READ-ONLY" if form.read_only else "READ-WRITE")


async def close(session: Session, form: Bare) -> Reply:
    """RFC 3501 §6.4.2: expunges without a word, where it may."""
    view = session.selected
    if not view.read_only:
        try:
            done = await session.storage.expunge(session.operation(), view.ref, ALL_UIDS)
            session.wrote(done.modseq)
        except Refused as error:
            # RFC 3501 §6.4.2 has no NO: of a mailbox that another session deleted there is nothing left to expunge
            if error.reason is not Reason.NO_SUCH_MAILBOX:
                raise
    await session.leave_mailbox()
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
