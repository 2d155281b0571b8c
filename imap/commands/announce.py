"""LIST responses that nobody asked for: the mailbox selected, or one whose name is another than the client wrote
(RFC 9051 §6.3.2, §6.3.9.7). They are for those who have enabled IMAP4rev2."""

from __future__ import annotations

from imap.session import Session
from imap.wire import writer
from storage.model import DELIMITER, Mailbox, Rights
from storage.names import canonical


def attributes(mailbox: Mailbox | None, has_children: bool, missing: str) -> tuple[str, ...]:
    """What LIST tells of a name. missing: the attribute of one that is there for its inferiors alone."""
    # RFC 3348 §3, RFC 5258 §4
    children = "\\HasChildren" if has_children else "\\HasNoChildren"
    if mailbox is None:
        return (missing, children)
    if not mailbox.rights & Rights.READ:
        # RFC 4314 §4: it may be looked up, and not opened
        return ("\\Noselect", children)
    # RFC 6154 §2
    return (children,) if mailbox.special_use is None else (children, mailbox.special_use)


async def line_of(session: Session, name: str, old_name: str | None = None) -> bytes:
    """The LIST line of a mailbox of the account as it is now; b"" where there is none any more."""
    listed = (await session.places.listed(session.account, [name])).mailboxes
    mailbox = next((one for one in listed if one.name == name), None)
    if mailbox is None:
        return b""
    has_children = any(one.name.startswith(name + DELIMITER) for one in listed)
    told = attributes(mailbox, has_children, "\\NonExistent")
    return writer.list_line("LIST", told, name, old_name=old_name, utf8=session.utf8)


async def selected(session: Session, given: str) -> bytes:
    """RFC 9051 §6.3.2: SELECT and EXAMINE tell the mailbox's name and attributes."""
    name = await session.places.name_of(session.account, given)
    return await line_of(session, name, given if given != name else None)


async def named(session: Session, given: str) -> None:
    """RFC 9051 §6.3.4, §6.3.12: where a name was composed for the client, it is told of both."""
    name = await session.places.name_of(session.account, given) if session.rev2 else given
    if name != given:
        session.out.write(await line_of(session, name, given))


async def renamed(session: Session, old: str, new: str) -> None:
    """RFC 9051 §6.3.6, §6.3.9.7: what the client knew by the old name it knows by the new one."""
    if session.rev2:
        session.out.write(await line_of(session, await session.places.name_of(session.account, new), old))


def deleted(session: Session, given: str) -> None:
    """RFC 9051 §6.3.5: as `named`, of a mailbox that is no more."""
    name = canonical(given)
    if session.rev2 and name != given:
        session.out.write(
            writer.list_line("LIST", ("\\NonExistent",), name, old_name=given, utf8=session.utf8),
        )
