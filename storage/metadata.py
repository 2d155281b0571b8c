"""Annotations of mailboxes (RFC 5464): names of entries, what a name stands for, and what a change makes of a set.

A *set* is what belongs together under one limit: the shared entries of a mailbox, or those that one account set for
itself; the same of an account as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from storage.limits import ANNOTATED_OCTETS, ANNOTATIONS_PER_MAILBOX, ENTRY_NAME_OCTETS
from storage.model import ANNOTATION_OCTETS, SYSTEM, Depth, Rights
from storage.port import Reason, Refused
from storage.rights import lacking

PRIVATE: Final = "/private"
SHARED: Final = "/shared"

# RFC 5464 §3.2.1: US-ASCII, no controls, no wildcards, no empty component.
_NAME: Final = re.compile(r"/(?:private|shared)(?:/[ !-$&-)+-.0-~]+)*")
_ANY: Final = Rights.READ | Rights.SEEN | Rights.WRITE | Rights.INSERT | Rights.POST


class Kept(NamedTuple):
    """One entry's value, and the modseq of its last change."""

    value: bytes
    modseq: int


Set = dict[str, Kept]
"""By entry."""


def name(entry: str) -> str:
    """The name in lower case, in which entries are compared (RFC 5464 §3.2.1). BAD_NAME."""
    folded = entry.lower() if entry.isascii() else ""
    if len(folded) > ENTRY_NAME_OCTETS or not _NAME.fullmatch(folded):
        raise Refused(Reason.BAD_NAME, "An annotation has no such name.")
    return folded


def owner(entry: str, actor: str) -> str:
    """Whose set a named entry is in: the account's for a private one, "" for a shared one."""
    return actor if entry.startswith(PRIVATE + "/") else ""


def is_meant(entry: str, wanted: Sequence[str], depth: Depth) -> bool:
    """Does one of these names stand for the entry?"""
    # RFC 5464 §4.2.2
    for one in wanted:
        if entry == one:
            return True
        below = entry[len(one) + 1 :] if entry.startswith(one + "/") else ""
        if below and (depth is Depth.ALL or (depth is Depth.CHILDREN and "/" not in below)):
            return True
    return False


def may_read(have: Rights) -> bool:
    """May one with these rights read the annotations, and set private ones?"""
    # RFC 5464 §3.3
    return bool(have & Rights.LOOKUP and have & _ANY)


def check_write(have: Rights, values: Mapping[str, bytes | None]) -> None:
    """Refused for one who lacks a right; values: as ``checked`` gives them."""
    shared = any(not entry.startswith(PRIVATE) for entry in values)
    # RFC 5464 §3.3 lets a server ask for more: what all readers see takes the right to write.
    if not may_read(have) or (shared and not have & Rights.WRITE):
        raise lacking(have)


def checked(values: Mapping[str, bytes | None], actor: str, *, account_itself: bool) -> dict[str, bytes | None]:
    """The same by names in lower case. BAD_NAME, TOO_BIG, CANNOT."""
    found: dict[str, bytes | None] = {}
    for entry, value in values.items():
        folded = name(entry)
        if folded in (PRIVATE, SHARED):
            raise Refused(Reason.BAD_NAME, "An annotation has no such name.")
        if value is not None and len(value) > ANNOTATION_OCTETS:
            raise Refused(Reason.TOO_BIG, f"An annotation has at most {ANNOTATION_OCTETS} octets.")
        if owner(folded, actor) == SYSTEM:
            raise Refused(Reason.CANNOT, "A private annotation belongs to an account.")
        if account_itself and not owner(folded, actor):
            raise Refused(Reason.CANNOT, "An account itself has no shared annotations.")
        found[folded] = value
    return found


def by_owner(values: Mapping[str, bytes | None], actor: str) -> dict[str, dict[str, bytes | None]]:
    """Checked values by the sets that they belong to."""
    found: dict[str, dict[str, bytes | None]] = {}
    for entry, value in values.items():
        found.setdefault(owner(entry, actor), {})[entry] = value
    return found


def differing(have: Mapping[str, Kept], values: Mapping[str, bytes | None]) -> dict[str, bytes | None]:
    """What of the values would change the set."""
    return {entry: value for entry, value in values.items() if (have[entry].value if entry in have else None) != value}


def changed(have: Mapping[str, Kept], values: Mapping[str, bytes | None], modseq: int) -> Set:
    """The set after the change. LIMIT; a set that is over a limit can be made smaller all the same."""
    found = dict(have)
    for entry, value in values.items():
        if value is None:
            found.pop(entry, None)
        else:
            found[entry] = Kept(value, modseq)
    if len(found) > max(len(have), ANNOTATIONS_PER_MAILBOX):
        raise Refused(Reason.LIMIT, f"A mailbox has at most {ANNOTATIONS_PER_MAILBOX} annotations.")
    if octets(found) > max(octets(have), ANNOTATED_OCTETS):
        raise Refused(Reason.LIMIT, f"The annotations of a mailbox have at most {ANNOTATED_OCTETS} octets together.")
    return found


def octets(entries: Mapping[str, Kept]) -> int:
    """What counts against the limits."""
    return sum(len(entry) + len(kept.value) for entry, kept in entries.items())
