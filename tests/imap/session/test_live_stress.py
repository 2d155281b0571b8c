"""Many sessions on one mailbox of a running server, over real sockets: each keeps a model of what it was told, which is
never contradicted, and all models are the same in the end."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from tests.live import PASSWORD, running

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"
ANSWER_SECONDS = 30.0
MAILBOX_MAX = 60
"""Messages above which nothing is added, so that a command stays short."""
_FETCH = re.compile(r"^\* (\d+) FETCH \((?:UID (\d+) ?)?(?:FLAGS \(([^)]*)\))?\)$")
_COUNT = re.compile(r"^\* (\d+) (EXISTS|RECENT|EXPUNGE)$")
# RFC 3501 §7.4.1
_KEEP_NUMBERS = ("FETCH", "STORE", "SEARCH")
FLAGS = ("\\Seen", "\\Flagged", "\\Answered", "work", "\\Deleted")


@dataclass
class Model:
    """What one client was told, by sequence number; None where it was not told yet. said: commands by name."""

    uids: list[int | None] = field(default_factory=list)
    flags: list[frozenset[str] | None] = field(default_factory=list)
    highest: int = 0
    said: Counter[str] = field(default_factory=Counter)

    def hear(self, line: str, may_expunge: bool, begins: bool) -> None:
        """Take in an untagged line; AssertionError where it contradicts one before it."""
        if (told := _FETCH.match(line)) is not None:
            at = int(told[1]) - 1
            assert at < len(self.uids), line
            if told[2]:
                assert self.uids[at] in (None, int(told[2])), (line, self.uids)
                self.uids[at] = int(told[2])
            if told[3] is not None:
                self.flags[at] = frozenset(told[3].split()) - {"\\Recent"}
        elif (told := _COUNT.match(line)) is not None:
            number = int(told[1])
            if told[2] == "EXISTS":
                # RFC 3501 §7.3.1: only EXPUNGE makes it fewer
                assert number >= len(self.uids) or begins, (line, len(self.uids))
                self.uids += [None] * (number - len(self.uids))
                self.flags += [None] * (number - len(self.flags))
            elif told[2] == "RECENT":
                assert number <= len(self.uids), (line, len(self.uids))
            else:
                assert may_expunge, line
                assert 1 <= number <= len(self.uids), (line, len(self.uids))
                del self.uids[number - 1], self.flags[number - 1]
        known = [uid for uid in self.uids if uid is not None]
        # RFC 3501 §2.3.1.1: UIDs ascend with the numbers
        assert all(low < high for low, high in pairwise(known)), (line, self.uids)


class Client:
    """One connection and its model."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dice: random.Random) -> None:
        self.reader, self.writer, self.dice = reader, writer, dice
        self.model = Model()
        self.tag = 0

    @classmethod
    async def connected(cls, port: int, seed: int) -> Client:
        client = cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 20), random.Random(seed))
        assert (await client._line()).startswith("* OK")
        await client.say(f'LOGIN alice "{PASSWORD}"')
        return client

    async def _line(self) -> str:
        async with asyncio.timeout(ANSWER_SECONDS):
            line = await self.reader.readline()
        assert line.endswith(b"\r\n"), line
        return line[:-2].decode()

    async def _until(self, mark: str, name: str) -> str:
        begins, by_number = name in ("SELECT", "EXAMINE"), name == "SEARCH"
        while not (line := await self._line()).startswith(mark):
            assert line.startswith("* "), line
            assert not line.startswith("* BYE"), line
            if by_number and line.startswith("* SEARCH"):
                assert all(1 <= int(number) <= len(self.model.uids) for number in line.split()[2:]), line
            self.model.hear(line, may_expunge=name not in _KEEP_NUMBERS, begins=begins)
        return line

    async def say(self, command: str, *, rest: bytes = b"") -> str:
        """Say it whole, and take in all that is answered; the tagged line."""
        name = command.split()[0]
        self.model.said[name] += 1
        if name in ("SELECT", "EXAMINE"):
            self.model.uids.clear()
            self.model.flags.clear()
        self.tag += 1
        self.writer.write(f"t{self.tag} {command}\r\n".encode() + rest)
        last = await self._until(f"t{self.tag} ", name)
        status = last.split(" ", 1)[1]
        # a message that another one expunged, and of which this client was not told yet (RFC 2180 §4)
        assert status.startswith(("OK", "NO [EXPUNGEISSUED]")), (command, last)
        return last

    async def idle(self) -> None:
        self.tag += 1
        self.model.said["IDLE"] += 1
        self.writer.write(f"t{self.tag} IDLE\r\n".encode())
        await self._until("+", "IDLE")
        await asyncio.sleep(self.dice.random() * 0.05)
        self.writer.write(b"DONE\r\n")
        await self._until(f"t{self.tag} OK", "IDLE")

    async def act(self) -> None:
        """One legal command, chosen by lot."""
        dice, count = self.dice, len(self.model.uids)
        append = (f"APPEND INBOX ({dice.choice(FLAGS)}) {{{len(MESSAGE)}+}}", MESSAGE + b"\r\n")
        if not count:
            await (self.say(append[0], rest=append[1]) if dice.random() < 0.5 else self.say("NOOP"))
            return
        low, high = sorted((dice.randint(1, count), dice.randint(1, count)))
        some, flag = dice.choice((f"{low}", f"{low}:{high}", f"{high}:*", "*")), dice.choice(FLAGS)
        uid = next((uid for uid in self.model.uids[low - 1 :] if uid), 1)
        match dice.randrange(17):
            case 0 if count < MAILBOX_MAX:
                await self.say(append[0], rest=append[1])
            case 1 if count < MAILBOX_MAX:
                await self.say(f"COPY {low} INBOX")
            case 2:
                await self.say(f"MOVE {some} Archive")
            case 3:
                await self.say(f"UID MOVE {uid} Archive")
            case 4:
                await self.say("EXPUNGE")
            case 5:
                await self.say(f"UID EXPUNGE {uid}:*")
            case 6:
                await self.say(f"STORE {some} {dice.choice(['+', '-', ''])}FLAGS ({flag})")
            case 7:
                await self.say(f"UID STORE {uid}:* +FLAGS ({flag})")
            case 8:
                await self.say(f"FETCH {some} (UID FLAGS)")
            case 9:
                await self.say("UID FETCH 1:* (FLAGS)")
            case 10:
                await self.say(f"SEARCH NOT {flag.removeprefix(chr(92)).upper()}" if flag != "work" else "SEARCH ALL")
            case 11:
                await self.say(f"UID SEARCH KEYWORD work UID {uid}:*")
            case 12:
                await self.idle()
            case 13:
                if dice.random() < 0.5:
                    await self.say("EXAMINE INBOX")
                    await self.say("UID FETCH 1:* (FLAGS)")
                await self.say("SELECT INBOX")
            case 14:
                await self.say("STATUS Archive (MESSAGES UIDNEXT)")
            case 15 if low > 1:
                self.model.flags[low - 1] = None
                await self.say(f"STORE {low} +FLAGS.SILENT ({flag})")
            case _:
                await self.say(dice.choice(("NOOP", "CHECK")))


async def clash(port: int, sessions: int, seconds: float) -> Counter[str]:
    """That many sessions for that long, and what they believe in the end; the commands they said."""
    clients = await asyncio.gather(*(Client.connected(port, seed) for seed in range(sessions)))
    for client in clients:
        await client.say("SELECT INBOX")
    end = time.monotonic() + seconds

    async def live(client: Client) -> None:
        while time.monotonic() < end:
            await client.act()

    await asyncio.gather(*map(live, clients))
    fresh = await Client.connected(port, -1)
    await fresh.say("EXAMINE INBOX")
    if fresh.model.uids:
        await fresh.say("UID FETCH 1:* (FLAGS)")
    said: Counter[str] = Counter()
    for client in clients:
        await client.say("NOOP")
        model = client.model
        assert len(model.uids) == len(fresh.model.uids)
        for uid, flags, true_uid, true_flags in zip(
            model.uids, model.flags, fresh.model.uids, fresh.model.flags, strict=True
        ):
            assert uid in (None, true_uid)
            assert flags in (None, true_flags), (true_uid, flags, true_flags)
        said += model.said
    for client in (*clients, fresh):
        await client.say("UNSELECT")
        client.writer.close()
    return said


@pytest.mark.parametrize(
    ("sessions", "seconds"), [pytest.param(5, 1.0, id="few"), pytest.param(20, 20.0, id="many", marks=pytest.mark.slow)]
)
async def test_no_session_is_told_a_contradiction(tmp_path: Path, sessions: int, seconds: float) -> None:
    with running(tmp_path / "data", "alice") as server:
        said = await clash(server.ports["IMAP"], sessions, seconds)
    assert sum(said.values()) > sessions * 5, said
    assert {"STORE", "FETCH", "EXPUNGE"} <= set(said) or seconds < 5, said
