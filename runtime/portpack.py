"""Values of annotated types as msgpack and back, made once from the annotations.

A dataclass and a named tuple are arrays of their fields in order, an enum is its value, a set an array, an exception
the array of what it was made with. Where an annotation leaves a choice between classes, an array begins with the
class's name. Nothing read can choose any other type. A field with a default may be missing at the end of an array, and
what stands beyond the last known field is passed over: so a release may add fields while the other side has not.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from operator import attrgetter, call
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgpack  # type: ignore[import-untyped]

SCALARS: frozenset[Any] = frozenset({bool, int, float, str, bytes, type(None)})
new_tuple: Any = tuple.__new__


class Misfit(Exception):
    """What was read, or is to be packed, is not of its type. The text holds no value: it can be a password."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How one type is packed. pack: to what msgpack knows, None where it takes the value itself. unpack: back; raises
    Misfit. scalars: the types of a value that is what it is, else empty."""

    pack: Callable[[Any], Any] | None
    unpack: Callable[[Any], Any]
    scalars: frozenset[type[Any]] = frozenset()


class Octets:
    """Plain values (what a Shape packs to) as octets. For one thread."""

    def __init__(self) -> None:
        # A lone surrogate is legal in a Python text (an address that was no UTF-8), and must come out as it went in.
        self._packer = msgpack.Packer(use_bin_type=True, unicode_errors="surrogatepass", autoreset=True)

    def pack(self, plain: Any) -> bytes:
        """Raises Misfit for a type that msgpack lacks, an int over 64 bits, or nesting over 500."""
        try:
            return bytes(self._packer.pack(plain))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise Misfit(f"it cannot be packed ({type(error).__name__})") from None

    def array(self, packed: list[bytes]) -> bytes:
        """An array of values that are packed already."""
        return bytes(self._packer.pack_array_header(len(packed))) + b"".join(packed)

    @staticmethod
    def unpack(octets: bytes) -> Any:
        """One value, arrays as tuples. Raises Misfit; takes no more memory than the octets justify."""
        try:
            return msgpack.unpackb(octets, use_list=False, raw=False, unicode_errors="surrogatepass")
        except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
            raise Misfit(f"it is not msgpack ({type(error).__name__})") from None


class Shapes:
    """The shapes of types, each made once. TypeError for an annotation that has none."""

    def __init__(self) -> None:
        self._made: dict[Any, Shape] = {}
        self._making: set[Any] = set()

    def of(self, hint: Any) -> Shape:
        """The shape of an annotation, all forward references resolved."""
        if hint in self._made:
            return self._made[hint]
        if hint in self._making:
            raise TypeError(f"{hint} holds itself otherwise than as one of several classes")
        self._making.add(hint)
        try:
            shape = self._made[hint] = self._make(hint)
        finally:
            self._making.discard(hint)
        return shape

    def plain(self, hint: Any, value: Any) -> Any:
        """What msgpack is given for the value."""
        pack = self.of(hint).pack
        return value if pack is None else pack(value)

    def fields(self, kind: type[Any]) -> dict[str, Any]:
        """The fields that a class is packed by, with their types, in order."""
        if dataclasses.is_dataclass(kind):
            hints = get_type_hints(kind)
            return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
        if issubclass(kind, BaseException):
            return error_fields(kind) or {"text": str}
        hints = get_type_hints(kind)
        return {name: hints[name] for name in kind._fields}

    def _make(self, hint: Any) -> Shape:
        origin, args = get_origin(hint), get_args(hint)
        if hint in SCALARS or hint is None:
            return _scalar(frozenset({type(None) if hint is None else hint}))
        if origin in (Union, types.UnionType):
            return self._union(args)
        if origin is tuple and (len(args) != 2 or args[1] is not Ellipsis):
            return self._record(None, list(args), tuple, len(args))
        if origin in (tuple, abc.Sequence, frozenset):
            return self._many(self.of(args[0]), list if origin is abc.Sequence else origin)
        if origin is abc.Mapping and args[0] is str:
            return _mapping(self.of(args[1]))
        if isinstance(hint, type):
            return self._class(hint)
        raise TypeError(f"no values of {hint} can be packed")

    def _class(self, kind: type[Any]) -> Shape:
        if issubclass(kind, Enum):
            return _enum(kind)
        if issubclass(kind, BaseException):
            return self._error(kind)
        if dataclasses.is_dataclass(kind):
            fields = self.fields(kind)
            return self._record(_attributes(list(fields)), list(fields.values()), kind, _needed(kind))
        if issubclass(kind, tuple) and hasattr(kind, "_fields"):
            return self._record(None, list(self.fields(kind).values()), kind, _needed(kind))
        raise TypeError(f"no values of {kind} can be packed")

    def _many(self, item: Shape, into: type[Any]) -> Shape:
        unpack_one, scalars, pack_one = item.unpack, item.scalars, item.pack

        def unpack(plain: Any) -> Any:
            if type(plain) is not tuple:
                raise Misfit("an array is needed")
            if scalars:
                if not scalars.issuperset(map(type, plain)):
                    raise Misfit("an array holds another type")
                return plain if into is tuple else into(plain)
            return into(map(unpack_one, plain))

        def pack(value: Any) -> tuple[Any, ...]:
            _check_many(value)
            return tuple(value) if pack_one is None else tuple(map(pack_one, value))

        return Shape(None if pack_one is None and into is tuple else pack, unpack)

    def _record(
        self,
        take: Callable[[Any], Iterable[Any]] | None,
        hints: list[Any],
        kind: Callable[..., Any],
        needed: int,
    ) -> Shape:
        """take: the fields' values out of one that is not a tuple itself. needed: fields that have no default."""
        shapes = [self.of(hint) for hint in hints]
        unpacks = [shape.unpack for shape in shapes]
        packs = [(place, shape.pack) for place, shape in enumerate(shapes) if shape.pack is not None]
        size = len(hints)
        is_tuple = isinstance(kind, type) and issubclass(kind, tuple)

        def unpack(plain: Any) -> Any:
            if type(plain) is not tuple or len(plain) < needed:
                raise Misfit(f"an array of {size} is needed")
            values = list(map(call, unpacks, plain))
            # A tuple's own way is twice as fast, and rows are many.
            return new_tuple(kind, values) if is_tuple and len(values) == size else kind(*values)

        def pack(value: Any) -> list[Any]:
            found = list(value if take is None else take(value))
            for place, pack_one in packs:
                found[place] = pack_one(found[place])
            return found

        return Shape(pack if packs else take, unpack)

    def _error(self, kind: type[BaseException]) -> Shape:
        names = list(error_fields(kind))

        def make(*values: Any) -> Any:
            return kind(**dict(zip(names, values, strict=False))) if names else kind(*values)

        def take(error: Any) -> tuple[Any, ...]:
            return tuple(getattr(error, name) for name in names) if names else (str(error),)

        return self._record(take, list(self.fields(kind).values()), make, _needed(kind))

    def _union(self, members: tuple[Any, ...]) -> Shape:
        scalars = frozenset(type(None) if one is None else one for one in members if one in SCALARS or one is None)
        classes = [one for one in members if one not in SCALARS and one is not None]
        if not classes:
            return _scalar(scalars)
        if len(classes) == 1 and scalars <= {type(None)}:
            return _optional(self.of(classes[0]))
        named = {kind.__name__: kind for kind in classes}
        plain_types = tuple(scalars)
        # Looked up with the first value and not now: a class of a tree holds the union itself.
        of = self.of

        def pack(value: Any) -> Any:
            if isinstance(value, plain_types):
                return value
            kind = _ancestor(type(value), classes)
            pack_one = of(kind).pack
            return (kind.__name__, *(value if pack_one is None else pack_one(value)))

        def unpack(plain: Any) -> Any:
            if type(plain) in scalars:
                return plain
            if type(plain) is not tuple or not plain or type(plain[0]) is not str or plain[0] not in named:
                raise Misfit(f"one of {', '.join(named)} is needed")
            return of(named[plain[0]]).unpack(plain[1:])

        return Shape(pack, unpack)


def error_fields(error: type[BaseException]) -> dict[str, Any]:
    """The arguments that an error class of its own `__init__` takes, each kept as an attribute of that name."""
    if "__init__" not in vars(error):
        return {}
    hints = get_type_hints(error.__init__)
    hints.pop("return", None)
    return hints


def _scalar(scalars: frozenset[type[Any]]) -> Shape:
    # An int is a fine float (PEP 484), and stays the int that it is.
    wanted = scalars | {int} if float in scalars else scalars

    def unpack(plain: Any) -> Any:
        if type(plain) in wanted:
            return plain
        raise Misfit(f"{' or '.join(sorted(one.__name__ for one in scalars))} is needed")

    return Shape(None, unpack, wanted)


def _optional(shape: Shape) -> Shape:
    pack_some, unpack_some = shape.pack, shape.unpack

    def unpack(plain: Any) -> Any:
        return None if plain is None else unpack_some(plain)

    if pack_some is None:
        return Shape(None, unpack)
    return Shape(lambda value: None if value is None else pack_some(value), unpack)


def _enum(kind: type[Enum]) -> Shape:
    def unpack(plain: Any) -> Any:
        if type(plain) in SCALARS:
            try:
                return kind(plain)
            except ValueError:
                pass
        raise Misfit(f"a {kind.__name__} is needed")

    def pack(value: Any) -> Any:
        return value.value if isinstance(value, kind) else value

    return Shape(pack, unpack)


def _mapping(item: Shape) -> Shape:
    unpack_one, pack_one = item.unpack, item.pack

    def unpack(plain: Any) -> Any:
        if type(plain) is not dict or not all(type(key) is str for key in plain):
            raise Misfit("a map of texts is needed")
        return {key: unpack_one(one) for key, one in plain.items()}

    def pack(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise Misfit("a mapping is needed")
        return {key: one if pack_one is None else pack_one(one) for key, one in value.items()}

    return Shape(pack, unpack)


def _attributes(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    if not names:
        return lambda value: ()
    take = attrgetter(*names)

    def taken(value: Any) -> tuple[Any, ...]:
        try:
            return take(value) if len(names) > 1 else (take(value),)
        except AttributeError:
            raise Misfit("a value of another class") from None

    return taken


def _needed(kind: type[Any]) -> int:
    """How many fields must be there; those after them have defaults."""
    if issubclass(kind, BaseException) and not error_fields(kind):
        return 1
    return sum(one.default is inspect.Parameter.empty for one in inspect.signature(kind).parameters.values())


def _check_many(value: Any) -> None:
    if isinstance(value, (str, bytes)) or not isinstance(value, (abc.Sequence, abc.Set)):
        raise Misfit("a sequence is needed")


def _ancestor(kind: type[Any], known: Sequence[type[Any]]) -> type[Any]:
    for one in kind.__mro__:
        if one in known:
            return one
    raise Misfit(f"one of {', '.join(one.__name__ for one in known)} is needed")
