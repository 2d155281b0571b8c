"""Access control lists as they stand in the account document: ``acl`` of a mailbox, absent where there is none.

No input or output.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from storage import rights
from storage.model import ALL_RIGHTS, Grant, MailboxRef, Rights
from storage.port import Reason, Refused

GRANT_OCTETS: Final = 60
"""What an entry takes beside its identifier."""

Packed = list[dict[str, Any]]
"""who, negative, rights of each; in order. (Documents, for FerretDB has no arrays within arrays.)"""


def grants(box: Mapping[str, Any]) -> tuple[Grant, ...]:
    return tuple(Grant(one["who"], Rights(one["rights"]), one["negative"]) for one in box.get("acl", ()))


def packed(entries: Sequence[Grant]) -> Packed:
    return [{"who": grant.identifier, "negative": grant.negative, "rights": int(grant.rights)} for grant in entries]


def identifiers(box: Mapping[str, Any]) -> list[str]:
    """Those that the mailbox's list has entries of."""
    return [one["who"] for one in box.get("acl", ())]


def count(boxes: Iterable[Mapping[str, Any]]) -> int:
    """The entries of all lists of these mailboxes."""
    return sum(len(box.get("acl", ())) for box in boxes)


def octets(box: Mapping[str, Any]) -> int:
    """What the mailbox's list takes in the document, about."""
    return sum(len(who) + GRANT_OCTETS for who in identifiers(box))


def have(box: Mapping[str, Any], actor: str | None) -> Rights:
    """What an account may do that is not the owner; the owner (None) everything."""
    return ALL_RIGHTS if actor is None else rights.held(grants(box), actor)


def check(box: Mapping[str, Any], actor: str | None, needed: Rights) -> Rights:
    """The same, for one who may do that: NO_PERMISSION, NO_SUCH_MAILBOX."""
    found = have(box, actor)
    rights.check(found, needed)
    return found


def check_reader(box: Mapping[str, Any], ref: MailboxRef) -> None:
    """Refused unless the ref's actor may read the mailbox."""
    check(box, rights.reader(ref), Rights.READ)


def visible(box: Mapping[str, Any], actor: str | None) -> Rights:
    """What one may do to a mailbox who asks for it by name; NO_SUCH_MAILBOX for nothing."""
    found = have(box, actor)
    if not found:
        raise Refused(Reason.NO_SUCH_MAILBOX)
    return found
