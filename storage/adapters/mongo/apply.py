"""Carrying out a journal item: what its commit means for entries, history, deleted mailboxes and operations.

Anybody may do it, more than once, and arbitrarily late: each change asks for what it finds before the item was carried
out, which never comes back. An entry that has its uid is not unpublished; one that has this modseq, or a later one, has
none below it; one that is gone stays so; an outcome is set once. Nothing is inserted that a sweep may have removed
meanwhile, but events (by ids of their own) and notes of deleted mailboxes, which a second sweep takes again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from storage.adapters.mongo import queries, shared_notes
from storage.adapters.mongo.database import Change, Database
from storage.adapters.mongo.state import Document, entries_of, uids_of
from storage.adapters.mongo.uidsets import exact


async def carry_out(database: Database, account: str, item: Mapping[str, Any]) -> None:
    """All of the item. When this returns nothing of it is left to do; when it raises, it can be done again."""
    history = _history(account, item)
    done = _done(item)
    events = [event for one in item.get("done", ()) for event in one["events"]]
    annotated = _annotated(account, item)
    removed = [
        {"_id": one["mailbox"], "account": account, "removed": one["removed"]} for one in item.get("removed", ())
    ]
    work = [
        database.update(_entries(account, item)),
        database.update(history) if history else None,
        database.update(done) if done else None,
        database.update(annotated) if annotated else None,
        database.insert("event", events) if events else None,
        database.insert("removed", removed) if removed else None,
    ]
    # All of them end before this does: nothing of a change may come after its answer.
    ended = await asyncio.gather(*[one for one in work if one is not None], return_exceptions=True)
    for outcome in ended:
        if isinstance(outcome, BaseException):
            raise outcome
    for one in item.get("expunge", ()):
        if one["forget"] is not None:
            await database.delete(queries.vanished_until(account, one["mailbox"], one["forget"]))
    for one in item.get("shared", ()):
        await shared_notes.note(database, account, one["grantee"], one["token"])


def _entries(account: str, item: Mapping[str, Any]) -> Iterator[Change]:
    # One after the other as they are sent: ten thousand at once would hold everybody else up.
    for part in item.get("publish", ()):
        for entry, uid in entries_of(part):
            place = {"mailbox": part["mailbox"], "uid": uid, "modseq": part["modseq"]}
            yield Change(queries.unpublished(account, entry), {"$set": place, "$unset": {"pending": ""}})
    for part in item.get("flags", ()):
        update: Document = {"$set": {"flags": part["flags"], "modseq": part["modseq"]}}
        if part["kw"]:
            update["$set"]["kw"] = part["kw"]
        else:
            update["$unset"] = {"kw": ""}
        for uids in exact(uids_of(part)):
            yield Change(queries.entries_unchanged(account, part["mailbox"], uids, part["modseq"]), update, many=True)
    for part in item.get("expunge", ()):
        gone = {"$set": {"gone": part["modseq"], "lost": part["lost"]}}
        for uids in exact(uids_of(part)):
            yield Change(queries.entries_unchanged(account, part["mailbox"], uids, part["modseq"]), gone, many=True)


def _history(account: str, item: Mapping[str, Any]) -> list[Change]:
    return [
        Change(
            queries.vanished_unpublished(account, part["vanished"]),
            {"$set": {"modseq": part["modseq"]}, "$unset": {"pending": ""}},
        )
        for part in item.get("expunge", ())
    ]


def _annotated(account: str, item: Mapping[str, Any]) -> list[Change]:
    return [
        Change(
            queries.annotation_before(account, part["id"], part["modseq"]),
            {"$set": {"modseq": part["modseq"], **part["state"]}},
        )
        for part in item.get("annotated", ())
    ]


def _done(item: Mapping[str, Any]) -> list[Change]:
    return [
        Change(queries.not_ended(one["op"], one["nonce"], one["path"]), {"$set": {one["path"]: one["value"]}})
        for one in item.get("done", ())
    ]
