"""Mailboxes as names: LIST LSUB CREATE DELETE RENAME SUBSCRIBE UNSUBSCRIBE STATUS NAMESPACE."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from imap.commands.pattern import MailboxPattern
from imap.errors import No
from imap.session import SIGNED_IN, Entry, News, Reply, Session
from imap.wire import writer
from imap.wire.forms import Bare, List, OnMailbox, Rename, Status
from storage.model import DELIMITER, INBOX, Mailbox

PIECE = 256
"""Lines of LIST that are matched and written in one go."""


async def list_mailboxes(session: Session, form: List) -> Reply:
    """The names that match, with what they are: RFC 3501 §6.3.8."""
    if not form.pattern:
        # RFC 3501 §6.3.8: an empty name asks for the delimiter and the root of the reference
        session.out.write(writer.list_line("LIST", ("\\Noselect",), ""))
        return Reply("Listed")
    listed = await session.storage.list_mailboxes(session.account)
    mailboxes = {mailbox.name: mailbox for mailbox in listed.mailboxes}
    superiors = _superiors(mailboxes)
    # names that exist only by their inferiors come among the others, in the order of names
    names = sorted({*mailboxes, *superiors}, key=_inbox_first)
    pattern = MailboxPattern(form.reference, form.pattern)
    await _write(
        session, "LIST", ((name, _attributes(mailboxes.get(name), name in superiors)) for name in names), pattern
    )
    return Reply("Listed")


async def list_subscribed(session: Session, form: List) -> Reply:
    """The subscribed names that match: RFC 3501 §6.3.9."""
    if not form.pattern:
        session.out.write(writer.list_line("LSUB", ("\\Noselect",), ""))
        return Reply("Listed")
    subscribed = (await session.storage.list_mailboxes(session.account)).subscriptions
    names: dict[str, tuple[str, ...]] = dict.fromkeys(subscribed, ())
    if form.pattern.endswith("%"):
        # RFC 3501 §6.3.9: "foo/bar" subscribed and "%" asked is answered with "foo", \Noselect
        names = dict.fromkeys(_superiors(subscribed), ("\\Noselect",)) | names
    pattern = MailboxPattern(form.reference, form.pattern)
    await _write(session, "LSUB", ((name, names[name]) for name in sorted(names, key=_inbox_first)), pattern)
    return Reply("Listed")


async def _write(
    session: Session,
    command: Literal["LIST", "LSUB"],
    names: Iterable[tuple[str, tuple[str, ...]]],
    pattern: MailboxPattern,
) -> None:
    lines: list[bytes] = []
    for seen, (name, attributes) in enumerate(names, 1):
        if pattern.matches(name):
            lines.append(writer.list_line(command, attributes, name))
        if seen % PIECE == 0:
            session.out.write(b"".join(lines))
            lines.clear()
            await session.out.drain()
    session.out.write(b"".join(lines))


def _attributes(mailbox: Mailbox | None, has_children: bool) -> tuple[str, ...]:
    if mailbox is None:
        return ("\\Noselect", "\\HasChildren")
    # RFC 3348 §3
    attributes = ["\\HasChildren" if has_children else "\\HasNoChildren"]
    if mailbox.special_use is not None:
        # RFC 6154 §2
        attributes.append(mailbox.special_use)
    return tuple(attributes)


def _superiors(names: Iterable[str]) -> set[str]:
    """All names that are above one of these in the hierarchy."""
    found: set[str] = set()
    for name in names:
        while DELIMITER in name:
            name = name.rpartition(DELIMITER)[0]
            if name in found:
                break
            found.add(name)
    return found


def _inbox_first(name: str) -> tuple[bool, str]:
    return name != INBOX, name


async def create(session: Session, form: OnMailbox) -> Reply:
    """Make a mailbox, and those above it: RFC 3501 §6.3.3."""
    # RFC 3501 §6.3.3: a delimiter at the end says that inferiors will follow
    name = form.mailbox.removesuffix(DELIMITER)
    if not name:
        raise No("A mailbox needs a name", "CANNOT")
    if name.isascii() and name.upper() == INBOX:
        raise No("INBOX is there already", "ALREADYEXISTS")
    await session.storage.create_mailbox(session.operation(), session.account, name)
    return Reply("Created")


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
    values = {
        "MESSAGES": mailbox.messages,
        "RECENT": mailbox.recent,
        "UIDNEXT": mailbox.uidnext,
        "UIDVALIDITY": mailbox.uidvalidity,
        "UNSEEN": mailbox.unseen,
    }
    session.out.write(writer.status(form.mailbox, [(item, values[item]) for item in form.items]))
    return Reply("Done")


async def namespace(session: Session, form: Bare) -> Reply:
    """There are personal mailboxes alone: RFC 2342 §5."""
    session.out.write(writer.data(b'NAMESPACE (("" "/")) NIL NIL'))
    return Reply("Done")


_N = News.IF_ANY

ENTRIES = (
    Entry("LIST", SIGNED_IN, List, list_mailboxes, _N, may_expunge=True),
    Entry("LSUB", SIGNED_IN, List, list_subscribed, _N, may_expunge=True),
    Entry("CREATE", SIGNED_IN, OnMailbox, create, _N, may_expunge=True),
    Entry("DELETE", SIGNED_IN, OnMailbox, delete, _N, may_expunge=True),
    Entry("RENAME", SIGNED_IN, Rename, rename, News.ASK, may_expunge=True),
    Entry("SUBSCRIBE", SIGNED_IN, OnMailbox, subscribe, _N, may_expunge=True),
    Entry("UNSUBSCRIBE", SIGNED_IN, OnMailbox, unsubscribe, _N, may_expunge=True),
    Entry("STATUS", SIGNED_IN, Status, status, _N, may_expunge=True),
    Entry("NAMESPACE", SIGNED_IN, Bare, namespace, _N, may_expunge=True, capability="NAMESPACE"),
)
