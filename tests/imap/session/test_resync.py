"""CONDSTORE and QRESYNC: what a client that was away is told when it comes back (RFC 7162)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imap.commands.resync import matched
from imap.session import House
from imap.view import View
from imap.wire.forms import Resync
from imap.wire.numset import Ranges
from storage import ranges
from storage.model import Mailbox, MailboxRef, Opened
from tests.hurry import examples
from tests.imap.conftest import Deliver
from tests.imap.fakes import Client, FakeStorage


def code(name: str, said: str) -> int:
    found = re.search(rf"\[{name} (\d+)\]", said)
    assert found, said
    return int(found[1])


async def filled(house: House, deliver: Deliver, count: int) -> tuple[Client, int, int]:
    """Alice with some messages: the client with INBOX open, its UIDVALIDITY and HIGHESTMODSEQ."""
    alice = await Client(house).signed_in()
    for number in range(count):
        await deliver("alice", b"Subject: %d\r\n\r\nx" % number)
    await alice("e ENABLE QRESYNC")
    said = await alice("s SELECT INBOX")
    return alice, code("UIDVALIDITY", said), code("HIGHESTMODSEQ", said)


async def test_a_client_that_was_away_is_told_what_happened(any_house: House, deliver: Deliver) -> None:
    alice, valid, modseq = await filled(any_house, deliver, 6)
    await alice("u UNSELECT")
    other = await Client(any_house).signed_in()
    await other("s SELECT INBOX")
    await other("1 STORE 2,5 +FLAGS (\\Deleted)")
    await other("2 EXPUNGE")
    await other("3 UID STORE 4 +FLAGS (\\Flagged work)")
    await deliver("alice", b"Subject: new\r\n\r\nx")
    said = await alice(f"q SELECT INBOX (QRESYNC ({valid} {modseq}))")
    assert "* 5 EXISTS" in said
    assert "* VANISHED (EARLIER) 2,5\n" in said
    changed = re.findall(r"\* (\d) FETCH \(UID (\d) FLAGS \(([^)]*)\) MODSEQ \(\d+\)\)", said)
    assert changed == [("3", "4", "\\Flagged work"), ("5", "7", "\\Recent")]
    # all of it has been told
    assert await alice("n NOOP") == "n OK Done\n"
    assert code("HIGHESTMODSEQ", said) > modseq
    # of messages that the client does not have it is told nothing
    said = await alice(f"q SELECT INBOX (QRESYNC ({valid} {modseq} 1:3))")
    assert "* VANISHED (EARLIER) 2\n" in said
    assert "FETCH" not in said
    # RFC 7162 §3.2.5: another UIDVALIDITY
    said = await alice(f"q SELECT INBOX (QRESYNC ({valid + 1} {modseq} 1:3))")
    assert "VANISHED" not in said


async def test_sequence_match_data_shortens_what_is_told(any_house: House, deliver: Deliver) -> None:
    alice, valid, modseq = await filled(any_house, deliver, 9)
    await alice("1 STORE 3,8 +FLAGS.SILENT (\\Deleted)")
    await alice("2 EXPUNGE")
    said = await alice(f"q EXAMINE INBOX (QRESYNC ({valid} {modseq} 1:9 (1:2,4 1:2,5)))")
    assert "* VANISHED (EARLIER) 8\n" in said
    said = await alice(f"q EXAMINE INBOX (QRESYNC ({valid} {modseq} 1:9 (5,7:9 5,7:9)))")
    assert "* VANISHED (EARLIER) 3,8\n" in said


async def test_what_is_not_told_yet_has_vanished_but_not_earlier(any_house: House, deliver: Deliver) -> None:
    alice, _, _ = await filled(any_house, deliver, 3)
    other = await Client(any_house).signed_in()
    await other("s SELECT INBOX")
    await other("1 STORE 1 +FLAGS (\\Deleted)")
    await other("2 EXPUNGE")
    said = await alice("f UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)")
    # RFC 7162 §3.2.10: message 1 still has a number
    assert "EARLIER" not in said
    assert "* 2 FETCH (UID 2" in said
    assert "\n* VANISHED 1\n" in said
    assert "* VANISHED (EARLIER) 1\n" in await alice("g UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)")


async def test_the_last_message_that_vanished_is_in_a_set_with_star(any_house: House, deliver: Deliver) -> None:
    alice, _, modseq = await filled(any_house, deliver, 3)
    await alice("1 STORE 3 +FLAGS.SILENT (\\Deleted)")
    await alice("2 EXPUNGE")
    assert "* VANISHED (EARLIER) 3\n" in await alice(f"f UID FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq} VANISHED)")


async def test_only_what_changed_is_fetched(any_house: House, deliver: Deliver) -> None:
    alice, _, modseq = await filled(any_house, deliver, 40)
    for uid in (3, 20, 21, 39):
        await alice(f"s UID STORE {uid} +FLAGS.SILENT (\\Seen)")
    said = await alice(f"f UID FETCH 2:30 (FLAGS ENVELOPE) (CHANGEDSINCE {modseq})")
    assert re.findall(r"FETCH \(UID (\d+)", said) == ["3", "20", "21"]
    last = max(map(int, re.findall(r"MODSEQ \((\d+)\)", said)))
    assert await alice(f"f UID FETCH 2:30 (FLAGS) (CHANGEDSINCE {last})") == "f OK Fetched\n"


async def test_a_conditional_store_leaves_alone_what_changed(any_house: House, deliver: Deliver) -> None:
    alice, _, modseq = await filled(any_house, deliver, 4)
    other = await Client(any_house).signed_in()
    await other("s SELECT INBOX")
    await other("1 STORE 2,3 +FLAGS (\\Flagged)")
    said = await alice(f"c STORE 1:4 (UNCHANGEDSINCE {modseq}) +FLAGS.SILENT (\\Seen)")
    assert "c OK [MODIFIED 2:3]" in said
    # how they are now is told, so that the client can decide anew
    assert re.search(r"\* 2 FETCH \(UID 2 FLAGS \(\\Flagged( \\Recent)?\) MODSEQ \(\d+\)\)", said)
    assert re.search(r"\* 1 FETCH \(UID 1 MODSEQ \(\d+\)\)", said)
    now = max(map(int, re.findall(r"MODSEQ \((\d+)\)", said)))
    said = await alice(f"c UID STORE 2:3 (UNCHANGEDSINCE {now}) +FLAGS.SILENT (\\Seen)")
    assert said.endswith("c OK Stored\n")
    flags = await other("2 FETCH 1:4 FLAGS")
    assert flags.count("\\Seen") == 4
    assert flags.count("\\Flagged") == 2


async def test_a_later_limit_reaches_what_the_client_was_not_told_of(any_house: House, deliver: Deliver) -> None:
    alice, _, modseq = await filled(any_house, deliver, 2)
    other = await Client(any_house).signed_in()
    await other("s SELECT INBOX")
    await other("1 STORE 1 +FLAGS (\\Flagged)")
    said = await alice(f"c STORE 1:2 (UNCHANGEDSINCE {modseq + 50}) +FLAGS.SILENT (\\Seen)")
    assert said.endswith("c OK Stored\n")
    # RFC 7162 §3.1.3: the flag that is news is told with the rest
    assert re.search(r"\* 1 FETCH \(UID 1 FLAGS \(\\Flagged \\Seen( \\Recent)?\) MODSEQ", said)


async def test_expunge_says_how_far_the_client_is(any_house: House, deliver: Deliver) -> None:
    alice, valid, _ = await filled(any_house, deliver, 4)
    await alice("1 STORE 1,2 +FLAGS.SILENT (\\Deleted)")
    reached = code("HIGHESTMODSEQ", await alice("2 EXPUNGE"))
    status = await alice("3 STATUS INBOX (HIGHESTMODSEQ)")
    assert f"(HIGHESTMODSEQ {reached})" in status
    said = await alice(f"6 SELECT INBOX (QRESYNC ({valid} {reached}))")
    assert "VANISHED" not in said
    assert "FETCH" not in said


async def test_close_claims_nothing_that_was_not_told(any_house: House, deliver: Deliver) -> None:
    alice, valid, modseq = await filled(any_house, deliver, 3)
    other = await Client(any_house).signed_in()
    await other("s SELECT INBOX")
    await other("1 STORE 1 +FLAGS (\\Flagged)")
    await other("2 STORE 2 +FLAGS (\\Deleted)")
    # RFC 7162 §3.2.8
    assert await alice("4 CLOSE") == "4 OK Closed\n"
    said = await alice(f"6 SELECT INBOX (QRESYNC ({valid} {modseq}))")
    assert "* VANISHED (EARLIER) 2\n" in said
    assert "* 1 FETCH (UID 1 FLAGS (\\Flagged)" in said


async def test_who_is_told_newer_changes_hears_that_older_expunges_are_still_to_come(
    any_house: House, deliver: Deliver
) -> None:
    alice, valid, _ = await filled(any_house, deliver, 4)
    other = await Client(any_house).signed_in()
    await other("s SELECT INBOX")
    await other("1 STORE 2 +FLAGS.SILENT (\\Deleted)")
    await alice("n NOOP")
    await other("2 EXPUNGE")
    for line in ("3 STORE 1 +FLAGS (\\Flagged)", "4 FETCH 3 (FLAGS)", "5 STORE 1 -FLAGS.SILENT (\\Flagged)"):
        said = await alice(line)
        # RFC 7162 §3.2: a client that is cut off here asks from before the expunge
        reached = code("HIGHESTMODSEQ", said)
        again = await Client(any_house).signed_in()
        await again("e ENABLE QRESYNC")
        assert "* VANISHED (EARLIER) 2\n" in await again(f"q EXAMINE INBOX (QRESYNC ({valid} {reached}))")
    said = await alice("6 NOOP")
    assert "* VANISHED 2\n" in said
    reached = code("HIGHESTMODSEQ", said)
    assert f"(HIGHESTMODSEQ {reached})" in await alice("6 STATUS INBOX (HIGHESTMODSEQ)")
    assert "HIGHESTMODSEQ" not in await alice("7 STORE 1 +FLAGS (\\Flagged)")


async def test_who_knows_modification_sequences_is_told_the_uid_with_them(any_house: House, deliver: Deliver) -> None:
    alice, _, _ = await filled(any_house, deliver, 3)
    # RFC 7162 §3.2.4
    assert re.search(r"\* 1 FETCH \(UID 1 FLAGS \(.*\) MODSEQ \(\d+\)\)", await alice("1 STORE 1 +FLAGS (\\Flagged)"))
    assert re.search(r"\* 2 FETCH \(UID 2 MODSEQ \(\d+\)\)", await alice("2 STORE 2 +FLAGS.SILENT (\\Flagged)"))
    said = await alice("3 FETCH 3 (BODY[TEXT])")
    assert said.startswith("* 3 FETCH (UID 3 BODY[TEXT]")
    assert re.search(r"FLAGS \(\\Seen.*\) MODSEQ \(\d+\)\)", said)
    assert "UID" not in await alice("4 FETCH 3 (BODY.PEEK[TEXT] FLAGS)")


async def test_a_store_that_meets_an_expunge_says_so_too(any_house: House, deliver: Deliver) -> None:
    alice, _, modseq = await filled(any_house, deliver, 3)
    other = await Client(any_house).signed_in()
    await other("s SELECT INBOX")
    await other("1 STORE 2 +FLAGS.SILENT (\\Deleted)")
    await other("2 EXPUNGE")
    said = await alice("3 STORE 1:2 +FLAGS.SILENT (\\Flagged)")
    assert "3 NO [EXPUNGEISSUED]" in said
    assert code("HIGHESTMODSEQ", said) == modseq


@pytest.mark.parametrize(
    "line", ["UID SEARCH 1:2", "UID SORT (DATE) UTF-8 NOT 1", "UID THREAD REFERENCES UTF-8 OR 1 2"]
)
async def test_expunges_wait_while_numbers_are_searched_by_uid(line: str, any_house: House, deliver: Deliver) -> None:
    alice, _, _ = await filled(any_house, deliver, 3)
    other = await Client(any_house).signed_in()
    await other("s SELECT INBOX")
    await other("1 STORE 3 +FLAGS.SILENT (\\Deleted)")
    await other("2 EXPUNGE")
    # RFC 7162 §3.2.10.2
    assert "VANISHED" not in await alice(f"1 {line}")
    assert "* VANISHED 3\n" in await alice("2 UID SEARCH UID 1:2")


async def test_others_expunges_come_as_vanished(any_house: House, deliver: Deliver) -> None:
    alice, _, _ = await filled(any_house, deliver, 5)
    other = await Client(any_house).signed_in()
    await other("s SELECT INBOX")
    await other("1 STORE 2,4 +FLAGS (\\Deleted)")
    assert "EXPUNGE" in await other("2 EXPUNGE")
    said = await alice("n NOOP")
    assert "* VANISHED 2,4\n" in said
    assert "EXPUNGE" not in said
    assert "* 3 FETCH (UID 5)" in await alice("f FETCH 3 UID")


async def test_enabling_with_a_mailbox_open_tells_where_it_is(alice: Client, storage: FakeStorage) -> None:
    storage.deliver("alice", b"Subject: a\r\n\r\nx")
    modseq = code("HIGHESTMODSEQ", await alice("s SELECT INBOX"))
    assert f"* OK [HIGHESTMODSEQ {modseq}]" in await alice("e ENABLE CONDSTORE")
    assert "HIGHESTMODSEQ" not in await alice("f FETCH 1 MODSEQ")


uid_sets = st.sets(st.integers(1, 60), max_size=30)


@settings(max_examples=examples(60), deadline=None)
@given(there=uid_sets, before=uid_sets, sample=st.sets(st.integers(0, 59), max_size=12))
def test_the_sample_matches_as_one_by_one(there: set[int], before: set[int], sample: set[int]) -> None:
    known = sorted(there | before)
    pairs = [(at + 1, known[at]) for at in sorted(sample) if at < len(known)]
    uids = sorted(there)
    box = Mailbox(MailboxRef("a", "m"), "INBOX", 1, 100, 5, len(uids), 0, 0, 0, 0)
    view = View(Opened(box, ranges.of(uids), (), None, ()), read_only=True)
    given_sets = Resync(1, 1, None, Ranges.numbers(n for n, _ in pairs), Ranges.numbers(u for _, u in pairs))
    best = max((uid for number, uid in pairs if number <= len(uids) and uids[number - 1] == uid), default=0)
    assert matched(view, given_sets) == best


def test_a_huge_sample_costs_nothing() -> None:
    box = Mailbox(MailboxRef("a", "m"), "INBOX", 1, 100, 5, 3, 0, 0, 0, 0)
    view = View(Opened(box, ((1, 2), (9, 9)), (), None, ()), read_only=True)
    everything = Ranges(((1, 2**32 - 1),))
    assert matched(view, Resync(1, 1, None, everything, everything)) == 2


@pytest.mark.parametrize("count", [1, 1201])
def test_vanished_lines_are_bounded(count: int) -> None:
    from imap.wire import writer

    said = writer.vanished(tuple((n * 2, n * 2) for n in range(1, count + 1)), earlier=True)
    lines = said.split(b"\r\n")[:-1]
    assert len(lines) == -(-count // 500)
    assert all(line.startswith(b"* VANISHED (EARLIER) ") for line in lines)
    assert b",".join(line.rpartition(b" ")[2] for line in lines).count(b",") == count - 1


@pytest.mark.parametrize(
    ("returns", "which"),
    [
        ("MIN", (1,)),
        ("MAX", (3,)),
        ("MIN MAX", (1, 3)),
        ("ALL", (1, 2, 3)),
        ("COUNT", (1, 2, 3)),
        ("MIN COUNT", (1, 2, 3)),
    ],
)
async def test_esearch_tells_the_sequence_of_what_it_tells(
    alice: Client, storage: FakeStorage, returns: str, which: tuple[int, ...]
) -> None:
    for _ in range(3):
        storage.deliver("alice", b"Subject: a\r\n\r\nx")
    await alice("s SELECT INBOX")
    for number in (3, 1, 2):
        await alice(f"s STORE {number} +FLAGS (\\Seen)")
    modseqs = dict(re.findall(r"\* (\d) FETCH \(MODSEQ \((\d+)\)\)", await alice("f FETCH 1:3 MODSEQ")))
    said = await alice(f"q SEARCH RETURN ({returns}) MODSEQ 1")
    # RFC 4731 §3.2
    assert f" MODSEQ {max(int(modseqs[str(number)]) for number in which)}\n" in said
    assert "MODSEQ" not in (await alice(f"q SEARCH RETURN ({returns}) MODSEQ 999999")).partition("q OK")[0]
