"""What a client said, once parsed: one frozen dataclass per form of command arguments (RFC 3501 §6 and extensions).

Conventions:

- Mailbox names are Unicode `str`: modified UTF-7 is decoded, and any spelling of INBOX is "INBOX".
- Names that the protocol defines (commands, attributes, status items, mechanisms) are upper-case `str`.
- Flags are `str`: system flags in their RFC spelling (``\\Seen``), keywords as the client wrote them; each once
  (compared without case), in the client's order.
- `uid` says whether the command had the UID prefix, so that its numbers are UIDs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal

from imap.wire.numset import NumSet


@dataclass(frozen=True, slots=True)
class Command:
    """One whole command: `name` is its key in `imap.wire.parser.COMMANDS` ("FETCH", "UID FETCH", …)."""

    tag: str
    name: str
    form: Form


@dataclass(frozen=True, slots=True)
class Bare:
    """No arguments: CAPABILITY NOOP LOGOUT STARTTLS CHECK CLOSE UNSELECT EXPUNGE IDLE NAMESPACE."""


@dataclass(frozen=True, slots=True)
class Login:
    """LOGIN (RFC 3501 §6.2.3)."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Authenticate:
    """AUTHENTICATE (RFC 3501 §6.2.2, RFC 4959): `initial` is the decoded initial response, None where there is none."""

    mechanism: str
    initial: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Id:
    """ID (RFC 2971 §3.1): None for NIL, else field names as sent with their values."""

    fields: tuple[tuple[str, str | None], ...] | None


@dataclass(frozen=True, slots=True)
class Enable:
    """ENABLE (RFC 5161 §3.1): the capability names, upper-case."""

    capabilities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Select:
    """SELECT and EXAMINE (RFC 3501 §6.3.1, §6.3.2)."""

    mailbox: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class OnMailbox:
    """CREATE DELETE SUBSCRIBE UNSUBSCRIBE (RFC 3501 §6.3.3, §6.3.4, §6.3.6, §6.3.7).

    For CREATE a trailing hierarchy delimiter is left in the name.
    """

    mailbox: str


@dataclass(frozen=True, slots=True)
class Rename:
    """RENAME (RFC 3501 §6.3.5)."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class List:
    """LIST and LSUB (RFC 3501 §6.3.8, §6.3.9): reference and pattern decoded, wildcards `%` and `*` left in the
    pattern. INBOX is not normalised in either: matching it without case is the matcher's part."""

    reference: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Status:
    """STATUS (RFC 3501 §6.3.10): items out of MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN, each once."""

    mailbox: str
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Append:
    """APPEND (RFC 3501 §6.3.11) up to its literal: the message follows as a stream of `size` octets.

    `date_time` has the time zone that the client gave. `synchronizing`: the client waits for a continuation.
    """

    mailbox: str
    flags: tuple[str, ...]
    date_time: datetime | None
    size: int
    synchronizing: bool


@dataclass(frozen=True, slots=True)
class Expunge:
    """UID EXPUNGE (RFC 4315 §2.1). (A plain EXPUNGE is `Bare`.)"""

    uids: NumSet


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY and MOVE (RFC 3501 §6.4.7, RFC 6851 §3.1), with or without UID."""

    numset: NumSet
    mailbox: str
    uid: bool


@dataclass(frozen=True, slots=True)
class Store:
    """STORE (RFC 3501 §6.4.6)."""

    numset: NumSet
    mode: Literal["set", "add", "remove"]
    silent: bool
    flags: tuple[str, ...]
    uid: bool


# --- FETCH ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attribute:
    """A FETCH item without arguments: FLAGS UID INTERNALDATE RFC822.SIZE ENVELOPE BODY BODYSTRUCTURE.

    The macros ALL, FAST and FULL have been replaced by what they stand for (RFC 3501 §6.4.5).
    """

    name: str


SectionText = Literal["", "HEADER", "HEADER.FIELDS", "HEADER.FIELDS.NOT", "MIME", "TEXT"]


@dataclass(frozen=True, slots=True)
class Section:
    """BODY[…], BODY.PEEK[…], RFC822, RFC822.HEADER and RFC822.TEXT (RFC 3501 §6.4.5).

    `path` is the part number (() for the whole message), `text` what of the part ("" for the part itself), `fields` the
    header field names of HEADER.FIELDS[.NOT] as sent. `partial` is (first octet, number of octets ≥ 1) or None.
    `peek`: does not set \\Seen. `label` is the item's name as the response must write it, e.g.
    b"BODY[1.HEADER.FIELDS (Subject)]<0>" or b"RFC822".
    """

    peek: bool
    path: tuple[int, ...]
    text: SectionText
    fields: tuple[str, ...]
    partial: tuple[int, int] | None
    label: bytes


FetchItem = Attribute | Section


@dataclass(frozen=True, slots=True)
class Fetch:
    """FETCH (RFC 3501 §6.4.5): items in the client's order, each once. For UID FETCH the UID item is always there."""

    numset: NumSet
    items: tuple[FetchItem, ...]
    uid: bool


# --- SEARCH --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class All:
    """ALL: every message."""


@dataclass(frozen=True, slots=True)
class And:
    """Several keys in a row or in parentheses (two or more)."""

    keys: tuple[SearchKey, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """OR key key."""

    left: SearchKey
    right: SearchKey


@dataclass(frozen=True, slots=True)
class Not:
    """NOT key."""

    key: SearchKey


@dataclass(frozen=True, slots=True)
class HasFlag:
    """SEEN, UNSEEN, KEYWORD x, UNKEYWORD x, RECENT, OLD, … : the flag is set (`present`) or is not.

    NEW is And(HasFlag("\\Recent", True), HasFlag("\\Seen", False)).
    """

    flag: str
    present: bool


@dataclass(frozen=True, slots=True)
class OnDate:
    """BEFORE, ON, SINCE (`of` "internal": INTERNALDATE) and SENTBEFORE, SENTON, SENTSINCE (`of` "sent": the Date
    field)."""

    of: Literal["internal", "sent"]
    when: Literal["before", "on", "since"]
    day: date


@dataclass(frozen=True, slots=True)
class Larger:
    """LARGER n: RFC822.SIZE > n octets."""

    size: int


@dataclass(frozen=True, slots=True)
class Smaller:
    """SMALLER n: RFC822.SIZE < n octets."""

    size: int


@dataclass(frozen=True, slots=True)
class Header:
    """HEADER name value, and BCC CC FROM SUBJECT TO (name in lower case). value "" : the field is there at all."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Body:
    """BODY value."""

    value: str


@dataclass(frozen=True, slots=True)
class Text:
    """TEXT value: header or body."""

    value: str


@dataclass(frozen=True, slots=True)
class InSet:
    """A sequence set, or UID and a set (`uid`)."""

    numset: NumSet
    uid: bool


SearchKey = All | And | Or | Not | HasFlag | OnDate | Larger | Smaller | Header | Body | Text | InSet


@dataclass(frozen=True, slots=True)
class Search:
    """SEARCH (RFC 3501 §6.4.4): strings are decoded; `uid` says what numbers the answer has."""

    key: SearchKey
    uid: bool


Form = (
    Bare
    | Login
    | Authenticate
    | Id
    | Enable
    | Select
    | OnMailbox
    | Rename
    | List
    | Status
    | Append
    | Expunge
    | Copy
    | Store
    | Fetch
    | Search
)
