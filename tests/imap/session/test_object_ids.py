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


async def test_a_thread_has_one_id_wherever_its_messages_are(any_house: House, deliver: Deliver) -> None:
    alice = await Client(any_house).signed_in()
    for header in (
        b"Message-ID: <root@a.example>\r\n",
        b"Message-ID: <2@a.example>\r\nIn-Reply-To: <root@a.example>\r\n",
        b"Message-ID: <3@a.example>\r\nReferences: <root@a.example> <2@a.example>\r\n",
        b"Message-ID: <other@a.example>\r\n",
        b"Subject: no id\r\n",
        b"Subject: no id\r\n",
    ):
        await deliver("alice", header + b"\r\nx")
    await alice("s SELECT INBOX")
    said = await alice("f FETCH 1:* (UID THREADID)")
    ids = re.findall(r"\(UID \d+ THREADID \(([A-Za-z0-9_-]{1,255})\)\)", said)
    assert len(ids) == 6
    assert ids[0] == ids[1] == ids[2]
    # RFC 8474 §5.2: those that belong together alone
    assert len(set(ids)) == 4
    assert await alice(f"q SEARCH THREADID {ids[0]}") == "* SEARCH 1 2 3\nq OK Searched\n"
    assert await alice(f"q UID SEARCH OR THREADID {ids[3]} THREADID {ids[4]}") == "* SEARCH 4 5\nq OK Searched\n"
    assert await alice("q SEARCH THREADID Tnone") == "* SEARCH\nq OK Searched\n"
    await alice("c COPY 3 Archive")
    await alice("m MOVE 2,6 Archive")
    await alice("s SELECT Archive")
    assert re.findall(r"THREADID \((.*?)\)", await alice("f FETCH 1:* THREADID")) == [ids[2], ids[1], ids[5]]
