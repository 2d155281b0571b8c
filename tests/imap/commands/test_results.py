"""SEARCH, SORT and THREAD on what stands in no dialogue: moments, other sessions, limits, failures."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imap import sorting
from imap.commands import results
from imap.session import House
from imap.wire.forms import Return, Window
from runtime.clock import ManualClock
from tests.imap.fakes import Client, FakeStorage

MAIL = b"From: %c@x.example\r\nSubject: s\r\n\r\nx\r\n"


@pytest.fixture
async def client(house: House, storage: FakeStorage) -> Client:
    """With five messages, the second expunged."""
    client = await Client(house).signed_in()
    for letter in b"abcde":
        storage.deliver("alice", MAIL % letter)
    await client("x SELECT INBOX")
    await client("x STORE 2 +FLAGS.SILENT (\\Deleted)")
    await client("x EXPUNGE")
    return client


async def test_a_message_of_exactly_that_age_is_older_and_younger(client: Client) -> None:
    # RFC 5032 §3; the fakes have it delivered at 1,700,000,000
    clock = client.house.clock
    assert isinstance(clock, ManualClock)
    age = 60 + int(clock.now()) - 1_700_000_000
    clock.advance(60)
    assert "SEARCH 1 2 3 4\n" in await client(f"x SEARCH OLDER {age} YOUNGER {age}")
    assert "SEARCH\n" in await client(f"x SEARCH OR OLDER {age + 1} YOUNGER {age - 1}")


async def test_what_others_expunge_leaves_the_kept_result(house: House, client: Client) -> None:
    other = await Client(house).signed_in()
    await other("x SELECT INBOX")
    await client("x SEARCH RETURN (SAVE) 2:4")
    await other("x STORE 3 +FLAGS.SILENT (\\Deleted)")
    await other("x EXPUNGE")
    assert "* 3 EXPUNGE" in await client("x NOOP")
    assert await client("x FETCH $ UID") == "* 2 FETCH (UID 3)\n* 3 FETCH (UID 5)\nx OK Fetched\n"


async def test_no_leaves_nothing_kept(storage: FakeStorage, client: Client) -> None:
    # RFC 5182 §2.1
    await client("x SEARCH RETURN (SAVE) ALL")
    storage.down = True
    assert "x NO" in await client("x SEARCH RETURN (COUNT) ALL")
    storage.down = False
    assert "COUNT 4" in await client("x SEARCH RETURN (COUNT) $")
    storage.down = True
    assert "x NO" in await client("x SORT RETURN (SAVE) (DATE) UTF-8 ALL")
    storage.down = False
    assert "COUNT 0" in await client("x SEARCH RETURN (COUNT) $")


@pytest.mark.parametrize("command", ["SORT (DATE)", "SORT (ARRIVAL)", "THREAD REFERENCES", "THREAD ORDEREDSUBJECT"])
async def test_what_is_expunged_meanwhile_is_left_out(storage: FakeStorage, client: Client, command: str) -> None:
    def expunge() -> None:
        box = storage.find("alice", "INBOX")
        storage.vanish(box, [3], storage.bump("alice"))

    storage.before["columns"] = expunge
    answer = await client(f"x {command} UTF-8 ALL")
    assert answer.startswith(f"* {command.split()[0]} ")
    # numbers are as the client knows them: EXPUNGE may not come with these (RFC 5256 §3)
    assert "EXPUNGE" not in answer
    assert sorted(n for n in answer.splitlines()[0] if n.isdigit()) == ["1", "3", "4"]


@pytest.mark.parametrize("command", ["SORT (SUBJECT)", "THREAD REFERENCES", "THREAD ORDEREDSUBJECT"])
async def test_too_much_text_is_refused(client: Client, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    def spend(self: Any, text: bytes) -> None:
        raise sorting.TooMuch

    monkeypatch.setattr(sorting.Budget, "spend", spend)
    assert (await client(f"x {command} UTF-8 ALL")).startswith("x NO [LIMIT]")


async def test_a_reply_is_known_by_its_whole_subject(house: House, storage: FakeStorage) -> None:
    client = await Client(house).signed_in()
    for subject in (b"=?utf-8?q?Re:_gr=C3=BC=C3=9Fe?=", b'"x" gr\xc3\xbc\xc3\x9fe', b"gr\xc3\xbc\xc3\x9fe"):
        storage.deliver("alice", b"Subject: %b\r\nDate: Thu, 1 Jan 1998 00:00:00 +0000\r\n\r\nx" % subject)
    await client("x SELECT INBOX")
    assert await client("x THREAD REFERENCES UTF-8 ALL") == "* THREAD (2)(3 1)\nx OK Threaded\n"


SLICES = st.lists(st.integers(1, 4), max_size=6).map(
    lambda sizes: tuple((3 * 5 * at, 3 * 5 * at + size) for at, size in enumerate(sizes))
)
WINDOWS = st.tuples(st.integers(1, 12), st.integers(1, 12), st.booleans()).map(
    lambda w: Window(min(w[:2]), max(w[:2]), w[2], b"")
)


@given(SLICES, WINDOWS)
def test_parts_of_sets_are_parts_of_lists(slices: tuple[tuple[int, int], ...], window: Window) -> None:
    every = [at for start, stop in slices for at in range(start, stop)]
    # RFC 9394 §3.1: -1 is the last
    wanted = [len(every) - n if window.from_end else n - 1 for n in range(window.first, window.last + 1)]
    shown = [every[n] for n in sorted(wanted) if 0 <= n < len(every)]
    assert list(results.cut(array("I", every), window)) == shown
    assert [at for start, stop in results.cut_slices(slices, window) for at in range(start, stop)] == shown


@pytest.mark.parametrize(
    ("options", "window", "kept"),
    [
        # RFC 5182 §2.1, RFC 9394 §3.2
        ("SAVE", None, [5, 1, 9, 3]),
        ("SAVE MIN", None, [5]),
        ("SAVE MAX", None, [3]),
        ("SAVE MIN MAX", None, [3, 5]),
        ("SAVE MIN ALL", None, [5, 1, 9, 3]),
        ("SAVE MAX COUNT", None, [5, 1, 9, 3]),
        ("SAVE", (2, 3), [1, 9]),
        ("SAVE MIN", (2, 3), [1, 5, 9]),
        ("SAVE MIN MAX", (1, 1), [3, 5]),
        ("SAVE MIN COUNT", (2, 3), [5, 1, 9, 3]),
    ],
)
def test_what_is_kept(options: str, window: tuple[int, int] | None, kept: list[int]) -> None:
    shown = None if window is None else Window(*window, False, b"")
    returns = Return(frozenset(options.split()), shown)
    assert list(results.chosen(array("I", [5, 1, 9, 3]), returns)) == kept
    assert not results.chosen(array("I"), returns)
