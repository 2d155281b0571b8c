"""Copying all of identity into another store, on from where it stopped, and comparing the two afterwards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from identity.transfer import AccountRecord, Kind, Record, Transfer, TransferRefused

PAGE: Final = 500
"""Records that are read, and handed over, at once."""
PROBLEMS: Final = 100
"""Differences that are told in words; more are counted."""
_SECRET: Final = frozenset({"password_hash", "apps", "private_key", "scram_keys", "value", "items"})

Told = Callable[[int], None]
"""Is told how many records are done."""


@dataclass(frozen=True, slots=True)
class Survey:
    """state: a digest of all records. counts: of each kind."""

    state: str
    counts: tuple[tuple[Kind, int], ...]

    @property
    def records(self) -> int:
        return sum(count for _, count in self.counts)


class Row(NamedTuple):
    """One thing that was counted or digested in both."""

    what: str
    source: str
    target: str

    @property
    def same(self) -> bool:
        return self.source == self.target


@dataclass(slots=True)
class Report:
    """What a comparison has found. problems: a sentence each, the first PROBLEMS of ``count``."""

    rows: tuple[Row, ...] = ()
    problems: list[str] = field(default_factory=list)
    count: int = 0

    def problem(self, sentence: str) -> None:
        self.count += 1
        if len(self.problems) < PROBLEMS:
            self.problems.append(sentence)


class _Place(NamedTuple):
    """kind: the number of the kind at hand in Kind's order. after: its last record that is there."""

    kind: int = 0
    after: str = ""
    done: int = 0


async def survey(source: Transfer) -> Survey:
    """Count the records, and take their digest."""
    digest = hashlib.sha256()
    counts: list[tuple[Kind, int]] = []
    for kind in Kind:
        count = 0
        async for record in every(source, kind):
            digest.update(_octets(record))
            count += 1
        counts.append((kind, count))
    return Survey(digest.hexdigest(), tuple(counts))


async def copy(source: Transfer, target: Transfer, found: Survey, told: Told) -> None:
    """Copy all that is not copied yet. ``found``: the source's survey of this moment. TransferRefused when the target
    holds anything else, or when the source has changed since the copying began."""
    marker = await target.marker()
    if marker is None:
        await target.begin(found.state)
    elif marker.source != found.state:
        raise TransferRefused(
            "The target holds an unfinished migration from another source, or from this one before it was used again."
        )
    place = _Place(*json.loads(marker.place)) if marker is not None and marker.place else _Place()
    told(place.done)
    for number, kind in enumerate(Kind):
        after = place.after if number == place.kind else ""
        while number >= place.kind and (page := await source.page(kind, after, PAGE)):
            after = page[-1][0]
            place = _Place(number, after, place.done + len(page))
            await target.put(page, json.dumps(place))
            told(place.done)
    if (await survey(source)).state != found.state:
        raise TransferRefused("The source was used while it was copied.")


async def compare(source: Transfer, target: Transfer) -> Report:
    """Read both and tell what differs, hashes of passwords included, without showing them."""
    report = Report()
    rows: list[Row] = []
    for kind in Kind:
        old, new = _Tally(), _Tally()
        before, after = every(source, kind), every(target, kind)
        one, other = await anext(before, None), await anext(after, None)
        while one is not None or other is not None:
            if other is None or (one is not None and one[0] < other[0]):
                old.add(one)
                report.problem(f"{kind.value}: {_name(one)} is missing")
                one = await anext(before, None)
            elif one is None or other[0] < one[0]:
                new.add(other)
                report.problem(f"{kind.value}: {_name(other)} is not in the source")
                other = await anext(after, None)
            else:
                old.add(one)
                new.add(other)
                _differing(report, kind, one, other)
                one, other = await anext(before, None), await anext(after, None)
        rows.append(Row(kind.value, f"{old.count:,}", f"{new.count:,}"))
        if old.apps or new.apps:
            rows.append(Row("app passwords", f"{old.apps:,}", f"{new.apps:,}"))
        rows.append(Row(f"digest of {kind.value}", old.digest.hexdigest()[:16], new.digest.hexdigest()[:16]))
    report.rows = tuple(rows)
    return report


async def every(store: Transfer, kind: Kind) -> AsyncIterator[Record]:
    """All records of a kind, in order."""
    after = ""
    while page := await store.page(kind, after, PAGE):
        for record in page:
            yield record
        after = page[-1][0]


class _Tally:
    def __init__(self) -> None:
        self.count = self.apps = 0
        self.digest = hashlib.sha256()

    def add(self, record: Record | None) -> None:
        if record is not None:
            self.count += 1
            self.apps += len(record.apps) if isinstance(record, AccountRecord) else 0
            self.digest.update(_octets(record))


def _octets(record: Record) -> bytes:
    plain: tuple[object, ...] = tuple(record)
    if isinstance(record, AccountRecord):
        # Their own form leaves the secrets out.
        plain = (*plain[:-1], tuple([tuple(app) for app in record.apps]))
    return repr(plain).encode("utf-8", "surrogatepass")


def _name(record: Record | None) -> str:
    return record.address if isinstance(record, AccountRecord) else record[0] if record else ""


def _differing(report: Report, kind: Kind, old: Record, new: Record) -> None:
    for name, before, after in zip(old._fields, old, new, strict=True):
        if before != after:
            change = "differs" if name in _SECRET else f"is {after!r}, not {before!r}"
            report.problem(f"{kind.value}: {_name(old)}: {name} {change}")
