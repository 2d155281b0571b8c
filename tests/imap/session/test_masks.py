"""Masks of capabilities, and what is done for clients that break: each line of the table of quirks is held here."""

from __future__ import annotations

from pathlib import Path

import pytest

from imap import quirks
from imap.capability import FEATURES
from imap.masking import NEEDS, Mask
from imap.session import House
from tests.imap.fakes import Client, FakeIdentity

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"

USED = {
    "CONDSTORE": "FETCH 1 (MODSEQ)",
    "QRESYNC": "SELECT INBOX (QRESYNC (1 1))",
    "ESEARCH": "SEARCH RETURN (COUNT) ALL",
    "SEARCHRES": "FETCH $ (UID)",
    "WITHIN": "SEARCH OR OLDER 5 NOT SEEN",
    "PARTIAL": "UID FETCH 1:* (UID) (PARTIAL 1:2)",
    "SAVEDATE": "SEARCH NOT SAVEDON 1-Jan-2020",
    "SORT=DISPLAY": "SORT (DISPLAYFROM) UTF-8 ALL",
    "ESORT": "SORT RETURN (COUNT) (DATE) UTF-8 ALL",
    "THREAD=REFERENCES": "UID THREAD REFERENCES UTF-8 ALL",
    "THREAD=ORDEREDSUBJECT": "THREAD ORDEREDSUBJECT UTF-8 ALL",
    "SPECIAL-USE": 'LIST (SPECIAL-USE) "" *',
    "LIST-STATUS": 'LIST "" * RETURN (STATUS (MESSAGES))',
    "LIST-METADATA": 'LIST "" * RETURN (METADATA (/shared/comment))',
    "LIST-MYRIGHTS": 'LIST "" * RETURN (MYRIGHTS)',
    "STATUS=SIZE": "STATUS INBOX (SIZE)",
    "OBJECTID": "FETCH 1 (EMAILID)",
    "PREVIEW": "FETCH 1 (PREVIEW)",
    "BINARY": "FETCH 1 (BINARY.PEEK[1])",
    "CATENATE": "APPEND INBOX CATENATE (URL /INBOX/;UID=1)",
    "QUOTA=RES-STORAGE": "STATUS INBOX (DELETED-STORAGE)",
    "SEARCH=FUZZY": 'SEARCH FUZZY SUBJECT "x"',
}
"""Capability → a command that is part of it."""
ENABLED = frozenset(("IMAP4rev2", "UTF8=ACCEPT", "UIDONLY"))
"""Those that ENABLE alone switches on."""
TOLD = frozenset(("LITERAL+", "CHILDREN", "I18NLEVEL=1", "INPROGRESS", "RIGHTS=texk"))
"""Those that a client can only be told of."""


def test_every_feature_is_here() -> None:
    assert {*USED, *ENABLED, *TOLD} == set(FEATURES)


async def masked(house: House, who: FakeIdentity, *names: str) -> Client:
    who.masks["alice"] = tuple(sorted(name.upper() for name in names))
    client = await Client(house).signed_in()
    await client("x APPEND INBOX", MESSAGE)
    await client("x SELECT INBOX")
    return client


@pytest.mark.parametrize("name", sorted(USED))
async def test_what_is_masked_is_neither_told_nor_taken(house: House, who: FakeIdentity, name: str) -> None:
    client = await masked(house, who, name)
    assert f" {name} " not in await client("c CAPABILITY")
    of = "QUOTA" if name.startswith("QUOTA=") else name
    if of != "QUOTA":
        assert f"a BAD {of} is not offered to this sign-in" in await client(f"a {USED[name]}")
    plain = await masked(house, who)
    assert f" {name} " in await plain("c CAPABILITY")


@pytest.mark.parametrize("name", sorted(ENABLED))
async def test_what_is_masked_is_not_enabled(house: House, who: FakeIdentity, name: str) -> None:
    client = await masked(house, who, name)
    assert f" {name} " not in await client("c CAPABILITY")
    assert await client(f"a ENABLE {name} CONDSTORE") != ""
    assert name.upper() not in client.session.enabled
    assert "CONDSTORE" in client.session.enabled


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("MOVE", "UID MOVE 1 Sent"),
        ("UIDPLUS", "UID EXPUNGE 1"),
        ("SORT", "UID SORT (DATE) UTF-8 ALL"),
        ("QUOTA", "GETQUOTAROOT INBOX"),
        ("UTF8", "APPEND INBOX CATENATE (UTF8 (~{3}"),
        ("ACL", "GETACL INBOX"),
        ("ACL", "SETACL INBOX bob lr"),
        ("ACL", "DELETEACL INBOX bob"),
        ("ACL", "LISTRIGHTS INBOX bob"),
        ("ACL", "MYRIGHTS INBOX"),
        ("METADATA", "GETMETADATA INBOX /private/comment"),
        ("NOTIFY", "NOTIFY NONE"),
        ("NAMESPACE", "NAMESPACE"),
        ("QUOTA", "STATUS INBOX (DELETED-STORAGE)"),
        ("REPLACE", "UID REPLACE 1 INBOX {3}"),
        ("IDLE", "IDLE"),
        ("ENABLE", "ENABLE CONDSTORE"),
        ("COMPRESS", "COMPRESS DEFLATE"),
        ("THREAD", "THREAD REFERENCES UTF-8 ALL"),
        ("CREATE-SPECIAL-USE", "CREATE x (USE (\\Sent))"),
        ("LIST-EXTENDED", 'LIST "" (a b)'),
    ],
)
async def test_commands_of_a_masked_extension(house: House, who: FakeIdentity, name: str, line: str) -> None:
    client = await masked(house, who, name)
    assert "is not offered to this sign-in" in await client(f"a {line}")
    assert "a OK" in await client("a NOOP")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("CONDSTORE", "SELECT INBOX (QRESYNC (1 1))"),
        ("ESEARCH", "SEARCH RETURN (SAVE) ALL"),
        ("SORT", "SORT RETURN (COUNT) (DATE) UTF-8 ALL"),
        ("LIST-EXTENDED", 'LIST "" * RETURN (STATUS (MESSAGES))'),
        ("METADATA", 'LIST "" * RETURN (METADATA (/shared/comment))'),
        ("ACL", 'LIST "" * RETURN (MYRIGHTS)'),
    ],
)
async def test_what_is_nothing_without_the_masked_one(house: House, who: FakeIdentity, name: str, line: str) -> None:
    client = await masked(house, who, name)
    assert "is not offered to this sign-in" in await client(f"a {line}")
    told = (await client("c CAPABILITY")).split()
    assert not [one for one, needed in NEEDS.items() if name in needed and one in map(str.upper, told)]
    await client("e ENABLE QRESYNC")
    assert ("QRESYNC" in client.session.enabled) == (name != "CONDSTORE")


async def test_base_commands_stay(house: House, who: FakeIdentity) -> None:
    client = await masked(house, who, "IMAP4rev1", "LIST-EXTENDED", "MULTIAPPEND", "CREATE-SPECIAL-USE", "ESEARCH")
    assert (await client("c CAPABILITY")).startswith("* CAPABILITY IMAP4rev1 ")
    for line in ('LIST "" *', "CREATE x", "SEARCH ALL", "FETCH 1 (FLAGS)", "UID FETCH 1 (FLAGS)"):
        assert "a OK" in await client(f"a {line}"), line
    assert "a OK" in await client("a APPEND INBOX", MESSAGE)


def test_a_name_without_a_value_stands_for_all_values() -> None:
    mask = Mask(frozenset(("THREAD", "SORT=DISPLAY")))
    assert mask.hides("THREAD=REFERENCES")
    assert mask.hides("sort=display")
    assert not mask.hides("SORT")
    assert not Mask()


# --- quirks ---


def test_quirks_are_written_out() -> None:
    assert len({quirk.name for quirk in quirks.QUIRKS}) == len(quirks.QUIRKS)
    page = quirks.page()
    assert all(quirk.reason in page and quirk.does in page for quirk in quirks.QUIRKS)
    document = Path(__file__).parents[3] / "docs" / "imap-clients.md"
    assert page in document.read_text("utf-8"), "docs/imap-clients.md has another table than imap.quirks"


def test_each_quirk_is_shown() -> None:
    shown = {
        "office-365-uidonly": "uidonly_office.txt",
        "modseq-never-zero": "test_highestmodseq_is_never_zero",
        "condstore-beside-qresync": "test_condstore_beside_qresync",
        "no-exists-after-expunge": "test_no_exists_after_expunge",
        "day-of-one-digit": "append.txt",
        "rfc822-peek": "fetch.txt",
        "all-of-nothing": "search.txt",
        "auth-login": "sign_in.txt",
    }
    assert {quirk.name for quirk in quirks.QUIRKS} == set(shown), "each has a test, or a dialogue"
    transcripts = Path(__file__).parents[2] / "transcripts" / "imap"
    assert all(where in globals() or (transcripts / where).is_file() for where in shown.values())


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Microsoft Office 365", {"office-365-uidonly"}),
        ("microsoft office 365 something", {"office-365-uidonly"}),
        ("Thunderbird", set()),
        ("not Microsoft Office 365", set()),
        ("", set()),
        (None, set()),
    ],
)
def test_quirks_by_the_clients_name(name: str | None, found: set[str]) -> None:
    assert {quirk.name for quirk in quirks.of(name)} == found


async def test_office_365_is_known_before_and_after_sign_in(house: House) -> None:
    hello = 'i ID ("vendor" "Microsoft Corporation" "NAME" "Microsoft Office 365")'
    before = Client(house)
    await before(hello)
    await before.signed_in()
    after = await Client(house).signed_in()
    assert " UIDONLY " in await after("c CAPABILITY")
    await after(hello)
    for client in (before, after):
        assert " UIDONLY " not in await client("c CAPABILITY")
        assert "* ENABLED\n" in await client("e ENABLE UIDONLY")
    await after('i ID ("name" "another")')
    assert " UIDONLY " in await after("c CAPABILITY"), "the last ID counts"


async def test_the_clients_quirks_and_the_accounts_mask_together(house: House, who: FakeIdentity) -> None:
    who.masks["alice"] = ("MOVE",)
    client = await Client(house).signed_in()
    await client('i ID ("name" "Microsoft Office 365")')
    said = await client("c CAPABILITY")
    assert " MOVE " not in said
    assert " UIDONLY " not in said


async def test_highestmodseq_is_never_zero(any_house: House) -> None:
    client = await Client(any_house).signed_in()
    assert "x OK" in await client("x CREATE new")
    for line in ("SELECT new", "STATUS new (HIGHESTMODSEQ)", "SELECT INBOX", "EXAMINE Sent"):
        said = await client(f"x {line}")
        value = said.partition("HIGHESTMODSEQ ")[2].split("]")[0].split(")")[0]
        assert int(value) >= 1, line


@pytest.mark.parametrize("parameters", ["(CONDSTORE QRESYNC (1 1))", "(QRESYNC (1 1) CONDSTORE)"])
async def test_condstore_beside_qresync(alice: Client, parameters: str) -> None:
    assert "* ENABLED CONDSTORE QRESYNC\n" in await alice("e ENABLE CONDSTORE QRESYNC")
    assert "x OK [READ-WRITE]" in await alice(f"x SELECT INBOX {parameters}")


async def test_no_exists_after_expunge(alice: Client, house: House) -> None:
    for _ in range(3):
        await alice("x APPEND INBOX", MESSAGE)
    await alice("x SELECT INBOX")
    await alice("x STORE 1:2 +FLAGS.SILENT (\\Deleted)")
    assert await alice("e EXPUNGE") == "* 2 EXPUNGE\n* 1 EXPUNGE\ne OK Expunged\n"
    assert await alice("e EXPUNGE") == "e OK Expunged\n"
    assert await alice("e UID EXPUNGE 1:3") == "e OK Expunged\n"
    assert await alice("e NOOP") == "e OK Done\n"
    await alice("x STORE 1 +FLAGS.SILENT (\\Deleted)")
    assert "EXISTS" not in await alice("e EXPUNGE"), "not for an empty mailbox either"
    # nor where another session has expunged, whether it is asked for or told, and not after MOVE
    other = await Client(house).signed_in()
    for _ in range(4):
        await other("x APPEND INBOX", MESSAGE)
    await other("x SELECT INBOX")
    await alice("e NOOP")
    await other("x STORE 1:2 +FLAGS.SILENT (\\Deleted)")
    await alice("e NOOP")
    await other("x EXPUNGE")
    assert await alice("e NOOP") == "* 2 EXPUNGE\n* 1 EXPUNGE\ne OK Done\n"
    assert (await alice("e MOVE 1 Trash")).splitlines()[1:] == ["* 1 EXPUNGE", "e OK Moved"]
    await alice("e ENABLE QRESYNC")
    await other("x STORE 1:* +FLAGS.SILENT (\\Deleted)")
    await other("x EXPUNGE")
    said = await alice("e NOOP")
    assert "* VANISHED " in said
    assert "EXISTS" not in said


async def test_auth_login_asks_with_the_words_that_outlook_knows(house: House) -> None:
    client = Client(house)
    assert " AUTH=LOGIN " in (await client("c CAPABILITY")).replace("\n", " ")
    for word in (b"YWxpY2U=", b"c2VjcmV0"):
        client.out.lines.put_nowait(word)
    said = await client("a AUTHENTICATE LOGIN")
    assert said.startswith("+ VXNlcm5hbWU6\n+ UGFzc3dvcmQ6\na OK")
