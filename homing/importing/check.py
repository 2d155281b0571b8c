"""Comparing, after an import, what the source has with what is here: number, sizes, Message-IDs, dates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from connectors.pull.source import Item, Source
from homing.importing.bring import Planned, Show, pages
from homing.importing.ledger import Known, Ledger
from storage import ranges
from storage.model import MailboxRef, Row, Want
from storage.port import Storage

TOLD_MAX: Final = 100
"""Differences that are told one by one."""


@dataclass(slots=True)
class Compared:
    """A folder of the source and what is here of it. same_ids, same_dates: messages whose Message-ID, INTERNALDATE is
    the same. other_flags: whose flags are not, which is no difference: they are changed here and there."""

    folder: str
    mailbox: str
    messages: int = 0
    here: int = 0
    octets: int = 0
    octets_here: int = 0
    same_ids: int = 0
    same_dates: int = 0
    other_flags: int = 0

    @property
    def same(self) -> bool:
        return self.messages == self.here == self.same_ids == self.same_dates and self.octets == self.octets_here


@dataclass(slots=True)
class Outcome:
    """problems: what differs, a sentence each, the first of ``count``."""

    rows: list[Compared] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    count: int = 0

    def tell(self, sentence: str) -> None:
        self.count += 1
        if len(self.problems) < TOLD_MAX:
            self.problems.append(sentence)


async def check(
    storage: Storage, account: str, source: Source, ledger: Ledger, plan: Sequence[Planned], show: Show
) -> Outcome:
    """Compare all folders that were planned. Errors: those of the source, and storage's Unavailable."""
    outcome = Outcome()
    show.begin("Comparing", "messages", sum(one.messages for one in plan), 0)
    done = 0
    for planned in plan:
        row = Compared(planned.folder.name, planned.target)
        outcome.rows.append(row)
        noted = await ledger.folder(planned.folder.place, planned.folder.validity)
        if noted is None:
            outcome.tell(f"{row.folder} was not brought")
            continue
        ref = MailboxRef(account, noted.mailbox)
        async for page in pages(source.items(planned.folder, closely=True)):
            known = await ledger.known(noted.id, [item.key for item in page])
            there = await _rows(storage, ref, [one.uid for one in known.values() if one.uid is not None])
            for item in page:
                _compare(row, item, known.get(item.key), there, outcome)
            done += len(page)
            show.at(done, 0)
    show.end()
    return outcome


def _compare(row: Compared, item: Item, known: Known | None, there: dict[int, Row], outcome: Outcome) -> None:
    where = f"{row.folder}, message {item.key}"
    row.messages += 1
    # What was read counts where the source goes on announcing what it announced then.
    expected = known.size if known is not None and item.size in (known.size, known.announced) else item.size
    row.octets += expected
    if known is None:
        outcome.tell(f"{where} has come since, or was not brought")
        return
    if known.uid is None:
        outcome.tell(f"{where} was not taken: {known.problem}")
        return
    here = there.get(known.uid)
    if here is None:
        outcome.tell(f"{where} is no longer here: it was deleted or moved")
        return
    row.here += 1
    row.octets_here += here.size or 0
    if here.size != expected:
        outcome.tell(f"{where} has {expected:,} octets, and {here.size or 0:,} here")
    own_id = here.keys.message_id if here.keys is not None else ""
    if own_id == (item.message_id or ""):
        row.same_ids += 1
    else:
        outcome.tell(f"{where} has the Message-ID <{item.message_id or ''}>, and <{own_id}> here")
    if item.internaldate in (None, here.entry.internaldate):
        row.same_dates += 1
    else:
        outcome.tell(f"{where} came in at {item.internaldate}, and {here.entry.internaldate} here")
    if (item.flags, sorted(item.keywords)) != (here.entry.flags, sorted(here.entry.keywords)):
        row.other_flags += 1


async def _rows(storage: Storage, ref: MailboxRef, uids: Sequence[int]) -> dict[int, Row]:
    found: dict[int, Row] = {}
    left = ranges.of(sorted(uids))
    while left:
        page = await storage.columns(ref, left, Want.ENTRY | Want.SIZE | Want.KEYS)
        found |= {row.entry.uid: row for row in page.rows()}
        left = ranges.after(left, page.uids[-1]) if page.more else ()
    return found
