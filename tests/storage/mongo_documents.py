"""Every counter and reference of a database of the MongoDB adapter, counted again from the documents themselves."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from typing import Any

from mail.flags import DELETED, SEEN
from runtime.mongo import Mongo
from storage import ranges
from storage.adapters.mongo.blobs import chunk_id
from storage.adapters.mongo.uidsets import unpack

Document = dict[str, Any]
COLLECTIONS = (
    *("account", "annotation", "entry", "email", "blob", "chunk", "vanished"),
    *("operation", "removed", "spool", "due", "queue_due"),
)
BATCH = 100
"""Documents in one answer: of chunks of 256 KiB so many fit, and mongo-java-server does not bound its octets."""


async def problems(mongo: Mongo, *, swept: bool = False) -> list[str]:
    """What is wrong: nothing in a store that is as it should be, whatever was interrupted, once every account's journal
    is carried out. swept: nothing unseen or forgotten may be left either."""
    everything = {name: await mongo.database[name].find({}, batch_size=BATCH).to_list() for name in COLLECTIONS}
    found: list[str] = []
    entries: dict[tuple[str, str], list[Document]] = defaultdict(list)
    for entry in everything["entry"]:
        if entry["uid"] > 0:
            entries[entry["account"], entry["mailbox"]].append(entry)
    history: dict[tuple[str, str], list[Document]] = defaultdict(list)
    for one in everything["vanished"]:
        if one["modseq"] > 0:
            history[one["account"], one["mailbox"]].append(one)
    known = {(doc["_id"], mailbox) for doc in everything["account"] for mailbox in doc["mailboxes"]}
    removed = {(one["account"], one["_id"]) for one in everything["removed"]}
    found += [f"entries of no mailbox: {place}" for place in entries if place not in known | removed]
    for doc in everything["account"]:
        found += _account(doc, entries, history)
    found += _references(everything)
    found += _annotations(everything, known | removed)
    if swept:
        found += [f"unseen: {one}" for one in everything["entry"] if one["uid"] < 0]
        found += [f"unseen: {one}" for one in (*everything["vanished"], *everything["spool"]) if "pending" in one]
        found += [f"unfinished: {one}" for one in (*everything["operation"], *everything["spool"]) if "undone" in one]
        found += [f"not gone: {one}" for one in everything["spool"] if "going" in one]
        dues = {one["_id"]: one["due"] for name in ("due", "queue_due") for one in everything[name]}
        found += [
            f"a domain that is not due with its item: {one}, {dues}"
            for one in everything["spool"]
            if "due" in one and one["due"] < dues.get(one["domain"], float("inf"))
        ]
        used = {entry["email"] for entry in everything["entry"]}
        found += [f"an email that nobody has: {one['_id']}" for one in everything["email"] if one["_id"] not in used]
        named = {one["blob"] for one in (*everything["email"], *everything["spool"])}
        found += [f"a blob that nobody names: {one['_id']}" for one in everything["blob"] if one["_id"] not in named]
        blobs = {one["_id"] for one in everything["blob"]}
        chunks = {one["_id"].rpartition(":")[0] for one in everything["chunk"]}
        found += [f"chunks of no blob: {blob}" for blob in chunks - blobs]
    return found


def _account(
    doc: Document, entries: dict[tuple[str, str], list[Document]], history: dict[tuple[str, str], list[Document]]
) -> list[str]:
    found = [f"journal: {doc['journal']}"] if doc["journal"] else []
    boxes: dict[str, Document] = doc["mailboxes"]
    size = messages = 0
    for mailbox, box in boxes.items():
        all_of = entries[doc["_id"], mailbox]
        there = [entry for entry in all_of if "gone" not in entry]
        counted = {
            "messages": len(there),
            "unseen": sum(not entry["flags"] & SEEN for entry in there),
            "deleted": sum(bool(entry["flags"] & DELETED) for entry in there),
            "recent": sum(entry["uid"] >= box["recent_from"] for entry in there),
            "size": sum(entry["size"] for entry in there),
            "vanished": sum(one["count"] for one in history[doc["_id"], mailbox]),
        }
        size, messages = size + counted["size"], messages + len(there)
        told = {name: box[name] for name in counted}
        if told != counted:
            found.append(f"counters of {doc['_id']} {box['name']}: {told}, counted {counted}")
        for entry in all_of:
            if entry["uid"] >= box["uidnext"] or entry["modseq"] > box["modseq"] or "pending" in entry:
                found.append(f"an entry above its mailbox: {entry}, {box}")
            if any(number >= len(doc["keywords"]) for number in entry.get("kw", ())):
                found.append(f"an entry with unknown keywords: {entry}")
        again = [uid for uid, count in Counter(entry["uid"] for entry in all_of).items() if count > 1]
        found += [f"a uid twice: {box['name']} {uid}" for uid in again]
        gone = [pair for one in history[doc["_id"], mailbox] for pair in unpack(one["ranges"])]
        vanished = set(ranges.each(ranges.union(gone)))
        if len(vanished) != sum(last - first + 1 for first, last in gone):
            found.append(f"a uid vanished twice: {box['name']}")
        if vanished & {entry["uid"] for entry in there}:
            found.append(f"a message vanished and is there: {box['name']}")
        if not box["history_from"] and {entry["uid"] for entry in all_of if "gone" in entry} - vanished:
            found.append(f"a message is gone and has not vanished: {box['name']}")
        for one in history[doc["_id"], mailbox]:
            if not box["history_from"] < one["modseq"] <= box["touched"]:
                found.append(f"history outside of its bounds: {one}, {box}")
        if not box["touched"] <= box["modseq"] <= doc["modseq"] or box["uidvalidity"] > doc["uidvalidity"]:
            found.append(f"a mailbox above its account: {box}")
        if not box["recent_from"] <= box["uidnext"]:
            found.append(f"recent_from above uidnext: {box}")
    if (size, messages) != (doc["size"], doc["messages"]):
        found.append(f"usage of {doc['_id']}: {doc['size']}, {doc['messages']}, counted {size}, {messages}")
    for what in ("name", "uidvalidity", "use"):
        values = [box[what] for box in boxes.values() if box[what] is not None]
        if len(values) != len(set(values)):
            found.append(f"twice in {doc['_id']}: {what} {sorted(values)}")
    if doc["state"] == "open" and "INBOX" not in {box["name"] for box in boxes.values()}:
        found.append(f"no INBOX: {doc['_id']}")
    return found


def _annotations(everything: dict[str, list[Document]], places: set[tuple[str, str]]) -> list[str]:
    """Sets are of accounts and mailboxes, and of no later modseq than their account knows of."""
    latest = {doc["_id"]: doc.get("annotated", 0) for doc in everything["account"]}
    found = []
    for one in everything["annotation"]:
        if one["mailbox"] and (one["account"], one["mailbox"]) not in places:
            found.append(f"annotations of no mailbox: {one}")
        if one["modseq"] > latest[one["account"]] or max([0, *one["modseqs"]]) > one["modseq"]:
            found.append(f"annotations above their account: {one}")
        if one["octets"] != sum(
            len(name) + len(value) for name, value in zip(one["names"], one["values"], strict=True)
        ):
            found.append(f"octets of annotations: {one}")
    return found


def _references(everything: dict[str, list[Document]]) -> list[str]:
    """What is seen leads to whole messages."""
    found: list[str] = []
    emails = {one["_id"]: one for one in everything["email"]}
    blobs = {one["_id"]: one for one in everything["blob"]}
    chunks = {one["_id"]: one["data"] for one in everything["chunk"]}
    named = {}
    for entry in everything["entry"]:
        if entry["uid"] < 0:
            continue
        email = emails.get(entry["email"])
        if email is None or (email["account"], email["size"]) != (entry["account"], entry["size"]):
            found.append(f"an entry and its email: {entry}, {email}")
        else:
            named[email["blob"]] = email["size"] - len(email.get("prefix", b""))
    named |= {
        item["blob"]: item["size"] for item in everything["spool"] if "pending" not in item and "going" not in item
    }
    for name, size in named.items():
        blob = blobs.get(name)
        if blob is None or blob["size"] != size:
            found.append(f"a blob of {size} octets: {name}, {blob}")
            continue
        whole, n = b"", 0
        while (piece := chunks.get(chunk_id(name, n))) is not None:
            whole, n = whole + piece, n + 1
        if (len(whole), hashlib.sha256(whole).digest()) != (size, blob["sha256"]):
            found.append(f"octets of a blob: {name}, {len(whole)} of {size}")
    return found
