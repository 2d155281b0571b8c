"""What a client said, once parsed: one frozen dataclass per form of command arguments (RFC 3501 §6 and extensions).

Conventions:

- Mailbox names are Unicode `str`: modified UTF-7 or UTF-8 is decoded, and any spelling of INBOX is "INBOX".
- Names that the protocol defines (commands, attributes, status items, mechanisms) are upper-case `str`.
- Flags are `str`: system flags in their RFC spelling (``\\Seen``), keywords as the client wrote them; each once
  (compared without case), in the client's order.
- `uid` says whether the command had the UID prefix, so that its numbers are UIDs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal

from imap.wire.forms_acl import OnIdentifier, SetAcl
from imap.wire.forms_metadata import GetMetadata, SetMetadata
from imap.wire.forms_notify import Notify
from imap.wire.numset import NumSet, Ranges


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
class Compress:
    """COMPRESS (RFC 4978 §3)."""

    mechanism: str


@dataclass(frozen=True, slots=True)
class Enable:
    """ENABLE (RFC 5161 §3.1): the capability names, upper-case."""

    capabilities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Resync:
    """QRESYNC of SELECT and EXAMINE (RFC 7162 §3.2.5): what the client knows of the mailbox.

    `known`: the UIDs it has, None for all. `numbers`, `uids`: message sequence match data, two sets of the same size
    whose members belong together in ascending order; both empty where there is none.
    """

    uidvalidity: int
    modseq: int
    known: Ranges | None
    numbers: Ranges
    uids: Ranges


@dataclass(frozen=True, slots=True)
class Select:
    """SELECT and EXAMINE (RFC 3501 §6.3.1, §6.3.2), with the parameters of RFC 7162 §3.1.8 and §3.2.5."""

    mailbox: str
    read_only: bool
    condstore: bool = False
    resync: Resync | None = None


@dataclass(frozen=True, slots=True)
class OnMailbox:
    """DELETE SUBSCRIBE UNSUBSCRIBE (RFC 3501 §6.3.4, §6.3.6, §6.3.7)."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class Create:
    """CREATE (RFC 3501 §6.3.3): a trailing hierarchy delimiter is left in the name. `uses`: the attributes of USE
    (RFC 6154 §3) as the client wrote them."""

    mailbox: str
    uses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rename:
    """RENAME (RFC 3501 §6.3.5)."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class ListOptions:
    """What makes a LIST an extended one (RFC 5258 §3): all its patterns, options out of SUBSCRIBED REMOTE
    RECURSIVEMATCH SPECIAL-USE that select, out of SUBSCRIBED CHILDREN SPECIAL-USE that ask for more, and the items of
    RETURN (STATUS …) (RFC 5819 §2). `metadata`: the entries of METADATA (RFC 9590 §3)."""

    patterns: tuple[str, ...]
    selection: frozenset[str]
    returns: frozenset[str]
    status: tuple[str, ...]
    metadata: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class List:
    """LIST and LSUB (RFC 3501 §6.3.8, §6.3.9): reference and pattern decoded, wildcards `%` and `*` left in the
    pattern. INBOX is not normalised in either: matching it without case is the matcher's part. `options`: of an
    extended LIST, whose first pattern `pattern` is."""

    reference: str
    pattern: str
    options: ListOptions | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """STATUS (RFC 3501 §6.3.10): items out of `imap.wire.parse_mailboxes.STATUS_ITEMS`, each once."""

    mailbox: str
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GetQuota:
    """GETQUOTA (RFC 9208 §4.1.1): the name of a quota root."""

    root: str


@dataclass(frozen=True, slots=True)
class SetQuota:
    """SETQUOTA (RFC 9208 §4.1.3): the limits by upper-case name of their resource, each once."""

    root: str
    limits: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class CatUrl:
    """A part of CATENATE: the octets at a URL."""

    url: str


@dataclass(frozen=True, slots=True)
class CatLiteral:
    """A part of CATENATE whose octets follow as a stream: text, or (`is_url`) a URL. `utf8`: text as a literal8 in
    ``UTF8 (…)`` (RFC 6855 §4)."""

    size: int
    synchronizing: bool
    is_url: bool
    utf8: bool = False


@dataclass(frozen=True, slots=True)
class Catenation:
    """CATENATE (RFC 4469 §5) as far as one line has it. `rest`: what stands behind its ``)``, None where the last piece
    is a literal, behind whose octets the list goes on (`imap.wire.parse_catenate.parse_catenation_further`)."""

    pieces: tuple[CatUrl | CatLiteral, ...]
    rest: bytes | None


@dataclass(frozen=True, slots=True)
class AppendPart:
    """What stands before a message of APPEND, up to its literal: the message follows as a stream of `size` octets.

    `date_time` has the time zone that the client gave. `synchronizing`: the client waits for a continuation. `binary`:
    it is a literal8 (RFC 3516 §4.4); `utf8`: one in ``UTF8 (…)`` (RFC 6855 §4). `catenation`: it is put together of
    parts instead, and `size` is 0.
    """

    flags: tuple[str, ...]
    date_time: datetime | None
    size: int
    synchronizing: bool
    binary: bool = False
    utf8: bool = False
    catenation: Catenation | None = None


@dataclass(frozen=True, slots=True)
class Append:
    """APPEND (RFC 3501 §6.3.11) up to its first literal; behind its message others may come (RFC 3502)."""

    mailbox: str
    first: AppendPart


@dataclass(frozen=True, slots=True)
class Replace:
    """REPLACE (RFC 8508 §3.3), with or without UID: `number` is None for ``*``; `part` as in `Append`."""

    number: int | None
    mailbox: str
    part: AppendPart
    uid: bool


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
    """STORE (RFC 3501 §6.4.6); `unchanged_since` as RFC 7162 §3.1.3 has it."""

    numset: NumSet
    mode: Literal["set", "add", "remove"]
    silent: bool
    flags: tuple[str, ...]
    uid: bool
    unchanged_since: int | None = None


# --- FETCH ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attribute:
    """A FETCH item without arguments: FLAGS UID INTERNALDATE RFC822.SIZE ENVELOPE BODY BODYSTRUCTURE MODSEQ
    EMAILID THREADID PREVIEW.

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


@dataclass(frozen=True, slots=True)
class Binary:
    """BINARY[…] and BINARY.PEEK[…] (RFC 3516 §4.2, RFC 9051 §6.4.5): a section without its transfer encoding, which
    `partial` counts. The rest is as in `Section`."""

    peek: bool
    path: tuple[int, ...]
    partial: tuple[int, int] | None
    label: bytes


@dataclass(frozen=True, slots=True)
class BinarySize:
    """BINARY.SIZE[…] (RFC 3516 §4.2): how many octets BINARY[…] would have."""

    path: tuple[int, ...]
    label: bytes


FetchItem = Attribute | Section | Binary | BinarySize


@dataclass(frozen=True, slots=True)
class Window:
    """PARTIAL first:last (RFC 9394 §4): the `first` to the `last` of a list, counted from 1, first ≤ last; from its end
    where `from_end`. `label` is the range as the client wrote it."""

    first: int
    last: int
    from_end: bool
    label: bytes


@dataclass(frozen=True, slots=True)
class Fetch:
    """FETCH (RFC 3501 §6.4.5): items in the client's order, each once. For UID FETCH the UID item is always there;
    `asks_uid`: the client named it.

    `changed_since` and `vanished` are the modifiers of RFC 7162 §3.1.4.1 and §3.2.6, `window` that of RFC 9394 §3.3.
    """

    numset: NumSet
    items: tuple[FetchItem, ...]
    uid: bool
    changed_since: int | None = None
    vanished: bool = False
    window: Window | None = None
    asks_uid: bool = field(default=False, compare=False)


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
    """BEFORE, ON, SINCE (`of` "internal": INTERNALDATE), SENTBEFORE, SENTON, SENTSINCE (`of` "sent": the Date field)
    and SAVEDBEFORE, SAVEDON, SAVEDSINCE (`of` "saved": RFC 8514 §4.3)."""

    of: Literal["internal", "sent", "saved"]
    when: Literal["before", "on", "since"]
    day: date


@dataclass(frozen=True, slots=True)
class Within:
    """OLDER n and YOUNGER n (RFC 5032 §3): INTERNALDATE against `seconds` ago."""

    when: Literal["older", "younger"]
    seconds: int


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


@dataclass(frozen=True, slots=True)
class Modseq:
    """MODSEQ n (RFC 7162 §3.1.5): the modification sequence is n or more. (That of a flag alone is the message's.)"""

    modseq: int


@dataclass(frozen=True, slots=True)
class EmailId:
    """EMAILID id (RFC 8474 §6)."""

    id: str


@dataclass(frozen=True, slots=True)
class ThreadId:
    """THREADID id (RFC 8474 §6)."""

    id: str


@dataclass(frozen=True, slots=True)
class Fuzzy:
    """FUZZY key (RFC 6203 §3): the key's strings need not be found as they are."""

    key: SearchKey


SearchKey = (
    All
    | And
    | Or
    | Not
    | HasFlag
    | OnDate
    | Within
    | Larger
    | Smaller
    | Header
    | Body
    | Text
    | InSet
    | Modseq
    | EmailId
    | ThreadId
    | Fuzzy
)


@dataclass(frozen=True, slots=True)
class Return:
    """RETURN (…) of SEARCH and SORT: options out of MIN MAX ALL COUNT (RFC 4731 §3.1), SAVE (RFC 5182 §2.1) and
    RELEVANCY (RFC 6203 §4), each once, and `window` for PARTIAL (RFC 9394 §3.1). ``RETURN ()`` is ALL."""

    options: frozenset[str]
    window: Window | None = None


@dataclass(frozen=True, slots=True)
class Search:
    """SEARCH (RFC 3501 §6.4.4): strings are decoded; `uid` says what numbers the answer has.

    `known_charset`: False where the client named a charset that is not known here, so that its keys were not read.
    `returns`: what an extended SEARCH (RFC 4731) asks for. `charset`: one was named that SEARCH could do without.
    """

    key: SearchKey
    uid: bool
    known_charset: bool = True
    returns: Return | None = None
    charset: bool = False


@dataclass(frozen=True, slots=True)
class Criterion:
    """One of SORT's: ARRIVAL CC DATE FROM SIZE SUBJECT TO (RFC 5256 §3), DISPLAYFROM DISPLAYTO (RFC 5957 §4), RELEVANCY
    (RFC 6203 §6)."""

    name: str
    reverse: bool


@dataclass(frozen=True, slots=True)
class Sort:
    """SORT (RFC 5256 §3) and extended SORT (RFC 5267 §3): which messages, and in what order."""

    search: Search
    criteria: tuple[Criterion, ...]


@dataclass(frozen=True, slots=True)
class Thread:
    """THREAD (RFC 5256 §3): algorithm ORDEREDSUBJECT or REFERENCES."""

    search: Search
    algorithm: Literal["ORDEREDSUBJECT", "REFERENCES"]


Form = (
    Bare
    | Login
    | Authenticate
    | Id
    | Compress
    | Enable
    | Select
    | OnMailbox
    | Create
    | Rename
    | List
    | Status
    | GetQuota
    | SetQuota
    | Append
    | Replace
    | Expunge
    | Copy
    | Store
    | Fetch
    | Search
    | Sort
    | Thread
    | GetMetadata
    | SetMetadata
    | SetAcl
    | OnIdentifier
    | Notify
)
