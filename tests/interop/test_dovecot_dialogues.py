"""Our IMAP dialogues said to Dovecot: where it answers otherwise, `dovecot_differences` says why.

Compared are conditions, response codes and untagged data, as sets: not the sentences for people, and not the order in
which untagged lines come (RFC 3501 §7 leaves both to the server).
"""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections import Counter
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import tests.interop.dovecot
from tests.interop.dovecot import USES, dovecot
from tests.interop.dovecot_differences import AT_TIMES, EXPLAINED, NOT_ASKED, NOT_EQUAL, UNTOLD
from tests.scram import ScramClient
from tests.transcripts.imap.shown import advertised, shown
from tests.transcripts.imap.spoken import QUOTAS, is_for_two, spoken_by
from tests.transcripts.play import Deflated, Inflated, Script, challenge, octets, pattern, read

pytestmark = pytest.mark.interop

FOLDER = Path(__file__).resolve().parents[1] / "transcripts" / "imap"
ASKED = sorted(path for path in FOLDER.glob("*.txt") if path.stem not in NOT_ASKED)

DEADLINE = 60.0
NEWS_SECONDS, SOME_SECONDS, LULL = 60.0, 5.0, 0.2
"""For what is told unasked, for what is told otherwise there or at times, and for what is not told there."""


@dataclass(slots=True)
class Exchange:
    """What the client says and all that it waits for then: up to a line that begins with `mark`, which is the command's
    tag or "+". The greeting has the tag "*". Where nothing is said, the lines come unasked; `tag` is then that of the
    other client's command that they tell of.

    client: who says it. scram: name and password, where SCRAM goes on from what is said. then: what the connection is
    behind it, "" (as before), "DEFLATE" or "STARTTLS".
    """

    name: str
    client: str = ""
    tag: str = ""
    said: bytes = b""
    expected: list[str] = field(default_factory=list)
    scram: str = ""
    then: str = ""

    @property
    def is_greeting(self) -> bool:
        return self.tag == "*"

    @property
    def is_news(self) -> bool:
        return not self.said and not self.is_greeting

    @property
    def mark(self) -> str:
        return self.expected[-1].partition(" ")[0]

    @property
    def marks(self) -> tuple[str, ...]:
        """What ends it: instead of a continuation the command's end may come."""
        return (self.mark, self.tag) if self.mark == "+" else (self.mark,)

    @property
    def key(self) -> str:
        """Dialogue and tag."""
        return f"{self.name} {self.tag}" + (" continuation" if self.mark == "+" else " news" if self.is_news else "")


def exchanges(script: Script) -> list[Exchange]:
    """The dialogue in pieces."""
    found: list[Exchange] = []
    now = Exchange(script.name, tag="*")
    open_tags: dict[str, str] = {}

    def end() -> None:
        nonlocal now
        if now.expected or now.said:
            found.append(now)
            # what follows a continuation is still the same command
            open_tags[now.client] = now.tag if now.expected and now.mark == "+" else ""
        now = Exchange(script.name, now.client, open_tags.get(now.client, "*"))

    for step in script.steps:
        match step.kind:
            case "C":
                if now.expected:
                    end()
                if not now.said:
                    now.tag = open_tags.get(now.client) or step.text.partition(" ")[0]
                now.said += octets(step.text)
            case "S":
                if not now.said and not now.expected and not now.is_greeting:
                    now.tag = found[-1].tag
                now.expected.append(step.text)
            case "AS":
                end()
                now = Exchange(script.name, step.text, open_tags.get(step.text, "*"))
            case "SCRAM":
                now.scram = step.text
            case "DEFLATE" | "STARTTLS":
                now.then = step.kind
                end()
            case "EOF":
                end()
    end()
    return found


_SENTENCE = re.compile(r"^(\S+ (?:OK|NO|BAD|BYE))( \[(?:<[^>]*>|[^]<])*\])?.*$")
_FLAGS = re.compile(r"(fetch .*?flags )\(([^()<]*)\)")
_STATUS = re.compile(r"^(\* STATUS .*) \(((?:[A-Z]+ (?:[0-9]+|<\[0-9\]\+>) ?)+)\)$")
_RIGHTS = re.compile(r'^(\* (?:ACL|MYRIGHTS|LISTRIGHTS) (?:"[^"]*"|\S+))((?: \S+)+)$')
_LIST = re.compile(r"^\* (LIST|LSUB) \(([^()]*)\) (.*)$")


def comparable(line: str) -> str | None:
    """A line, ours or theirs, without what is left to the server; None for one that says nothing here."""
    if line.startswith("+"):
        return "+"
    if sentence := _SENTENCE.match(line):
        head, code = sentence[1], sentence[2] or ""
        if code.startswith((" [HIGHESTMODSEQ", " [CLOSED", " [MAILBOXID")):
            # of extensions, told unasked
            return None if head.startswith("* ") else head
        return head + ("" if code.startswith(" [CAPABILITY") else code)
    if line.startswith("* CAPABILITY "):
        # what is in common is looked at below
        return "* CAPABILITY"
    if status := _STATUS.match(line):
        return f"{status[1]} ({' '.join(sorted(re.findall(r'[A-Z]+ [^ ]+', status[2])))})"
    if told := _RIGHTS.match(line):
        # RFC 4314 §2: letters have no order
        return f"{told[1]} {' '.join(''.join(sorted(word)) if word.isalpha() else word for word in told[2].split())}"
    if listed := _LIST.match(line):
        # inferiors are none of LSUB's business
        return f"* {listed[1]} ({' '.join(sorted(listed[2].split()))}) {listed[3]}"
    if line.startswith("* ") and " FETCH (" in line:
        # RFC 2045 §5.1: types and parameter names are the same in any case; flags have no order
        return _FLAGS.sub(lambda m: f"{m[1]}({' '.join(sorted(m[2].split()))})", line.lower())
    return line


def differences(expected: list[str], heard: list[str]) -> list[str]:
    """What we say and they do not, and the other way round."""
    theirs = [line for line in map(comparable, heard) if line is not None]
    missing = []
    for ours in (line for line in map(comparable, expected) if line is not None):
        wanted = pattern(ours)
        found = next((line for line in theirs if wanted.fullmatch(line)), None)
        if found is None:
            missing.append(f"ours   {ours}")
        else:
            theirs.remove(found)
    return missing + [f"theirs {line}" for line in theirs]


def _kind(line: str) -> str:
    """What a line tells of: "* STATUS Sent", "* 3 EXISTS", "* LIST"."""
    words = line.split(" ")
    return " ".join(words[: 3 if words[1:2] != ["LIST"] else 2]) if words[0] == "*" else ""


class Peer:
    """A connection to Dovecot."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader: asyncio.StreamReader | Inflated = reader
        self.writer: asyncio.StreamWriter | Deflated = writer

    @classmethod
    async def connected(cls, port: int) -> Peer:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 20))

    async def prove(self, said: bytes, scram: str) -> bytes:
        """Sign in by SCRAM, up to the last line to be said."""
        name, password = scram.split(" ")
        client = ScramClient(name, password)
        assert isinstance(self.reader, asyncio.StreamReader)
        async with asyncio.timeout(DEADLINE):
            self.writer.write(said)
            self.writer.write(base64.b64encode(client.final(await challenge(self.reader))) + b"\r\n")
            assert client.is_server(await challenge(self.reader))
        return b"\r\n"

    async def ask(self, said: bytes, *marks: str) -> list[str]:
        """All lines up to the one that begins with a mark; a literal that is asked for without our having expected it
        is sent."""
        self.writer.write(said)
        heard: list[str] = []
        async with asyncio.timeout(DEADLINE):
            while (line := await self._line()) is not None:
                heard.append(line)
                first = line.partition(" ")[0]
                if first in marks:
                    break
                if first == "+" and (head := re.search(rb"\{(\d+)\}\r\n\Z", said)):
                    self.writer.write(b"x" * int(head[1]) + b"\r\n")
        return heard

    async def news(self, expected: list[str], seconds: float) -> list[str]:
        """What is told unasked, until something of each kind that is expected has come, or time is up."""
        heard: list[str] = []
        wanted = Counter(_kind(line) for line in expected)
        try:
            async with asyncio.timeout(seconds):
                while wanted - Counter(map(_kind, heard)) and (line := await self._line()) is not None:
                    heard.append(line)
        except TimeoutError:
            pass
        return heard

    async def become(self, kind: str) -> None:
        """DEFLATE or STARTTLS."""
        assert isinstance(self.reader, asyncio.StreamReader)
        assert isinstance(self.writer, asyncio.StreamWriter)
        if kind == "DEFLATE":
            self.reader, self.writer = Inflated(self.reader), Deflated(self.writer)
        else:
            trusting = ssl.create_default_context()
            trusting.check_hostname = False
            trusting.verify_mode = ssl.CERT_NONE
            await self.writer.start_tls(trusting)

    async def make(self, user: str) -> None:
        """The mailboxes that the dialogues take for granted."""
        await self.ask(b"", "*")
        await self.ask(b"m LOGIN %b secret\r\n" % user.encode(), "m")
        for name in ("INBOX", *USES):
            await self.ask(b"m CREATE %b\r\n" % name.encode(), "m")
            await self.ask(b"m SUBSCRIBE %b\r\n" % name.encode(), "m")
        self.writer.close()

    async def _line(self) -> str | None:
        """None behind the last one."""
        raw = await self.reader.readline()
        return raw.decode("utf-8", "replace").removesuffix("\r\n") if raw else None


def patience(key: str) -> float:
    """Seconds that an exchange's news may take."""
    if EXPLAINED.get(key) in UNTOLD:
        return LULL
    return SOME_SECONDS if key in EXPLAINED or key in AT_TIMES else NEWS_SECONDS


async def compared(script: Script, port: int) -> dict[str, list[str]]:
    """The exchanges that differ."""
    found: dict[str, list[str]] = {}
    peers: dict[str, Peer] = {}
    refused = ""
    for exchange in exchanges(script):
        tag = exchange.tag
        if tag == refused or exchange.key in NOT_ASKED:
            # tag: the literal for which it did not ask
            continue
        if exchange.client not in peers:
            peers[exchange.client] = await Peer.connected(port)
        peer = peers[exchange.client]
        if exchange.is_news:
            heard = await peer.news(exchange.expected, patience(exchange.key))
        else:
            try:
                said = await peer.prove(exchange.said, exchange.scram) if exchange.scram else exchange.said
                heard = await peer.ask(said, *exchange.marks)
            except ConnectionError:
                heard = []
            except TimeoutError as error:
                raise AssertionError(f"{exchange.key}: no answer") from error
            if not heard or heard[-1].partition(" ")[0] not in exchange.marks:
                found[exchange.key] = ["theirs (the connection has ended)"]
                break
        if exchange.mark == "+" and heard and heard[-1].startswith(tag + " "):
            refused = tag
        if differing := differences(exchange.expected, heard):
            found[exchange.key] = differing
        if exchange.then and heard[-1].startswith(f"{tag} OK"):
            await peer.become(exchange.then)
    for peer in peers.values():
        peer.writer.close()
    return found


async def offered(port: int) -> set[str]:
    """What Dovecot says it can do, before and after sign-in."""
    peer = await Peer.connected(port)
    told = await peer.ask(b"", "*")
    told += await peer.ask(b"a LOGIN offers secret\r\n", "a")
    told += await peer.ask(b"b CAPABILITY\r\n", "b")
    peer.writer.close()
    lists = re.findall(r"CAPABILITY ([^]]+)", "\n".join(told))
    return {word for line in lists for word in line.split()}


def equal(found: Container[str]) -> set[str]:
    """The capabilities of which a command that ended well has the same answers there."""
    same: set[str] = set()
    for path in ASKED:
        for one in shown(path):
            key = f"{path.stem} {one.tag or '*'}"
            if key not in found and key not in NOT_ASKED:
                same |= one.capabilities
    return same


def other(user: str) -> str:
    """The second user of the same dialogue."""
    return f"v{user[1:]}"


async def test_dialogues_equal_dovecots(program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tests.interop.dovecot, "PASSWORD", "secret")
    found: dict[str, list[str]] = {}
    users = {path: f"u{at:04}" for at, path in enumerate(ASKED)}
    quotas = {user: QUOTAS[path.stem] for path, user in users.items() if path.stem in QUOTAS}
    # not below pytest's own folder, which another run of it closes to Dovecot's user
    with (
        TemporaryDirectory() as folder,
        dovecot(program("dovecot"), program("doveadm"), Path(folder) / "d", quotas, tls=True) as port,
    ):
        theirs = await offered(port)
        for path, user in users.items():
            for name in (user, other(user)) if is_for_two(read(path)) else (user,):
                await (await Peer.connected(port)).make(name)
            found |= await compared(spoken_by(user, read(path), other(user)), port)
    unexplained = {key: lines for key, lines in found.items() if key not in EXPLAINED | AT_TIMES}
    for key, lines in unexplained.items():
        print("\n  ".join((key, *lines)))
    assert not unexplained, f"{len(unexplained)} answers differ: {sorted(unexplained)}"
    assert theirs & advertised() - equal(found) == set(NOT_EQUAL), "each capability that both have has an equal answer"
    assert set(EXPLAINED) <= set(found), f"explained, but equal: {sorted(set(EXPLAINED) - set(found))}"
