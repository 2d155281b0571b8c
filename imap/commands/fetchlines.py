"""Response lines of FETCH, made for many messages together out of columns."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, compress
from operator import add
from typing import Any, NamedTuple

from imap.wire import writer

WRITE = 64 * 1024
"""Octets of answers that are joined into one write."""
LINES = 2048
"""Lines that are made at once: the first are on their way before the last are made, and others have their turn."""


class Literals(NamedTuple):
    """A column of literals. sizes: of each, None where its octets are not at hand. octets: columns whose values make
    them up, one behind the other."""

    sizes: Sequence[int | None]
    octets: tuple[Sequence[bytes | None], ...]


class Form(NamedTuple):
    """What stands around the octets of a literal, as templates: opening has a %d for the size."""

    opening: bytes
    closing: bytes


Values = Sequence[Sequence[object] | Literals]
"""For each item a column of bytes (of numbers, where its format has %d) or of literals."""


class Lines:
    """How the lines of one FETCH look. head: with a %d for the number. items: a format of each, or a form."""

    def __init__(self, head: bytes, items: Iterable[bytes | Form]) -> None:
        self._head = head
        self._items = tuple(items)

    def of(self, numbers: Sequence[int], values: Values) -> Iterator[bytes]:
        """The lines of these messages, LINES at a time and about WRITE octets where there are literals; a number of 0
        leaves one out."""
        if 0 in numbers:
            values = _each(values, lambda column: list(compress(column, numbers)))
            numbers = [number for number in numbers if number]
        given: list[Sequence[object]] = [numbers]
        formats: list[bytes] = []
        totals: list[int] = []
        for item, column in zip(self._items, values, strict=True):
            if isinstance(column, Literals):
                assert isinstance(item, Form), "a literal has something around it"
                given += (column.sizes, *column.octets)
                formats.append(item.opening + b"%b" * len(column.octets) + item.closing)
                sizes = [size or 0 for size in column.sizes]
                totals = list(map(add, totals, sizes)) if totals else sizes
            else:
                assert isinstance(item, bytes), "around a value there is nothing"
                given.append(column)
                formats.append(item)
        line = self._head + b" ".join(formats) + writer.FETCH_CLOSE
        width = len(given)
        for start, stop in _together(len(numbers), list(accumulate(totals))):
            # column by column, and with one template for many of them, is faster than one by one
            found: list[object] = [None] * ((stop - start) * width)
            for at, values_of in enumerate(given):
                found[at::width] = values_of[start:stop]
            yield line * (stop - start) % tuple(found)


def gaps(values: Values) -> list[int]:
    """At which indices some octets are not at hand."""
    columns = [column.sizes for column in values if isinstance(column, Literals) and None in column.sizes]
    return sorted({at for sizes in columns for at, size in enumerate(sizes) if size is None})


def between(values: Values, start: int, stop: int) -> Values:
    """The columns of some of the messages."""
    return _each(values, lambda column: column[start:stop])


def _each(values: Values, taken: Callable[[Sequence[Any]], Sequence[Any]]) -> Values:
    found: list[Sequence[object] | Literals] = []
    for column in values:
        if isinstance(column, Literals):
            found.append(Literals(taken(column.sizes), tuple(map(taken, column.octets))))
        else:
            found.append(taken(column))
    return found


def _together(count: int, ends: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The (start, stop) of lines that are written together: LINES, or as many as have literals of about WRITE octets.
    ends: where each line's literals end if those of all are laid end to end; nothing where there are none."""
    start = done = 0
    while start < count:
        stop = min(start + LINES, count)
        if ends:
            stop = min(stop, bisect_left(ends, done + WRITE, start) + 1)
            done = ends[stop - 1]
        yield start, stop
        start = stop
