"""Ids of mailboxes and messages stay what they are (RFC 8474), in answers that know of each other."""

from __future__ import annotations

import re

from imap.session import House
from tests.imap.conftest import Deliver
from tests.imap.fakes import Client


def mailbox_id(said: str) -> str:
    found = re.search(r"MAILBOXID \(([A-Za-z0-9_-]{1,255})\)", said)
    assert found, said
    return found[1]


async def test_a_mailbox_keeps_its_id(any_house: House) -> None:
    alice = await Client(any_house).signed_in()
    made = mailbox_id(await alice("c CREATE Work"))
    assert mailbox_id(await alice("s STATUS Work (MAILBOXID)")) == made
    await alice("r RENAME Work Play")
    assert mailbox_id(await alice("s SELECT Play")) == made
    assert mailbox_id(await alice('l LIST "" Play RETURN (STATUS (MAILBOXID))')) == made
    await alice("d DELETE Play")
    # RFC 8474 §4: another mailbox of that name is another one
    assert mailbox_id(await alice("c CREATE Play")) != made


async def test_a_message_keeps_its_id_where_it_goes(any_house: House, deliver: Deliver) -> None:
    alice = await Client(any_house).signed_in()
    await deliver("alice", b"Subject: a\r\n\r\nx")
    await deliver("alice", b"Subject: b\r\n\r\nx")
    await alice("s SELECT INBOX")
    first, second = re.findall(r"EMAILID \(([A-Za-z0-9_-]{1,255})\)", await alice("f FETCH 1:* EMAILID"))
    assert first != second
    assert await alice(f"q SEARCH EMAILID {second}") == "* SEARCH 2\nq OK Searched\n"
    assert await alice(f"q UID SEARCH NOT OR EMAILID {second} (EMAILID {first} SUBJECT b)") == (
        "* SEARCH 1\nq OK Searched\n"
    )
    await alice("c COPY 1 Archive")
    await alice("m MOVE 2 Archive")
    await alice("s SELECT Archive")
    assert re.findall(r"EMAILID \((.*?)\)", await alice("f FETCH 1:* EMAILID")) == [first, second]
