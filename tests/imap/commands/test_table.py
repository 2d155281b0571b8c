"""The command table and the error table are whole."""

from __future__ import annotations

import pytest

import identity.port
import storage.port
from imap.capability import Standing, capabilities
from imap.commands import table
from imap.errors import STORAGE, refusal
from imap.session import House, State
from imap.wire.errors import BadSyntax
from imap.wire.parser import COMMANDS
from tests.imap.fakes import Client, FakeStorage


def test_what_can_be_parsed_can_be_run() -> None:
    assert set(table()) == set(COMMANDS)


def test_numbers_never_change_under_their_users() -> None:
    # RFC 3501 §7.4.1
    assert not any(table()[name].may_expunge for name in ("FETCH", "STORE", "SEARCH", "SORT", "THREAD"))
    assert all(table()[name].may_expunge for name in ("NOOP", "CHECK", "EXPUNGE", "IDLE", "MOVE", "UID FETCH"))


def test_capabilities_of_the_table() -> None:
    names = capabilities(Standing(True, False, True), (e.capability for e in table().values() if e.capability))
    assert names[0] == "IMAP4rev1"
    assert len(set(names)) == len(names)
    extensions = (
        "LITERAL+ CHILDREN SPECIAL-USE ENABLE ID IDLE MOVE NAMESPACE UIDPLUS UNSELECT CONDSTORE QRESYNC LIST-EXTENDED "
        "LIST-STATUS CREATE-SPECIAL-USE STATUS=SIZE MULTIAPPEND OBJECTID PREVIEW "
        "ESEARCH SEARCHRES WITHIN PARTIAL SAVEDATE I18NLEVEL=1 SORT SORT=DISPLAY ESORT THREAD=ORDEREDSUBJECT "
        "THREAD=REFERENCES COMPRESS=DEFLATE IMAP4rev2 UTF8=ACCEPT BINARY SEARCH=FUZZY INPROGRESS "
        "QUOTA QUOTA=RES-STORAGE QUOTASET CATENATE REPLACE UIDONLY "
        "ACL RIGHTS=texk LIST-MYRIGHTS METADATA LIST-METADATA NOTIFY"
    )
    assert set(names[1:]) - {name for name in names if name.startswith("APPENDLIMIT")} == set(extensions.split())


@pytest.mark.parametrize("reason", list(storage.port.Reason))
def test_every_refusal_of_storage_has_a_code(reason: storage.port.Reason) -> None:
    refused = refusal(storage.port.Refused(reason))
    assert refused is not None
    assert refused.condition == "NO"
    assert refused.code == STORAGE[reason]


@pytest.mark.parametrize("reason", list(identity.port.Reason))
def test_every_refusal_of_identity_has_a_code(reason: identity.port.Reason) -> None:
    refused = refusal(identity.port.Refused(reason))
    assert refused is not None
    assert refused.code


def test_other_errors() -> None:
    assert refusal(storage.port.Unavailable()) == refusal(identity.port.Unavailable())
    syntax = refusal(BadSyntax("x", condition="NO", code="TOOBIG"))
    assert syntax is not None
    assert (syntax.condition, syntax.code) == ("NO", "TOOBIG")
    assert refusal(KeyError("x")) is None


async def test_a_bug_is_told_without_details_and_the_session_goes_on(house: House, storage: FakeStorage) -> None:
    client = await Client(house).signed_in()
    await client("x SELECT INBOX")

    def bug() -> None:
        raise KeyError("secret detail")

    storage.before["search"] = bug
    answer = await client("x SEARCH ALL")
    assert answer.startswith("x NO [SERVERBUG]")
    assert "secret" not in answer
    assert "x OK" in await client("x SEARCH ALL")


async def test_storage_away_is_told_and_passes(house: House, storage: FakeStorage) -> None:
    client = await Client(house).signed_in()
    await client("x SELECT INBOX")
    storage.down = True
    for line in ('x LIST "" *', "x SEARCH ALL", "x STATUS INBOX (MESSAGES)", "x CREATE a", "x EXPUNGE"):
        assert "x NO [UNAVAILABLE]" in await client(line)
    # no news is no failure
    assert await client("x NOOP") == "x OK Done\n"
    storage.down = False
    assert "x OK" in await client("x SEARCH ALL")


def test_states() -> None:
    entries = table()
    assert entries["LOGIN"].states is State.NOT_AUTHENTICATED
    assert entries["FETCH"].states is State.SELECTED
