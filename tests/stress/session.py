"""One client of the stress: a socket, a model, and commands drawn by lot."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.stress.model import Model

DEADLINE = 60.0
LITERAL = re.compile(rb"\{(\d+)\}$")
APPENDUID = re.compile(rb"\[APPENDUID \d+ ([\d:,]+)\]")
COPYUID = re.compile(rb"\[COPYUID \d+ ([\d:,]+) ([\d:,]+)\]")
ESEARCH = re.compile(rb"^\* ESEARCH \(TAG \"[^\"]+\"\)( UID)?(?: COUNT (\d+))?(?: ALL ([\d:,]+))?$")


def numbers(text: bytes) -> list[int]:
    """The members of a sequence set without "*"."""
    found: list[int] = []
    for part in text.split(b","):
        first, _, last = part.partition(b":")
        found += range(int(first), int(last or first) + 1)
    return found


@dataclass
class Shared:
    """What all sessions have done together: uids that were appended with what, and those that were taken away."""

    appended: dict[int, bytes] = field(default_factory=dict)
    elsewhere: int = 0
    """Messages that the other mailbox must have got."""
    commands: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Kind:
    """What a client asks for at its beginning. enabled: capabilities for ENABLE. notify: which of NOTIFY's filters for
    the mailbox selected, "" for none."""

    enabled: str = ""
    notify: str = ""

    @property
    def by_uid(self) -> bool:
        """Does it name messages by UID alone? It must after ENABLE UIDONLY, and where an EXPUNGE may come at any time
        (RFC 5465 §6.1.1)."""
        return "UIDONLY" in self.enabled or self.notify == "selected"


EVENTS = "MessageExpunge FlagChange"


class Session:
    """A signed-in client in the mailbox."""

    def __init__(self, number: int, shared: Shared, seed: int, kind: Kind = Kind()) -> None:
        self.rng = random.Random(seed * 1000 + number)
        self.shared = shared
        self.model = Model(
            f"session {number}", f"Mine{number}", by_uid="UIDONLY" in kind.enabled, rev2="IMAP4rev2" in kind.enabled
        )
        self.number = number
        self.kind = kind
        self._tag = 0
        self._pending: dict[bytes, tuple[bytes, Callable[[bytes], None] | None]] = {}

    async def open(self, port: int, user: str, password: str) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
        await self._line()
        await self.run(b"LOGIN", f'LOGIN {user} "{password}"')
        if self.kind.enabled:
            await self.run(b"ENABLE", f"ENABLE {self.kind.enabled}")
        if self.kind.notify:
            events = f"({self.kind.notify} (MessageNew (UID FLAGS) {EVENTS})) (personal (MessageNew {EVENTS}))"
            await self.run(b"NOTIFY", f"NOTIFY SET {events}")
        await self.select()

    async def close(self) -> None:
        await self.run(b"LOGOUT", "LOGOUT")
        self.writer.close()

    # -- the wire

    async def _line(self) -> tuple[bytes, list[bytes]]:
        """One response with its literals apart, each left as its place in braces."""
        async with asyncio.timeout(DEADLINE):
            text, literals = b"", []
            while True:
                line = await self.reader.readuntil(b"\r\n")
                text += line[:-2]
                found = LITERAL.search(text)
                if found is None:
                    break
                literals.append(await self.reader.readexactly(int(found[1])))
        self.model.log.append(f"S: {text[:300].decode('utf-8', 'replace')}")
        return text, literals

    def _send(self, verb: bytes, text: str, done: Callable[[bytes], None] | None = None, literal: bytes = b"") -> bytes:
        self._tag += 1
        tag = b"t%d" % self._tag
        self.model.log.append(f"C: {tag.decode()} {text[:300]}")
        self.writer.write(
            tag + b" " + text.encode() + (b"{%d+}\r\n" % len(literal) + literal if literal else b"") + b"\r\n"
        )
        self._pending[tag] = (verb, done)
        self.shared.commands[verb.decode()] = self.shared.commands.get(verb.decode(), 0) + 1
        self._running()
        return tag

    def _running(self) -> None:
        self.model.running = frozenset(verb for verb, _ in self._pending.values())

    async def _finish(self) -> bytes:
        """Read until nothing is open; the last tagged line."""
        last = b""
        while self._pending:
            line, literals = await self._line()
            if line.startswith(b"* "):
                self._untagged(line, literals)
                continue
            tag, _, rest = line.partition(b" ")
            if tag not in self._pending:
                self.model.fail(f"an answer to nothing: {line!r}")
            _, done = self._pending.pop(tag)
            self._running()
            if not rest.startswith((b"OK", b"NO")):
                self.model.fail(f"{line!r}")
            if done is not None:
                done(rest)
            last = rest
        return last

    async def run(self, verb: bytes, text: str, done: Callable[[bytes], None] | None = None) -> bytes:
        self._send(verb, text, done)
        return await self._finish()

    def _untagged(self, line: bytes, literals: list[bytes]) -> None:
        if line.startswith(b"* BYE") and b"LOGOUT" not in self.model.running:
            self.model.fail(line.decode())
        if line.startswith((b"* SEARCH", b"* ESEARCH")):
            self._searched(line)
            return
        if line.startswith(b"* OK [CLOSED]"):
            # RFC 7162 §3.2.11: what came before was of the mailbox selected until now
            self.model.selected()
        self.model.hear(line)
        if literals and b"FETCH " in line:
            uid = re.search(rb"UID (\d+)", line) or re.match(rb"\* (\d+) UIDFETCH ", line)
            wanted = self.shared.appended.get(int(uid[1])) if uid else None
            self.model.check(wanted in (None, literals[0]), f"uid {uid and uid[1]!r} is not what was appended")

    def _searched(self, line: bytes) -> None:
        by_uid = b"UID SEARCH" in self.model.running
        if found := ESEARCH.match(line):
            values = numbers(found[3]) if found[3] else []
        else:
            values = [int(one) for one in line.split()[2:]]
        self.model.searched(values, by_uid, by_uid and self._own_search)

    # -- what it does

    async def select(self) -> None:
        await self.run(b"SELECT", "SELECT INBOX")
        await self.run(b"UID FETCH", "UID FETCH 1:* (FLAGS)")

    def _some(self) -> str:
        """A few sequence numbers."""
        count = len(self.model.uids)
        first = self.rng.randint(1, count)
        last = min(count, first + self.rng.choice((0, 0, 1, 5)))
        return f"{first}:{last}" if last > first else str(first)

    def _some_uids(self) -> str:
        known = [uid for uid in self.model.uids if uid is not None]
        if not known:
            return "1"
        return ",".join(map(str, sorted(self.rng.sample(known, min(len(known), self.rng.randint(1, 4))))))

    async def step(self) -> None:
        """One command, or two at once."""
        if not self.model.uids:
            await self.append()
            return
        await self.rng.choices(
            (
                self.noop, self.fetch, self.body, self.mark, self.delete, self.search, self.expunge, self.append,
                self.copy, self.move, self.idle, self.select, self.together, self.listen,
            ),
            (6, 8, 3, 10, 3, 5, 2, 8, 1, 1, 2, 1, 3, 2 if self.kind.notify else 0),
        )[0]()  # fmt: skip

    async def noop(self) -> None:
        await self.run(b"NOOP", self.rng.choice(("NOOP", "CHECK")))

    async def fetch(self) -> None:
        if not self.kind.by_uid and self.rng.random() < 0.5:
            await self.run(b"FETCH", f"FETCH {self._some()} (UID FLAGS)")
        else:
            await self.run(b"UID FETCH", f"UID FETCH {self._some_uids()} (FLAGS)")

    async def body(self) -> None:
        if self.kind.by_uid:
            await self.run(b"UID FETCH", f"UID FETCH {self._some_uids()} (BODY.PEEK[])")
        else:
            await self.run(b"FETCH", f"FETCH {self._some()} (UID BODY.PEEK[])")

    async def mark(self) -> None:
        """Set or take away this session's own keyword."""
        on = self.rng.random() < 0.6
        silent = self.rng.choice(("", ".SILENT"))
        uids = self._some_uids()
        chosen = set(numbers(uids.encode()))
        model = self.model
        model.unsure |= chosen

        def done(rest: bytes) -> None:
            model.unsure -= chosen
            if rest.startswith(b"OK"):
                model.marked = model.marked | chosen if on else model.marked - chosen

        await self.run(b"UID STORE", f"UID STORE {uids} {'+' if on else '-'}FLAGS{silent} ({model.own})", done)

    async def delete(self) -> None:
        change = f"{self.rng.choice('++-')}FLAGS (\\Deleted)"
        if self.kind.by_uid:
            await self.run(b"UID STORE", f"UID STORE {self._some_uids()} {change}")
        else:
            await self.run(b"STORE", f"STORE {self._some()} {change}")

    async def search(self) -> None:
        self._own_search = self.rng.random() < 0.5
        key = f"KEYWORD {self.model.own}" if self._own_search else self.rng.choice(("ALL", "UNDELETED", "SEEN"))
        options = self.rng.choice(("", "RETURN (ALL) "))
        if self._own_search or self.kind.by_uid or self.rng.random() < 0.5:
            await self.run(b"UID SEARCH", f"UID SEARCH {options}{key}")
        else:
            await self.run(b"SEARCH", f"SEARCH {options}{key}")

    async def expunge(self) -> None:
        if self.rng.random() < 0.5:
            await self.run(b"EXPUNGE", "EXPUNGE")
        else:
            await self.run(b"UID EXPUNGE", f"UID EXPUNGE {self._some_uids()}")

    async def append(self) -> None:
        text = b"Message-ID: <%d.%d@stress.example>\r\nSubject: x\r\n\r\n%b\r\n" % (
            self.number, self._tag, b"y" * self.rng.randint(0, 3000),
        )  # fmt: skip

        def done(rest: bytes) -> None:
            found = APPENDUID.search(rest)
            if found is None:
                self.model.fail(f"APPEND: {rest!r}")
            else:
                self.shared.appended[int(found[1])] = text

        self._send(b"APPEND", "APPEND INBOX ", done, text)
        await self._finish()

    async def copy(self) -> None:
        await self.run(b"UID COPY", f"UID COPY {self._some_uids()} Other", self._copied)

    async def move(self) -> None:
        # RFC 6851 §3.3: COPYUID comes in an untagged OK, before the expunges
        await self.run(b"UID MOVE", f"UID MOVE {self._some_uids()} Other", self._copied)

    def _copied(self, rest: bytes) -> None:
        text = rest if COPYUID.search(rest) else "\n".join(self.model.log[-400:]).encode()
        tag = f"C: t{self._tag} ".encode()
        found = COPYUID.search(text[text.rfind(tag) :] if tag in text else text)
        if rest.startswith(b"OK") and found is not None:
            self.shared.elsewhere += len(numbers(found[2]))

    async def idle(self) -> None:
        tag = self._send(b"IDLE", "IDLE")
        while True:
            line, literals = await self._line()
            if line.startswith(b"+"):
                break
            self._untagged(line, literals)
        stop = asyncio.get_running_loop().time() + self.rng.uniform(0, 0.1)
        while (left := stop - asyncio.get_running_loop().time()) > 0:
            waiting = asyncio.ensure_future(self._line())
            done, _ = await asyncio.wait((waiting,), timeout=left)
            if not done:
                # the line that was begun belongs to the answer
                self.writer.write(b"DONE\r\n")
                self._untagged_or_end(*await waiting)
                break
            self._untagged(*waiting.result())
        else:
            self.writer.write(b"DONE\r\n")
        if tag in self._pending:
            await self._finish()

    async def listen(self) -> None:
        """Nothing is asked for a moment: what is told then is what NOTIFY has asked for."""
        stop = asyncio.get_running_loop().time() + self.rng.uniform(0, 0.1)
        while (left := stop - asyncio.get_running_loop().time()) > 0:
            waiting = asyncio.ensure_future(self._line())
            done, _ = await asyncio.wait((waiting,), timeout=left)
            if not done:
                self._send(b"NOOP", "NOOP")
                self._untagged_or_end(*await waiting)
                break
            line, literals = waiting.result()
            is_expunge = line.endswith(b" EXPUNGE") or line.startswith(b"* VANISHED ")
            # RFC 5465 §6.1.2
            self.model.check(self.kind.notify == "selected" or not is_expunge, f"{line!r} while no command runs")
            self._untagged(line, literals)
        if self._pending:
            await self._finish()

    def _untagged_or_end(self, line: bytes, literals: list[bytes]) -> None:
        if line.startswith(b"* "):
            self._untagged(line, literals)
            return
        tag, _, rest = line.partition(b" ")
        self.model.check(tag in self._pending and rest.startswith(b"OK"), f"ended with {line!r}")
        del self._pending[tag]
        self._running()

    async def together(self) -> None:
        """Two commands in one write: what is allowed during the one must still be so during the other."""
        for items in ("(UID FLAGS)", "(UID)"):
            if self.kind.by_uid:
                self._send(b"UID FETCH", f"UID FETCH {self._some_uids()} {items}")
            else:
                self._send(b"FETCH", f"FETCH {self._some()} {items}")
        await self._finish()
