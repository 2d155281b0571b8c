"""Sets of message numbers and UIDs as ranges, never as single numbers (RFC 3501 §9 sequence-set).

`NumSet` is what a client wrote, with its `*` still open. `Ranges` is the answer once the largest number is known.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from imap.wire.errors import BadSyntax

LARGEST = 2**32 - 1
"""The largest number that the grammar has (nz-number)."""

MAX_PARTS = 10_000
"""The largest number of comma-separated parts that a set may have."""

_NUMBER = rb"[1-9][0-9]{0,9}|\*"
_PART = re.compile(rb"(%b)(?::(%b))?(?:,|\Z)" % (_NUMBER, _NUMBER))


@dataclass(frozen=True, slots=True)
class Ranges:
    """A set of numbers: (low, high) pairs, both ends in it, ascending, neither touching nor overlapping."""

    ranges: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, int]]) -> Ranges:
        """From pairs low ≤ high in any order, overlapping as they like: n log n."""
        return cls(_merged(pairs))

    @classmethod
    def numbers(cls, numbers: Iterable[int]) -> Ranges:
        """From single numbers in any order."""
        return cls(tuple(_runs(sorted(numbers))))

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self.ranges, (number, LARGEST + 1)) - 1
        return at >= 0 and number <= self.ranges[at][1]

    def __len__(self) -> int:
        """How many numbers are in the set."""
        return sum(high - low + 1 for low, high in self.ranges)

    def slices(self, numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
        """The (start, stop) slices of an ascending sequence (an array of UIDs) whose elements are in the set."""
        start = 0
        for low, high in self.ranges:
            start = bisect_left(numbers, low, start)
            if start == len(numbers):
                return
            stop = bisect_right(numbers, high, start)
            if stop > start:
                yield start, stop
            start = stop

    def pick(self, numbers: Sequence[int]) -> list[int]:
        """Those elements of an ascending sequence that are in the set: k log n for k ranges, plus the answer."""
        picked: list[int] = []
        for start, stop in self.slices(numbers):
            picked.extend(numbers[start:stop])
        return picked

    def format(self) -> bytes:
        """As the wire writes it: b"1:3,7"; the empty set gives b""."""
        return b",".join(b"%d" % low if low == high else b"%d:%d" % (low, high) for low, high in self.ranges)


@dataclass(frozen=True, slots=True)
class NumSet:
    """A sequence-set as parsed. `fixed`: the parts without `*`, merged. `open`: the parts with `*` taken together.

    Every part ``n:*`` holds the largest number L and all between it and n (RFC 3501 §6.4.8), so several together are
    the one range from the least of (n…, L) to the greatest of (n…, L). `open` is (least n, greatest n); a lone ``*``
    has no n, and alone is (LARGEST + 1, 0). `saved`: the client wrote ``$``, the result that SEARCH kept (RFC 5182
    §2.1), which only the session knows: its messages are in the set besides.
    """

    fixed: Ranges
    open: tuple[int, int] | None = None
    saved: bool = False

    def resolve(self, largest: int) -> Ranges:
        """The set without ``$``, where `*` is `largest`; largest 0 (nothing there) leaves a lone `*` out."""
        if self.open is None:
            return self.fixed
        low = max(1, min(self.open[0], largest))
        high = max(self.open[1], largest)
        return Ranges.of((*self.fixed.ranges, (low, high))) if low <= high else self.fixed

    @property
    def named(self) -> bool:
        """Whether the client named any number, or `*`."""
        return bool(self.fixed) or self.open is not None

    def largest(self) -> int:
        """The largest number that the client named; 0 where it named `*` alone."""
        named = self.fixed.ranges[-1][1] if self.fixed.ranges else 0
        return max(named, self.open[1]) if self.open else named


SAVED = NumSet(Ranges(), saved=True)
"""``$``."""


def parse_numset(text: bytes) -> NumSet:
    """A sequence-set, e.g. b"1,3:5,7:*", b"$" or b"1,$". Raises BadSyntax."""
    if text == b"$":
        return SAVED
    # RFC 9051 §9 sequence-set, RFC 5182 §3: at the end of a set, where another may stand
    saved = text.endswith(b",$")
    if saved:
        text = text[:-2]
    pairs: list[tuple[int, int]] = []
    least, greatest, has_star = LARGEST + 1, 0, False
    at = parts = 0
    while at < len(text):
        match = _PART.match(text, at)
        if match is None:
            raise BadSyntax("Expected a set of message numbers such as 1,3:5 or 7:*")
        parts += 1
        if parts > MAX_PARTS:
            raise BadSyntax(f"Message set of more than {MAX_PARTS} parts")
        first, second = match[1], match[2] or match[1]
        at = match.end()
        if first == b"*" or second == b"*":
            has_star = True
            for end in (first, second):
                if end != b"*":
                    least, greatest = min(least, int(end)), max(greatest, int(end))
        else:
            low, high = int(first), int(second)
            # RFC 3501 §9: 4:2 is 2:4
            pairs.append((low, high) if low <= high else (high, low))
    if not parts or text.endswith(b","):
        raise BadSyntax("Expected a set of message numbers such as 1,3:5 or 7:*")
    fixed = Ranges.of(pairs)
    numset = NumSet(fixed, (least, greatest) if has_star else None, saved)
    if numset.largest() > LARGEST:
        raise BadSyntax(f"Message number over {LARGEST}")
    return numset


def format_numbers(numbers: Iterable[int]) -> bytes:
    """Ascending numbers, compactly: b"1:3,7"."""
    return b",".join(b"%d" % low if low == high else b"%d:%d" % (low, high) for low, high in _runs(numbers))


def format_sequence(numbers: Iterable[int]) -> bytes:
    """Numbers in an order that is kept: ranges stand for what ascends by one alone (RFC 5267 §3.2)."""
    parts: list[bytes] = []
    low = high = 0
    for number in chain(numbers, (0,)):
        if low and number == high + 1:
            high = number
            continue
        if low:
            parts.append(b"%d" % low if low == high else b"%d:%d" % (low, high))
        low = high = number
    return b",".join(parts)


def _runs(ascending: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Ascending numbers (repeats allowed) as pairs that do not touch."""
    it = iter(ascending)
    low = high = next(it, 0)
    if not low:
        return
    for number in it:
        if number > high + 1:
            yield low, high
            low = number
        high = number
    yield low, high


def _merged(pairs: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(pairs):
        if merged and low <= merged[-1][1] + 1:
            if high > merged[-1][1]:
                merged[-1] = (merged[-1][0], high)
        else:
            merged.append((low, high))
    return tuple(merged)
