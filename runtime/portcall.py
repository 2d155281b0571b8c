"""Calls of a port as JSON: the same codec for every port, made from its Protocol's annotations.

A port is a Protocol of async methods over plain data (frozen dataclasses, enums, tuples, numbers, texts, bytes). The
codec turns a call, its result or one of the port's errors into JSON and back; the types in the signatures say what
comes out, so nothing in the JSON names a type. A value that does not fit its type raises `BadCall`.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

P = TypeVar("P")
Json = Any
_BYTES = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")


class BadCall(Exception):
    """The other side asked for a method that is not there, or sent a value of the wrong type."""


@dataclass(frozen=True, slots=True)
class _Method:
    signature: inspect.Signature
    hints: Mapping[str, Any]


class PortCodec(Generic[P]):
    """`port` is the Protocol P itself, `errors` the exceptions that cross it (a name each).

    An error class that takes named arguments keeps each as an attribute of that name, with its annotation in
    `__init__`; one without takes its text.
    """

    def __init__(self, port: type[Any], errors: Sequence[type[Exception]]) -> None:
        self._methods = {
            name: _Method(inspect.signature(method), get_type_hints(method))
            for name, method in vars(port).items()
            if inspect.iscoroutinefunction(method) and not name.startswith("_")
        }
        self._errors = {error.__name__: error for error in errors}
        self._adapters: dict[str, TypeAdapter[Any]] = {}

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
            hints = _fields(kind)
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

    def _method(self, name: str) -> _Method:
        try:
            return self._methods[name]
        except KeyError:
            raise BadCall(f"there is no {name}") from None

    def _error(self, error: Exception) -> Json:
        kind = next(kind for kind in type(error).__mro__ if kind.__name__ in self._errors)
        hints = _fields(kind)
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


def _fields(error: type[BaseException]) -> dict[str, Any]:
    if "__init__" not in vars(error):
        return {}
    hints = get_type_hints(error.__init__)
    hints.pop("return", None)
    return hints
