"""What an account document says, and what a change makes of it. No input or output.

An account is one document, and every change of it is one compare-and-set on its ``rev``: that is the commit. What the
change means for other documents (entries that get their uids, flags, expunges, outcomes of operations) stands in the
``journal`` item that is set in the same stroke: all that anybody needs to carry it out, any number of times, at any
time. The journal holds one item at most: a change is made only of an account whose journal is carried out.

``epoch`` rises when the writers that began before are to be shut out: whoever commits compares it with the one that it
read before it claimed its operation. A mailbox's ``touched`` is the modseq of the last change of flags or expunge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bson import ObjectId

from mail.flags import DELETED, SEEN, is_keyword
from storage import names, ranges, rights
from storage.adapters.mongo import acl, ids
from storage.adapters.mongo.uidsets import pack, unpack
from storage.limits import KEYWORDS_PER_ACCOUNT, MAILBOXES_PER_ACCOUNT, UID_MAX
from storage.model import DELIMITER, Mailbox, MailboxRef, Ranges
from storage.port import Reason, Refused

Document = dict[str, Any]

OPEN: Final = "open"
PURGING: Final = "purging"
"""The account's mail is being removed, or has been: the document stays, because ids are never used again."""
ACCOUNT_OCTETS: Final = 6 * 1024 * 1024
"""Octets of names that one account may have: with its journal it stays far below the 16 MiB of a document."""
ITEM_OCTETS: Final = 6 * 1024 * 1024
"""Octets of ids and ranges that one change may write down: half a million messages."""
MAILBOX_OCTETS: Final = 300
"""What a mailbox takes beside its name."""
ENTRY_ID: Final = 12
"""Octets of an entry's id."""


def new_account(account: str, state: str) -> Document:
    return {
        "_id": account,
        "rev": 1,
        "epoch": 1,
        "state": state,
        "modseq": 1,
        "uidvalidity": 0,
        "size": 0,
        "messages": 0,
        "keywords": [],
        "subscriptions": [],
        "mailboxes": {},
        "journal": [],
    }


def is_open(doc: Mapping[str, Any] | None) -> bool:
    return doc is not None and doc["state"] == OPEN


def box_named(doc: Mapping[str, Any], name: str) -> tuple[str, Document]:
    """Id and document of the mailbox of that (canonical) name. NO_SUCH_MAILBOX."""
    for mailbox, box in doc["mailboxes"].items():
        if box["name"] == name:
            return mailbox, box
    raise Refused(Reason.NO_SUCH_MAILBOX)


def box_of(doc: Mapping[str, Any], ref: MailboxRef) -> Document:
    """The mailbox of a ref. NO_SUCH_MAILBOX when it was deleted, never was, or is another account's."""
    box: Document | None = doc["mailboxes"].get(ref.mailbox) if doc["_id"] == ref.account else None
    if box is None:
        raise Refused(Reason.NO_SUCH_MAILBOX)
    return box


def mailbox_of(account: str, mailbox: str, box: Mapping[str, Any], actor: str | None = None) -> Mailbox:
    """actor: another than the owner, who sees it."""
    return Mailbox(
        MailboxRef(account, mailbox, actor),
        box["name"],
        box["uidvalidity"],
        box["uidnext"],
        box["modseq"],
        box["messages"],
        box["unseen"],
        box["deleted"],
        box["recent"],
        box["size"],
        box["use"],
        acl.have(box, actor),
    )


@dataclass(slots=True)
class Item:
    """What a change means for other documents, while it is put together; ``document`` is the journal's form of it."""

    publish: list[Document] = field(default_factory=list)
    flags: list[Document] = field(default_factory=list)
    expunge: list[Document] = field(default_factory=list)
    removed: list[Document] = field(default_factory=list)
    shared: list[Document] = field(default_factory=list)
    annotated: list[Document] = field(default_factory=list)
    done: list[Document] = field(default_factory=list)

    def enter(self, mailbox: str, modseq: int, first: int, entries: Sequence[ObjectId]) -> None:
        """These unseen entries get the uids from ``first`` on, in order."""
        self.publish.append(
            {
                "mailbox": mailbox,
                "modseq": modseq,
                "first": first,
                "entries": b"".join([entry.binary for entry in entries]),
            }
        )

    def flag(self, mailbox: str, modseq: int, flags: int, words: Sequence[int], uids: Ranges) -> None:
        """These messages have these flags and keywords now."""
        self.flags.append({"mailbox": mailbox, "modseq": modseq, "flags": flags, "kw": list(words), "uids": pack(uids)})

    def take_away(
        self, mailbox: str, modseq: int, uids: Ranges, vanished: ObjectId, now: float, forget: int | None
    ) -> None:
        """These messages are gone. vanished: the unseen document that tells so. forget: history up to that modseq is
        cut."""
        self.expunge.append(
            {
                "mailbox": mailbox,
                "modseq": modseq,
                "uids": pack(uids),
                "vanished": vanished,
                "lost": now,
                "forget": forget,
            }
        )

    def share(self, grantee: str, token: ObjectId) -> None:
        """The account's lists have an entry of this identifier."""
        self.shared.append({"grantee": grantee, "token": token})

    def remove(self, mailbox: str, now: float) -> None:
        """This mailbox is deleted; the sweep carries its messages off."""
        self.removed.append({"mailbox": mailbox, "removed": now})

    def annotate(self, id: str, modseq: int, state: Document) -> None:
        """This set of annotations has this state now."""
        self.annotated.append({"id": id, "modseq": modseq, "state": state})

    def end(self, op: str, nonce: ObjectId, path: str, value: str, events: Sequence[Document]) -> None:
        """The operation came to this (JSON). path: the field of its document that is set. events: documents to keep."""
        self.done.append({"op": op, "nonce": nonce, "path": path, "value": value, "events": list(events)})

    @property
    def document(self) -> Document:
        """LIMIT when it is more than an account's document can hold."""
        octets = sum(len(one["entries"]) for one in self.publish)
        octets += sum(len(one["uids"]) for one in (*self.flags, *self.expunge))
        octets += sum(one["state"]["octets"] for one in self.annotated)
        octets += sum(len(one["value"]) + sum(len(event["data"]) for event in one["events"]) for one in self.done)
        if octets > ITEM_OCTETS:
            raise Refused(Reason.LIMIT, "These are too many messages for one change.")
        parts = {
            "publish": self.publish,
            "flags": self.flags,
            "expunge": self.expunge,
            "removed": self.removed,
            "shared": self.shared,
            "annotated": self.annotated,
            "done": self.done,
        }
        return {name: value for name, value in parts.items() if value}


def uids_of(part: Mapping[str, Any]) -> Ranges:
    """The messages that a part of an item is about."""
    return unpack(part["uids"])


def entries_of(part: Mapping[str, Any]) -> list[tuple[ObjectId, int]]:
    """The entries that a part of an item publishes, with their uids."""
    packed: bytes = part["entries"]
    return [
        (ObjectId(packed[at : at + ENTRY_ID]), part["first"] + n)
        for n, at in enumerate(range(0, len(packed), ENTRY_ID))
    ]


class Count:
    """What some messages add to a mailbox's counters."""

    __slots__ = ("deleted", "messages", "recent", "size", "unseen")

    def __init__(self, entries: Iterable[Mapping[str, Any]], recent_from: int = 0) -> None:
        self.messages = self.unseen = self.deleted = self.recent = self.size = 0
        for entry in entries:
            self.messages += 1
            self.unseen += not entry["flags"] & SEEN
            self.deleted += bool(entry["flags"] & DELETED)
            self.recent += entry.get("uid", recent_from) >= recent_from
            self.size += entry["size"]


class Draft:
    """The next state of an account. Its methods change ``doc``, a copy, and remember what ``update`` has to set."""

    def __init__(self, doc: Mapping[str, Any]) -> None:
        self.doc: Document = {**doc, "mailboxes": dict(doc["mailboxes"])}
        self._fields: set[str] = set()
        self._boxes: dict[str, set[str] | None] = {}
        self._dropped: set[str] = set()

    # -- the account

    def put(self, **fields: Any) -> None:
        """Set fields of the account itself."""
        self.doc.update(fields)
        self._fields.update(fields)

    def next_modseq(self, *, size: int = 0, messages: int = 0) -> int:
        """Take the next modseq and count what the change adds to the account's usage."""
        modseq: int = self.doc["modseq"] + 1
        self.put(modseq=modseq)
        if size:
            self.put(size=self.doc["size"] + size)
        if messages:
            self.put(messages=self.doc["messages"] + messages)
        return modseq

    def next_uidvalidity(self, now: float) -> int:
        """Take the next uidvalidity: it rises, and begins at the clock so that a store made anew has others."""
        # RFC 3501 §2.3.1.1: a 32-bit value, rising each time.
        self.put(uidvalidity=max(self.doc["uidvalidity"] + 1, int(now) & 0xFFFF_FFFF))
        uidvalidity: int = self.doc["uidvalidity"]
        return uidvalidity

    def check_open(self) -> None:
        """NO_SUCH_ACCOUNT when its purge has begun."""
        if not is_open(self.doc):
            raise Refused(Reason.NO_SUCH_ACCOUNT)

    def check_quota(self, more: int, quota: int | None) -> None:
        """OVER_QUOTA when ``more`` octets would pass ``quota``."""
        if quota is not None and more > 0 and self.doc["size"] + more > quota:
            raise Refused(Reason.OVER_QUOTA, f"The account would use {self.doc['size'] + more} of {quota} octets.")

    def check_room(self) -> None:
        """LIMIT when the document would hold too many names."""
        octets = sum(len(name.encode()) for name in self.doc["subscriptions"])
        boxes = self.doc["mailboxes"].values()
        octets += sum(len(box["name"].encode()) + MAILBOX_OCTETS + acl.octets(box) for box in boxes)
        if octets > ACCOUNT_OCTETS:
            raise Refused(Reason.LIMIT, "The account's mailbox names are too long together.")

    def count_saved(self, messages: int, now: float) -> None:
        """Count entries made today (UTC)."""
        if messages:
            day = int(now // 86400)
            before = self.doc.get("saved") or {"day": day, "n": 0}
            self.put(saved={"day": day, "n": messages + (before["n"] if before["day"] == day else 0)})

    def keywords(self, words: Iterable[str], *, make: bool) -> list[int]:
        """The sorted numbers of these keywords; unknown ones are made or (``make`` false) left out. LIMIT, BAD_NAME."""
        found: set[int] = set()
        known = {name.lower(): number for number, name in enumerate(self.doc["keywords"])}
        for name in words:
            number = known.get(name.lower())
            if number is None and make:
                number = known[name.lower()] = self._new_keyword(name)
            if number is not None:
                found.add(number)
        return sorted(found)

    def _new_keyword(self, name: str) -> int:
        if not is_keyword(name):
            raise Refused(Reason.BAD_NAME, "A keyword is an atom of at most 128 characters.")
        have: list[str] = self.doc["keywords"]
        if len(have) >= KEYWORDS_PER_ACCOUNT:
            raise Refused(Reason.LIMIT, f"An account has at most {KEYWORDS_PER_ACCOUNT} different keywords.")
        self.put(keywords=[*have, name])
        return len(have)

    # -- its mailboxes

    def change(self, mailbox: str, **fields: Any) -> None:
        """Set fields of a mailbox."""
        self.doc["mailboxes"][mailbox] = {**self.doc["mailboxes"][mailbox], **fields}
        changed = self._boxes.setdefault(mailbox, set())
        if changed is not None:
            changed.update(fields)

    def drop(self, mailbox: str) -> Document:
        """Take a mailbox out: what it was."""
        self._dropped.add(mailbox)
        self._boxes.pop(mailbox, None)
        box: Document = self.doc["mailboxes"].pop(mailbox)
        return box

    def make(self, made: Sequence[str], special_use: str | None, now: float, last: str = "") -> tuple[str, int]:
        """Make mailboxes of these names; (id of the last, modseq they got), ("", 0) when there are none. last: an id
        for the last one. LIMIT."""
        if len(self.doc["mailboxes"]) + len(made) > MAILBOXES_PER_ACCOUNT:
            raise Refused(Reason.LIMIT, f"An account has at most {MAILBOXES_PER_ACCOUNT} mailboxes.")
        modseq = self.next_modseq() if made else 0
        mailbox = ""
        for name in made:
            mailbox = self.new_mailbox(name, special_use, modseq, now, last if name == made[-1] else "")
        if made:
            self.check_room()
        return mailbox, modseq

    def new_mailbox(self, name: str, special_use: str | None, modseq: int, now: float, mailbox: str = "") -> str:
        """Make an empty mailbox, of that id if one is given: its id."""
        mailbox = mailbox or ids.mailbox()
        self.doc["mailboxes"][mailbox] = {
            "name": name,
            "use": special_use,
            "uidvalidity": self.next_uidvalidity(now),
            "uidnext": 1,
            "modseq": modseq,
            "touched": modseq,
            "messages": 0,
            "unseen": 0,
            "deleted": 0,
            "recent": 0,
            "recent_from": 1,
            "size": 0,
            "vanished": 0,
            "history_from": 0,
        }
        # RFC 4314 §4: it is shared as the one above it.
        if above := name.rpartition(DELIMITER)[0]:
            shared = next((box.get("acl") for box in self.doc["mailboxes"].values() if box["name"] == above), None)
            if shared:
                self.doc["mailboxes"][mailbox]["acl"] = shared
                rights.check_entries(0, len(shared), acl.count(self.doc["mailboxes"].values()))
        self._boxes[mailbox] = None
        return mailbox

    def names(self) -> set[str]:
        return {box["name"] for box in self.doc["mailboxes"].values()}

    def superiors(self, name: str) -> list[str]:
        """The names above it that are no mailboxes yet."""
        taken = self.names()
        return [above for above in names.superiors(name) if above not in taken]

    # -- messages

    def enter(self, mailbox: str, modseq: int, count: Count) -> int:
        """Count messages into the mailbox, without the account: the first of the uids that they get. LIMIT."""
        box = self.doc["mailboxes"][mailbox]
        first: int = box["uidnext"]
        if first + count.messages - 1 > UID_MAX:
            raise Refused(Reason.LIMIT, "The mailbox has no uid left.")
        self.change(
            mailbox,
            uidnext=first + count.messages,
            modseq=modseq,
            messages=box["messages"] + count.messages,
            unseen=box["unseen"] + count.unseen,
            deleted=box["deleted"] + count.deleted,
            recent=box["recent"] + count.messages,
            size=box["size"] + count.size,
        )
        return first

    def leave(self, mailbox: str, modseq: int, count: Count, gone: Ranges, cut: tuple[int, int] | None) -> None:
        """Count messages off the mailbox, without the account. cut: (modseq, ranges) of history that is forgotten."""
        box = self.doc["mailboxes"][mailbox]
        history_from, forgotten = cut or (box["history_from"], 0)
        self.change(
            mailbox,
            modseq=modseq,
            touched=modseq,
            messages=box["messages"] - count.messages,
            unseen=box["unseen"] - count.unseen,
            deleted=box["deleted"] - count.deleted,
            recent=box["recent"] - count.recent,
            size=box["size"] - count.size,
            vanished=box["vanished"] + len(gone) - forgotten,
            history_from=history_from,
        )

    def take_recent(self, mailbox: str) -> Ranges:
        """Take the uids, from the first recent one to the last there ever was, so that no other session gets them."""
        box = self.doc["mailboxes"][mailbox]
        first, end = box["recent_from"], box["uidnext"]
        if box["recent"] or first != end:
            self.change(mailbox, recent=0, recent_from=end)
        return ((first, end - 1),) if first < end else ()

    # -- the commit

    def update(self, item: Document) -> tuple[Document, Document]:
        """(the update that makes it so, the account's document after it), with this journal item."""
        self.put(rev=self.doc["rev"] + 1, journal=[item] if item else [])
        settings: Document = {name: self.doc[name] for name in self._fields}
        for mailbox, changed in self._boxes.items():
            box = self.doc["mailboxes"][mailbox]
            if changed is None:
                settings[f"mailboxes.{mailbox}"] = box
            else:
                settings.update({f"mailboxes.{mailbox}.{name}": box[name] for name in changed})
        update: Document = {"$set": settings}
        if self._dropped:
            update["$unset"] = {f"mailboxes.{mailbox}": "" for mailbox in self._dropped}
        return update, self.doc


def names_of(doc: Mapping[str, Any], words: Sequence[int]) -> tuple[str, ...]:
    """The keywords of these numbers, sorted."""
    known = doc["keywords"]
    # A purge takes the account's keywords before its messages.
    return tuple(sorted(known[number] for number in words if number < len(known)))


def ranges_of(entries: Iterable[Mapping[str, Any]]) -> Ranges:
    """The uids of entries in uid order."""
    return ranges.of(entry["uid"] for entry in entries)
