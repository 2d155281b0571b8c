"""An IMAP session in IDLE, and when it was told what."""

from __future__ import annotations

import imaplib
import re
import smtplib
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType

from tests.live import PASSWORD, Member, until

PATIENCE = 60.0
SOON = 60.0
"""Seconds in which news must have come, on any machine."""


class Idle:
    """A signed-in connection in IDLE on a mailbox (RFC 2177). told: (time.monotonic, messages) for each EXISTS."""

    def __init__(self, host: str, port: int, user: str, mailbox: str = "INBOX", password: str = PASSWORD) -> None:
        self.told: list[tuple[float, int]] = []
        self.lines: list[bytes] = []
        self._socket = socket.create_connection((host, port), timeout=PATIENCE)
        self._file = self._socket.makefile("rb")
        self._line()
        self._ask(f"LOGIN {user} {_quoted(password)}")
        answers = self._ask(f"SELECT {mailbox}")
        self.messages = next(int(found.group(1)) for line in answers if (found := _EXISTS.match(line)))
        self._socket.sendall(b"i IDLE\r\n")
        while not self._line().startswith(b"+"):
            pass
        self._socket.settimeout(None)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait(self, messages: int, seconds: float) -> float:
        """When it was told of so many; AssertionError when it is not within these seconds."""
        return float(
            until(
                lambda: next((at for at, count in list(self.told) if count >= messages), None),
                seconds,
                f"IDLE tells of {messages} messages",
                pause=0.005,
            )
        )

    @property
    def latest(self) -> int:
        """The messages that it was told of last."""
        return self.told[-1][1] if self.told else self.messages

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join(5)
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Idle:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _read(self) -> None:
        while line := self._file.readline():
            if found := _EXISTS.match(line):
                self.told.append((time.monotonic(), int(found.group(1))))
            self.lines.append(line)

    def _line(self) -> bytes:
        line = self._file.readline()
        assert line, "the connection ended"
        return line

    def _ask(self, command: str) -> list[bytes]:
        self._socket.sendall(b"t " + command.encode() + b"\r\n")
        lines = []
        while not (line := self._line()).startswith(b"t "):
            lines.append(line)
        assert line.startswith(b"t OK"), line
        return lines


def delivered_elsewhere(
    host: str, imap: Sequence[Member], smtp: Sequence[Member], user: str, password: str, times: int
) -> list[float]:
    """Seconds from each of so many deliveries, through every smtp process in turn, to the news of it in the IDLE of a
    session at every imap process. user: the whole address."""
    waited: list[float] = []
    with ExitStack() as stack:
        idles = [stack.enter_context(Idle(host, door.ports["IMAP"], user, password=password)) for door in imap]
        doors = [stack.enter_context(smtplib.SMTP(host, door.ports["SMTP"], timeout=PATIENCE)) for door in smtp]
        for n in range(times):
            began = time.monotonic()
            doors[n % len(doors)].sendmail("x@elsewhere.example", [user], f"Subject: {n}\r\n\r\nnews\r\n")
            waited += [idle.wait(idle.messages + n + 1, SOON) - began for idle in idles]
    return waited


def appended_elsewhere(host: str, imap: Sequence[Member], user: str, password: str, times: int) -> list[float]:
    """Seconds from each of so many APPENDs at the second imap process to the news of it in an IDLE at the first."""
    here, there = imap[0], imap[1]
    waited: list[float] = []
    with (
        Idle(host, here.ports["IMAP"], user, password=password) as idle,
        imaplib.IMAP4(host, there.ports["IMAP"], timeout=PATIENCE) as other,
    ):
        # imaplib sends the end of a literal by itself, which else waits 40 ms for the ACK: the client's own time.
        other.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        other.login(user, password)
        for n in range(times):
            began = time.monotonic()
            status, _ = other.append("INBOX", "", "", b"Subject: %d\r\n\r\nnews\r\n" % n)
            assert status == "OK"
            waited.append(idle.wait(idle.messages + n + 1, SOON) - began)
    return waited


_EXISTS = re.compile(rb"\* (\d+) EXISTS")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
