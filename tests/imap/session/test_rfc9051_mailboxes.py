"""Requirements of RFC 9051 on mailboxes and their names that no transcript shows."""

from __future__ import annotations

import re

import pytest

from imap.session import House
from tests.imap.fakes import Client

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"
COMPOSED, LOOSE = "Caf\u00e9", "Cafe\u0301"


@pytest.fixture
async def rev2(house: House) -> Client:
    client = await Client(house).signed_in()
    await client("e ENABLE IMAP4rev2")
    return client


@pytest.fixture
async def kept(any_house: House) -> Client:
    """As `rev2`, on the real store too."""
    client = await Client(any_house).signed_in()
    await client("e ENABLE IMAP4rev2")
    return client


@pytest.mark.parametrize(
    "line",
    [
        f'SELECT "{LOOSE}"',
        f'EXAMINE "{LOOSE}"',
        f'STATUS "{LOOSE}" (MESSAGES)',
        f'SUBSCRIBE "{LOOSE}"',
        f'UNSUBSCRIBE "{LOOSE}"',
        f'COPY 1 "{LOOSE}"',
        f'UID COPY 1 "{LOOSE}"',
        f'MOVE 1 "{LOOSE}"',
        f'UID MOVE 1 "{LOOSE}"',
        f'RENAME "{LOOSE}" Bistro',
        f'RENAME Archive "{LOOSE}/x"',
        f'DELETE "{LOOSE}"',
    ],
)
async def test_a_name_that_is_not_composed_is_taken_by_every_command(rev2: Client, line: str) -> None:
    # RFC 9051 §5.1; APPEND, CREATE and LIST are in the transcript
    await rev2(f'c CREATE "{COMPOSED}"')
    await rev2("a APPEND INBOX", MESSAGE)
    await rev2("s SELECT INBOX")
    said = await rev2(f"x {line}")
    assert said.splitlines()[-1].startswith("x OK"), said
    if line.startswith("COPY"):
        assert "(MESSAGES 1)" in await rev2(f'x STATUS "{COMPOSED}" (MESSAGES)')


async def test_select_tells_all_that_is_required(rev2: Client) -> None:
    # RFC 9051 §6.3.2, §6.3.3
    for command, ending in (("SELECT", "READ-WRITE"), ("EXAMINE", "READ-ONLY")):
        said = await rev2(f"s {command} Sent")
        for wanted in (
            r"\* FLAGS \(.*\)",
            r"\* \d+ EXISTS",
            r'\* LIST \(\\HasNoChildren \\Sent\) "/" Sent',
            r"\* OK \[PERMANENTFLAGS \(.*\)\] .*",
            r"\* OK \[UIDNEXT [1-9]\d*\] .*",
            r"\* OK \[UIDVALIDITY [1-9]\d*\] .*",
        ):
            assert len(re.findall(f"^{wanted}$", said, re.M)) == 1, wanted
        assert said.splitlines()[-1].startswith(f"s OK [{ending}] ")


async def test_a_name_that_is_left_can_be_made_again_without_confusion(kept: Client) -> None:
    # RFC 9051 §2.3.1.1, §6.3.4, §6.3.5, §6.3.6: by a greater UIDVALIDITY
    seen = []
    for ending in ("DELETE Again", "RENAME Again Old", "DELETE Again"):
        await kept("c CREATE Again")
        await kept("a APPEND Again", MESSAGE)
        found = re.search(r"UIDVALIDITY (\d+)", await kept("t STATUS Again (UIDVALIDITY)"))
        assert found is not None
        seen.append(int(found[1]))
        await kept(f"d {ending}")
    assert seen == sorted(set(seen))


async def test_uidnext_changes_with_new_messages_alone(kept: Client) -> None:
    # RFC 9051 §2.3.1.1
    async def uidnext() -> str:
        return await kept("t STATUS INBOX (UIDNEXT)")

    await kept("s SELECT INBOX")
    first = await uidnext()
    await kept("a APPEND INBOX (\\Deleted)", MESSAGE)
    assert "UIDNEXT 2" in await uidnext() != first
    for line in (
        "STORE 1 +FLAGS (\\Seen)",
        "COPY 1 Sent",
        "FETCH 1 BODY[]",
        "EXPUNGE",
        "NOOP",
        "CLOSE",
        "SELECT INBOX",
    ):
        await kept(f"x {line}")
        # what was put there and expunged again has had its UID
        assert "UIDNEXT 2" in await uidnext(), line


async def test_a_uid_is_not_used_again(kept: Client) -> None:
    # RFC 9051 §2.3.1.1: each is above all that were there before
    await kept("s SELECT INBOX")
    for uid in range(1, 4):
        assert f" {uid}] " in await kept("a APPEND INBOX (\\Deleted)", MESSAGE)
        assert "EXPUNGE\n" in await kept("x EXPUNGE")


async def test_what_a_message_is_stays(kept: Client, any_house: House) -> None:
    # RFC 9051 §2.3.1.1, §6.4.5
    items = "x UID FETCH 1 (INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[] BODY.PEEK[HEADER] BODY.PEEK[1])"
    other = await Client(any_house).signed_in()
    await kept("a APPEND INBOX", MESSAGE)
    for client in (kept, other):
        await client("s SELECT INBOX")
    before = await kept(items)
    assert "body" in before
    await kept("x STORE 1 +FLAGS (\\Flagged new)")
    await kept("x COPY 1 Sent")
    assert await kept(items) == before
    await kept("x CLOSE")
    await kept("x RENAME Sent Sent2")
    await kept("x SELECT INBOX")
    assert await kept(items) == before
    said = (await other(items)).splitlines(keepends=True)
    assert "".join(line for line in said if " FETCH (UID 1 FLAGS " not in line and "FLAGS (" not in line) == before


async def test_a_delimiter_at_the_end_declares_nothing(rev2: Client) -> None:
    # RFC 9051 §6.3.4: a delimiter at the end says nothing here, and is not part of the name
    assert "x OK" in await rev2("x CREATE Plans/")
    assert await rev2('x LIST "" Plans*') == '* LIST (\\HasNoChildren) "/" Plans\nx OK Listed\n'
    assert "x NO [ALREADYEXISTS]" in await rev2("x CREATE Plans")


async def test_a_pattern_that_matches_nothing_is_no_error(house: House) -> None:
    # RFC 9051 §6.3.9: nor one that no name here could match
    client = await Client(house).signed_in()
    for pattern in ("nowhere", "a//b", "/a", "Entw&broken", '"a\tb"', "#news.%", '"' + "x" * 3000 + '"'):
        assert await client(f'x LIST "" {pattern}') == "x OK Listed\n", pattern


async def test_return_options_choose_no_names(rev2: Client) -> None:
    # RFC 9051 §6.3.9: a name that is subscribed and not there is none that LIST shows
    await rev2("x SUBSCRIBE Nowhere")
    await rev2("x CREATE a/b")
    await rev2("x UNSUBSCRIBE Sent")
    plain = re.findall(r"^\* LIST .*$", await rev2('x LIST "" *'), re.M)
    for options in ("SUBSCRIBED", "CHILDREN", "STATUS (MESSAGES)", "SUBSCRIBED CHILDREN STATUS (UIDNEXT) SPECIAL-USE"):
        said = await rev2(f'x LIST "" * RETURN ({options})')
        assert re.findall(r"^\* LIST .*$", said.replace(" \\Subscribed)", ")"), re.M) == plain, options
    assert "CHILDINFO" not in said
    # RFC 9051 §6.3.9.2
    assert said.count("\\Subscribed") == 5
    assert re.search(r"LIST .*\\Subscribed.* Sent$", said, re.M) is None


async def test_an_option_named_twice_is_one(rev2: Client) -> None:
    # RFC 9051 §6.3.9
    await rev2("x CREATE a")
    await rev2("x SUBSCRIBE a")
    once = await rev2('x LIST (SUBSCRIBED RECURSIVEMATCH) "" % RETURN (CHILDREN)')
    assert "x OK" in once
    twice = 'x LIST (SUBSCRIBED RECURSIVEMATCH SUBSCRIBED) "" % RETURN (CHILDREN CHILDREN)'
    assert await rev2(twice) == once


async def test_nothing_is_remote(rev2: Client) -> None:
    # RFC 9051 §6.3.9.1
    said = await rev2('x LIST (REMOTE) "" *')
    assert said.count("* LIST") == 6
    assert "\\Remote" not in said


async def test_names_that_are_listed_are_names(rev2: Client) -> None:
    # RFC 9051 §5.1.1, §7.3.1: the delimiter is one, and each name goes where names go
    for name in ("a/b", '"x y"', '"\u00fc/\u00df"', '"back\\\\slash"', "R&D"):
        await rev2(f"x CREATE {name}")
    listed = re.findall(r"^\* LIST \((.*?)\) (\S+) (.*)$", await rev2('x LIST "" *'), re.M)
    assert len(listed) > 10
    for told, delimiter, name in listed:
        assert delimiter == '"/"'
        assert "x OK" in await rev2(f"x LIST {name} %")
        assert ("x OK" in await rev2(f"x EXAMINE {name}")) == ("\\NonExistent" not in told)
        assert len({"\\Marked", "\\Unmarked", "\\Noselect"}.intersection(told.split())) <= 1


async def test_the_selected_mailbox_has_a_status_that_is_true(kept: Client) -> None:
    # RFC 9051 §6.3.11
    await kept("s SELECT INBOX")
    for _ in range(3):
        await kept("a APPEND INBOX", MESSAGE)
    said = await kept("x STATUS INBOX (MESSAGES UIDNEXT UNSEEN DELETED SIZE)")
    sizes = re.findall(r"RFC822.SIZE (\d+)", await kept("x FETCH 1:* RFC822.SIZE"))
    assert f"* STATUS INBOX (MESSAGES 3 UIDNEXT 4 UNSEEN 3 DELETED 0 SIZE {sum(map(int, sizes))})\n" in said
    assert "x OK" in said


@pytest.mark.parametrize("any_storage", ["sqlite"], indirect=True)
async def test_no_uid_is_told_of_a_mailbox_that_may_not_be_read(any_house: House) -> None:
    # RFC 9051 §6.3.12, §6.4.7
    alice, bob = await Client(any_house).signed_in(), await Client(any_house).signed_in("bob")
    drop = '"Other Users/alice@example.org/Drop"'
    await alice("x CREATE Drop")
    assert "x OK" in await alice("x SETACL Drop bob@example.org li")
    for _ in range(2):
        await bob("x APPEND INBOX", MESSAGE)
    await bob("x SELECT INBOX")
    assert "x NO" in await bob(f"x EXAMINE {drop}")
    await bob("x SELECT INBOX")
    assert await bob(f"x APPEND {drop}", MESSAGE) == "x OK Appended\n"
    assert await bob(f"x COPY 1 {drop}") == "x OK Copied\n"
    assert await bob(f"x MOVE 1 {drop}") == "* 1 EXPUNGE\nx OK Moved\n"
    assert "(MESSAGES 3)" in await alice("x STATUS Drop (MESSAGES)")
    # in the place of another message of the same owner
    await alice("x APPEND Sent", MESSAGE)
    await alice("x SETACL Sent bob@example.org lrte")
    await bob('x SELECT "Other Users/alice@example.org/Sent"')
    assert "* OK The replacement is there\n* 1 EXPUNGE\n" in await bob(f"x REPLACE 1 {drop}", MESSAGE)
    await bob("x SELECT INBOX")
    # who may read is told
    await alice("x SETACL Drop bob@example.org lri")
    assert "[APPENDUID " in await bob(f"x APPEND {drop}", MESSAGE)
    await bob("x APPEND INBOX", MESSAGE)
    assert "[COPYUID " in await bob(f"x COPY 1 {drop}")
    assert "[COPYUID " in await bob(f"x MOVE 1 {drop}")
