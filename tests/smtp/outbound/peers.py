"""Remote servers for tests: real sockets, and every way in which a destination goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

EXTENSIONS = ("PIPELINING", "8BITMIME", "SIZE 100000000", "DSN", "SMTPUTF8", "ENHANCEDSTATUSCODES")
STEPS = ("CONNECT", "EHLO", "STARTTLS", "HANDSHAKE", "AUTH", "MAIL", "RCPT", "DATA", "MIDDLE", "TEXT")
REPLIES = {
    "CONNECT": "220 peer.example ESMTP",
    "HELO": "250 peer.example",
    "STARTTLS": "220 2.0.0 Go ahead",
    "AUTH": "235 2.7.0 Signed in",
    "MAIL": "250 2.1.0 Sender ok",
    "RCPT": "250 2.1.5 Recipient ok",
    "DATA": "354 Go on",
    "TEXT": "250 2.0.0 Taken",
    "RSET": "250 2.0.0 Ok",
    "NOOP": "250 2.0.0 Ok",
    "QUIT": "221 2.0.0 Bye",
}


@dataclass(frozen=True)
class Taken:
    """One message as it came. mail, rcpt: the command lines. text: with its dots as sent, without the end."""

    mail: str
    rcpt: tuple[str, ...]
    text: bytes
    tls: bool


@dataclass
class Peer:
    """A server on a loopback address. All may be changed while it runs.

    replies: by step, or by "RCPT address"; a list gives one after the other, its last for ever. Octets are sent as they
    are. close, silent: steps at which it closes, or says nothing any more, instead of answering ("MIDDLE": within the
    text). unending: steps where the reply never ends. tls: for STARTTLS, offered where it is there; implicit: TLS from
    the first octet. broken_tls: garbage in the handshake. text_delay: seconds before the reply to a text.
    """

    extensions: tuple[str, ...] = EXTENSIONS
    replies: dict[str, str | bytes | list[str]] = field(default_factory=dict)
    close: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    unending: set[str] = field(default_factory=set)
    tls: ssl.SSLContext | None = None
    implicit: ssl.SSLContext | None = None
    broken_tls: bool = False
    text_delay: float = 0.0
    mails_max: int = 0
    name: str = "peer.example"
    taken: list[Taken] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    address: str = "127.0.0.1"
    port: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self, address: str = "127.0.0.1", port: int = 0) -> Peer:
        self._server = await asyncio.start_server(self._serve, address, port, ssl=self.implicit, limit=1 << 20)
        self.address, self.port = self._server.sockets[0].getsockname()[:2]
        return self

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self.ended.set()
        self.hang_up()

    def hang_up(self) -> None:
        """Close every connection."""
        for writer in list(self._writers):
            writer.close()

    async def __aenter__(self) -> Peer:
        return self if self._server is not None else await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def said(self, verb: str) -> list[str]:
        return [line for line in self.lines if line.upper().startswith(verb)]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self._writers.add(writer)
        try:
            await _Session(self, reader, writer).run()
        except (OSError, EOFError, ssl.SSLError):
            pass
        finally:
            self.open -= 1
            self._writers.discard(writer)
            writer.close()


class _Closed(EOFError):
    pass


class _Session:
    def __init__(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peer = peer
        self.reader = reader
        self.writer = writer
        self.secure = peer.implicit is not None
        self.mail = ""
        self.rcpt: list[str] = []
        self.count = 0

    async def run(self) -> None:
        await self.answer("CONNECT")
        while True:
            raw = await self.reader.readline()
            if not raw:
                return
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            self.peer.lines.append(line)
            verb = line.split(" ", 1)[0].upper()
            match verb:
                case "EHLO":
                    await self.answer("EHLO", self.ehlo())
                case "STARTTLS":
                    if (await self.answer("STARTTLS")).startswith("220"):
                        await self.handshake()
                case "MAIL":
                    if self.peer.mails_max and self.count >= self.peer.mails_max:
                        await self.write("421 4.7.0 Enough for one session")
                        raise _Closed
                    if (await self.answer("MAIL")).startswith("2"):
                        self.mail, self.rcpt = line, []
                case "RCPT":
                    address = line[line.index("<") + 1 : line.index(">")]
                    step = f"RCPT {address}" if f"RCPT {address}" in self.peer.replies else "RCPT"
                    if (await self.answer(step) if self.mail else await self.write("503 MAIL first")).startswith("2"):
                        self.rcpt.append(line)
                case "DATA":
                    await self.data()
                case "RSET":
                    self.mail, self.rcpt = "", []
                    await self.answer("RSET")
                case "QUIT":
                    await self.answer("QUIT")
                    return
                case _ if verb in REPLIES or verb in self.peer.replies:
                    await self.answer(verb)
                case _:
                    await self.write("500 5.5.1 What?")

    async def data(self) -> None:
        if not self.rcpt and "DATA" not in self.peer.replies:
            await self.write("554 5.5.1 No valid recipients")
            return
        if not (await self.answer("DATA")).startswith("354"):
            return
        text = b""
        while not (text == b".\r\n" or text.endswith(b"\r\n.\r\n")):
            block = await self.reader.read(65536)
            if not block:
                raise _Closed
            text += block
            if "MIDDLE" in self.peer.close:
                raise _Closed
            if "MIDDLE" in self.peer.silent:
                await self.peer.ended.wait()
                raise _Closed
            if "MIDDLE" in self.peer.replies:
                await self.answer("MIDDLE")
                await self.silence()
        if self.peer.text_delay:
            await asyncio.sleep(self.peer.text_delay)
        if self.rcpt:
            self.peer.taken.append(Taken(self.mail, tuple(self.rcpt), text[:-3], self.secure))
        self.count += 1
        self.mail, self.rcpt = "", []
        await self.answer("TEXT")

    async def handshake(self) -> None:
        if self.peer.broken_tls:
            self.writer.write(b"this is no TLS at all\r\n" * 10)
            await self.writer.drain()
            raise _Closed
        if "HANDSHAKE" in self.peer.close:
            raise _Closed
        if "HANDSHAKE" in self.peer.silent:
            await self.silence()
        assert self.peer.tls is not None
        await self.writer.start_tls(self.peer.tls)
        self.secure = True
        self.mail, self.rcpt = "", []

    def ehlo(self) -> str:
        words = [self.peer.name, *self.peer.extensions]
        if (self.peer.tls is not None or self.peer.broken_tls) and not self.secure:
            words.append("STARTTLS")
        return "\r\n".join(f"250{'-' if word is not words[-1] else ' '}{word}" for word in words)

    async def answer(self, step: str, usual: str = "") -> str:
        place = step.split(" ", 1)[0]
        if place in self.peer.close:
            raise _Closed
        if place in self.peer.silent:
            await self.silence()
        if place in self.peer.unending:
            with contextlib.suppress(OSError):
                while True:
                    self.writer.write(b"250-and so on\r\n" * 100)
                    await self.writer.drain()
        given = self.peer.replies.get(step, usual or REPLIES.get(place, "250 2.0.0 Ok"))
        if isinstance(given, list):
            given = given.pop(0) if len(given) > 1 else given[0]
        reply = await self.write(given)
        if reply.startswith("421"):
            raise _Closed
        return reply

    async def silence(self) -> None:
        while await self.reader.read(65536):
            pass
        raise _Closed

    async def write(self, reply: str | bytes) -> str:
        self.writer.write(reply if isinstance(reply, bytes) else reply.encode() + b"\r\n")
        await self.writer.drain()
        return reply if isinstance(reply, str) else reply.decode("latin-1")


def zone(domain: str, hosts: Mapping[str, Iterable[str]]) -> list[str]:
    """Records of a domain whose hosts, the best first, have these addresses."""
    lines = []
    for place, (host, addresses) in enumerate(hosts.items()):
        lines.append(f"{domain} MX {10 * (place + 1)} {host}.")
        lines += [f"{host} {'AAAA' if ':' in address else 'A'} {address}" for address in addresses]
    return lines
