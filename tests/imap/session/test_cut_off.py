"""A client with QRESYNC that is cut off behind any answer, and comes back with what it was told: it misses nothing
(RFC 7162 §3.2, §6)."""

from __future__ import annotations

import asyncio
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from imap.session import House
from tests.hurry import examples
from tests.imap.fakes import Client, FakeIdentity, FakeStorage, make_house

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"
_FETCH = re.compile(r"^\* (\d+) FETCH \(((?:.|\n)*)\)$")


class Away:
    """What such a client keeps. uids: by number, None where it has not asked yet. reached: the modification sequence
    that it asks from."""

    def __init__(self) -> None:
        self.uids: list[int | None] = []
        self.flags: dict[int, frozenset[str]] = {}
        self.reached = 1
        self.valid = 0

    async def say(self, client: Client, line: str, own: tuple[str, str] | None = None) -> None:
        """own: sign and flag of a STORE whose outcome the client works out itself."""
        told: list[int] = []
        said: int | None = None
        for answer in re.split(r"\n(?=\* |t )", (await client(f"t {line}")).rstrip("\n")):
            if vanished := re.match(r"\* VANISHED (?:\(EARLIER\) )?(\S+)", answer):
                self._forget(vanished[1], earlier="(EARLIER)" in answer)
            elif fetch := _FETCH.match(answer):
                told += self._fetched(int(fetch[1]), fetch[2], own)
            elif exists := re.match(r"\* (\d+) EXISTS", answer):
                assert int(exists[1]) >= len(self.uids), (exists[1], self.uids)
                self.uids += [None] * (int(exists[1]) - len(self.uids))
            elif valid := re.match(r"\* OK \[UIDVALIDITY (\d+)\]", answer):
                self.valid = int(valid[1])
            if code := re.search(r"\[HIGHESTMODSEQ (\d+)\]", answer):
                said = int(code[1])
        # RFC 7162 §6
        self.reached = max([self.reached, *told]) if said is None else said

    def _forget(self, uids: str, *, earlier: bool) -> None:
        for part in uids.split(","):
            low, _, high = part.partition(":")
            for uid in range(int(low), int(high or low) + 1):
                self.flags.pop(uid, None)
                if uid in self.uids:
                    self.uids.remove(uid)
                elif not earlier:
                    # one of those between the next known ones below and above
                    below = [at for at, one in enumerate(self.uids) if one is not None and one < uid]
                    self.uids.pop(self.uids.index(None, below[-1] if below else 0))

    def _fetched(self, number: int, items: str, own: tuple[str, str] | None) -> list[int]:
        found = re.search(r"\bUID (\d+)", items)
        known = self.uids[number - 1]
        uid = int(found[1]) if found else known
        assert known in (None, uid), (number, uid, self.uids)
        self.uids[number - 1] = uid
        flags = re.search(r"FLAGS \(([^)]*)\)", items)
        modseq = re.search(r"MODSEQ \((\d+)\)", items)
        if flags is not None:
            assert uid is not None, items
            assert modseq is not None, items
            self.flags[uid] = frozenset(flags[1].split()) - {"\\Recent"}
        elif own is not None and uid is not None:
            before = self.flags[uid]
            self.flags[uid] = before | {own[1]} if own[0] == "+" else before - {own[1]}
        return [int(modseq[1])] if modseq else []

    async def look(self, client: Client) -> None:
        """Ask of the messages whose UIDs are not known."""
        if None in self.uids:
            await self.say(client, f"FETCH {self.uids.index(None) + 1}:* (UID FLAGS)")

    async def come_back(self, house: House, wanted: str = "") -> Client:
        """On a new connection: what it knows already is not asked for again. wanted: as NOTIFY has it."""
        client = await Client(house).signed_in()
        await client("t ENABLE QRESYNC")
        self.uids = []
        await self.say(client, f"SELECT INBOX (QRESYNC ({self.valid or 1} {self.reached}))")
        there = [int(uid) for uid in (await client("t UID SEARCH ALL")).splitlines()[0].split()[2:]]
        assert self.flags.keys() <= set(there), "an expunge was missed"
        self.uids = [uid if uid in self.flags else None for uid in there]
        await self.look(client)
        if wanted:
            await self.say(client, f"NOTIFY {wanted}")
        return client


ACTS = ("flags", "modseq", "body", "store", "silent", "search", "numbers", "expunge", "move", "noop", "look", "cut")
WANTED = (
    *("", "", "NONE", "SET (selected-delayed (MessageNew MessageExpunge))"),
    "SET (selected-delayed (MessageNew (FLAGS) MessageExpunge FlagChange))",
)
"""What NOTIFY says."""
OTHERS = ("", "", "store", "delete", "expunge", "deliver")
steps = st.lists(
    st.tuples(
        st.sampled_from(ACTS),
        st.integers(0, 9),
        st.sampled_from(["\\Seen", "\\Flagged", "work", "\\Deleted"]),
        st.sampled_from(OTHERS),
        st.sampled_from(("", "", "", "expunge", "flag", "both")),
    ),
    min_size=5,
    max_size=30,
)


@given(st.sampled_from(WANTED), steps)
@settings(max_examples=examples(600), deadline=None)
def test_who_is_cut_off_misses_nothing(wanted: str, script: list[tuple[str, int, str, str, str]]) -> None:
    asyncio.run(_play(wanted, script))


async def _play(wanted: str, script: list[tuple[str, int, str, str, str]]) -> None:
    storage = FakeStorage()
    house = make_house(storage, FakeIdentity(alice="secret"), sessions=100)
    other = await Client(house).signed_in()
    for _ in range(4):
        storage.deliver("alice", MESSAGE)
    box = storage.find("alice", "INBOX")
    await other("o SELECT INBOX")
    away = Away()
    client = await away.come_back(house, wanted)

    def meanwhile(what: str, number: int) -> None:
        """By another process, of which this one has not heard yet."""
        uids = sorted(box.entries)
        if uids and what in ("expunge", "both"):
            storage.vanish(box, [uids.pop(number * 7 % len(uids))], storage.bump("alice"))
        if uids and what in ("flag", "both"):
            entry = box.entries[uids[number % len(uids)]]
            box.modseq = storage.bump("alice")
            box.entries[entry.uid] = entry._replace(flags=entry.flags ^ 4, modseq=box.modseq)

    for act, number, flag, others, midst in script:
        uids = sorted(box.entries)
        if others == "deliver":
            storage.deliver("alice", MESSAGE)
        elif others == "expunge":
            await other("o EXPUNGE")
        elif others and uids:
            word = flag if others == "store" else "\\Deleted"
            await other(f"o UID STORE {uids[number % len(uids)]} +FLAGS ({word})")
        if midst and act != "cut":
            for call in ("store_flags", "columns", "search", "move"):
                storage.before[call] = lambda midst=midst, number=number: meanwhile(midst, number)  # type: ignore[misc]  # B023 wants the defaults, mypy no lambda with them
        known = len(away.uids) if None not in away.uids else away.uids.index(None)
        first = number % known + 1 if known else 0
        sign = "+-"[number % 2]
        match act:
            case "flags" if first:
                await away.say(client, f"FETCH {first} (FLAGS)")
            case "modseq" if first:
                await away.say(client, f"FETCH {first} (MODSEQ)")
            case "body" if first:
                await away.say(client, f"FETCH {first} (BODY[TEXT])")
            case "store" if first:
                await away.say(client, f"STORE 1:{first} {sign}FLAGS ({flag})")
            case "silent" if first:
                await away.say(client, f"STORE {first} {sign}FLAGS.SILENT ({flag})", (sign, flag))
            case "search":
                await away.say(client, "SEARCH ALL")
            case "numbers" if first:
                await away.say(client, f"UID SEARCH {first}")
            case "expunge":
                await away.say(client, "EXPUNGE")
            case "move" if first:
                await away.say(client, f"MOVE {first} Trash")
            case "look":
                await away.look(client)
            case "cut":
                client = await away.come_back(house, wanted)
            case _:
                await away.say(client, "NOOP")
        storage.before.clear()
    await away.come_back(house)
    await other("o NOOP")
    there = {uid: (await other(f"o UID FETCH {uid} (FLAGS)")) for uid in sorted(box.entries)}
    assert away.uids == list(there)
    for uid, said in there.items():
        flags = re.search(r"UID \d+ FLAGS \(([^)]*)\)", said)
        assert flags is not None, said
        assert away.flags[uid] == frozenset(flags[1].split()) - {"\\Recent"}
