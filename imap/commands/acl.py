"""Who may do what: SETACL DELETEACL GETACL LISTRIGHTS MYRIGHTS (RFC 4314 §3).

Identifiers are addresses of accounts and "anyone", with "-" before them for negative rights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from imap.errors import Bad, No
from imap.rights import LETTERS, OBSOLETE, letters_of, rights_of
from imap.session import SIGNED_IN, Entry, News, Reply, Session
from imap.wire import write_acl
from imap.wire.forms import OnMailbox
from imap.wire.forms_acl import OnIdentifier, SetAcl
from storage.model import ALL_RIGHTS, ANYONE, FlagMode, Grant, Mailbox, Rights

_MODES = {"set": FlagMode.REPLACE, "add": FlagMode.ADD, "remove": FlagMode.REMOVE}
_TO_KNOW = Rights.LOOKUP | Rights.READ | Rights.INSERT | Rights.CREATE | Rights.DELETE_MAILBOX | Rights.ADMINISTER
"""RFC 4314 §4: who has any of them may ask for his rights."""


class Who(NamedTuple):
    """An identifier. account: an id, or ANYONE."""

    account: str
    negative: bool


async def set_acl(session: Session, form: SetAcl) -> Reply:
    """RFC 4314 §3.1."""
    rights = rights_of(form.rights)
    if rights is None:
        # RFC 4314 §3.1: never passed over
        raise Bad(f"One of these is no right: {form.rights[:40]}")
    mailbox = await session.find(form.mailbox, Rights.ADMINISTER)
    await _change(session, mailbox, await _who(session, form.identifier), rights, _MODES[form.mode])
    return Reply("Shared")


async def delete_acl(session: Session, form: OnIdentifier) -> Reply:
    """RFC 4314 §3.2."""
    mailbox = await session.find(form.mailbox, Rights.ADMINISTER)
    await _change(session, mailbox, await _who(session, form.identifier), Rights.NONE, FlagMode.REPLACE)
    return Reply("No longer shared")


async def _change(session: Session, mailbox: Mailbox, who: Who, rights: Rights, mode: FlagMode) -> None:
    await session.storage.set_acl(session.operation(), mailbox.ref, who.account, rights, mode, who.negative)


async def get_acl(session: Session, form: OnMailbox) -> Reply:
    """RFC 4314 §3.3."""
    mailbox = await session.find(form.mailbox, Rights.ADMINISTER)
    entries = await _named(session, await session.storage.acl(mailbox.ref))
    owner = await session.places.address_of(mailbox.ref.account)
    if owner is not None:
        # who has all rights always, which no entry says
        entries.insert(0, (owner, letters_of(ALL_RIGHTS)))
    session.out.write(write_acl.acl(form.mailbox, entries, session.utf8))
    return Reply("Told")


async def _named(session: Session, grants: Sequence[Grant]) -> list[tuple[str, str]]:
    """By identifier, a negative entry behind the other."""
    found: list[tuple[str, bool, str]] = []
    for grant in grants:
        name = ANYONE if grant.identifier == ANYONE else await session.places.address_of(grant.identifier)
        # an account that has just been removed has no address, and no rights
        if name is not None:
            found.append((name, grant.negative, letters_of(grant.rights)))
    return [(f"-{name}" if negative else name, letters) for name, negative, letters in sorted(found)]


async def list_rights(session: Session, form: OnIdentifier) -> Reply:
    """RFC 4314 §3.4: no rights are tied, and the owner has them all."""
    mailbox = await session.find(form.mailbox, Rights.ADMINISTER)
    who = await _who(session, form.identifier)
    letters = [*LETTERS, *OBSOLETE]
    own = who.account == mailbox.ref.account
    required, optional = ("".join(letters), []) if own else ("", letters)
    # RFC 4314 §3.4: the identifier as the client has spelt it
    session.out.write(write_acl.list_rights(form.mailbox, form.identifier, required, optional, session.utf8))
    return Reply("Told")


async def my_rights(session: Session, form: OnMailbox) -> Reply:
    """RFC 4314 §3.5."""
    mailbox = await session.find(form.mailbox)
    if not mailbox.rights & _TO_KNOW:
        # RFC 4314 §6
        raise No("There is no such mailbox", "NONEXISTENT")
    session.out.write(write_acl.my_rights(form.mailbox, letters_of(mailbox.rights), session.utf8))
    return Reply("Told")


async def _who(session: Session, identifier: str) -> Who:
    """Raises No for one who is nobody here."""
    # RFC 4314 §2: a dash in front makes negative rights of them
    name = identifier.removeprefix("-")
    account = ANYONE if name == ANYONE else await session.places.account_of(name)
    if account is None:
        raise No("There is no account of that address")
    return Who(account, name != identifier)


_N = News.IF_ANY

ENTRIES = (
    Entry("SETACL", SIGNED_IN, SetAcl, set_acl, _N, may_expunge=True, capability="ACL"),
    Entry("DELETEACL", SIGNED_IN, OnIdentifier, delete_acl, _N, may_expunge=True, capability="ACL"),
    Entry("GETACL", SIGNED_IN, OnMailbox, get_acl, _N, may_expunge=True, capability="ACL"),
    Entry("LISTRIGHTS", SIGNED_IN, OnIdentifier, list_rights, _N, may_expunge=True, capability="ACL"),
    Entry("MYRIGHTS", SIGNED_IN, OnMailbox, my_rights, _N, may_expunge=True, capability="ACL"),
)
