"""FETCH of attributes page by page: numbers, flags and dates as columns, and what changes meanwhile."""

from __future__ import annotations

import re

import pytest

from imap.session import House
from mail.flags import FLAGGED, SEEN
from tests.imap.fakes import Client, FakeStorage

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


def flags_of(answer: str) -> dict[int, set[str]]:
    """Of each sequence number."""
    found = re.findall(r"\* (\d+) FETCH \([^\n]*FLAGS \(([^)]*)\)", answer)
    assert len(found) == len({number for number, _ in found})
    return {int(number): set(flags.split()) for number, flags in found}


async def filled(house: House, storage: FakeStorage, count: int = 20) -> Client:
    """More messages than a page of the fake has."""
    client = await Client(house).signed_in()
    for _ in range(count):
        storage.deliver("alice", MESSAGE)
    await client("x EXAMINE INBOX")
    return client


def change(storage: FakeStorage, uid: int, flags: int, keywords: tuple[str, ...] = ()) -> None:
    box = storage.find("alice", "INBOX")
    box.modseq = storage.bump("alice")
    box.entries[uid] = box.entries[uid]._replace(flags=flags, keywords=keywords, modseq=box.modseq)


@pytest.mark.parametrize("items", ["FLAGS", "(UID FLAGS)", "(FLAGS RFC822.SIZE INTERNALDATE ENVELOPE)"])
async def test_what_changes_as_it_is_read_is_told_once(house: House, storage: FakeStorage, items: str) -> None:
    client = await filled(house, storage)
    storage.before["columns"] = lambda: change(storage, 12, SEEN | FLAGGED, ("work",))
    answer = await client(f"x FETCH 1:* {items}")
    assert flags_of(answer)[12] - {"\\Recent"} == {"\\Seen", "\\Flagged", "work"}
    assert sorted(flags_of(answer)) == list(range(1, 21))
    assert re.search(r"^\* FLAGS [^\n]* work\)$", answer.split("* 12 FETCH")[0], re.MULTILINE)
    assert "FETCH" not in await client("x NOOP")
    change(storage, 12, SEEN)
    assert flags_of(await client("x NOOP")) == {12: {"\\Seen"} | (flags_of(answer)[12] & {"\\Recent"})}


async def test_what_changed_before_its_page_was_read_again_is_told_as_it_is_now(
    house: House, storage: FakeStorage
) -> None:
    client = await filled(house, storage)

    def again() -> None:
        change(storage, 3, SEEN)
        storage.before["columns"] = lambda: change(storage, 3, FLAGGED)

    storage.before["columns"] = again
    assert flags_of(await client("x FETCH 1:* FLAGS"))[3] - {"\\Recent"} == {"\\Flagged"}
    assert "FETCH" not in await client("x NOOP")


async def test_numbers_go_on_behind_what_others_expunged(house: House, storage: FakeStorage) -> None:
    """Within the grace it is still answered, at its place or behind its page; numbers stay."""
    client = await filled(house, storage)
    box = storage.find("alice", "INBOX")
    for wanted in ("1:*", "2:19", "1:3,5:20"):
        uids = sorted(box.entries)
        storage.before["columns"] = lambda uids=uids: storage.vanish(  # type: ignore[misc]
            box, [uids[4], uids[-2]], storage.bump("alice")
        )
        answer = await client(f"x UID FETCH {wanted} (FLAGS RFC822.SIZE)")
        pairs = [(int(number), int(uid)) for number, uid in re.findall(r"\* (\d+) FETCH \([^\n]*UID (\d+)", answer)]
        first, last = (2, 19) if wanted == "2:19" else (1, 20)
        asked = [uid for uid in uids if first <= uid <= last and (wanted != "1:3,5:20" or uid != 4)]
        assert sorted(pairs) == [(uids.index(uid) + 1, uid) for uid in asked]
        await client("x NOOP")


async def test_recent_ones_and_keywords_between_others(house: House, storage: FakeStorage) -> None:
    client = await Client(house).signed_in()
    for _ in range(10):
        storage.deliver("alice", MESSAGE)
    await client("x SELECT INBOX")
    await client("x CLOSE")
    for _ in range(10):
        storage.deliver("alice", MESSAGE)
    for uid in (2, 9, 15):
        change(storage, uid, SEEN, ("a", "b"))
    await client("x SELECT INBOX")
    for items in ("(FLAGS)", "(UID FLAGS BODYSTRUCTURE)"):
        found = flags_of(await client(f"x FETCH 1:* {items}"))
        for number in range(1, 21):
            expected = {"\\Recent"} if number > 10 else set()
            if number in (2, 9, 15):
                expected |= {"\\Seen", "a", "b"}
            assert found[number] == expected, number


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, " 1-Jan-1970 00:00:00"),
        (1_709_251_199, "29-Feb-2024 23:59:59"),
        (1_700_000_000, "14-Nov-2023 22:13:20"),
        (-1, "31-Dec-1969 23:59:59"),
        (4_102_444_800, " 1-Jan-2100 00:00:00"),
    ],
)
async def test_dates_are_those_of_the_clock(house: House, storage: FakeStorage, seconds: int, shown: str) -> None:
    client = await filled(house, storage, 3)
    box = storage.find("alice", "INBOX")
    box.entries[2] = box.entries[2]._replace(internaldate=seconds, savedate=seconds)
    answer = await client("x FETCH 2 (INTERNALDATE SAVEDATE)")
    assert answer.startswith(f'* 2 FETCH (INTERNALDATE "{shown} +0000" SAVEDATE "{shown} +0000")\n')
