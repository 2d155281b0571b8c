"""Calls of a port as JSON or as msgpack: the same codec for every port, made from its Protocol's annotations.

A port is a Protocol of async methods over plain data (frozen dataclasses, enums, tuples, numbers, texts, bytes). The
codec turns a call, its result or one of the port's errors into JSON (for the control socket) or into msgpack (between
services, see `portpack` and `portframes`) and back; the types in the signatures say what comes out. A value that does
not fit its type raises `BadCall`.
"""

from __future__ import annotations

import functools
import inspect
from collections import abc
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from runtime.portframes import Answer, Joiner, error_frame
from runtime.portpack import Misfit, Octets, Shape, Shapes, error_fields

P = TypeVar("P")
Json = Any
_BYTES = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")


class BadCall(Exception):
    """The other side asked for a method that is not there, or sent a value of the wrong type."""


@dataclass(frozen=True, slots=True)
class _Method:
    signature: inspect.Signature
    hints: Mapping[str, Any]

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(self.signature.parameters)[1:]

    @property
    def takes_stream(self) -> bool:
        return any(get_origin(self.hints[name]) is abc.AsyncIterable for name in self.parameters)


@functools.cache
def _methods_of(port: type[Any]) -> Mapping[str, _Method]:
    return {
        name: _Method(inspect.signature(method), get_type_hints(method))
        for name, method in vars(port).items()
        if inspect.iscoroutinefunction(method) and not name.startswith("_")
    }


@dataclass(frozen=True, slots=True)
class _Packing:
    """How a method's arguments and its answer are packed."""

    arguments: tuple[Shape, ...]
    answer: Answer


class PortCodec(Generic[P]):
    """`port` is the Protocol P itself, `errors` the exceptions that cross it (a name each).

    An error class that takes named arguments keeps each as an attribute of that name, with its annotation in
    `__init__`; one without takes its text.
    """

    def __init__(self, port: type[Any], errors: Sequence[type[Exception]]) -> None:
        self._methods = _methods_of(cast(Hashable, port))
        self._errors = {error.__name__: error for error in errors}
        self._adapters: dict[str, TypeAdapter[Any]] = {}
        self._octets = Octets()
        self._shapes = Shapes()
        self._packings: dict[str, _Packing] = {}

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """The exceptions that cross."""
        return tuple(self._errors.values())

    def call(self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Json:
        """The call as JSON values. TypeError when the arguments do not fit the signature."""
        known = self._method(method)
        bound = known.signature.bind(None, *args, **kwargs)
        given = list(bound.arguments.items())[1:]
        return {
            "method": method,
            "args": {name: self._dump(known.hints[name], f"{method}.{name}", value) for name, value in given},
        }

    async def serve(self, port: P, call: Json) -> Json:
        """Do the call on the real port: {"result": …} or {"error": name, "fields": {…}}. Raises BadCall, and what
        the port raises beyond its errors."""
        if not isinstance(call, dict) or not isinstance(call.get("args"), dict):
            raise BadCall("a call is an object with method and args")
        method = str(call.get("method"))
        known = self._method(method)
        unknown = set(call["args"]) - set(known.signature.parameters)
        if unknown:
            raise BadCall(f"{method} takes no {', '.join(sorted(unknown))}")
        kwargs = {
            name: self._load(known.hints[name], f"{method}.{name}", value) for name, value in call["args"].items()
        }
        target = cast(Callable[..., Awaitable[Any]], getattr(port, method))
        try:
            result = await target(**kwargs)
        except tuple(self._errors.values()) as error:
            return self._error(error)
        return {"result": self._dump(known.hints["return"], f"{method}.return", result)}

    def result(self, method: str, answer: Json) -> Any:
        """What the caller gets: the result, or the port's error raised. BadCall for what is neither."""
        if isinstance(answer, dict) and "result" in answer:
            return self._load(self._method(method).hints["return"], f"{method}.return", answer["result"])
        if isinstance(answer, dict) and answer.get("error") in self._errors:
            kind = self._errors[answer["error"]]
            hints = error_fields(kind)
            raise (
                kind(
                    **{
                        name: self._load(hints[name], f"{kind.__name__}.{name}", answer["fields"][name])
                        for name in hints
                    }
                )
                if hints
                else kind(str(answer.get("fields", {}).get("text", "")))
            )
        raise BadCall(str(answer.get("problem", "not an answer")) if isinstance(answer, dict) else "not an answer")

    def client(self, send: Callable[[Json], Awaitable[Json]]) -> P:
        """The port itself, each of its methods sent through `send`."""
        return cast(P, _Client(self, send))

    def methods(self) -> frozenset[str]:
        return frozenset(self._methods)

    def streams(self) -> frozenset[str]:
        """The methods whose only argument is a stream of octets."""
        return frozenset(name for name, method in self._methods.items() if method.takes_stream)

    def parameters(self, method: str) -> tuple[str, ...]:
        """The names of its arguments, in order."""
        return self._method(method).parameters

    def pack_call(self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        """The arguments as msgpack: an array in the order of the signature. TypeError when they do not fit the
        signature, BadCall for a value that is not of its type."""
        known = self._method(method)
        bound = known.signature.bind(None, *args, **kwargs)
        bound.apply_defaults()
        shapes = self._packing(method).arguments
        given = [bound.arguments[name] for name in known.parameters]
        try:
            return self._octets.pack(
                [one if shape.pack is None else shape.pack(one) for shape, one in zip(shapes, given, strict=True)]
            )
        except (Misfit, RecursionError) as wrong:
            raise BadCall(f"{method}: {wrong}") from None

    def unpack_call(self, method: str, octets: bytes) -> dict[str, Any]:
        """The arguments by name; those that the other side does not know yet keep their defaults. Raises BadCall."""
        names, plain = self._plain_call(method, octets)
        shapes = self._packing(method).arguments
        try:
            given = {name: shape.unpack(one) for name, shape, one in zip(names, shapes, plain, strict=False)}
            self._method(method).signature.bind(None, **given)
        except (Misfit, TypeError, RecursionError) as wrong:
            raise BadCall(f"{method}: {wrong}") from None
        return given

    def unpack_items(self, method: str, octets: bytes) -> list[Any]:
        """The items of the only argument, a sequence: each by itself, a BadCall in the place of one that is not of
        its type. Raises BadCall where there is no sequence."""
        _, plain = self._plain_call(method, octets)
        if len(plain) != 1 or type(plain[0]) is not tuple:
            raise BadCall(f"{method}: an array is needed")
        known = self._method(method)
        shape = self._shapes.of(known.hints[known.parameters[0]].__args__[0])
        items: list[Any] = []
        for one in plain[0]:
            try:
                items.append(shape.unpack(one))
            except Misfit as misfit:
                items.append(BadCall(f"{method}: {misfit}"))
        return items

    def frames(self, method: str, result: Any) -> Iterator[bytes]:
        """The frames of an answer, each made when it is asked for. Raises Misfit for what the method may not
        return."""
        return self._packing(method).answer.frames(result)

    def error_frame(self, error: Exception) -> bytes:
        """The frame of one of the port's errors. Raises Misfit."""
        kind = self._crossing(error)
        return error_frame(self._octets, kind.__name__, self._shapes.plain(kind, error))

    def joiner(self, method: str) -> Joiner:
        """What joins the frames of one answer."""
        return Joiner(
            self._packing(method).answer, {name: self._shapes.of(kind) for name, kind in self._errors.items()}
        )

    def _packing(self, method: str) -> _Packing:
        packing = self._packings.get(method)
        if packing is None:
            known = self._method(method)
            arguments = () if known.takes_stream else tuple(self._shapes.of(known.hints[n]) for n in known.parameters)
            answer = Answer(known.hints["return"], self._shapes, self._octets)
            packing = self._packings[method] = _Packing(arguments, answer)
        return packing

    def _plain_call(self, method: str, octets: bytes) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        names = self._method(method).parameters
        try:
            plain = Octets.unpack(octets)
        except Misfit as misfit:
            raise BadCall(f"{method}: {misfit}") from None
        if type(plain) is not tuple:
            raise BadCall(f"{method}: an array is needed")
        return names, plain

    def _method(self, name: str) -> _Method:
        try:
            return self._methods[name]
        except KeyError:
            raise BadCall(f"there is no {name}") from None

    def _crossing(self, error: Exception) -> type[Exception]:
        return next(kind for kind in type(error).__mro__ if kind in self._errors.values())

    def _error(self, error: Exception) -> Json:
        kind = self._crossing(error)
        hints = error_fields(kind)
        fields = (
            {name: self._dump(hint, f"{kind.__name__}.{name}", getattr(error, name)) for name, hint in hints.items()}
            if hints
            else {"text": str(error)}
        )
        return {"error": kind.__name__, "fields": fields}

    def _adapter(self, hint: Any, place: str) -> TypeAdapter[Any]:
        adapter = self._adapters.get(place)
        if adapter is None:
            adapter = self._adapters[place] = (
                TypeAdapter(hint, config=_BYTES) if hint in (bytes, bytes | None) else TypeAdapter(hint)
            )
        return adapter

    def _dump(self, hint: Any, place: str, value: Any) -> Json:
        return self._adapter(hint, place).dump_python(value, mode="json")

    def _load(self, hint: Any, place: str, value: Json) -> Any:
        try:
            return self._adapter(hint, place).validate_python(value)
        except ValidationError as error:
            # The values stay out of the text: there can be a password among them.
            raise BadCall(f"{place}: {error.errors(include_input=False)[0]['msg']}") from None


class _Client:
    def __init__(self, codec: PortCodec[Any], send: Callable[[Json], Awaitable[Json]]) -> None:
        self._codec = codec
        self._send = send

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if name not in self._codec.methods():
            raise AttributeError(name)

        async def method(*args: Any, **kwargs: Any) -> Any:
            return self._codec.result(name, await self._send(self._codec.call(name, args, kwargs)))

        return method
