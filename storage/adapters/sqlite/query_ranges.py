"""Sets of uids combined, in time linear in their ranges."""

from __future__ import annotations

from storage.model import Ranges


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
