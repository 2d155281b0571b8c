"""Mailboxes as a whole: CREATE DELETE RENAME SUBSCRIBE UNSUBSCRIBE STATUS NAMESPACE."""

from __future__ import annotations

from collections.abc import Sequence

from imap.commands import announce
from imap.commands.quota import deleted_storage
from imap.errors import No
from imap.places import PREFIX
from imap.session import SIGNED_IN, Entry, News, Reply, Session
from imap.wire import writer
from imap.wire.forms import Bare, Create, OnMailbox, Rename, Status
from storage.model import DELIMITER, INBOX, Mailbox, Rights
from storage.names import canonical
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
        place = await session.places.of(session.account, name)
        made = await session.storage.create_mailbox(session.operation(), place.account, place.name, use)
    except Refused as error:
        if error.reason in (Reason.NO_SUCH_MAILBOX, Reason.NO_PERMISSION):
            # among other users' mailboxes: whether there is such a user, or a mailbox above it, is not told here
            raise No("Mailboxes cannot be made there", "NOPERM") from error
        if use is not None and error.reason is Reason.CANNOT:
            # RFC 6154 §3: another mailbox has that use
            raise No(f"There is a mailbox for {use} already", "USEATTR") from error
        raise
    await announce.named(session, name)
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
    try:
        if session.view is not None:
            mailbox = await session.find(form.mailbox)
            own = mailbox.ref == session.view.ref
        place = await session.places.of(session.account, form.mailbox)
        await session.storage.delete_mailbox(session.operation(), place.account, place.name)
    except Refused as error:
        if error.reason is Reason.NO_SUCH_MAILBOX and await _has_inferiors(session, form.mailbox):
            # RFC 9051 §6.3.5, §7.1
            raise No("The name is there for those below it alone", "HASCHILDREN") from error
        raise
    if own:
        # whoever deletes the mailbox he has open knows it, and needs no BYE
        session.forget_mailbox()
    announce.deleted(session, form.mailbox)
    return Reply("Deleted")


async def _has_inferiors(session: Session, name: str) -> bool:
    name = await session.places.name_of(session.account, name) + DELIMITER
    listed = await session.places.listed(session.account, [name])
    return any(mailbox.name.startswith(canonical(name)) for mailbox in listed.mailboxes)


async def rename(session: Session, form: Rename) -> Reply:
    """Another name, for those below it too: RFC 3501 §6.3.5."""
    new = form.new.removesuffix(DELIMITER)
    old_place = await session.places.of(session.account, form.old)
    try:
        new_place = await session.places.of(session.account, new)
    except Refused:
        new_place = None
    if new_place is None or old_place.account != new_place.account:
        # RFC 4314 §6: whether there is such a mailbox, or such a user, is told to those alone who may know
        await session.find(form.old)
        raise No("A mailbox stays with its owner; its messages can be copied", "CANNOT")
    await session.storage.rename_mailbox(session.operation(), old_place.account, old_place.name, new_place.name)
    if form.old != INBOX:
        await announce.renamed(session, form.old, new)
    return Reply("Renamed")


async def subscribe(session: Session, form: OnMailbox) -> Reply:
    """Add a name to the subscribed ones: RFC 3501 §6.3.6."""
    name = await session.places.name_of(session.account, _subscribed(form))
    await session.storage.subscribe(session.operation(), session.account, name, True)
    return Reply("Subscribed")


async def unsubscribe(session: Session, form: OnMailbox) -> Reply:
    """Take a name from the subscribed ones: RFC 3501 §6.3.7."""
    given = _subscribed(form)
    await session.storage.subscribe(session.operation(), session.account, given, False)
    name = await session.places.name_of(session.account, given)
    if name != given:
        await session.storage.subscribe(session.operation(), session.account, name, False)
    return Reply("Unsubscribed")


def _subscribed(form: OnMailbox) -> str:
    """Tolerance: a delimiter at the end, which clients leave there that made the mailbox with one."""
    return form.mailbox.removesuffix(DELIMITER)


async def status(session: Session, form: Status) -> Reply:
    """A mailbox's counters: RFC 3501 §6.3.10."""
    # RFC 4314 §4
    mailbox = await session.find(form.mailbox, Rights.READ)
    items = await status_of(session, mailbox, form.items)
    session.out.write(writer.status(canonical(form.mailbox), items, session.utf8))
    return Reply("Done")


async def status_of(session: Session, mailbox: Mailbox, items: Sequence[str]) -> list[tuple[str, int | str]]:
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
    if "DELETED-STORAGE" in items:
        values["DELETED-STORAGE"] = await deleted_storage(session, mailbox)
    return [(item, values[item]) for item in items]


async def namespace(session: Session, form: Bare) -> Reply:
    """One's own, and those of others that are shared: RFC 2342 §5."""
    session.out.write(writer.data(b'NAMESPACE (("" "/")) ((%b "/")) NIL' % writer.string(PREFIX)))
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
