"""Responses as octets (RFC 3501 §7). Functions named for a line return it whole, with its CRLF; the others return a
piece.

Bulk answers take rows and return one joined value. A body too large to hold is written bit by bit: `fetch_head`, items,
its octets slice by slice, `FETCH_CLOSE`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from imap.wire import utf7
from imap.wire.numset import Ranges, format_numbers
from mail.flags import ALL as ALL_FLAGS
from mail.flags import names_of

Condition = Literal["OK", "NO", "BAD"]

FETCH_CLOSE = b")\r\n"
NIL = b"NIL"

# octets of a status line's text, and of a quoted string; ranges of one VANISHED line; parts of THREAD that are joined
_TEXT_LIMIT = 800
_QUOTED_LIMIT = 1000
_SET_PARTS = 500
_PIECES = 8192
_NOT_TEXT = re.compile(rb"[^\x20-\x7e]")
_NOT_URL = re.compile(r"[\]\r\n]")
_ATOM = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+")
_QUOTABLE = re.compile(rb"[\x20-\x7e]*")
_NOT_QUOTED = re.compile(rb"[\0\r\n]")
_QUOTED_SPECIALS = re.compile(rb'(["\\])')


# --- status lines --------------------------------------------------------------------------------


def tagged(tag: str, condition: Condition, text: str, code: str | None = None) -> bytes:
    """The line that ends a command (RFC 3501 §7.1): code without its brackets. Text is cut at 800 octets; what is not
    printable US-ASCII becomes `?`."""
    return b"%b %b %b\r\n" % (tag.encode("ascii", "replace"), condition.encode(), _resp_text(text, code))


def untagged(condition: Condition | Literal["BYE", "PREAUTH"], text: str, code: str | None = None) -> bytes:
    """``* OK [code] text`` and its sisters (RFC 3501 §7.1)."""
    return b"* %b %b\r\n" % (condition.encode(), _resp_text(text, code))


def continuation(text: bytes = b"") -> bytes:
    """``+ text``: a command continuation request (RFC 3501 §7.5); text is base64 or a word for people."""
    return b"+ %b\r\n" % text


def _resp_text(text: str, code: str | None) -> bytes:
    clean = _NOT_TEXT.sub(b"?", text.encode("utf-8", "replace")[:_TEXT_LIMIT])
    if code is None:
        # RFC 3501 §7.1: text that began with "[" would read as a response code
        return clean.lstrip(b"[") or b"."
    return b"[%b] %b" % (_NOT_TEXT.sub(b"?", code.encode("utf-8", "replace")), clean or b".")


def code_appenduid(uidvalidity: int, uids: Sequence[int]) -> str:
    """RFC 4315 §3."""
    return f"APPENDUID {uidvalidity} {format_numbers(uids).decode()}"


def code_copyuid(uidvalidity: int, source: Iterable[tuple[int, int]], target: Iterable[tuple[int, int]]) -> str:
    """RFC 4315 §3: both sets, of the same size, paired in ascending order."""
    pair = (Ranges(tuple(source)).format().decode(), Ranges(tuple(target)).format().decode())
    return f"COPYUID {uidvalidity} {pair[0]} {pair[1]}"


def code_badurl(url: str) -> str:
    """RFC 4469 §5: any text but "]"."""
    return f"BADURL {_NOT_URL.sub('?', url[:_TEXT_LIMIT])}"


def code_badcharset() -> str:
    """RFC 3501 §7.1."""
    return "BADCHARSET (US-ASCII UTF-8)"


# --- strings -------------------------------------------------------------------------------------


def string(value: str | bytes) -> bytes:
    """Quoted where it may be, else a literal (RFC 3501 §4.3). Text is sent as UTF-8."""
    octets = value.encode("utf-8", "replace") if isinstance(value, str) else value
    if len(octets) <= _QUOTED_LIMIT and _QUOTABLE.fullmatch(octets):
        return b'"%b"' % _QUOTED_SPECIALS.sub(rb"\\\1", octets)
    return literal(octets)


def nstring(value: str | bytes | None) -> bytes:
    """NIL or a string."""
    return NIL if value is None else string(value)


def astring(value: str | bytes) -> bytes:
    """An atom where it may be, else a string."""
    octets = value.encode("utf-8", "replace") if isinstance(value, str) else value
    return octets if _ATOM.fullmatch(octets) and octets.upper() != NIL else string(octets)


def literal(octets: bytes) -> bytes:
    """``{n}`` and the octets (RFC 3501 §4.3). For what is already at hand and not large."""
    return b"{%d}\r\n%b" % (len(octets), octets)


def mailbox(name: str, utf8: bool = False) -> bytes:
    """A mailbox name in modified UTF-7 (RFC 3501 §5.1.3), or in UTF-8 for those who have enabled that (RFC 9051 §5.1,
    RFC 6855 §3)."""
    if not utf8:
        return astring(utf7.encode(name))
    octets = name.encode()
    if octets.isascii() or len(octets) > _QUOTED_LIMIT or _NOT_QUOTED.search(octets):
        return astring(octets)
    return b'"%b"' % _QUOTED_SPECIALS.sub(rb"\\\1", octets)


def literal8_head(label: bytes, size: int, binary: bool) -> bytes:
    """The label and the opening of a literal; of a literal8 where its octets have NUL (RFC 3516 §4.2, §7)."""
    return b"%b %b{%d}\r\n" % (label, b"~" if binary else b"", size)


# --- lines ---------------------------------------------------------------------------------------


def data(text: bytes) -> bytes:
    """``* text``."""
    return b"* %b\r\n" % text


def numbered(number: int, name: bytes) -> bytes:
    """``* 3 EXISTS``, ``* 0 RECENT``, ``* 5 EXPUNGE``."""
    return b"* %d %b\r\n" % (number, name)


def expunges(numbers: Iterable[int]) -> bytes:
    """One EXPUNGE line for each sequence number, in the order given (RFC 3501 §7.4.1)."""
    return b"".join([b"* %d EXPUNGE\r\n" % number for number in numbers])


def vanished(uids: Sequence[tuple[int, int]], *, earlier: bool) -> bytes:
    """VANISHED lines for a set of UIDs, of bounded length each; none for the empty set (RFC 7162 §3.2.10)."""
    opening = b"* VANISHED (EARLIER) %b\r\n" if earlier else b"* VANISHED %b\r\n"
    pieces = (Ranges(tuple(uids[at : at + _SET_PARTS])) for at in range(0, len(uids), _SET_PARTS))
    return b"".join([opening % piece.format() for piece in pieces])


def search(numbers: Iterable[int], modseq: int | None = None) -> bytes:
    """RFC 3501 §7.2.5: one line, however many; with the highest modification sequence (RFC 7162 §3.1.6)."""
    return _numbers(b"SEARCH", numbers, modseq)


def _numbers(name: bytes, numbers: Iterable[int], modseq: int | None) -> bytes:
    end = b"" if modseq is None else b" (MODSEQ %d)" % modseq
    return b"* %b%b%b\r\n" % (name, b"".join([b" %d" % number for number in numbers]), end)


def sort(numbers: Iterable[int], modseq: int | None = None) -> bytes:
    """As `search`: RFC 5256 §4."""
    return _numbers(b"SORT", numbers, modseq)


def thread(
    heads: Sequence[int], children: Mapping[int, Sequence[int]], number: Callable[[int], int]
) -> Iterator[bytes]:
    """RFC 5256 §4, in pieces: the nodes at the top, those below a node, and the number of a node's message (0: a dummy,
    which has two children or more)."""
    yield b"* THREAD " if heads else b"* THREAD"
    pieces: list[bytes] = []
    for head in heads:
        # nodes still to be written, and what closes those that are; chains are as long as they like
        todo: list[int | bytes] = [b")", head]
        pieces.append(b"(")
        while todo:
            at = todo.pop()
            if isinstance(at, bytes):
                pieces.append(at)
                continue
            below = children.get(at, ())
            if named := number(at):
                pieces.append(b"%d " % named if below else b"%d" % named)
            if len(below) == 1:
                todo.append(below[0])
            else:
                for child in reversed(below):
                    todo.extend((b")", child, b"("))
        if len(pieces) >= _PIECES:
            yield b"".join(pieces)
            pieces.clear()
    yield b"".join(pieces) + b"\r\n"


def esearch(tag: str, uid: bool, items: Iterable[bytes]) -> bytes:
    """RFC 4466 §2.6.2: the tag of the command that is answered, whether numbers are UIDs, and items such as
    b"COUNT 3"."""
    head = b"(TAG %b)%b" % (string(tag), b" UID" if uid else b"")
    return b"* ESEARCH %b\r\n" % b" ".join((head, *items))


def capability(names: Iterable[str]) -> bytes:
    """RFC 3501 §7.2.1."""
    return b"* CAPABILITY %b\r\n" % " ".join(names).encode()


def list_line(
    command: Literal["LIST", "LSUB"],
    attributes: Iterable[str],
    name: str,
    delimiter: str | None = "/",
    child_info: Iterable[str] = (),
    old_name: str | None = None,
    utf8: bool = False,
) -> bytes:
    """RFC 3501 §7.2.2: attributes with their backslash; delimiter None is NIL (a flat name). child_info: the selection
    options that inferiors satisfy (RFC 5258 §3.5). old_name: as the mailbox was called, or as the client called it
    (RFC 9051 §6.3.9.7). utf8: as in `mailbox`."""
    parts = (command.encode(), " ".join(attributes).encode(), nstring(delimiter), mailbox(name, utf8))
    items: list[bytes] = []
    if options := b" ".join(map(string, child_info)):
        items.append(b'"CHILDINFO" (%b)' % options)
    if old_name is not None:
        items.append(b'"OLDNAME" (%b)' % mailbox(old_name, utf8))
    extended = b" (%b)" % b" ".join(items) if items else b""
    return b"* %b (%b) %b %b%b\r\n" % (*parts, extended)


def status(name: str, items: Iterable[tuple[str, int | str]], utf8: bool = False) -> bytes:
    """RFC 3501 §7.2.4. utf8: as in `mailbox`."""
    return b"* STATUS %b (%b)\r\n" % (mailbox(name, utf8), " ".join(f"{item} {n}" for item, n in items).encode())


def quota(root: str, resources: Iterable[tuple[str, int, int]]) -> bytes:
    """RFC 9208 §4.2.1: resources are (name, usage, limit)."""
    listed = " ".join(f"{name} {used} {limit}" for name, used, limit in resources)
    return b"* QUOTA %b (%b)\r\n" % (astring(root), listed.encode())


def quota_root(name: str, roots: Iterable[str], utf8: bool = False) -> bytes:
    """RFC 9208 §4.2.2. utf8: as in `mailbox`."""
    return b"* QUOTAROOT %b\r\n" % b" ".join((mailbox(name, utf8), *map(astring, roots)))


def identification(fields: Iterable[tuple[str, str | None]] | None) -> bytes:
    """RFC 2971 §3.2: the ID response; None is NIL."""
    if fields is None:
        return b"* ID NIL\r\n"
    return b"* ID (%b)\r\n" % b" ".join([string(name) + b" " + nstring(value) for name, value in fields])


# --- flags ---------------------------------------------------------------------------------------


def flag_list(names: Iterable[str]) -> bytes:
    """``(\\Seen work)``: checked names, in the order given."""
    return b"(%b)" % " ".join(names).encode("ascii", "replace")


_RECENT = ALL_FLAGS + 1
_FLAGS = tuple(
    " ".join((*names_of(bits), *(("\\Recent",) if bits & _RECENT else ()))).encode() for bits in range(_RECENT * 2)
)


def flags(bits: int, keywords: Sequence[str] = (), recent: bool = False) -> bytes:
    """``(\\Seen work)`` from the bits of `mail.flags` and keywords."""
    index = (bits & ALL_FLAGS) | (_RECENT if recent else 0)
    if not keywords:
        return _BARE_FLAGS[index]
    names = _FLAGS[index]
    return b"(%b)" % ((names + b" " if names else b"") + " ".join(keywords).encode("ascii", "replace"))


def flags_of_many(bits: Sequence[int], recent: Iterable[tuple[int, int]] = ()) -> list[bytes]:
    """The same of many messages without keywords. recent: (start, stop) indices of those that are, ascending."""
    known, known_recent = _BARE_FLAGS.__getitem__, _BARE_FLAGS[_RECENT:].__getitem__
    found: list[bytes] = []
    for start, stop in recent:
        found.extend(map(known, bits[len(found) : start]))
        found.extend(map(known_recent, bits[start:stop]))
    found.extend(map(known, bits[len(found) :]))
    return found


# --- FETCH ---------------------------------------------------------------------------------------


def fetch_head(uid_only: bool) -> bytes:
    """The beginning of a FETCH line, for a sequence number; or of one that has the UID in its place (RFC 9586 §3.3)."""
    return b"* %d UIDFETCH (" if uid_only else b"* %d FETCH ("


def fetch_flags(
    rows: Iterable[tuple[int, int, int, tuple[str, ...], bool]], with_uid: bool, uid_only: bool = False
) -> bytes:
    """Many FETCH FLAGS lines. Rows: (sequence number, uid, flag bits, keywords, recent). uid_only: UIDFETCH lines."""
    head = fetch_head(uid_only)
    both, alone = head + b"UID %d FLAGS %b)\r\n", head + b"FLAGS %b)\r\n"
    known: dict[tuple[int, tuple[str, ...], bool], bytes] = {}
    lines: list[bytes] = []
    for number, uid, bits, keywords, recent in rows:
        if keywords:
            key = (bits, keywords, recent)
            formatted = known.get(key) or known.setdefault(key, flags(bits, keywords, recent))
        else:
            formatted = _BARE_FLAGS[(bits & ALL_FLAGS) | (_RECENT if recent else 0)]
        first = uid if uid_only else number
        lines.append(both % (first, uid, formatted) if with_uid else alone % (first, formatted))
    return b"".join(lines)


def fetch_flags_modseq(
    rows: Iterable[tuple[int, int, int, tuple[str, ...], bool, int]], with_uid: bool, uid_only: bool = False
) -> bytes:
    """As `fetch_flags`, with the modification sequence of each message, which comes last in a row (RFC 7162 §3.1.4)."""
    template = fetch_head(uid_only) + (b"UID %d FLAGS %b" if with_uid else b"FLAGS %b") + b" MODSEQ (%d))\r\n"
    known: dict[tuple[int, tuple[str, ...], bool], bytes] = {}
    lines: list[bytes] = []
    for number, uid, bits, keywords, recent, modseq in rows:
        key = (bits, keywords, recent)
        formatted = known.get(key) or known.setdefault(key, flags(bits, keywords, recent))
        first = uid if uid_only else number
        lines.append(template % ((first, uid, formatted, modseq) if with_uid else (first, formatted, modseq)))
    return b"".join(lines)


def fetch_modseq(rows: Iterable[tuple[int, int, int]], uid_only: bool = False) -> bytes:
    """FETCH lines with the modification sequence, of rows (sequence number, uid, modseq)."""
    if uid_only:
        return b"".join([b"* %d UIDFETCH (MODSEQ (%d))\r\n" % (uid, modseq) for _, uid, modseq in rows])
    # RFC 7162 §3.2.4
    return b"".join([b"* %d FETCH (UID %d MODSEQ (%d))\r\n" % row for row in rows])


_BARE_FLAGS = tuple(b"(%b)" % names for names in _FLAGS)
