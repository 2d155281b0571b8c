"""Rights as letters (RFC 4314 §2.1), with the two old ones that stand for several (§2.1.1)."""

from __future__ import annotations

from storage.model import Rights

LETTERS = {
    "l": Rights.LOOKUP,
    "r": Rights.READ,
    "s": Rights.SEEN,
    "w": Rights.WRITE,
    "i": Rights.INSERT,
    "p": Rights.POST,
    "k": Rights.CREATE,
    "x": Rights.DELETE_MAILBOX,
    "t": Rights.DELETE_MESSAGES,
    "e": Rights.EXPUNGE,
    "a": Rights.ADMINISTER,
}
OBSOLETE = {
    "c": Rights.CREATE | Rights.DELETE_MAILBOX,
    "d": Rights.DELETE_MESSAGES | Rights.EXPUNGE,
}
"""RFC 4314 §2.1.1: of the two readings of RFC 2086 the first, in which c was asked for to delete a mailbox."""


def rights_of(letters: str) -> Rights | None:
    """The rights of these letters; None where one of them is no right."""
    found = Rights.NONE
    for letter in letters:
        right = LETTERS.get(letter) or OBSOLETE.get(letter)
        if right is None:
            return None
        found |= right
    return found


def letters_of(rights: Rights) -> str:
    """As MYRIGHTS and ACL tell them: c and d with any of their members (RFC 4314 §2.1.1)."""
    return "".join([letter for letter, right in (*LETTERS.items(), *OBSOLETE.items()) if rights & right])
