"""Plays a dialogue written as a script against a server.

# comment
LISTENER submission          which listener (a word for the caller; "" where absent)
CLEAR                        what is shown is told without TLS alone
C: EHLO client.example       the client sends the line and CRLF; \\r \\n \\0 \\t \\xNN \\\\ stand for octets
C+ QUI                       the same without CRLF
S: 250 <[a-z]+> greets       the server's next line: <...> is a regular expression, \\< a plain angle bracket
REPLY 250                    the server's next reply has this code, in however many lines
STARTTLS                     the client starts TLS here
SCRAM alice secret           the client answers the server's two challenges as SCRAM-SHA-256 has it (RFC 5802 §3)
DEFLATE                      from here on both sides are deflated (RFC 1951), flushed after each line
EOF                          the server closes the connection
AS robin                     what follows is on another client's connection, made when it is first named ("": the first)
"""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
import zlib
from dataclasses import dataclass
from pathlib import Path

from tests.scram import ScramClient

DEADLINE = 60.0
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|.)")
_PLAIN = {"r": "\r", "n": "\n", "0": "\0", "t": "\t"}


@dataclass(frozen=True, slots=True)
class Step:
    """kind: "C", "S", "REPLY", "STARTTLS", "SCRAM", "DEFLATE", "EOF" or "AS". number: line in the file."""

    kind: str
    text: str
    number: int


@dataclass(frozen=True, slots=True)
class Script:
    name: str
    listener: str
    steps: tuple[Step, ...]
    clear: bool = False

    @property
    def fits_tls(self) -> bool:
        """May it be played over TLS from the first octet?"""
        return not self.clear and not any(step.kind == "STARTTLS" for step in self.steps)


class Differs(AssertionError):
    """The server said something else than the script."""


def read(path: Path) -> Script:
    listener, clear = "", False
    steps: list[Step] = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if line.startswith("LISTENER "):
            listener = line.removeprefix("LISTENER ").strip()
        elif line == "CLEAR":
            clear = True
        elif line in ("STARTTLS", "DEFLATE", "EOF"):
            steps.append(Step(line, "", number))
        elif line.startswith("AS"):
            steps.append(Step("AS", line[3:].strip(), number))
        elif line.startswith(("REPLY ", "SCRAM ")):
            steps.append(Step(line[:5], line[6:].strip(), number))
        elif line.startswith("C: ") or line == "C:":
            steps.append(Step("C", line[3:] + "\r\n", number))
        elif line.startswith("C+ "):
            steps.append(Step("C", line[3:], number))
        elif line.startswith("S: "):
            steps.append(Step("S", line[3:], number))
        elif line.strip() and not line.startswith("#"):
            raise ValueError(f"{path}:{number}: not a line of a script: {line!r}")
    return Script(path.stem, listener, tuple(steps), clear)


def octets(text: str) -> bytes:
    """What a C: line sends."""
    made = bytearray()
    at = 0
    for escape in _ESCAPE.finditer(text):
        made += text[at : escape.start()].encode()
        mark = escape[1]
        made += bytes([int(mark[1:], 16)]) if len(mark) == 3 else _PLAIN.get(mark, mark).encode()
        at = escape.end()
    return bytes(made) + text[at:].encode()


def pattern(text: str) -> re.Pattern[str]:
    """What a S: line expects."""
    made = ""
    at = 0
    while at < len(text):
        if text.startswith("\\<", at):
            made += "<"
            at += 2
        elif text[at] == "<":
            end = text.index(">", at)
            made += f"(?:{text[at + 1 : end]})"
            at = end + 1
        else:
            made += re.escape(text[at])
            at += 1
    return re.compile(made)


class Inflated:
    """A reader of what the server deflates."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._stream = zlib.decompressobj(-15)
        self._held = bytearray()

    async def readline(self) -> bytes:
        while (at := self._held.find(b"\n")) < 0:
            data = await self._reader.read(4096)
            if not data:
                break
            self._held += self._stream.decompress(data)
        line = bytes(self._held[: at + 1] if at >= 0 else self._held)
        # The rest is not copied: a few octets of the wire may be a hundred thousand lines.
        del self._held[: len(line)]
        return line

    async def read(self, size: int) -> bytes:
        return bytes(self._held) or self._stream.decompress(await self._reader.read(size))


class Deflated:
    """A writer that deflates."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._stream = zlib.compressobj(6, zlib.DEFLATED, -15)
        self.drain = writer.drain
        self.close = writer.close

    def write(self, data: bytes) -> None:
        self._writer.write(self._stream.compress(data) + self._stream.flush(zlib.Z_SYNC_FLUSH))


async def play(
    script: Script, port: int, *, tls: ssl.SSLContext | None = None, implicit: bool = False, cut: int | None = None
) -> None:
    """Play the script; cut: octets of each packet (None: a whole line each). Raises Differs."""
    reader: asyncio.StreamReader | Inflated
    writer: asyncio.StreamWriter | Deflated
    clients: dict[str, tuple[asyncio.StreamReader | Inflated, asyncio.StreamWriter | Deflated]] = {}
    who = ""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls if implicit else None)
    try:
        for step in script.steps:
            place = f"{script.name}:{step.number}"
            try:
                async with asyncio.timeout(DEADLINE):
                    if step.kind == "DEFLATE":
                        assert isinstance(reader, asyncio.StreamReader)
                        assert isinstance(writer, asyncio.StreamWriter)
                        reader, writer = Inflated(reader), Deflated(writer)
                    elif step.kind == "AS":
                        clients[who] = reader, writer
                        who = step.text
                        if who not in clients:
                            opened = asyncio.open_connection("127.0.0.1", port, ssl=tls if implicit else None)
                            clients[who] = await opened
                        reader, writer = clients[who]
                    else:
                        await _step(step, place, reader, writer, tls, cut)
            except TimeoutError:
                raise Differs(f"{place}: nothing came for {step.kind}: {step.text!r}") from None
    finally:
        for _, each in {**clients, who: (reader, writer)}.values():
            each.close()


async def _step(
    step: Step,
    place: str,
    reader: asyncio.StreamReader | Inflated,
    writer: asyncio.StreamWriter | Deflated,
    tls: ssl.SSLContext | None,
    cut: int | None,
) -> None:
    match step.kind:
        case "C":
            await _send(writer, octets(step.text), cut)
        case "S":
            line = (await reader.readline()).decode("utf-8", "replace").removesuffix("\r\n")
            if not pattern(step.text).fullmatch(line):
                raise Differs(f"{place}: expected {step.text!r}, got {line!r}")
        case "REPLY":
            while True:
                line = (await reader.readline()).decode("utf-8", "replace").removesuffix("\r\n")
                if line[:3] != step.text:
                    raise Differs(f"{place}: expected a reply {step.text}, got {line!r}")
                if line[3:4] != "-":
                    break
        case "SCRAM":
            name, password = step.text.split(" ")
            client = ScramClient(name, password)
            await _send(writer, base64.b64encode(client.final(await challenge(reader))) + b"\r\n", cut)
            if not client.is_server(await challenge(reader)):
                raise Differs(f"{place}: the server has not shown that it has the keys")
            await _send(writer, b"\r\n", cut)
        case "STARTTLS":
            assert tls is not None, "the script needs a TLS context"
            assert isinstance(writer, asyncio.StreamWriter)
            await writer.start_tls(tls, server_hostname="localhost")
        case "EOF":
            rest = await reader.read(1000)
            if rest:
                raise Differs(f"{place}: expected the end, got {rest!r}")


async def _send(writer: asyncio.StreamWriter | Deflated, data: bytes, cut: int | None) -> None:
    for at in range(0, len(data), cut or len(data)):
        writer.write(data[at : at + (cut or len(data))])
        await writer.drain()
        if cut:
            await asyncio.sleep(0)


async def challenge(reader: asyncio.StreamReader | Inflated) -> bytes:
    """What the server's next line carries in base64, behind "+" or a code."""
    return base64.b64decode((await reader.readline()).partition(b" ")[2])
