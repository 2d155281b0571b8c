"""Who shares with whom: ``shared``, one small document for each pair of an owner and an identifier of his lists.

So a grantee finds the owners without asking all accounts. The lists themselves stand in the owners' accounts, and these
alone are believed. A note is written with the journal item of every change that leaves such an entry: before anybody
can read the account as it is after the change. A note without an entry does no harm, and goes when somebody meets it,
unless it was written anew meanwhile (``token``).
"""

from __future__ import annotations

from bson import ObjectId

from runtime.mongo import Document
from storage.adapters.mongo import queries
from storage.adapters.mongo.database import Database


def _id(grantee: str, owner: str) -> str:
    # Ids of accounts have no colon.
    return f"{grantee}:{owner}"


async def note(database: Database, owner: str, grantee: str, token: ObjectId) -> None:
    """See that the pair is noted. Any number of times."""
    id = _id(grantee, owner)
    while True:
        if await database.swap(queries.shared_pair(id, grantee), {"$set": {"token": token}}):
            return
        if not await database.insert("shared", [document(owner, grantee, token)]):
            return


def document(owner: str, grantee: str, token: ObjectId) -> Document:
    return {"_id": _id(grantee, owner), "grantee": grantee, "owner": owner, "token": token}
