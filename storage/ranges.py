"""Sets of uids as sorted, disjoint, non-adjacent (first, last) pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

Ranges = tuple[tuple[int, int], ...]
"""Sorted, disjoint, non-adjacent (first, last) pairs of uids, both ends included; () is the empty set."""

ALL_UIDS: Ranges = ((1, 0xFFFF_FFFF),)


def of(uids: Iterable[int]) -> Ranges:
    """The set of uids given in ascending order, without repeats."""
    found: list[tuple[int, int]] = []
    first = last = None
    for uid in uids:
        if last is not None and uid == last + 1:
            last = uid
            continue
        if first is not None and last is not None:
            found.append((first, last))
        first = last = uid
    if first is not None and last is not None:
        found.append((first, last))
    return tuple(found)


def union(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """The set of all pairs, given in any order and perhaps overlapping."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            if last > found[-1][1]:
                found[-1] = (found[-1][0], last)
        else:
            found.append((first, last))
    return tuple(found)


def each(ranges: Ranges) -> Iterator[int]:
    """Every uid of the set."""
    for first, last in ranges:
        yield from range(first, last + 1)


def count(ranges: Ranges) -> int:
    """How many uids the set has."""
    return sum(last - first + 1 for first, last in ranges)


def outside(ranges: Ranges, end: int) -> Ranges:
    """The uids 1 … end - 1 that are not in the set."""
    found: list[tuple[int, int]] = []
    start = 1
    for first, last in ranges:
        if first > start:
            found.append((start, min(first, end) - 1))
        start = last + 1
        if start >= end:
            break
    if start < end:
        found.append((start, end - 1))
    return tuple(found)


def after(ranges: Ranges, uid: int) -> Ranges:
    """What of the set is above the uid."""
    return tuple((max(first, uid + 1), last) for first, last in ranges if last > uid)


def intersect(one: Ranges, other: Ranges) -> Ranges:
    """The uids in both."""
    found: list[tuple[int, int]] = []
    i = j = 0
    while i < len(one) and j < len(other):
        first = max(one[i][0], other[j][0])
        last = min(one[i][1], other[j][1])
        if first <= last:
            found.append((first, last))
        if one[i][1] < other[j][1]:
            i += 1
        else:
            j += 1
    return tuple(found)


def subtract(one: Ranges, other: Ranges) -> Ranges:
    """The uids of the first that are not in the second."""
    found: list[tuple[int, int]] = []
    j = 0
    for first, last in one:
        while j < len(other) and other[j][1] < first:
            j += 1
        at, k = first, j
        while k < len(other) and other[k][0] <= last:
            if other[k][0] > at:
                found.append((at, other[k][0] - 1))
            at = other[k][1] + 1
            k += 1
        if at <= last:
            found.append((at, last))
        j = max(j, k - 1)
    return tuple(found)
