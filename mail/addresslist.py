"""Address lists of header fields (RFC 5322 §3.4, with the obsolete forms of §4.4), from any bytes in linear time.

What is missing from a broken address is filled in with the words that Dovecot uses (MISSING_MAILBOX, MISSING_DOMAIN,
SYNTAX_ERROR, INVALID_ROUTE), because ENVELOPE has no other way to say it; such an entry is not `valid`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_ENTRIES = 10_000
"""How many entries of one field are kept."""

_ATEXT = rb"!#-'*+\-/-9=?A-Z^-~\x80-\xff"
_DOTTED = rb"[%b][.%b]*+" % (_ATEXT, _ATEXT)
_SIMPLE = re.compile(
    rb"[ \t\r\n]*+(?:(?:\"([^\"\\\r\n]*+)\"|([%b][.%b]*+(?: [.%b][.%b]*+)*+))?[ \t]*+<(%b)@(%b)>|(%b)@(%b))"
    rb"[ \t\r\n]*+(?=,|\Z)" % (_ATEXT, _ATEXT, _ATEXT, _ATEXT, _DOTTED, _DOTTED, _DOTTED, _DOTTED)
)
_WHITE = re.compile(rb"[ \t\r\n]*+")
_COMMENT = re.compile(rb"[()\\]")
_QUOTED = re.compile(rb'["\\\n]')
_ATOM_OR_DOT = re.compile(rb"[.%b]*+" % _ATEXT)
_PHRASE_GOES_ON = re.compile(rb"[\".%b]" % _ATEXT)
_LITERAL = re.compile(rb"\[(?:[^\]\\]|\\.)*+\]", re.DOTALL)


class Entry(NamedTuple):
    """One entry as ENVELOPE shows it (RFC 3501 §7.4.2): name, source route, local part and domain, undecoded.

    A group begins with an entry that has its name as the mailbox and no host, and ends with one of four Nones.
    """

    name: bytes | None
    route: bytes | None
    mailbox: bytes | None
    host: bytes | None
    valid: bool = True


END_OF_GROUP = Entry(None, None, None, None)


def parse(value: bytes, most: int = MAX_ENTRIES) -> list[Entry]:
    """The entries of an unfolded address-list value; [] when there is nothing but white space and comments.

    No further address or group is begun once there are `most` entries.

    Tolerance: the list ends at the first thing that neither is an address nor separates two.
    """
    found: list[Entry] = []
    pos, size = 0, len(value)
    scanner: _Scanner | None = None
    while len(found) < most:
        match = _SIMPLE.match(value, pos)
        if match:
            quoted, phrase, local, domain, bare, bare_domain = match.groups()
            if local is None:
                found.append(Entry(None, None, bare, bare_domain))
            else:
                found.append(Entry(quoted or phrase, None, local, domain))
            pos = match.end()
            if pos == size:
                return found
        else:
            if scanner is None:
                scanner = _Scanner(value, found)
            scanner.pos = pos
            if scanner.skip() <= 0:
                return found
            if not scanner.address():
                return found
            pos = scanner.pos
            if pos >= size or value[pos] != 0x2C:
                return found
        pos += 1
        rest = _WHITE.match(value, pos)
        if rest and rest.end() == size:
            return found
    return found


class _Scanner:
    """The slow and exact way: one recursive-descent step per grammar rule, each moving `pos` forward.

    Steps answer 1 when text is left, 0 at the end of the text, -1 when the rule does not fit.
    """

    __slots__ = ("comment", "data", "found", "host", "mailbox", "name", "pos", "route", "size", "valid")

    def __init__(self, data: bytes, found: list[Entry]) -> None:
        self.data = data
        self.size = len(data)
        self.found = found
        self.pos = 0
        self.comment = b""
        self._clear()

    def _clear(self) -> None:
        self.name: bytes | None = None
        self.route: bytes | None = None
        self.mailbox: bytes | None = None
        self.host: bytes | None = None
        self.valid = True

    def at(self, byte: int) -> bool:
        return self.pos < self.size and self.data[self.pos] == byte

    def skip(self) -> int:
        """Over white space and comments; the text of the last comment is kept."""
        data = self.data
        while True:
            white = _WHITE.match(data, self.pos)
            if white:
                self.pos = white.end()
            if self.pos >= self.size:
                return 0
            if data[self.pos] != 0x28:
                return 1
            pieces: list[bytes] = []
            start = self.pos + 1
            at, level = start, 1
            while level:
                stop = _COMMENT.search(data, at)
                if stop is None:
                    self.pos = self.size
                    return -1
                end = stop.start()
                at = end + 1
                if data[end] == 0x28:
                    level += 1
                elif data[end] == 0x29:
                    level -= 1
                    if level == 0:
                        pieces.append(data[start:end])
                else:
                    pieces.append(data[start:end])
                    start = end + 1
                    at = end + 2
            self.comment = b"".join(pieces)
            self.pos = at

    def quoted(self, out: list[bytes]) -> int:
        data = self.data
        start = at = self.pos + 1
        while True:
            stop = _QUOTED.search(data, at)
            if stop is None:
                self.pos = self.size
                return -1
            end = stop.start()
            out.append(data[start:end])
            if data[end] == 0x22:
                self.pos = end + 1
                return self.skip()
            start = end + 1
            at = end + 2 if data[end] == 0x5C else end + 1

    def phrase(self) -> tuple[int, bytes]:
        out: list[bytes] = []
        if self.pos >= self.size:
            return 0, b""
        if self.at(0x2E):
            return -1, b""
        while True:
            if self.at(0x22):
                state = self.quoted(out)
            else:
                word = _ATOM_OR_DOT.match(self.data, self.pos)
                if word:
                    out.append(word[0])
                    self.pos = word.end()
                state = self.skip()
            if state <= 0:
                return state, b"".join(out)
            if not _PHRASE_GOES_ON.match(self.data, self.pos):
                return state, b"".join(out)
            out.append(b" ")

    def dot_atom(self, out: list[bytes]) -> int:
        """Tolerance: dots anywhere, white space and comments around the dots between words (RFC 5322 §4.4)."""
        if not _PHRASE_GOES_ON.match(self.data, self.pos) or self.at(0x22):
            return -1
        while True:
            word = _ATOM_OR_DOT.match(self.data, self.pos)
            if word:
                out.append(word[0])
                self.pos = word.end()
            state = self.skip()
            if state <= 0 or not self.at(0x2E):
                return state
            out.append(b".")
            self.pos += 1
            state = self.skip()
            if state <= 0:
                return state

    def local_part(self) -> int:
        out: list[bytes] = []
        state = self.quoted(out) if self.at(0x22) else self.dot_atom(out)
        if state >= 0:
            self.mailbox = b"".join(out)
        return state

    def domain(self, out: list[bytes]) -> int:
        self.pos += 1
        if self.skip() <= 0:
            return -1
        if not self.at(0x5B):
            return self.dot_atom(out)
        literal = _LITERAL.match(self.data, self.pos)
        if literal is None:
            self.pos = self.size
            return -1
        out.append(literal[0])
        self.pos = literal.end()
        return self.skip()

    def host_of(self) -> int:
        out: list[bytes] = []
        state = self.domain(out)
        if state >= 0:
            self.host = b"".join(out)
        return state

    def source_route(self) -> int:
        # RFC 5322 §4.4: obs-route
        out: list[bytes] = []
        while self.at(0x40):
            out.append(b",@" if out else b"@")
            state = self.domain(out)
            if state <= 0:
                return state
            while self.skip() > 0 and self.at(0x2C):
                self.pos += 1
        if self.pos >= self.size:
            return 0
        self.route = b"".join(out)
        return 1

    def angle_addr(self) -> bool:
        """False when it is broken: without its closing bracket above all."""
        self.pos += 1
        if self.skip() <= 0:
            return False
        if self.at(0x40):
            if self.source_route() <= 0 or not self.at(0x3A):
                self.route = b"INVALID_ROUTE"
            else:
                self.pos += 1
            if self.skip() <= 0:
                return False
        if not self.at(0x3E):
            if self.local_part() <= 0 or (self.at(0x40) and self.host_of() <= 0):
                return False
            if not self.at(0x3E):
                return False
        self.pos += 1
        return self.skip() >= 0

    def addr_spec(self) -> int:
        self.comment = b""
        is_quoted = self.at(0x22)
        state = self.local_part()
        if state <= 0:
            self.valid = False
        saw_domain = False
        if state != 0 and self.at(0x40):
            saw_domain = True
            after = self.host_of()
            if after <= 0:
                state = after
        if self.comment:
            self.name = self.comment
        elif not saw_domain:
            # a word without a domain is a mailbox, several are a name
            before = self.mailbox or b""
            _, rest = self.phrase()
            if rest:
                self.mailbox = None
                self.name = before + b" " + rest
            elif not is_quoted:
                self.host = b""
            self.valid = False
            state = -1
        return state

    def mailbox_rule(self) -> int:
        start = self.pos
        state, name = self.phrase()
        if state > 0 and self.at(0x3C):
            self.name = name or None
            if not self.angle_addr():
                self.host = b"SYNTAX_ERROR"
                self.valid = False
            state = 1 if self.pos < self.size else 0
        else:
            self.pos = start
            state = self.addr_spec()
            if not self.valid and self.name is None and self.mailbox is not None and self.host is None:
                self.name, self.mailbox = self.mailbox, None
        if state < 0:
            self.valid = False
        self._add()
        return state

    def _add(self) -> None:
        if self.mailbox is None:
            self.mailbox = b"MISSING_MAILBOX"
            self.valid = False
        if not self.host:
            self.host = b"MISSING_DOMAIN"
            self.valid = False
        self.found.append(Entry(self.name, self.route, self.mailbox, self.host, self.valid))
        self._clear()

    def group(self) -> int:
        """-1 when this is no group; from the colon on it is one, whatever follows."""
        state, name = self.phrase()
        if state <= 0 or not self.at(0x3A):
            return -1
        self.pos += 1
        state = self.skip()
        self.found.append(Entry(None, None, name, None))
        if state > 0 and not self.at(0x3B):
            while len(self.found) < MAX_ENTRIES:
                self.mailbox_rule()
                if not self.at(0x2C):
                    break
                self.pos += 1
                if self.skip() <= 0:
                    state = -1
                    break
        if state >= 0 and self.at(0x3B):
            self.pos += 1
            state = self.skip()
        self.found.append(END_OF_GROUP)
        return 0 if self.pos >= self.size else 1

    def address(self) -> bool:
        """Adds one address or group; False when the list ends with it."""
        start = self.pos
        state = self.group()
        if state < 0:
            self.pos = start
            state = self.mailbox_rule()
        return state != 0
