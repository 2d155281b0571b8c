"""UIDONLY: what a session without message numbers is told of others, and what it may not say (RFC 9586 §3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imap.session import House
from imap.uidonly import has_numbers
from imap.wire.forms import All, And, HasFlag, InSet, Not, Or, Search, SearchKey
from imap.wire.numset import SAVED, NumSet, Ranges
from tests.imap.fakes import Client

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"
SET = NumSet(Ranges(((1, 2),)))


@pytest.fixture
async def two(any_house: House) -> tuple[Client, Client]:
    """Two clients of one account with INBOX of four messages selected; the first has no numbers."""
    a, b = await Client(any_house).signed_in(), await Client(any_house).signed_in()
    for _ in range(4):
        await a("x APPEND INBOX", MESSAGE)
    for client in (a, b):
        await client("x SELECT INBOX")
    assert "* ENABLED UIDONLY" in await a("x ENABLE UIDONLY")
    return a, b


async def test_what_others_do_is_told_by_uid(two: tuple[Client, Client]) -> None:
    a, b = two
    await b("b STORE 1 +FLAGS (\\Deleted)")
    await b("b EXPUNGE")
    await b("b STORE 3 +FLAGS (\\Flagged new)")
    said = (await a("a NOOP")).splitlines()
    assert "* VANISHED 1" in said
    (line,) = [line for line in said if "FETCH" in line]
    assert line.startswith("* 4 UIDFETCH (FLAGS (\\Flagged ")
    assert "UID 4" not in line
    await b("b APPEND INBOX", MESSAGE)
    assert "* 4 EXISTS" in await a("a NOOP")


async def test_a_message_that_is_gone_and_not_told_of_is_still_read(two: tuple[Client, Client]) -> None:
    a, b = two
    await b("b STORE 2 +FLAGS.SILENT (\\Deleted)")
    await b("b EXPUNGE")
    said = await a("a UID FETCH 1:3 (RFC822.SIZE)")
    for uid in (1, 2, 3):
        assert f"* {uid} UIDFETCH (RFC822.SIZE 20)" in said
    assert "VANISHED 2" in said


async def test_numbers_that_were_known_before_are_not_taken_any_more(two: tuple[Client, Client]) -> None:
    a, _ = two
    for line in (
        "FETCH 1 (FLAGS)",
        "FETCH $ (UID)",
        "SEARCH ALL",
        "UID SEARCH 1:2",
        "MOVE 1 Sent",
        "THREAD REFERENCES UTF-8 ALL",
    ):
        assert "a BAD [UIDREQUIRED]" in await a(f"a {line}"), line
    for line in ("UID SEARCH ALL", "UID SEARCH UID 1:*", "UID SORT (DATE) UTF-8 ALL", "EXPUNGE", "CLOSE"):
        assert "a OK" in await a(f"a {line}"), line


def trees(leaf: st.SearchStrategy[SearchKey]) -> st.SearchStrategy[SearchKey]:
    return st.recursive(
        leaf,
        lambda key: (
            st.builds(Not, key)
            | st.builds(Or, key, key)
            | st.lists(key, min_size=2, max_size=3).map(lambda k: And(tuple(k)))
        ),
        max_leaves=8,
    )


BY_UID: list[SearchKey] = [All(), HasFlag("\\Seen", True), InSet(SET, uid=True), InSet(SAVED, uid=False)]
NUMBERED: SearchKey = InSet(SET, uid=False)


@given(trees(st.sampled_from(BY_UID)), trees(st.sampled_from([*BY_UID, NUMBERED])))
def test_a_number_is_found_wherever_it_stands(without: SearchKey, perhaps: SearchKey) -> None:
    assert not has_numbers("UID SEARCH", Search(without, uid=True))
    assert has_numbers("UID SEARCH", Search(Or(without, Not(NUMBERED)), uid=True))
    assert has_numbers("UID SEARCH", Search(perhaps, uid=True)) == (repr(NUMBERED) in repr(perhaps))
