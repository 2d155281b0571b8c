"""Sets of uids as conditions for the server, and packed for documents."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from storage.model import Ranges

GAP: Final = 32
"""Uids between two ranges that are read along with both, and left out afterwards: cheaper than another question."""
SMALL: Final = 64
"""Uids of a range that are named one by one, together with those of its neighbours."""
NAMED: Final = 1_000
"""Uids named in one question."""
SPANS: Final = 64
"""Long ranges that are asked for one by one; with more the whole from the first to the last is read."""
_NONE: Final = (1 << 32, 1 << 64)
_PAIR: Final = struct.Struct("<2I")


class Window(NamedTuple):
    """One question's worth of a set: all uids first … last, or of these the ones named."""

    first: int
    last: int
    named: tuple[int, ...] | None = None

    def from_(self, uid: int) -> Mapping[str, Any]:
        """The condition for those of its uids that are not below this one."""
        if self.named is not None:
            return {"$in": [one for one in self.named if one >= uid]}
        return {"$gte": max(uid, self.first), "$lte": self.last}


def windows(uids: Ranges, lowest: int, highest: int) -> list[Window]:
    """The set in ascending questions that cover it; some may cover more (see GAP, SPANS). lowest, highest: uids outside
    of these are not asked for."""
    joined: list[tuple[int, int]] = []
    for first, last in uids:
        first, last = max(first, lowest), min(last, highest)
        if first > last:
            continue
        if joined and first - joined[-1][1] <= GAP:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    if sum(last - first >= SMALL for first, last in joined) > SPANS:
        return [Window(joined[0][0], joined[-1][1])]
    return list(_windows(joined))


def _windows(joined: Iterable[tuple[int, int]]) -> Iterator[Window]:
    named: list[int] = []
    for first, last in joined:
        if last - first < SMALL:
            named += range(first, last + 1)
            if len(named) < NAMED:
                continue
        if named:
            yield Window(named[0], named[-1], tuple(named))
            named = []
        if last - first >= SMALL:
            yield Window(first, last)
    if named:
        yield Window(named[0], named[-1], tuple(named))


def among(entries: Sequence[Mapping[str, Any]], uids: Ranges) -> list[Any]:
    """Those of the entries, which are in uid order, that are in the set."""
    if not entries:
        return []
    found: list[Any] = []
    rest = iter(uids)
    first, last = next(rest, _NONE)
    for entry in entries:
        uid = entry["uid"]
        while uid > last:
            first, last = next(rest, _NONE)
        if uid >= first:
            found.append(entry)
    return found


def above(uids: Ranges, uid: int) -> Ranges:
    """The uids of the set that are above this one."""
    return tuple((max(first, uid + 1), last) for first, last in uids if last > uid)


def exact(uids: Ranges) -> list[Mapping[str, Any]]:
    """Conditions that together hold for exactly the uids of the set: for changes, which must touch no other."""
    found: list[Mapping[str, Any]] = []
    named: list[int] = []
    for first, last in uids:
        if last - first < SMALL:
            named += range(first, last + 1)
            if len(named) >= NAMED:
                found.append({"$in": named})
                named = []
        else:
            found.append({"$gte": first, "$lte": last})
    if named:
        found.append({"$in": named})
    return found


def pack(uids: Ranges) -> bytes:
    """Eight octets a range."""
    return b"".join([_PAIR.pack(first, last) for first, last in uids])


def unpack(packed: bytes) -> Ranges:
    return tuple((first, last) for first, last in _PAIR.iter_unpack(packed))
