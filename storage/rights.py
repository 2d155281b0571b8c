"""Who may do what (the port's "Rights")."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mail.flags import ALL, DELETED, SEEN
from storage.limits import GRANTS_PER_ACCOUNT, GRANTS_PER_MAILBOX
from storage.model import ALL_RIGHTS, ANYONE, SYSTEM, FlagMode, Grant, MailboxRef, Operation, Rights
from storage.port import Reason, Refused

OTHERS: Final = ALL & ~(SEEN | DELETED)
"""The system flags that ``Rights.WRITE`` is about."""


def check_rights(op: Operation, owner: str) -> None:
    """NO_PERMISSION unless the actor owns the account or is the system."""
    if op.actor not in (owner, SYSTEM):
        raise Refused(Reason.NO_PERMISSION)


def reader(ref: MailboxRef) -> str | None:
    """The account other than the owner that a reading call asks for, if it is one."""
    return None if ref.actor in (None, ref.account, SYSTEM) else ref.actor


def writer(op: Operation, owner: str) -> str | None:
    """The account other than the owner that acts, if it is one."""
    return None if op.actor in (owner, SYSTEM) else op.actor


def told(refusal: Refused, op: Operation, owner: str, unknown: Reason) -> Refused:
    """The refusal of a call as the actor may know it: another learns no more of an account that is not there than of
    one that shares nothing, which is refused as ``unknown``."""
    other = refusal.reason is Reason.NO_SUCH_ACCOUNT and writer(op, owner) is not None
    return Refused(unknown) if other else refusal


def held(grants: Iterable[Grant], account: str) -> Rights:
    """What the account, which is not the owner, may do by this list."""
    # RFC 4314 §2: all that apply are put together, and the negative ones taken off.
    given = taken = Rights.NONE
    for grant in grants:
        if grant.identifier in (account, ANYONE):
            if grant.negative:
                taken |= grant.rights
            else:
                given |= grant.rights
    return given & ~taken


def check(have: Rights, needed: Rights) -> None:
    """NO_PERMISSION for who lacks some of the rights, NO_SUCH_MAILBOX for one who may not even know of the mailbox."""
    if needed & ~have:
        raise lacking(have)


def lacking(have: Rights) -> Refused:
    """The refusal of one who has these rights and not those that he needs."""
    # RFC 4314 §6: no error tells of a mailbox that may not be looked up.
    return Refused(Reason.NO_PERMISSION if have & (Rights.LOOKUP | Rights.READ) else Reason.NO_SUCH_MAILBOX)


def flags_allowed(have: Rights) -> int:
    """The system flags that may be set with these rights."""
    return (
        (SEEN if Rights.SEEN in have else 0)
        | (DELETED if Rights.DELETE_MESSAGES in have else 0)
        | (OTHERS if Rights.WRITE in have else 0)
    )


def check_flags(have: Rights, mode: FlagMode, flags: int, keywords: bool) -> None:
    """Refused where nothing of a STORE is allowed with these rights."""
    # RFC 4314 §4: a STORE does not fail while the right to one of its flags is there.
    if not have & Rights.READ:
        raise lacking(have)
    allowed = flags_allowed(have)
    words = bool(have & Rights.WRITE)
    asked = mode is FlagMode.REPLACE or bool(flags & ALL) or keywords
    if asked and not (allowed if mode is FlagMode.REPLACE else flags & allowed) and not (words and keywords):
        raise lacking(have)


def check_entries(before: int, after: int, account: int) -> None:
    """LIMIT where a list grows from ``before`` to ``after`` entries, ``account`` in all lists of its account then, and
    has too many. What has too many already may be changed."""
    if after <= before:
        return
    if after > GRANTS_PER_MAILBOX:
        raise Refused(Reason.LIMIT, f"A mailbox is shared in at most {GRANTS_PER_MAILBOX} entries.")
    if account > GRANTS_PER_ACCOUNT:
        raise Refused(Reason.LIMIT, f"The mailboxes of an account are shared in at most {GRANTS_PER_ACCOUNT} entries.")


def changed(
    grants: Iterable[Grant], identifier: str, rights: Rights, mode: FlagMode, negative: bool
) -> tuple[Grant, ...]:
    """The list with the identifier's entry changed, in its order."""
    # RFC 4314 §3.1
    entries = {(grant.identifier, grant.negative): grant.rights for grant in grants}
    had = entries.pop((identifier, negative), Rights.NONE)
    if mode is FlagMode.ADD:
        rights = had | rights
    elif mode is FlagMode.REMOVE:
        rights = had & ~rights
    if rights & ALL_RIGHTS:
        entries[identifier, negative] = rights & ALL_RIGHTS
    return tuple(Grant(who, entries[who, minus], minus) for who, minus in sorted(entries))
