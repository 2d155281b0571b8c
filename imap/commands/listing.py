"""The names of mailboxes: LIST LSUB (RFC 3501 §6.3.8, §6.3.9), extended LIST (RFC 5258), LIST-STATUS (RFC 5819)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from imap.commands.mailboxes import status_of
from imap.commands.pattern import MailboxPattern
from imap.session import SIGNED_IN, Entry, News, Reply, Session
from imap.wire import writer
from imap.wire.forms import List, ListOptions
from storage.model import DELIMITER, INBOX, Mailbox, MailboxList

PIECE = 256
"""Names that are matched and written in one go."""


@dataclass(frozen=True, slots=True)
class Line:
    """One name that may be listed. child_info: selection options that its inferiors satisfy. status: the mailbox whose
    counters are to follow."""

    name: str
    attributes: tuple[str, ...]
    child_info: tuple[str, ...] = ()
    status: Mailbox | None = None


async def list_mailboxes(session: Session, form: List) -> Reply:
    """The names that match, with what they are: RFC 3501 §6.3.8, RFC 5258 §3."""
    if form.options is not None:
        return await _list_extended(session, form, form.options)
    if not form.pattern:
        # RFC 3501 §6.3.8: an empty name asks for the delimiter and the root of the reference
        session.out.write(writer.list_line("LIST", ("\\Noselect",), ""))
        return Reply("Listed")
    listed = await session.storage.list_mailboxes(session.account)
    mailboxes = {mailbox.name: mailbox for mailbox in listed.mailboxes}
    superiors = _superiors(mailboxes)
    # names that exist only by their inferiors come among the others, in the order of names
    names = sorted({*mailboxes, *superiors}, key=_inbox_first)
    lines = (Line(name, _attributes(mailboxes.get(name), name in superiors, "\\Noselect")) for name in names)
    await _write(session, "LIST", lines, [MailboxPattern(form.reference, form.pattern)])
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
    lines = (Line(name, names[name]) for name in sorted(names, key=_inbox_first))
    await _write(session, "LSUB", lines, [MailboxPattern(form.reference, form.pattern)])
    return Reply("Listed")


async def _list_extended(session: Session, form: List, options: ListOptions) -> Reply:
    listed = await session.storage.list_mailboxes(session.account)
    # RFC 5258 §3: an empty name asks for nothing here
    patterns = [MailboxPattern(form.reference, pattern) for pattern in options.patterns if pattern]
    if patterns:
        await _write(session, "LIST", _chosen(listed, options, patterns), patterns, options.status)
    return Reply("Listed")


def _chosen(listed: MailboxList, options: ListOptions, patterns: Sequence[MailboxPattern]) -> Iterable[Line]:
    """What the options select, of names that match or not."""
    mailboxes = {mailbox.name: mailbox for mailbox in listed.mailboxes}
    superiors = _superiors(mailboxes)
    names = {*mailboxes, *superiors}
    criteria = tuple(sorted(options.selection - {"RECURSIVEMATCH", "REMOTE"}))
    met = names
    if "SUBSCRIBED" in criteria:
        # RFC 5258 §3.1: names that are subscribed, whether there is such a mailbox or not
        met = set(listed.subscriptions)
    if "SPECIAL-USE" in criteria:
        # RFC 6154 §2
        met = {name for name in met if name in mailboxes and mailboxes[name].special_use is not None}
    above: set[str] = set()
    alone: set[str] = set()
    if "RECURSIVEMATCH" in options.selection:
        above = _superiors(met)
        # RFC 5258 §3.5: those whose inferiors that satisfy the options are not listed themselves
        alone = _superiors(name for name in met if not _matches(name, patterns))
    subscribed = listed.subscriptions if "SUBSCRIBED" in options.selection | options.returns else frozenset()
    for name in sorted(met | alone, key=_inbox_first):
        mailbox = mailboxes.get(name)
        attributes = _attributes(mailbox, name in superiors, "\\NonExistent")
        if name in subscribed:
            attributes = (*attributes, "\\Subscribed")
        # RFC 5819 §2: a name that is here for its inferiors alone has no STATUS
        yield Line(name, attributes, criteria if name in above else (), mailbox if name in met else None)


def _matches(name: str, patterns: Sequence[MailboxPattern]) -> bool:
    return any(pattern.matches(name) for pattern in patterns)


async def _write(
    session: Session,
    command: Literal["LIST", "LSUB"],
    lines: Iterable[Line],
    patterns: Sequence[MailboxPattern],
    status: tuple[str, ...] = (),
) -> None:
    written: list[bytes] = []
    looked = 0
    for line in lines:
        looked += len(patterns)
        if _matches(line.name, patterns):
            written.append(writer.list_line(command, line.attributes, line.name, child_info=line.child_info))
            if status and line.status is not None:
                written.append(writer.status(line.name, status_of(session, line.status, status)))
        if looked >= PIECE:
            session.out.write(b"".join(written))
            written.clear()
            looked = 0
            await session.out.drain()
    session.out.write(b"".join(written))


def _attributes(mailbox: Mailbox | None, has_children: bool, missing: str) -> tuple[str, ...]:
    # RFC 3348 §3, RFC 5258 §4
    children = "\\HasChildren" if has_children else "\\HasNoChildren"
    if mailbox is None:
        return (missing, children)
    # RFC 6154 §2
    return (children,) if mailbox.special_use is None else (children, mailbox.special_use)


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


ENTRIES = (
    Entry("LIST", SIGNED_IN, List, list_mailboxes, News.IF_ANY, may_expunge=True, capability="LIST-EXTENDED"),
    Entry("LSUB", SIGNED_IN, List, list_subscribed, News.IF_ANY, may_expunge=True),
)
