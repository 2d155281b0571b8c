"""CREATE, LIST, LSUB and STATUS (RFC 3501 §6.3): mailboxes as names, with what RFC 5258 and RFC 6154 add.

A new STATUS item is one entry in STATUS_ITEMS, a new option of LIST one in SELECTION or RETURNS.
"""

from __future__ import annotations

from imap.wire.errors import BadSyntax
from imap.wire.forms import Create, List, ListOptions, Status
from imap.wire.limits import LIST_ENTRIES, LIST_PATTERNS
from imap.wire.parse_metadata import parse_entries
from imap.wire.tokens import Scanner, unique

STATUS_ITEMS = frozenset(
    (
        *("MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN"),
        # RFC 9051 §6.3.11
        *("DELETED", "SIZE"),
        # RFC 9208 §4.1.4
        "DELETED-STORAGE",
        # RFC 7162 §3.1.7, RFC 7889 §4, RFC 8474 §4.3
        *("HIGHESTMODSEQ", "APPENDLIMIT", "MAILBOXID"),
    )
)
SELECTION = frozenset(("SUBSCRIBED", "REMOTE", "RECURSIVEMATCH", "SPECIAL-USE"))
"""RFC 5258 §3.1, RFC 6154 §2."""
RETURNS = frozenset(("SUBSCRIBED", "CHILDREN", "SPECIAL-USE", "MYRIGHTS"))
"""RFC 5258 §3.2, RFC 6154 §2, RFC 8440 §3; and STATUS (RFC 5819 §2), METADATA (RFC 9590 §3)."""


def parse_create(scanner: Scanner) -> Create:
    """``mailbox`` and perhaps ``(USE (\\Sent))`` (RFC 6154 §5.1)."""
    scanner.space()
    mailbox = scanner.mailbox()
    if not scanner.skip(b" ("):
        return Create(mailbox)
    if scanner.word("USE") != "USE":
        raise BadSyntax("USE is the one parameter of CREATE")
    scanner.space()
    uses = unique(scanner.parenthesised(scanner.flag, empty=True))
    scanner.expect(b")")
    return Create(mailbox, uses)


def parse_lsub(scanner: Scanner) -> List:
    """``reference pattern``."""
    scanner.space()
    # Tolerance: wildcards in the reference, which some clients send; they are matched as in the pattern.
    reference = scanner.pattern()
    scanner.space()
    return List(reference, scanner.pattern())


def parse_list(scanner: Scanner) -> List:
    """``[(selection)] reference pattern-or-patterns [RETURN (options)]`` (RFC 5258 §6)."""
    scanner.space()
    selection: frozenset[str] | None = None
    if scanner.sees(b"("):
        selection = frozenset(scanner.parenthesised(lambda: _option(scanner, SELECTION), empty=True))
        if "RECURSIVEMATCH" in selection and selection <= {"RECURSIVEMATCH", "REMOTE"}:
            # RFC 5258 §3.1
            raise BadSyntax("RECURSIVEMATCH goes with another selection option")
        scanner.space()
    reference = scanner.pattern()
    scanner.space()
    several = scanner.sees(b"(")
    patterns = scanner.parenthesised(scanner.pattern) if several else [scanner.pattern()]
    if len(patterns) > LIST_PATTERNS:
        raise BadSyntax(f"more than {LIST_PATTERNS} patterns in a list")
    returns: frozenset[str] | None = None
    status: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    if scanner.skip(b" "):
        start = scanner.at
        if scanner.word("RETURN") != "RETURN":
            scanner.at = start
            raise scanner.wrong("RETURN")
        scanner.space()
        returns, status, metadata = _returns(scanner)
    if selection is None and returns is None and not several:
        return List(reference, patterns[0])
    chosen, wanted = selection or frozenset(), returns or frozenset()
    options = ListOptions(tuple(dict.fromkeys(patterns)), chosen, wanted, status, metadata)
    return List(reference, patterns[0], options)


def _option(scanner: Scanner, known: frozenset[str]) -> str:
    start = scanner.at
    name = scanner.word("an option of LIST")
    if name not in known:
        # RFC 5258 §3
        scanner.at = start
        raise scanner.wrong("an option of LIST")
    return name


def _returns(scanner: Scanner) -> tuple[frozenset[str], tuple[str, ...], tuple[str, ...]]:
    """What is asked for by a word, the items of STATUS, and the entries of METADATA."""
    status: list[str] = []
    entries: list[str] = []

    def one() -> str:
        name = _option(scanner, RETURNS | {"STATUS", "METADATA"})
        if name == "STATUS":
            # RFC 5819 §4
            scanner.space()
            status.extend(scanner.parenthesised(lambda: _status_item(scanner)))
        if name == "METADATA":
            # RFC 9590 §5
            scanner.space()
            entries.extend(parse_entries(scanner))
            if len(entries) > LIST_ENTRIES:
                raise BadSyntax(f"more than {LIST_ENTRIES} entries of METADATA")
        return name

    found = frozenset(scanner.parenthesised(one, empty=True))
    return found - {"STATUS", "METADATA"}, unique(status), unique(entries)


def parse_status(scanner: Scanner) -> Status:
    """``mailbox (item item)``."""
    scanner.space()
    mailbox = scanner.mailbox()
    scanner.space()
    return Status(mailbox, unique(scanner.parenthesised(lambda: _status_item(scanner))))


def _status_item(scanner: Scanner) -> str:
    start = scanner.at
    name = scanner.word("a STATUS item")
    if name not in STATUS_ITEMS:
        scanner.at = start
        raise scanner.wrong("a STATUS item")
    return name
