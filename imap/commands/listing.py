"""The names of mailboxes: LIST LSUB (RFC 3501 §6.3.8, §6.3.9), extended LIST (RFC 5258), LIST-STATUS (RFC 5819),
LIST-MYRIGHTS (RFC 8440). Mailboxes of others come as those of "Other Users" (`imap.places`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from imap.commands import metadata
from imap.commands.announce import attributes
from imap.commands.mailboxes import status_of
from imap.commands.pattern import MailboxPattern
from imap.rights import letters_of
from imap.session import SIGNED_IN, Entry, News, Reply, Session
from imap.wire import write_acl, writer
from imap.wire.forms import List, ListOptions
from storage.model import DELIMITER, INBOX, Mailbox, MailboxList, Rights

PIECE = 256
"""Names that are matched and written in one go."""


@dataclass(frozen=True, slots=True)
class Line:
    """One name that may be listed. child_info: selection options that its inferiors satisfy. status: the mailbox whose
    counters and annotations are to follow."""

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
    listed = await session.places.listed(session.account, [form.reference + form.pattern])
    mailboxes = {mailbox.name: mailbox for mailbox in listed.mailboxes}
    superiors = _superiors(mailboxes)
    # names that exist only by their inferiors come among the others, in the order of names
    names = sorted({*mailboxes, *superiors}, key=_inbox_first)
    # RFC 9051 §7.3.1
    missing = "\\NonExistent" if session.rev2 else "\\Noselect"
    lines = (Line(name, attributes(mailboxes.get(name), name in superiors, missing)) for name in names)
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
    # RFC 5258 §3: an empty name asks for nothing here
    wanted = [pattern for pattern in options.patterns if pattern]
    listed = await session.places.listed(session.account, [form.reference + pattern for pattern in wanted])
    patterns = [MailboxPattern(form.reference, pattern) for pattern in wanted]
    if patterns:
        await _write(session, "LIST", _chosen(listed, options, patterns), patterns, options)
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
        told = attributes(mailbox, name in superiors, "\\NonExistent")
        if name in subscribed:
            told = (*told, "\\Subscribed")
        # RFC 5819 §2: a name that is here for its inferiors alone has no STATUS
        yield Line(name, told, criteria if name in above else (), mailbox if name in met else None)


def _matches(name: str, patterns: Sequence[MailboxPattern]) -> bool:
    return any(pattern.matches(name) for pattern in patterns)


async def _write(
    session: Session,
    command: Literal["LIST", "LSUB"],
    lines: Iterable[Line],
    patterns: Sequence[MailboxPattern],
    options: ListOptions | None = None,
) -> None:
    matched: list[Line] = []
    looked = 0
    for line in lines:
        looked += len(patterns)
        if _matches(line.name, patterns):
            matched.append(line)
        if looked >= PIECE or (options is not None and options.metadata and len(matched) >= metadata.AT_ONCE):
            await _tell(session, command, matched, options)
            matched.clear()
            looked = 0
    await _tell(session, command, matched, options)


async def _tell(
    session: Session,
    command: Literal["LIST", "LSUB"],
    lines: Sequence[Line],
    options: ListOptions | None,
) -> None:
    utf8 = session.utf8
    mailboxes = [line.status for line in lines if line.status is not None]
    # RFC 9590 §3
    entries = () if options is None else options.metadata
    annotated = await metadata.lines_of(session, mailboxes, entries) if entries else {}
    written: list[bytes] = []
    for line in lines:
        written.append(writer.list_line(command, line.attributes, line.name, child_info=line.child_info, utf8=utf8))
        if line.status is not None and options is not None:
            # RFC 5819 §2, RFC 4314 §4: of what may not be opened nothing is counted
            if options.status and line.status.rights & Rights.READ:
                written.append(writer.status(line.name, await status_of(session, line.status, options.status), utf8))
            if "MYRIGHTS" in options.returns:
                # RFC 8440 §4
                written.append(write_acl.my_rights(line.name, letters_of(line.status.rights), utf8))
            written.append(annotated.get(line.status.ref, b""))
    session.out.write(b"".join(written))
    await session.out.drain()


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
