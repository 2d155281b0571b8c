"""Response lines of FETCH, made for many messages together out of columns."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, chain, compress, islice, repeat
from typing import Any, NamedTuple

from imap.wire import writer

WRITE = 64 * 1024
"""Octets of answers that are joined into one write."""


class Literals(NamedTuple):
    """A column of literals. sizes: of each, None where its octets are not at hand. octets: columns whose values make
    them up, one behind the other."""

    sizes: Sequence[int | None]
    octets: tuple[Sequence[bytes | None], ...]


class Form(NamedTuple):
    """What stands around the octets of a literal: opening has a %d for the size."""

    opening: bytes
    closing: bytes


Values = Sequence[Sequence[object] | Literals]
"""For each item a column of bytes (of numbers, where its format has %d) or of literals."""


class Lines:
    """How the lines of one FETCH look. head: with a %d for the number. items: a format of each, or a form."""

    def __init__(self, head: bytes, items: Iterable[bytes | Form]) -> None:
        self._forms: list[bytes] = []
        form, space = head, b""
        for item in items:
            if isinstance(item, Form):
                self._forms.append(form + space + item.opening)
                form = item.closing
            else:
                form += space + item
            space = b" "
        self._forms.append(form + writer.FETCH_CLOSE)

    def of(self, numbers: Sequence[int], values: Values) -> Iterator[bytes]:
        """The lines of these messages, about WRITE octets at a time where there are literals; a number of 0 leaves one
        out."""
        if 0 in numbers:
            values = _each(values, lambda column: list(compress(column, numbers)))
            numbers = [number for number in numbers if number]
        given: list[Sequence[object]] = [numbers]
        if len(self._forms) == 1:
            given += [column for column in values if not isinstance(column, Literals)]
            # one template for all of them is faster than one by one
            yield self._forms[0] * len(numbers) % tuple(chain.from_iterable(zip(*given, strict=True)))
            return
        # Made for each message is only what stands between the literals: their octets are copied once, into the line.
        pieces: list[Iterable[bytes | None]] = []
        totals = [0] * len(numbers)
        forms = iter(self._forms)
        for column in values:
            if isinstance(column, Literals):
                pieces.append(_filled(next(forms), [*given, column.sizes]))
                pieces += column.octets
                totals = [total + (size or 0) for total, size in zip(totals, column.sizes, strict=True)]
                given = []
            else:
                given.append(column)
        pieces.append(_filled(next(forms), given))
        yield from _joined(zip(*pieces, strict=False), list(accumulate(totals)))


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


def _filled(form: bytes, columns: Sequence[Sequence[object]]) -> Iterable[bytes]:
    """A form for each message with its values in it; one without any for as many as are asked for."""
    return map(form.__mod__, zip(*columns, strict=True)) if columns else repeat(form)


def _joined(lines: Iterator[tuple[bytes, ...]], ends: Sequence[int]) -> Iterator[bytes]:
    """Lines joined, so many together that their literals have about WRITE octets. ends: where each line's literals end
    if those of all are laid end to end."""
    at = done = 0
    while at < len(ends):
        stop = min(bisect_left(ends, done + WRITE, at) + 1, len(ends))
        yield b"".join(chain.from_iterable(islice(lines, stop - at)))
        at, done = stop, ends[stop - 1]
