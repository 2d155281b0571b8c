"""Several sessions on one mailbox, each with a client that keeps a model of what it was told: never contradicted, and
right after NOOP. Changes happen between commands and in the midst of them."""

from __future__ import annotations

import asyncio
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imap.session import House
from tests.hurry import examples
from tests.imap.conftest import Deliver
from tests.imap.fakes import Client, FakeIdentity, FakeStorage, make_house

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"
_FETCH = re.compile(r"^\* (\d+) FETCH \((?:UID (\d+) ?)?(?:FLAGS \(([^)]*)\))?\)$")


class ModelClient:
    """Believes what it is told, and checks that it may."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.uids: list[int | None] = []
        self.flags: list[set[str] | None] = []

    async def say(self, line: str) -> None:
        name = line.split()[0]
        answer = await self.client("t " + line)
        *lines, last = answer.splitlines()
        for told in lines:
            self.hear(told, may_expunge=name not in ("FETCH", "STORE", "SEARCH"))
        assert last.startswith(("t OK", "t NO [EXPUNGEISSUED]")), last

    def hear(self, line: str, may_expunge: bool = True) -> None:
        if (fetch := _FETCH.match(line)) is not None:
            at = int(fetch[1]) - 1
            assert at < len(self.uids), line
            if fetch[2]:
                assert self.uids[at] in (None, int(fetch[2])), (line, self.uids)
                self.uids[at] = int(fetch[2])
            if fetch[3] is not None:
                self.flags[at] = set(fetch[3].split()) - {"\\Recent"}
        elif line.endswith("EXISTS"):
            more = int(line.split()[1]) - len(self.uids)
            assert more >= 0, line
            self.uids += [None] * more
            self.flags += [None] * more
        elif line.endswith("EXPUNGE"):
            assert may_expunge, line
            at = int(line.split()[1]) - 1
            del self.uids[at], self.flags[at]

    async def silent(self, sign: str, numbers: list[int], flag: str) -> None:
        """STORE without an answer: the client works out the flags itself."""
        for number in numbers:
            known = self.flags[number - 1]
            if known is not None:
                known.add(flag) if sign == "+" else known.discard(flag)
        await self.say(f"STORE {','.join(map(str, numbers))} {sign}FLAGS.SILENT ({flag})")


ACTS = (
    *("noop", "fetch", "uidfetch", "body", "store", "silent", "silent", "silent", "search", "deliver"),
    *("delete", "expunge", "uidexpunge", "move", "copy", "append"),
)
steps = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(ACTS),
        st.integers(0, 9),
        st.sampled_from(["\\Seen", "\\Flagged", "work", "\\Deleted"]),
        st.sampled_from(["", "", "flag", "expunge", "deliver"]),
    ),
    min_size=5,
    max_size=40,
)


@given(steps)
@settings(max_examples=examples(150), deadline=None)
def test_no_session_contradicts_itself(script: list[tuple[int, str, int, str, str]]) -> None:
    asyncio.run(_play(script))


async def _play(script: list[tuple[int, str, int, str, str]]) -> None:
    storage = FakeStorage()
    house = make_house(storage, FakeIdentity(alice="secret"))
    models = [ModelClient(await Client(house).signed_in()) for _ in range(3)]
    for _ in range(4):
        storage.deliver("alice", MESSAGE)
    for model in models:
        await model.say("SELECT INBOX")
    box = storage.find("alice", "INBOX")

    def disturb(what: str, number: int) -> None:
        uids = sorted(box.entries)
        if what == "deliver":
            storage.deliver("alice", MESSAGE)
        elif uids and what == "flag":
            uid = uids[number % len(uids)]
            entry = box.entries[uid]
            box.entries[uid] = entry._replace(flags=entry.flags ^ 4, modseq=storage.bump("alice"))
        elif uids and what == "expunge":
            storage.vanish(box, [uids[number % len(uids)]], storage.bump("alice"))

    for who, what, number, flag, meanwhile in script:
        model = models[who]
        count = len(model.uids)
        if what == "deliver":
            storage.deliver("alice", MESSAGE)
            continue
        if what in ("noop", "append") or not count:
            await model.say("NOOP")
            continue
        n = number % count + 1
        if meanwhile:
            for call in ("store_flags", "columns", "search", "copy", "move"):
                storage.before[call] = lambda meanwhile=meanwhile, number=number: disturb(meanwhile, number)  # type: ignore[misc]  # B023 wants the defaults, mypy no lambda with them
        match what:
            case "fetch":
                await model.say("FETCH 1:* (UID FLAGS)")
            case "uidfetch":
                await model.say("UID FETCH 1:* (FLAGS)")
            case "body":
                await model.say(f"FETCH {n}:* (UID FLAGS)")
            case "store":
                await model.say(f"STORE {n} +FLAGS ({flag})")
            case "silent":
                await model.silent("+-"[number % 2], sorted({n, 1}), flag)
            case "search":
                await model.say("SEARCH ALL")
            case "delete":
                await model.say(f"STORE {n} +FLAGS (\\Deleted)")
            case "expunge":
                await model.say("EXPUNGE")
            case "uidexpunge":
                await model.say("UID EXPUNGE 1:*")
            case "move":
                await model.say(f"MOVE {n} Archive")
            case "copy":
                await model.say(f"COPY {n} INBOX")
        storage.before.clear()
    for model in models:
        await model.say("NOOP")
        truth = sorted(box.entries)
        assert len(model.uids) == len(truth)
        for uid, known, entry_uid in zip(model.uids, model.flags, truth, strict=True):
            assert uid in (None, entry_uid)
            if known is not None:
                entry = box.entries[entry_uid]
                bits = {"\\Seen": 1, "\\Flagged": 4, "\\Deleted": 8}
                assert known == {f for f, b in bits.items() if entry.flags & b} | set(entry.keywords)


@pytest.mark.parametrize("seed", range(4))
async def test_sessions_at_the_same_time_on_a_real_store(seed: int, any_house: House, deliver: Deliver) -> None:
    dice = random.Random(seed)
    models = [ModelClient(await Client(any_house).signed_in()) for _ in range(4)]
    for _ in range(10):
        await deliver("alice", MESSAGE)
    for model in models:
        await model.say("SELECT INBOX")

    async def live(model: ModelClient) -> None:
        for _ in range(40):
            count = len(model.uids)
            n = dice.randint(1, max(1, count))
            flag = dice.choice(["\\Seen", "\\Flagged", "work", "\\Deleted"])
            act = dice.choice(ACTS)
            if act == "deliver":
                await deliver("alice", MESSAGE)
            elif act in ("noop", "append") or not count:
                await model.say("NOOP")
            elif act == "silent":
                await model.silent(dice.choice("+-"), sorted({n, 1}), flag)
            else:
                await model.say(
                    {
                        "fetch": "FETCH 1:* (UID FLAGS)",
                        "uidfetch": "UID FETCH 1:* (FLAGS)",
                        "body": f"FETCH {n}:* (UID FLAGS)",
                        "store": f"STORE {n} +FLAGS ({flag})",
                        "search": "SEARCH ALL",
                        "delete": f"STORE {n} +FLAGS (\\Deleted)",
                        "expunge": "EXPUNGE",
                        "uidexpunge": "UID EXPUNGE 1:*",
                        "move": f"MOVE {n} Archive",
                        "copy": f"COPY {n} INBOX",
                    }[act]
                )

    await asyncio.gather(*map(live, models))
    fresh = ModelClient(await Client(any_house).signed_in())
    await fresh.say("EXAMINE INBOX")
    if fresh.uids:
        await fresh.say("FETCH 1:* (UID FLAGS)")
    for model in models:
        await model.say("NOOP")
        assert len(model.uids) == len(fresh.uids)
        for uid, known, true_uid, true_flags in zip(model.uids, model.flags, fresh.uids, fresh.flags, strict=True):
            assert uid in (None, true_uid)
            assert known in (None, true_flags)
