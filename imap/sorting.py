"""The order of SORT (RFC 5256 §3, RFC 5957): keys of rows, and sorting them in runs.

Pure. Rows come page by page; of each only its key and its place are kept, so that 100,000 messages cost what their keys
do. A run is sorted when it comes in and the runs are merged while the answer is written, so that no step takes long.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence

from imap.wire.forms import Criterion
from storage.model import Keys, Row, Want

KEY_OCTETS = 64 * 1024 * 1024
"""How much text one SORT or THREAD holds at most, each text once: octets of UTF-8, and `KEY_COST` for each."""
KEY_COST = 100
"""Octets that a kept text costs beside itself."""

Value = int | bytes
Part = Callable[[Row], Value]

_FIELDS = {
    "SUBJECT": Keys._fields.index("subject"),
    "FROM": Keys._fields.index("from_mailbox"),
    "TO": Keys._fields.index("to_mailbox"),
    "CC": Keys._fields.index("cc_mailbox"),
    "DISPLAYFROM": Keys._fields.index("from_display"),
    "DISPLAYTO": Keys._fields.index("to_display"),
}
"""Criteria that compare text → which of `Keys` it is. The text is folded already (RFC 5256 §7, RFC 5051)."""

# UTF-8 has no octet above 0xF4, so that what stands for the end of a text in reverse comes after all others
_REVERSED = bytes(0xFE - octet if octet < 0xFE else octet for octet in range(256))
_REVERSED_END = b"\xff"


class TooMuch(Exception):
    """The texts of all messages together are over the bound."""


class Budget:
    """How much text may still be kept."""

    def __init__(self, octets: int = KEY_OCTETS) -> None:
        self._left = octets

    def spend(self, text: bytes) -> None:
        """One more text is kept. Raises TooMuch."""
        self._left -= len(text) + KEY_COST
        if self._left < 0:
            raise TooMuch


def wants(criteria: Iterable[Criterion]) -> Want:
    """What rows must bring for these."""
    want = Want(0)
    for criterion in criteria:
        if criterion.name == "SIZE":
            want |= Want.SIZE
        elif criterion.name not in ("ARRIVAL", "RELEVANCY"):
            want |= Want.KEYS
    return want


class Sorter:
    """One SORT on its way. Rows are added with their places (ascending, each once), `merged` gives the places in order.
    relevancy: of a UID.

    Equal by all criteria are in order of their places: the implicit criterion of RFC 5256 §3, which REVERSE leaves.
    """

    def __init__(
        self, criteria: Sequence[Criterion], most: int = KEY_OCTETS, *, relevancy: Callable[[int], int] = lambda uid: 1
    ) -> None:
        self.want = wants(criteria)
        self._relevancy = relevancy
        self._budget = Budget(most)
        self._texts: dict[bytes, bytes] = {}
        self._parts = [self._part(criterion) for criterion in criteria]
        self._runs: list[list[tuple[Value, ...]]] = []

    def add(self, places: Iterable[int], rows: Iterable[Row]) -> None:
        """A page. Raises TooMuch."""
        parts = self._parts
        run: list[tuple[Value, ...]] = [
            (*[part(row) for part in parts], place) for place, row in zip(places, rows, strict=True)
        ]
        run.sort()
        self._runs.append(run)

    def merged(self) -> Iterator[int]:
        """All places in order."""
        for key in heapq.merge(*self._runs):
            yield int(key[-1])

    def _part(self, criterion: Criterion) -> Part:
        reverse = criterion.reverse
        match criterion.name:
            case "ARRIVAL":
                return (lambda row: -row.entry.internaldate) if reverse else (lambda row: row.entry.internaldate)
            case "RELEVANCY":
                # RFC 6203 §6: the most relevant comes first
                relevancy = self._relevancy
                sign = 1 if reverse else -1
                return lambda row: sign * relevancy(row.entry.uid)
            case "SIZE":
                return lambda row: -_size(row) if reverse else _size(row)
            case "DATE":
                # RFC 5256 §2.2: storage gives the internal date where there is no other
                return lambda row: -_keys(row).sent if reverse else _keys(row).sent
            case name:
                return self._text(_FIELDS[name], reverse)

    def _text(self, field: int, reverse: bool) -> Part:
        texts = self._texts

        def part(row: Row) -> bytes:
            # RFC 5051 §2: collated as i;octet collates the folded text's UTF-8
            octets = str(_keys(row)[field]).encode("utf-8", "replace")
            if reverse:
                octets = octets.translate(_REVERSED) + _REVERSED_END
            known = texts.get(octets)
            if known is None:
                self._budget.spend(octets)
                texts[octets] = known = octets
            return known

        return part


def _keys(row: Row) -> Keys:
    assert row.keys is not None, "rows are read with Want.KEYS"
    return row.keys


def _size(row: Row) -> int:
    assert row.size is not None, "rows are read with Want.SIZE"
    return row.size
