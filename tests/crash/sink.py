"""A mail server for the load on its way out: it takes messages, remembers each it took, and misbehaves when asked to.

What it does with a recipient stands in the address's local part, before the first hyphen:

    take    takes the message                       grey    451 to the first RCPT, then takes it
    slow    takes it, and answers after a while     gone    550 to every RCPT
    mute    the first time takes it, and closes     late    451 after the first text, then takes it
            without an answer; then as take         spam    554 after every text
    cut     the first time closes within the text; then as take

A message of several recipients in one transaction has the conduct of the last of them that names one for the text.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading
import time
from dataclasses import dataclass, field

HOST = "127.0.0.2"
LINE_MAX = 16 * 1024 * 1024
SLOW_MIN, SLOW_MAX = 0.1, 0.6
"""Seconds until an answer of ``slow``."""
RCPT_KINDS = ("grey", "gone")
TEXT_KINDS = ("take", "slow", "mute", "late", "spam", "cut")


@dataclass(slots=True, eq=False)
class Taking:
    """One message taken for one recipient. peer: the address it came from. connected: when its connection began. at:
    when it was taken. replied: when the 250 was written, or None. seen: the peer has gone on since, so that it has read
    the 250. Times: time.monotonic."""

    op: str
    address: str
    digest: bytes
    peer: str
    connected: float
    at: float
    replied: float | None = None
    seen: bool = False


@dataclass(slots=True)
class _Session:
    peer: str
    connected: float
    recipients: list[str] = field(default_factory=list)
    last: list[Taking] = field(default_factory=list)


class Closed(Exception):
    """The sink closes the connection here."""


class Sink:
    """Listens on ``port`` of HOST, in a thread with a loop of its own. met: ops of which a recipient was named."""

    def __init__(self, seed: int = 0) -> None:
        self.taken: list[Taking] = []
        self.met: set[str] = set()
        self.port = 0
        self._rng = random.Random(seed)
        self._once: set[tuple[str, ...]] = set()
        self._news = threading.Condition()
        self._replies: dict[str, int] = {}
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="sink", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None

    def __enter__(self) -> Sink:
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._end is not None
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(60)
        assert not self._thread.is_alive()

    def wait_for_reply(self, peer: str, seconds: float) -> bool:
        """Until the next 250 was written to this peer; False when none was in time."""
        with self._news:
            before = self._replies.get(peer, 0)
            return self._news.wait_for(lambda: self._replies.get(peer, 0) > before, seconds)

    async def _run(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, HOST, 0, limit=LINE_MAX)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = _Session(writer.get_extra_info("peername")[0], time.monotonic())
        try:
            await _say(writer, "220 sink.example ESMTP")
            while line := await reader.readline():
                for taking in session.last:
                    taking.seen = True
                session.last = []
                command, _, rest = line.decode("utf-8").strip().partition(" ")
                if not await self._do(command.upper(), rest, session, reader, writer):
                    break
        except (Closed, OSError, asyncio.IncompleteReadError):
            # The peer was killed, or is served so on purpose.
            writer.transport.abort()
        finally:
            writer.close()

    async def _do(
        self,
        command: str,
        rest: str,
        session: _Session,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        match command:
            case "EHLO":
                await _say(writer, "250-sink.example", "250-PIPELINING", "250-8BITMIME", "250-SMTPUTF8", "250 SIZE")
            case "MAIL" | "RSET":
                session.recipients.clear()
                await _say(writer, "250 2.1.0 ok")
            case "RCPT":
                await _say(writer, self._recipient(rest.partition("<")[2].partition(">")[0], session))
            case "DATA" if not session.recipients:
                await _say(writer, "554 5.5.1 nobody to take it for")
            case "DATA":
                await _say(writer, "354 go on")
                await self._text(session, reader, writer)
                session.recipients.clear()
            case "QUIT":
                await _say(writer, "221 2.0.0 bye")
                return False
            case _:
                await _say(writer, "502 5.5.1 what?")
        return True

    def _recipient(self, address: str, session: _Session) -> str:
        kind, op = kind_of(address), op_of(address)
        self.met.add(op)
        if kind == "gone":
            return "550 5.1.1 no such user"
        if kind == "grey" and self._first("grey", address):
            return "451 4.7.1 greylisted, come again"
        session.recipients.append(address)
        return "250 2.1.5 ok"

    def _first(self, *what: str) -> bool:
        first = what not in self._once
        self._once.add(what)
        return first

    async def _text(self, session: _Session, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kinds = [kind_of(address) for address in session.recipients if kind_of(address) in TEXT_KINDS]
        kind = kinds[-1] if kinds else "take"
        op, domain = op_of(session.recipients[0]), session.recipients[0].partition("@")[2]
        if kind == "cut" and self._first(kind, op, domain):
            await reader.readline()
            raise Closed
        text = await reader.readuntil(b"\r\n.\r\n")
        if kind == "spam":
            await _say(writer, "554 5.7.1 that is spam")
            return
        if kind == "late" and self._first(kind, op, domain):
            await _say(writer, "451 4.3.0 not now")
            return
        body = text[:-3].replace(b"\r\n..", b"\r\n.").partition(b"\r\n\r\n")[2]
        digest = hashlib.sha256(body).digest()
        now = time.monotonic()
        session.last = [
            Taking(op, address, digest, session.peer, session.connected, now) for address in session.recipients
        ]
        self.taken += session.last
        if kind == "mute" and self._first(kind, op, domain):
            raise Closed
        if kind == "slow":
            await asyncio.sleep(self._rng.uniform(SLOW_MIN, SLOW_MAX))
        writer.write(b"250 2.0.0 taken\r\n")
        now = time.monotonic()
        for taking in session.last:
            taking.replied = now
        with self._news:
            self._replies[session.peer] = self._replies.get(session.peer, 0) + 1
            self._news.notify_all()
        await writer.drain()


def kind_of(address: str) -> str:
    """What the sink does with it."""
    return address.partition("-")[0]


def op_of(address: str) -> str:
    """Of which message it is a recipient: the local part's last word."""
    return address.partition("@")[0].rpartition("-")[2]


async def _say(writer: asyncio.StreamWriter, *lines: str) -> None:
    writer.write("".join(f"{line}\r\n" for line in lines).encode())
    await writer.drain()
