"""What must hold of mail that has left, once the spool is empty: at the sink, with its senders, in traces, on disk."""

from __future__ import annotations

import asyncio
import email
import email.policy
import imaplib
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from email.message import EmailMessage
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

from runtime.clock import ManualClock
from runtime.mongo import open_mongo
from storage.adapters.sqlite.adapter import SqliteStorage
from tests.crash.checking import LATER, ROUNDS_MAX, verify_documents
from tests.crash.clients import ok
from tests.crash.leaving import World
from tests.crash.sink import Taking, kind_of
from tests.crash.submitting import SENDERS, Message
from tests.live import PASSWORD
from tests.storage.consistency import problems

SETTLED_SECONDS = 10.0
"""Within these of the remote's 250 an attempt is settled, where nobody is killed, on a machine that is busy."""
AFTER_OUTAGE_SECONDS = 10.0
"""Within these of a keeper's return what waited for it is settled: the pauses between two tries are up to 5 seconds."""


def verify(this: World) -> None:
    """Nothing is lost; twice is only what had to be, and its trace says so; nobody is told twice. Running still."""
    figures, handed = this.figures, this.figures.handed
    assert not handed.wrong, "\n".join(handed.wrong)
    taken: defaultdict[str, list[Taking]] = defaultdict(list)
    for one in this.sink.taken:
        taken[one.address].append(one)
    notices = _notices(this)
    figures.taken, figures.notices = len(this.sink.taken), sum(notices.values())
    asked = {address: message for message in handed.messages.values() for address in message.recipients}
    assert taken.keys() <= asked.keys()
    assert notices.keys() <= asked.keys()
    again = {address: count for address, count in notices.items() if count > 1}
    assert not again, f"senders were told twice: {again}"
    for address, message in asked.items():
        _one(address, message, taken[address], notices[address], sure=message.op in handed.acknowledged)
    doubled = {address: found for address, found in taken.items() if len(found) > 1}
    for found in doubled.values():
        for first, second in pairwise(found):
            figures.doubled[_why(this, first, second)] += 1
    _traces(this, {address: asked[address] for address in doubled})


def _one(address: str, message: Message, found: list[Taking], notices: int, *, sure: bool) -> None:
    """One recipient. sure: its message was acknowledged."""
    assert all(one.digest == message.digest for one in found), f"{address}: another text than was handed in"
    if kind_of(address) in ("gone", "spam"):
        assert not found, f"{address} was refused, and taken"
        assert notices or not sure, f"{address} was refused, and its sender was not told"
    else:
        assert not notices, f"{address} was not refused, and its sender was told so"
        assert found or not sure, f"{address} is lost: acknowledged, not taken, not in the spool, nobody told"


def _why(this: World, first: Taking, second: Taking) -> str:
    """Why a message that was taken is sent again; AssertionError where the remote's 250 was there to be seen."""
    if first.replied is None:
        # It closed without an answer, or the peer was gone before it.
        return "no reply was written"
    until = first.replied + SETTLED_SECONDS
    outages = [
        kill
        for kill in this.figures.kills
        if kill.service == "storage" and kill.at <= until and kill.ready + AFTER_OUTAGE_SECONDS >= first.replied
    ]
    until = max([until, *(kill.ready + AFTER_OUTAGE_SECONDS for kill in outages)])
    for kill in this.figures.kills:
        # What a process had sent before it was killed is read after it.
        if kill.peer == first.peer and first.connected <= kill.at <= min(until, second.at):
            if outages:
                return "the sender was killed, while or after storage was"
            this.figures.gaps.append(kill.at - first.replied)
            return "the sender was killed"
    kills = [(kill.service, kill.peer, round(kill.at - first.replied, 3)) for kill in this.figures.kills]
    later = second.at - first.replied
    raise AssertionError(
        f"{first.address} was taken again {later:.3f} s after a 250 to {first.peer} (seen: {first.seen}), the second"
        f" time from {second.peer}, and no kill explains it: {kills}"
    )


# -- with the senders


def _notices(this: World) -> Counter[str]:
    """Of how many failure notices in its sender's mailbox each recipient is the subject."""
    found: Counter[str] = Counter()
    for sender in SENDERS:
        with imaplib.IMAP4(this.live.host, this.live.ports["IMAP"], timeout=60) as imap:
            imap.login(sender, PASSWORD)
            if not int(ok(imap.select("INBOX", readonly=True))[0]):
                continue
            for row in ok(imap.fetch("1:*", "(BODY.PEEK[])")):
                if isinstance(row, tuple):
                    found.update(_told(sender, email.message_from_bytes(row[1], policy=email.policy.default)))
    return found


def _told(sender: str, notice: EmailMessage) -> Iterator[str]:
    (status,) = [part for part in notice.walk() if part.get_content_type() == "message/delivery-status"]
    for block in status.iter_parts():
        assert isinstance(block, EmailMessage)
        if block["Final-Recipient"] is None:
            continue
        assert str(block["Action"]).strip() == "failed", f"{sender} was told {block}"
        yield str(block["Final-Recipient"]).partition(";")[2].strip()


# -- in the traces


def _traces(this: World, doubled: dict[str, Message]) -> None:
    token = this.live.admin_token()
    told: dict[str, dict[str, Any]] = {}
    for address, message in doubled.items():
        if message.op not in told:
            told[message.op] = _trace(this, token, message)
        _says_so(address, told[message.op])


def _trace(this: World, token: str, message: Message) -> dict[str, Any]:
    status, found = this.live.rest("GET", f"/api/trace?q={quote(message.message_id)}", token=token)
    assert status == 200, found
    (one,) = found["traces"]
    status, trace = this.live.rest("GET", f"/api/trace/{one['trace']}", token=token)
    assert status == 200, trace
    assert trace["message_id"] == message.message_id
    whole: dict[str, Any] = trace
    return whole


def _says_so(address: str, trace: dict[str, Any]) -> None:
    """The trace has the event after which the message may be there twice, and the story says it in words."""
    events = [(line["kind"], line["detail"]) for line in trace["table"]]
    (item,) = [detail["item"] for kind, detail in events if kind == "spooled" and detail["address"] == address]
    doubts = [
        kind
        for kind, detail in events
        if detail.get("item") == item
        and (kind == "unsettled" or (kind == "attempt" and detail["doubtful"] and _about(address, detail)))
    ]
    assert doubts, f"{address} was taken twice, and its trace does not say why: {events}"
    (fate,) = [one for one in trace["fates"] if one["address"] == address]
    assert fate["state"] == "sent", fate
    assert "may get it twice" in fate["do"], fate


def _about(address: str, detail: dict[str, Any]) -> bool:
    return address in (detail["address"], *str(detail.get("others", "")).split("\n"))


# -- on disk


def verify_store(this: World) -> None:
    """After the end of all processes: the store is as it must be, and nothing is kept of what has left."""
    assert not this.live.running
    if this.mongodb is not None:
        this.figures.messages = asyncio.run(verify_documents(this.mongodb))
        asyncio.run(_none_wait(this.mongodb))
        return
    folder = _folder(this.live.data)
    with closing(sqlite3.connect(folder / "storage.db")) as conn:
        wrong = problems(conn, octets=True)
        assert not wrong, "\n".join(wrong)
    asyncio.run(_swept(folder))
    with closing(sqlite3.connect(folder / "storage.db")) as conn:
        wrong = problems(conn, octets=True)
        assert not wrong, "\n".join(wrong)
        (waiting,) = conn.execute("SELECT count(*) FROM spool").fetchone()
        (blobs,) = conn.execute("SELECT count(*) FROM blob").fetchone()
        (named,) = conn.execute("SELECT count(DISTINCT blob) FROM email").fetchone()
        (this.figures.messages,) = conn.execute("SELECT count(*) FROM entry").fetchone()
        assert (waiting, blobs) == (0, named), f"{waiting} items wait; {blobs} blobs, of which {named} belong to mail"


def _folder(data: Path) -> Path:
    (found,) = data.rglob("storage.db")
    return found.parent


async def _swept(folder: Path) -> None:
    storage = SqliteStorage(folder, clock=ManualClock(time.time() + LATER))
    await storage.open(index=False)
    try:
        for _ in range(ROUNDS_MAX):
            if not (await storage.sweep()).more:
                return
        raise AssertionError("the sweep finds no end")
    finally:
        await storage.close()


async def _none_wait(url: str) -> None:
    mongo = await open_mongo(url, app="homing-tests")
    try:
        assert await mongo.database["spool"].find({}).to_list() == []
    finally:
        await mongo.close()


def finish(this: World) -> None:
    """Look at all of it, and end the server."""
    verify(this)
    assert this.live.stop() == 0, "".join(this.live.output[-40:])
    verify_store(this)
