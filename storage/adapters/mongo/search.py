"""Search: the mailbox is gone through in pages, and each page is decided before the next is read.

So no more is held than a page and the uids found, however large the mailbox and its messages. The pages are of one
moment as in ``entries``: what changed or went while they were read is read as well when all are through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from time import monotonic
from typing import Any, Final, NamedTuple

from mail import structure
from runtime.mongo import Document
from storage import ranges
from storage.adapters.mongo import queries, texts
from storage.adapters.mongo.accounts import Accounts
from storage.adapters.mongo.blobs import RAW, Blobs
from storage.adapters.mongo.database import Database
from storage.adapters.mongo.search_plan import Plan, is_within, plan
from storage.adapters.mongo.uidsets import among, unpack, windows
from storage.intake import Intake
from storage.model import Found, MailboxRef, Query, Ranges
from storage.port import Unavailable
from storage.search.document import header_text, joined_headers
from storage.search.keys import Scan, TextKey, Where, scan
from storage.search.tree import Node, ready

PAGE: Final = 1_000
"""Messages of one page."""
TEXT_OCTETS: Final = 2 * 1024 * 1024
"""Octets of text that are asked for together; a message counts at most TEXT_PIECE, and at least TEXT_LEAST."""
TEXT_LEAST: Final = 1024
PIECES_AT_ONCE: Final = 4
"""Further pieces of one long text that are asked for together."""
LATER_MAX: Final = 5_000
"""Messages changed while the pages were read that are looked at one by one; with more the search begins anew."""
FOLLOW_SECONDS: Final = 10.0
"""Seconds for which a search that is through follows a mailbox that is changed faster than it is read."""
ANEW_MAX: Final = 3
"""How often a search is begun anew."""


class _Text(NamedTuple):
    """An email whose text is wanted: its blob, what the account has before it, and how long it is at most."""

    email: str
    blob: str
    prefix: bytes
    size: int


class Search:
    def __init__(self, database: Database, accounts: Accounts, blobs: Blobs, intake: Intake) -> None:
        self._database = database
        self._accounts = accounts
        self._texts = Texts(database, blobs, intake)

    async def run(self, ref: MailboxRef, query: Query) -> Found:
        """``Storage.search``. LIMIT for a query over a bound of ``search.tree`` or ``search.keys``."""
        root = ready(query)
        for _ in range(ANEW_MAX):
            doc, _ = await self._accounts.place(ref)
            before, matches = doc["modseq"], set(await self._pages(ref, doc, plan(root, doc["keywords"])))
            deadline = monotonic() + FOLLOW_SECONDS
            while monotonic() < deadline:
                later, now = await self._accounts.place(ref)
                if now["modseq"] <= before:
                    # Nothing happened in the mailbox since the moment that was read.
                    return Found(await asyncio.to_thread(_ranges, matches), now["modseq"])
                newest = await self._follow(ref, root, later, before, matches)
                if newest is None:
                    break
                before = later["modseq"]
                if newest <= before:
                    return Found(await asyncio.to_thread(_ranges, matches), now["modseq"])
        raise Unavailable("the mailbox changes faster than it can be searched")

    async def _pages(self, ref: MailboxRef, doc: Document, wanted: Plan) -> list[int]:
        found: list[int] = []
        question = wanted.question
        if question.none:
            return found
        for window in windows(question.uids, 1, doc["mailboxes"][ref.mailbox]["uidnext"] - 1):
            uid = window.first
            while True:
                page = await self._database.find(
                    queries.candidates(
                        ref.account, ref.mailbox, window.from_(uid), doc["modseq"], question.filter, PAGE
                    )
                )
                # A window may hold uids that were not asked for.
                found += await self._matching(ref.account, among(page, question.uids), wanted)
                if len(page) < PAGE:
                    break
                uid = page[-1]["uid"] + 1
        return found

    async def _follow(self, ref: MailboxRef, root: Node, later: Document, before: int, matches: set[int]) -> int | None:
        """Bring what matched at the modseq ``before`` to the account's later one. The highest modseq that was met: when
        it is later still, so must be the moment. None: too much happened to follow."""
        box = later["mailboxes"][ref.mailbox]
        changed = await self._database.find(queries.entries_changed(ref.account, ref.mailbox, before, None, LATER_MAX))
        if len(changed) >= LATER_MAX or box["history_from"] > before:
            return None
        history = await self._database.find(queries.vanished_after(ref.account, ref.mailbox, before, later["modseq"]))
        if await self._accounts.was_cut(ref, box, before):
            return None
        matches.difference_update([entry["uid"] for entry in changed])
        here = sorted((entry for entry in changed if entry["uid"] < box["uidnext"]), key=lambda entry: entry["uid"])
        matches.update(await self._matching(ref.account, here, plan(root, later["keywords"])))
        for one in history:
            for first, last in unpack(one["ranges"]):
                matches.difference_update(range(first, last + 1))
        return max((entry["modseq"] for entry in changed), default=before)

    async def _matching(self, account: str, entries: Sequence[Document], wanted: Plan) -> list[int]:
        """The uids of those that match, in order."""
        verdicts = {entry["uid"]: wanted.holds(entry, {}) for entry in entries}
        if waiting := [entry for entry in entries if verdicts[entry["uid"]] is None]:
            verdicts.update(await self._texts.decide(account, waiting, wanted))
        return [uid for uid, verdict in verdicts.items() if verdict]


class Texts:
    """Decides what entries alone cannot: by the date and the text of their emails."""

    def __init__(self, database: Database, blobs: Blobs, intake: Intake) -> None:
        self._database = database
        self._blobs = blobs
        self._intake = intake

    async def decide(self, account: str, entries: Sequence[Document], wanted: Plan) -> dict[int, bool]:
        """Whether each entry matches, by uid. An email that is swept meanwhile was expunged a grace before, and does
        not."""
        names = list(dict.fromkeys(entry["email"] for entry in entries))
        emails = {email["_id"]: email for email in await self._database.find(queries.emails(account, names))}
        known: dict[str, dict[TextKey | Any, bool]] = {name: {} for name in emails}
        if wanted.dates:
            await self._dates(emails, wanted, known)
        found: dict[int, bool] = {entry["uid"]: False for entry in entries}
        waiting: dict[str, list[Document]] = {}
        for entry in entries:
            if entry["email"] in emails:
                verdict = wanted.holds(entry, known[entry["email"]])
                if verdict is None:
                    waiting.setdefault(entry["email"], []).append(entry)
                else:
                    found[entry["uid"]] = verdict
        asked = [
            _Text(name, emails[name]["blob"], emails[name].get("prefix", b""), emails[name]["size"]) for name in waiting
        ]
        for group in _groups(asked):
            for name, answers in (await self._answers(group, wanted.keys)).items():
                known[name].update(zip(wanted.keys, answers, strict=True))
                found.update({entry["uid"]: bool(wanted.holds(entry, known[name])) for entry in waiting[name]})
        return found

    async def _dates(self, emails: Mapping[str, Document], wanted: Plan, known: Mapping[str, dict[Any, bool]]) -> None:
        names = list(dict.fromkeys(email["blob"] for email in emails.values()))
        blobs = {one["_id"]: one for one in await self._database.find(queries.blobs(names, ("sent_day",)))}
        for name, email in emails.items():
            day = blobs.get(email["blob"], {}).get("sent_day")
            known[name].update({dates: is_within(dates, day) for dates in wanted.dates})

    async def _answers(self, group: Sequence[_Text], keys: Sequence[TextKey]) -> dict[str, list[bool]]:
        """What each email's text says to each key."""
        fields = ("form", "large", "more", "header")
        with_body = any(key.where is not Where.FIELD for key in keys)
        names = list(dict.fromkeys(text.blob for text in group))
        kept = {
            one["_id"]: one
            for one in await self._database.find(queries.texts(names, (*fields, "body") if with_body else fields))
        }
        looks = await asyncio.to_thread(_look, group, kept, keys)
        answers: dict[str, list[bool]] = {}
        for text, look in zip(group, looks, strict=True):
            if look is not None and await self._rest(text.blob, kept[text.blob].get("more", 0), look):
                answers[text.email] = look.answers
            else:
                answers[text.email] = await self._read(text, keys)
        return answers

    async def _rest(self, blob: str, more: int, look: Scan) -> bool:
        """Look through the further pieces of a long text, as far as they may matter. False when one is missing, as
        while the text is being renewed."""
        if not look.waiting:
            return True
        for first in range(1, more + 1, PIECES_AT_ONCE):
            names = [texts.piece_id(blob, n) for n in range(first, min(first + PIECES_AT_ONCE, more + 1))]
            pieces = {one["_id"]: one["body"] for one in await self._database.find(queries.texts(names))}
            for name in names:
                if name not in pieces:
                    return False
                await asyncio.to_thread(look.take, pieces[name])
                if not look.waiting:
                    return True
        return True

    async def _read(self, text: _Text, keys: Sequence[TextKey]) -> list[bool]:
        """The answers of a message whose text is not kept, from the message itself."""
        size = text.size - len(text.prefix)
        try:
            return await self._intake.with_whole(
                lambda: self._blobs.whole(text.blob, size, RAW), lambda raw: _scan_raw(raw, text.prefix, keys)
            )
        except ValueError:
            # Damaged, which the scrub tells, or swept just now: a search cannot find in it what is not there.
            return [False] * len(keys)


def _look(group: Sequence[_Text], kept: Mapping[str, Document], keys: Sequence[TextKey]) -> list[Scan | None]:
    """Each email's answers from the first document of its text; None where that is of no use."""
    looks: list[Scan | None] = []
    for text in group:
        document = kept.get(text.blob)
        if document is None or not texts.is_kept(document):
            looks.append(None)
            continue
        header = document["header"]
        look = Scan(keys, joined_headers(header_text(text.prefix), header) if text.prefix else header)
        if look.waiting and "body" in document:
            look.take(document["body"])
        looks.append(look)
    return looks


def _scan_raw(raw: bytes, prefix: bytes, keys: Sequence[TextKey]) -> list[bool]:
    header, body = texts.pieces_of(raw, structure.parse(raw))
    return scan(keys, joined_headers(header_text(prefix), header), body)


def _groups(asked: Iterable[_Text]) -> Iterable[list[_Text]]:
    """So many together that their texts take about TEXT_OCTETS."""
    group: list[_Text] = []
    room = TEXT_OCTETS
    for text in asked:
        weight = min(max(text.size, TEXT_LEAST), texts.TEXT_PIECE)
        if group and weight > room:
            yield group
            group, room = [], TEXT_OCTETS
        group.append(text)
        room -= weight
    if group:
        yield group


def _ranges(uids: Iterable[int]) -> Ranges:
    return ranges.of(sorted(uids))
