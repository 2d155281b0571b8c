"""A client's octets into whole commands: octets in, events out, no waiting (RFC 3501 §2.2.1, §4.3, RFC 7888).

The driver calls `feed` with whatever arrived and then `next_event` until it gives None. However the octets were cut,
the same events come out (only a streamed literal's chunks follow the cuts). Small literals stay inside their command;
the message literal of APPEND is offered (`LiteralStart`) and then streamed, so that it never lies here whole. What is
over a limit is dropped while it arrives; one `Refusal` follows when the client can hear it, or `Fatal` where it cannot
be waited for. Work and memory are linear in what was fed, and memory is bounded by the limits and what is not yet
asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from imap.wire.errors import BadSyntax
from imap.wire.limits import WireLimits
from imap.wire.tokens import TAG_MAX, tag_of

CHUNK = 256 * 1024
"""The most octets of a streamed literal in one event."""


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A whole command with its literals inside (each line before a literal ended by CRLF), without the last line
    end."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Line:
    """The one line asked for by `expect_line`, without its line end."""

    data: bytes


@dataclass(frozen=True, slots=True)
class NeedContinuation:
    """The client waits for ``+`` before it sends the literal."""


@dataclass(frozen=True, slots=True)
class LiteralStart:
    """A literal that may be streamed. The driver calls `accept` or `refuse` before it asks for another event.

    `prefix`: the command up to and with the literal's ``{n}``; for a second literal of a command, only what stood
    between.
    """

    prefix: bytes
    size: int
    synchronizing: bool


@dataclass(frozen=True, slots=True)
class LiteralChunk:
    """Octets of the accepted literal: 1 to CHUNK."""

    data: bytes


@dataclass(frozen=True, slots=True)
class CommandEnd:
    """The line end after the last streamed literal; `rest` is what stood before it."""

    rest: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """The command was not taken. The client can hear the answer now, and the next command follows."""

    error: BadSyntax


@dataclass(frozen=True, slots=True)
class Fatal:
    """The stream cannot be followed any further: say BYE and close. No other event comes after it."""

    text: str
    code: str | None


Event = CommandLine | Line | NeedContinuation | LiteralStart | LiteralChunk | CommandEnd | Refusal | Fatal


class _State(Enum):
    LINE = auto()  # a command's first line, or the one after a kept literal
    KEPT = auto()  # a literal that stays in its command
    OFFERED = auto()  # a literal that the driver has not decided about
    STREAM = auto()  # a literal that the driver takes
    AFTER = auto()  # the line after a streamed literal
    DROP_LINE = auto()  # a refused command's line
    DROP_LITERAL = auto()  # a refused command's literal
    DEAD = auto()


_LITERAL = re.compile(rb"\{([0-9]{1,20})(\+?)\}\Z")
_HEAD_MAX = 24
_HEAD = rb"[^ ]+ (?:APPEND|(?:UID )?REPLACE [^ ]+) "
_APPEND = re.compile(_HEAD, re.IGNORECASE)
_MAILBOX_ONLY = re.compile(_HEAD + rb"~?\{[0-9]+\+?\}\Z", re.IGNORECASE)


class Framer:
    """See the module. `limits` may be replaced between two commands."""

    __slots__ = (
        "_budget",
        "_buffer",
        "_error",
        "_kept",
        "_kept_size",
        "_need",
        "_raw",
        "_scanned",
        "_state",
        "_synchronizing",
        "_tail",
        "limits",
    )

    def __init__(self, limits: WireLimits) -> None:
        self.limits = limits
        self._buffer = bytearray()
        self._scanned = 0  # octets at the buffer's start that are known to have no LF
        self._state = _State.LINE
        self._kept: list[bytes] = []  # the running command's lines and literals
        self._kept_size = 0
        self._need = 0  # octets of the literal that are still to come
        self._synchronizing = False
        self._raw = False
        self._error: BadSyntax | None = None  # what to say when the refused command is over
        self._budget = 0  # octets of it that may still be dropped
        self._tail = b""  # the end of the line being dropped, where a literal's head would stand

    def __len__(self) -> int:
        """Octets that were fed and not yet given out."""
        return len(self._buffer)

    @property
    def at_rest(self) -> bool:
        """True between two commands with nothing of the next one here."""
        return self._state is _State.LINE and not self._kept and not self._buffer

    def feed(self, octets: bytes) -> None:
        """Take what arrived."""
        if self._state is not _State.DEAD:
            self._buffer += octets

    def expect_line(self, expect: bool = True) -> None:
        """The next line is no command but an answer to a continuation (or, with False, a command again)."""
        self._raw = expect

    def accept(self) -> None:
        """Take the offered literal. (Where it is synchronizing, the driver sends the continuation.)"""
        if self._state is _State.OFFERED:
            self._state = _State.STREAM

    def refuse(self) -> None:
        """Have no more of the command whose literal was offered: what still comes of it is dropped, in silence."""
        self._error = None
        if self._state is _State.OFFERED and self._synchronizing:
            # RFC 3501 §4.3: without a continuation the client does not send it
            self._start_over()
        elif self._state in (_State.OFFERED, _State.STREAM):
            self._budget = self.limits.discard + self._need
            self._state = _State.DROP_LITERAL
        elif self._state is _State.AFTER:
            self._drop_line()

    def forget(self) -> None:
        """Drop everything that was fed (STARTTLS)."""
        self._buffer = bytearray()
        self._start_over()

    def next_event(self) -> Event | None:
        """The next event, or None until more is fed. While a literal is offered it is None too."""
        while True:
            match self._state:
                case _State.LINE | _State.AFTER:
                    event = self._read_line()
                case _State.KEPT:
                    event = self._read_kept()
                case _State.STREAM:
                    event = self._read_stream()
                case _State.DROP_LINE:
                    event = self._read_dropped_line()
                case _State.DROP_LITERAL:
                    event = self._read_dropped_literal()
                case _State.OFFERED | _State.DEAD:
                    return None
            if event is not _AGAIN:
                return event

    # --- one step in each state: an event, None (needs octets) or _AGAIN ---

    def _read_line(self) -> Event | None:
        at = self._buffer.find(b"\n", self._scanned)
        size = at + 1 if at >= 0 else len(self._buffer)
        if size > self.limits.line:
            return self._begin_drop(f"Line of more than {self.limits.line} octets")
        if at < 0:
            self._scanned = size
            return None
        # Tolerance: a line may end with LF alone.
        line = self._take(size).removesuffix(b"\n").removesuffix(b"\r")
        if self._raw:
            self._raw = False
            return _raw_line(line)
        head = _LITERAL.search(line, max(0, len(line) - _HEAD_MAX))
        if self._state is _State.AFTER:
            if head is None:
                self._start_over()
                return CommandEnd(line)
            return self._offer(line, head)
        self._kept_size += size
        if self._kept_size > self.limits.command:
            self._error = self._refused(f"Command of more than {self.limits.command} octets", line)
            self._budget = self.limits.discard
            return self._end_dropped_line(line)
        self._kept.append(line)
        if head is None:
            return self._end_command()
        if self._is_message(line):
            return self._offer(b"".join(self._kept), head)
        size, synchronizing = int(head[1]), not head[2]
        if size > min(self.limits.literal, self.limits.command - self._kept_size):
            return self._too_big(size, synchronizing)
        self._kept.append(b"\r\n")
        self._need = size
        self._state = _State.KEPT
        return NeedContinuation() if synchronizing else _AGAIN

    def _read_kept(self) -> Event | None:
        if len(self._buffer) < self._need:
            return None
        self._kept.append(self._take(self._need))
        self._kept_size += self._need
        self._state = _State.LINE
        return _AGAIN

    def _read_stream(self) -> Event | None:
        if not self._need:
            self._state = _State.AFTER
            return _AGAIN
        if not self._buffer:
            return None
        chunk = self._take(min(self._need, CHUNK, len(self._buffer)))
        self._need -= len(chunk)
        return LiteralChunk(chunk)

    def _read_dropped_line(self) -> Event | None:
        at = self._buffer.find(b"\n", self._scanned)
        size = at + 1 if at >= 0 else len(self._buffer)
        self._budget -= size
        if self._budget < 0:
            return self._die(None)
        self._tail = (self._tail + self._buffer[max(0, size - _HEAD_MAX - 2) : size])[-_HEAD_MAX - 2 :]
        self._discard(size)
        if at < 0:
            return None
        return self._end_dropped_line(self._tail.removesuffix(b"\n").removesuffix(b"\r"))

    def _read_dropped_literal(self) -> Event | None:
        size = min(self._need, len(self._buffer))
        self._need -= size
        self._budget -= size
        self._discard(size)
        if self._need:
            return None
        self._drop_line()
        return _AGAIN

    # --- transitions ---

    def _end_command(self) -> Event:
        command = b"".join(self._kept)
        self._start_over()
        return CommandLine(command)

    def _is_message(self, line: bytes) -> bool:
        """Whether the literal at this line's end is the message of an APPEND or REPLACE, or a part of one, and not the
        name of its mailbox."""
        if not _APPEND.match(self._kept[0]):
            return False
        return len(self._kept) > 1 or not _MAILBOX_ONLY.match(line)

    def _offer(self, prefix: bytes, head: re.Match[bytes]) -> Event | None:
        size, synchronizing = int(head[1]), not head[2]
        if size > self.limits.message:
            return self._too_big(size, synchronizing)
        self._need, self._synchronizing = size, synchronizing
        self._state = _State.OFFERED
        return LiteralStart(prefix, size, synchronizing)

    def _too_big(self, size: int, synchronizing: bool) -> Event | None:
        # RFC 7888 §4: a synchronizing literal is refused in place of its continuation; another one is dropped, or the
        # connection ended.
        text = f"Literal of {size} octets is over the limit"
        error = self._refused(text, condition_no=True)
        if synchronizing:
            self._start_over()
            return Refusal(error)
        if size > self.limits.discard:
            return self._die("TOOBIG")
        self._error, self._budget, self._need = error, self.limits.discard, size
        self._state = _State.DROP_LITERAL
        return _AGAIN

    def _begin_drop(self, text: str) -> Event | None:
        beginning = bytes(self._buffer[: min(self.limits.line, 2 * TAG_MAX)])
        # without the space behind it, what is here may be a part of the tag
        self._error = self._refused(text, beginning if b" " in beginning else b"")
        self._budget = self.limits.discard
        self._drop_line()
        return _AGAIN

    def _drop_line(self) -> None:
        self._tail = b""
        self._state = _State.DROP_LINE

    def _end_dropped_line(self, tail: bytes) -> Event | None:
        head = None if self._raw else _LITERAL.search(tail, max(0, len(tail) - _HEAD_MAX))
        if head is not None and head[2]:
            self._need = int(head[1])
            if self._need > self._budget:
                return self._die("TOOBIG")
            self._state = _State.DROP_LITERAL
            return _AGAIN
        error = self._error
        self._start_over()
        return _AGAIN if error is None else Refusal(error)

    def _die(self, code: str | None) -> Event:
        self.forget()
        self._state = _State.DEAD
        return Fatal("More octets than can be skipped", code)

    def _start_over(self) -> None:
        self._state = _State.LINE
        self._kept = []
        self._kept_size = self._need = self._scanned = 0
        self._raw = False
        self._error = None
        self._tail = b""

    def _refused(self, text: str, line: bytes = b"", *, condition_no: bool = False) -> BadSyntax:
        tag = "*" if self._raw else tag_of(self._kept[0] if self._kept else line)
        if condition_no:
            return BadSyntax(text, tag=tag, condition="NO", code="TOOBIG")
        return BadSyntax(text, tag=tag)

    # --- the buffer ---

    def _take(self, size: int) -> bytes:
        taken = bytes(memoryview(self._buffer)[:size])
        self._discard(size)
        return taken

    def _discard(self, size: int) -> None:
        # CPython drops a bytearray's front without moving the rest: linear in total.
        del self._buffer[:size]
        self._scanned = 0


_AGAIN: Event = CommandEnd(b"")


def _raw_line(line: bytes) -> Event:
    return Refusal(BadSyntax("Line with a NUL octet")) if b"\0" in line else Line(line)
