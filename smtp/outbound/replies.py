"""What remote servers answer: replies from octets cut anywhere, and what each means. Pure.

Remote servers are not trusted: a reply is bounded in its lines and octets, and its text is cleaned before it goes on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from smtp.outbound.transport import TEXT_MAX, Phase, Status

LINE_MAX = 4096
"""Octets of one line of a reply. RFC 5321 §4.5.3.1.5 says 512; EHLO lines may be longer."""
REPLY_MAX = 32 * 1024
"""Octets of one reply, all its lines together."""
LINES_MAX = 200

_START = re.compile(rb"([2-5][0-9][0-9])([ -]?)")
_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?=\s|$)")
_SPACES = re.compile(r"\s+")

_USUAL = {
    421: "4.3.2",
    452: "4.3.1",
    500: "5.5.2",
    501: "5.5.4",
    502: "5.5.1",
    503: "5.5.1",
    504: "5.5.4",
    521: "5.3.2",
    530: "5.7.0",
    535: "5.7.8",
    551: "5.1.6",
    553: "5.1.3",
    555: "5.5.4",
    556: "5.1.10",
}
"""Enhanced codes for replies that have none (RFC 3463, RFC 5248, RFC 7504); others are X.0.0."""


class BadReply(Exception):
    """Not a reply of SMTP; the text says why, with the remote's octets cleaned."""


@dataclass(frozen=True)
class Reply:
    """code: 200 to 599. lines: what stands after the codes, undecoded."""

    code: int
    lines: tuple[bytes, ...]

    @cached_property
    def text(self) -> str:
        """All lines as one, printable, at most TEXT_MAX characters; the enhanced code of the first line alone."""
        first = self.lines[0].decode("utf-8", "replace")
        if len(self.lines) == 1:
            return clean(first)
        given = _ENHANCED.match(first)
        words = [first]
        for line in self.lines[1:]:
            more = line.decode("utf-8", "replace")
            words.append(more.removeprefix(given[0]) if given is not None else more)
        return clean(" ".join(words))

    @property
    def status(self) -> Status:
        if self.code < 300:
            return Status.SENT
        return Status.FAILED if self.code >= 500 else Status.DEFERRED

    @property
    def given(self) -> str:
        """The enhanced code that the remote gave; "" for none, or for one that does not fit the reply's."""
        found = _ENHANCED.match(self.lines[0].decode("ascii", "replace"))
        return found[0] if found is not None and int(found[1]) == self.code // 100 else ""

    @property
    def enhanced(self) -> str:
        if given := self.given:
            return given
        if self.code in _USUAL:
            return _USUAL[self.code]
        return "2.0.0" if self.code < 300 else "5.0.0" if self.code >= 500 else "4.0.0"


class ReplyReader:
    """Takes octets as they come; gives whole replies."""

    __slots__ = ("_held", "_lines", "_octets")

    def __init__(self) -> None:
        self._held = b""
        self._lines: list[bytes] = []
        self._octets = 0

    def __bool__(self) -> bool:
        """Whether a reply has begun and not ended."""
        return bool(self._held or self._lines)

    def feed(self, data: bytes) -> list[Reply]:
        """The replies that are whole now. Raises BadReply; nothing that comes after can be trusted then."""
        if self._held:
            data = self._held + data
        replies: list[Reply] = []
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            # Tolerance: LF alone at the end of a line
            line = data[start : end - 1] if end > start and data[end - 1] == 13 else data[start:end]
            start = end + 1
            if (reply := self._line(line)) is not None:
                replies.append(reply)
        self._held = data[start:]
        if len(self._held) > LINE_MAX:
            raise BadReply("a line of the reply has no end")
        return replies

    def _line(self, line: bytes) -> Reply | None:
        found = _START.match(line)
        if found is None or (not found[2] and len(line) > 3):
            raise BadReply(f"not a reply of SMTP: {clean(line[:200].decode('utf-8', 'replace'))}")
        self._octets += len(line)
        if len(line) > LINE_MAX or self._octets > REPLY_MAX or len(self._lines) >= LINES_MAX:
            raise BadReply("the reply has no end")
        # RFC 5321 §4.2.1: every line of a reply has the same code. Tolerance: the last one counts, as it is the one
        # that a client which looks at nothing else acts upon.
        self._lines.append(line[found.end() :])
        if found[2] == b"-":
            return None
        reply = Reply(int(found[1]), tuple(self._lines))
        self._lines = []
        self._octets = 0
        return reply


def clean(text: str) -> str:
    """Printable, on one line, at most TEXT_MAX characters."""
    if not text.isprintable():
        text = "".join(character if character.isprintable() else " " for character in text)
    if "  " in text or text[:1] == " " or text[-1:] == " ":
        text = _SPACES.sub(" ", text).strip()
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why an attempt with one host came to no verdict on its recipients. permanent: another attempt would end the
    same. remote: as in ``Outcome``. early: the host did not come to the point where mail can be given to it."""

    phase: Phase
    enhanced: str
    text: str
    code: int | None = None
    permanent: bool = False
    remote: str = ""

    @property
    def early(self) -> bool:
        return self.phase not in (Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.TEXT)


def trouble_of(reply: Reply, phase: Phase, remote: str) -> Trouble:
    """A refusal of the whole session."""
    return Trouble(phase, reply.enhanced, reply.text, reply.code, reply.code >= 500, remote)
