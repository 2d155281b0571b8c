"""Mailboxes as a whole: CREATE DELETE RENAME SUBSCRIBE UNSUBSCRIBE STATUS NAMESPACE."""

from __future__ import annotations

from collections.abc import Sequence

from imap.errors import No
from imap.session import SIGNED_IN, Entry, News, Reply, Session
from imap.wire import writer
from imap.wire.forms import Bare, Create, OnMailbox, Rename, Status
from storage.model import DELIMITER, INBOX, Mailbox
from storage.port import Reason, Refused

USES = {use.lower(): use for use in ("\\Archive", "\\Drafts", "\\Junk", "\\Sent", "\\Trash")}
"""Special uses that a mailbox can have here (RFC 6154 §2); \\All and \\Flagged would need mailboxes that are views."""


async def create(session: Session, form: Create) -> Reply:
    """Make a mailbox, and those above it: RFC 3501 §6.3.3, RFC 6154 §3."""
    # RFC 3501 §6.3.3: a delimiter at the end says that inferiors will follow
    name = form.mailbox.removesuffix(DELIMITER)
    if not name:
        raise No("A mailbox needs a name", "CANNOT")
    if name.isascii() and name.upper() == INBOX:
        raise No("INBOX is there already", "ALREADYEXISTS")
    use = _use(form)
    try:
        made = await session.storage.create_mailbox(session.operation(), session.account, name, use)
    except Refused as error:
        if use is not None and error.reason is Reason.CANNOT:
            # RFC 6154 §3: another mailbox has that use
            raise No(f"There is a mailbox for {use} already", "USEATTR") from error
        raise
    # RFC 8474 §4.1
    return Reply("Created", f"MAILBOXID ({made.ref.mailbox})")


def _use(form: Create) -> str | None:
    if len(form.uses) > 1:
        raise No("A mailbox has one special use here", "USEATTR")
    if not form.uses:
        return None
    use = USES.get(form.uses[0].lower())
    if use is None:
        # RFC 6154 §3
        raise No("There is no such special use here", "USEATTR")
    return use


async def delete(session: Session, form: OnMailbox) -> Reply:
    """Remove a mailbox with its messages: RFC 3501 §6.3.4."""
    own = False
    if session.view is not None:
        mailbox = await session.storage.mailbox(session.account, form.mailbox)
        own = mailbox.ref == session.view.ref
    await session.storage.delete_mailbox(session.operation(), session.account, form.mailbox)
    if own:
        # whoever deletes the mailbox he has open knows it, and needs no BYE
        session.forget_mailbox()
    return Reply("Deleted")


async def rename(session: Session, form: Rename) -> Reply:
    """Another name, for those below it too: RFC 3501 §6.3.5."""
    new = form.new.removesuffix(DELIMITER)
    await session.storage.rename_mailbox(session.operation(), session.account, form.old, new)
    return Reply("Renamed")


async def subscribe(session: Session, form: OnMailbox) -> Reply:
    """Add a name to the subscribed ones: RFC 3501 §6.3.6."""
    await session.storage.subscribe(session.operation(), session.account, _subscribed(form), True)
    return Reply("Subscribed")


async def unsubscribe(session: Session, form: OnMailbox) -> Reply:
    """Take a name from the subscribed ones: RFC 3501 §6.3.7."""
    await session.storage.subscribe(session.operation(), session.account, _subscribed(form), False)
    return Reply("Unsubscribed")


def _subscribed(form: OnMailbox) -> str:
    """Tolerance: a delimiter at the end, which clients leave there that made the mailbox with one."""
    return form.mailbox.removesuffix(DELIMITER)


async def status(session: Session, form: Status) -> Reply:
    """A mailbox's counters: RFC 3501 §6.3.10."""
    mailbox = await session.storage.mailbox(session.account, form.mailbox)
    session.out.write(writer.status(form.mailbox, status_of(session, mailbox, form.items)))
    return Reply("Done")


def status_of(session: Session, mailbox: Mailbox, items: Sequence[str]) -> list[tuple[str, int | str]]:
    """The items with their values. One that tells of modification sequences enables them."""
    if "HIGHESTMODSEQ" in items:
        session.tell_modseq()
    values: dict[str, int | str] = {
        "MESSAGES": mailbox.messages,
        "RECENT": mailbox.recent,
        "UIDNEXT": mailbox.uidnext,
        "UIDVALIDITY": mailbox.uidvalidity,
        "UNSEEN": mailbox.unseen,
        "DELETED": mailbox.deleted,
        # RFC 8438 §3
        "SIZE": mailbox.size,
        # RFC 7162 §3.1.7
        "HIGHESTMODSEQ": mailbox.highest_modseq,
        # RFC 7889 §4
        "APPENDLIMIT": session.house.limits.message,
        # RFC 8474 §4.3
        "MAILBOXID": f"({mailbox.ref.mailbox})",
    }
    return [(item, values[item]) for item in items]


async def namespace(session: Session, form: Bare) -> Reply:
    """There are personal mailboxes alone: RFC 2342 §5."""
    session.out.write(writer.data(b'NAMESPACE (("" "/")) NIL NIL'))
    return Reply("Done")


_N = News.IF_ANY

ENTRIES = (
    Entry("CREATE", SIGNED_IN, Create, create, _N, may_expunge=True, capability="CREATE-SPECIAL-USE"),
    Entry("DELETE", SIGNED_IN, OnMailbox, delete, _N, may_expunge=True),
    Entry("RENAME", SIGNED_IN, Rename, rename, News.ASK, may_expunge=True),
    Entry("SUBSCRIBE", SIGNED_IN, OnMailbox, subscribe, _N, may_expunge=True),
    Entry("UNSUBSCRIBE", SIGNED_IN, OnMailbox, unsubscribe, _N, may_expunge=True),
    Entry("STATUS", SIGNED_IN, Status, status, _N, may_expunge=True),
    Entry("NAMESPACE", SIGNED_IN, Bare, namespace, _N, may_expunge=True, capability="NAMESPACE"),
)
