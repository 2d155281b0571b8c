"""Rights to mailboxes (RFC 4314). Plain data of the port, as in ``storage.model``; what follows is in ``rights``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

ANYONE = "anyone"
"""In place of an account id in an access control list: every account (RFC 4314 §2)."""


class Rights(IntFlag):
    """What may be done to a mailbox (RFC 4314 §2.1), each with its letter there."""

    NONE = 0
    LOOKUP = 1
    """l: the mailbox is seen in lists."""
    READ = 2
    """r: it can be opened, its counters and messages read."""
    SEEN = 4
    """s: \\Seen is set and taken away."""
    WRITE = 8
    """w: flags other than \\Seen and \\Deleted, and keywords."""
    INSERT = 16
    """i: messages are appended and copied into it."""
    POST = 32
    """p: kept and told, with no effect here (there is no address that leads to a mailbox)."""
    CREATE = 64
    """k: mailboxes are made under it, and moved there."""
    DELETE_MAILBOX = 128
    """x: it is deleted or renamed."""
    DELETE_MESSAGES = 256
    """t: \\Deleted is set and taken away."""
    EXPUNGE = 512
    """e: messages are expunged."""
    ADMINISTER = 1024
    """a: the access control list is read and changed."""


ALL_RIGHTS = Rights(2047)


@dataclass(frozen=True, slots=True)
class Grant:
    """One entry of a mailbox's access control list. identifier: an account id, or ANYONE. negative: the rights are
    taken from who has them otherwise (RFC 4314 §2: the identifier with a "-"). rights: at least one.

    What an account may do: all rights of the entries with its id or ANYONE, less those of the negative ones. The owner
    of the mailbox has all rights always, and no entry.
    """

    identifier: str
    rights: Rights
    negative: bool = False
