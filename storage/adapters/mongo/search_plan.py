"""A query made ready for one account: what the server is asked for, and what is then decided for each message.

What every match fulfils (the keys of the outermost AND) goes to the server with the question, as far as it can say it;
what it answers is then looked at with the whole query, so that a condition left out costs time and never truth. A
message is decided from its entry alone where that is possible, else from its date as well, else from its text.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mail.flags import ALL
from runtime.mongo import Document
from storage.model import (
    ALL_UIDS,
    DateField,
    DateRange,
    HasFlags,
    HasKeyword,
    ModseqFrom,
    Ranges,
    SizeRange,
    Uids,
)
from storage.ranges import intersect
from storage.search.keys import TextKey
from storage.search.tree import Node, Op, Plain, texts

Known = Mapping[TextKey | DateRange, bool]
"""Answers that the entry does not hold: of texts, and of ranges of the Date field."""
Verdict = bool | None
"""Does it match? None: that hangs on an answer which is not known yet."""
Holds = Callable[[Document, Known], Verdict]

_LOWEST: Final = -(2**63)
_HIGHEST: Final = 2**63 - 1
_DATES: Final = {DateField.INTERNAL: "date", DateField.SAVED: "saved"}


@dataclass(slots=True)
class Question:
    """What every match fulfils. uids: it is one of these. filter: further conditions on its entry. none: there can be
    no match."""

    uids: Ranges = ALL_UIDS
    filter: dict[str, Any] = field(default_factory=dict)
    none: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """holds: the query for one message. keys, dates: what it asks of texts and of the Date field. question: what the
    server is asked for."""

    holds: Holds
    keys: tuple[TextKey, ...]
    dates: tuple[DateRange, ...]
    question: Question


def plan(root: Node, keywords: Sequence[str]) -> Plan:
    """The plan for a tree; keywords: the account's, by number."""
    numbers = {name.lower(): number for number, name in enumerate(keywords)}
    return Plan(_holds(root, numbers), texts(root), tuple(dict.fromkeys(_dates(root))), _question(root, numbers))


# -- deciding


def _holds(node: Node, numbers: Mapping[str, int]) -> Holds:
    if node.text is not None:
        return _asked(node.text)
    if node.plain is not None:
        return _plain(node.plain, numbers)
    inner = [_holds(child, numbers) for child in node.nodes]
    if node.op is Op.NOT:
        (only,) = inner

        def negated(entry: Document, known: Known) -> Verdict:
            found = only(entry, known)
            return None if found is None else not found

        return negated
    # AND is decided by one that does not hold, OR by one that does.
    decisive = node.op is Op.OR

    def combined(entry: Document, known: Known) -> Verdict:
        open_ = False
        for each in inner:
            found = each(entry, known)
            if found is decisive:
                return decisive
            open_ = open_ or found is None
        return None if open_ else not decisive

    return combined


def _asked(key: TextKey | DateRange) -> Holds:
    return lambda entry, known: known.get(key)


def _plain(key: Plain, numbers: Mapping[str, int]) -> Holds:
    match key:
        case Uids(uids):
            firsts = [first for first, _ in uids]
            # The range that could have the uid is the last that begins at or below it.
            return lambda entry, known: (
                (place := bisect_right(firsts, entry["uid"])) > 0 and entry["uid"] <= uids[place - 1][1]
            )
        case HasFlags(flags):
            return lambda entry, known: entry["flags"] & flags == flags
        case HasKeyword(keyword):
            number = numbers.get(keyword.lower())
            return lambda entry, known: number in entry.get("kw", ())
        case DateRange(DateField.SENT):
            return _asked(key)
        case DateRange(name, start, end):
            return _between(_DATES[name], start, _before(end))
        case SizeRange(larger, smaller):
            return _between("size", None if larger is None else larger + 1, _before(smaller))
        case ModseqFrom(modseq):
            return _between("modseq", modseq, None)


def _between(name: str, least: int | None, most: int | None) -> Holds:
    low = _LOWEST if least is None else least
    high = _HIGHEST if most is None else most
    return lambda entry, known: low <= entry[name] <= high


def is_within(dates: DateRange, sent_day: int | None) -> bool:
    """Is the day of the Date field in the range? A message without one never is."""
    # RFC 3501 §6.4.4: SENT keys disregard time and timezone, so the day as it was written is compared.
    if sent_day is None:
        return False
    return (dates.start is None or sent_day >= dates.start) and (dates.end is None or sent_day < dates.end)


def _dates(node: Node) -> Iterable[DateRange]:
    if isinstance(node.plain, DateRange) and node.plain.field is DateField.SENT:
        yield node.plain
    for child in node.nodes:
        yield from _dates(child)


def _before(end: int | None) -> int | None:
    return None if end is None else end - 1


# -- asking


def _question(root: Node, numbers: Mapping[str, int]) -> Question:
    asked = Question()
    spans: dict[str, tuple[int, int]] = {}
    flags = set(range(ALL + 1))
    for node in root.nodes if root.op is Op.AND else (root,):
        negated = node.op is Op.NOT
        key = node.nodes[0].plain if negated else node.plain
        match key:
            case HasFlags(bits):
                flags = {one for one in flags if (one & bits == bits) is not negated}
            case _ if negated or key is None:
                # Nothing is lost: the answer is looked at with the whole query.
                continue
            case Uids(uids):
                asked.uids = intersect(asked.uids, uids)
            case HasKeyword(keyword):
                number = numbers.get(keyword.lower())
                asked.none = asked.none or number is None
                # Of several one is asked for: a document has no room for two conditions on one field.
                asked.filter.setdefault("kw", number)
            case DateRange(name, start, end) if name in _DATES:
                _narrow(spans, _DATES[name], start, _before(end))
            case SizeRange(larger, smaller):
                _narrow(spans, "size", None if larger is None else larger + 1, _before(smaller))
            case ModseqFrom(modseq):
                _narrow(spans, "modseq", modseq, None)
            case _:
                continue
    if len(flags) <= ALL:
        asked.filter["flags"] = {"$in": sorted(flags)}
    asked.filter.update({name: said for name, (low, high) in spans.items() if (said := _condition(low, high))})
    asked.none = asked.none or not flags or not asked.uids or any(low > high for low, high in spans.values())
    # A query that no message can match is an OR of nothing.
    asked.none = asked.none or (root.op is Op.OR and not root.nodes)
    return asked


def _narrow(spans: dict[str, tuple[int, int]], name: str, least: int | None, most: int | None) -> None:
    low, high = spans.get(name, (_LOWEST, _HIGHEST))
    low = low if least is None else max(low, min(least, _HIGHEST))
    spans[name] = low, high if most is None else min(high, max(most, _LOWEST))


def _condition(low: int, high: int) -> dict[str, int]:
    return ({"$gte": low} if low > _LOWEST else {}) | ({"$lte": high} if high < _HIGHEST else {})
