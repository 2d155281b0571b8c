"""A port's answers as frames: each its length (4 octets, big-endian) and then msgpack.

    ["rows", field, [row, ...]]    the next rows of the answer, or of its field of that number
    ["end", value]                 the answer, with nothing where rows came before; the last frame
    ["error", name, [field, ...]]  one of the port's errors; the last frame

A frame of rows ends at FRAME_OCTETS or FRAME_ROWS, whichever comes first, but holds one row at least. Without a last
frame an answer is not whole, and nothing of it counts.
"""

from __future__ import annotations

import dataclasses
from collections import abc
from collections.abc import Iterator, Sequence
from typing import Any, Final, get_args, get_origin

from runtime.portpack import Misfit, Octets, Shape, Shapes

FRAME_OCTETS: Final = 256 * 1024
"""Octets of rows after which a frame ends."""
FRAME_ROWS: Final = 512
"""Rows after which a frame ends: what is read from it in 2 ms."""
FRAME_MAX: Final = 32 * 1024 * 1024
"""Octets of the longest frame that is read: one row can be a waiting message with all its recipients."""
LENGTH: Final = 4


class BadFrame(Exception):
    """What was read is not an answer."""


class Answer:
    """How the results of one method are cut into frames and joined again."""

    def __init__(self, hint: Any, shapes: Shapes, octets: Octets) -> None:
        """hint: what the method returns. Its rows are its own items, or those of its fields that are sequences."""
        self._octets = octets
        self._kind: Any = None
        self._rows: dict[int, tuple[Shape, Any]] = {}
        self._whole: list[tuple[str, Shape]] = []
        item = _item(hint)
        if item is not None:
            self._rows[0] = (shapes.of(item), _into(hint))
        elif isinstance(hint, type) and dataclasses.is_dataclass(hint):
            self._kind = hint
            for place, (name, field) in enumerate(shapes.fields(hint).items()):
                item = _item(field)
                if item is not None:
                    self._rows[place] = (shapes.of(item), _into(field))
                self._whole.append((name, shapes.of(field)))
        self._plain = shapes.of(hint)

    def frames(self, result: Any) -> Iterator[bytes]:
        """The frames of a result, made one at a time. Raises Misfit."""
        if self._kind is None and self._rows:
            yield from self._row_frames(0, result)
            yield self._frame(("end", ()))
        elif self._kind is None:
            pack = self._plain.pack
            yield self._frame(("end", result if pack is None else pack(result)))
        else:
            end: list[Any] = []
            for place, (name, shape) in enumerate(self._whole):
                value = getattr(result, name)
                if place in self._rows:
                    yield from self._row_frames(place, value)
                    end.append(())
                else:
                    end.append(value if shape.pack is None else shape.pack(value))
            yield self._frame(("end", end))

    def _row_frames(self, field: int, rows: Sequence[Any]) -> Iterator[bytes]:
        shape = self._rows[field][0]
        octets = self._octets
        head = [octets.pack("rows"), octets.pack(field)]
        pieces: list[bytes] = []
        size = 0
        for row in rows:
            piece = octets.pack(row if shape.pack is None else shape.pack(row))
            if pieces and (size + len(piece) > FRAME_OCTETS or len(pieces) >= FRAME_ROWS):
                yield _with_length(octets.array([*head, octets.array(pieces)]))
                pieces, size = [], 0
            pieces.append(piece)
            size += len(piece)
        if pieces:
            yield _with_length(octets.array([*head, octets.array(pieces)]))

    def _frame(self, plain: Any) -> bytes:
        return _with_length(self._octets.pack(plain))

    def joined(self, rows: dict[int, list[Any]], end: Any) -> Any:
        """The result, of its rows and the value of its last frame. Raises Misfit."""
        if self._kind is None:
            return self._rows[0][1](rows.get(0, ())) if self._rows else self._plain.unpack(end)
        # Put together by fields: a value of the class itself can miss what a later release has added.
        if type(end) is not tuple:
            raise Misfit("an array is needed")
        values = [
            self._rows[place][1](rows.get(place, ())) if place in self._rows else shape.unpack(one)
            for place, ((_, shape), one) in enumerate(zip(self._whole, end, strict=False))
        ]
        try:
            return self._kind(*values)
        except TypeError:
            raise Misfit("fields are missing") from None

    def row(self, field: Any) -> Shape | None:
        """The shape of a field's rows; None where it has none."""
        return self._rows[field][0] if type(field) is int and field in self._rows else None


class Joiner:
    """Joins the frames of one answer. Give it each frame's octets after the length; `done` after the last."""

    def __init__(self, answer: Answer, errors: dict[str, Shape]) -> None:
        self._answer = answer
        self._errors = errors
        self._rows: dict[int, list[Any]] = {}
        self._result: Any = None
        self.error: Exception | None = None
        self.done = False

    def feed(self, frame: bytes) -> None:
        """Raises BadFrame."""
        try:
            match Octets.unpack(frame):
                case _ if self.done:
                    raise Misfit("a frame follows the last one")
                case ("rows", field, rows) if (shape := self._answer.row(field)) and type(rows) is tuple:
                    unpack = shape.unpack
                    self._rows.setdefault(field, []).extend([unpack(row) for row in rows])
                case ("end", value):
                    self._result = self._answer.joined(self._rows, value)
                    self.done = True
                case ("error", str(name), fields) if name in self._errors:
                    self.error = self._errors[name].unpack(fields)
                    self.done = True
                case _:
                    raise Misfit("it is no frame of this answer")
        except Misfit as misfit:
            raise BadFrame(str(misfit)) from None

    def result(self) -> Any:
        """The answer, or the port's error raised. Only when `done`."""
        if self.error is not None:
            raise self.error
        return self._result


def error_frame(octets: Octets, name: str, fields: Any) -> bytes:
    """The only frame of an answer that is an error."""
    return _with_length(octets.pack(("error", name, fields)))


def _with_length(payload: bytes) -> bytes:
    if len(payload) > FRAME_MAX:
        raise Misfit(f"a frame has at most {FRAME_MAX} octets")
    return len(payload).to_bytes(LENGTH, "big") + payload


def _item(hint: Any) -> Any:
    """The type of the items of a sequence of any length; None for anything else."""
    origin, args = get_origin(hint), get_args(hint)
    if (origin is tuple and len(args) == 2 and args[1] is Ellipsis) or origin in (abc.Sequence, frozenset):
        return args[0]
    return None


def _into(hint: Any) -> Any:
    origin = get_origin(hint)
    return list if origin is abc.Sequence else origin
