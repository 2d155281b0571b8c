"""A keeper's way in: REST, and beside it the calls of the other services, on one port."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from homing.http_api import Rest
from homing.ports import Listening
from homing.process import Process
from runtime.lifecycle import Service, StartError
from runtime.portserver import PortApp, beside
from runtime.portwire import NAME_HEADER, port_name
from runtime.rest import RestServer

_COUNTED = ("calls", "refused", "unavailable", "bugs", "unauthorized")
_HEADER = NAME_HEADER.lower().encode()


class Calls:
    """ports: by name, the keeper's own first. services: what serves them, in the order in which it starts."""

    def __init__(self, process: Process, rest: Rest, port: int | None, ports: Mapping[str, PortApp[Any]]) -> None:
        if port is None:
            raise StartError(
                f"{process.name}.port is off, and the other services reach {process.name} there: give it a port.",
                exit_code=78,
            )
        self._process = process
        self._first = next(iter(ports.values()))
        self._server = RestServer(beside(rest.app, _by_name(ports)), host=process.settings.host, port=port)
        process.metrics.counted_by(
            "port_calls",
            "Calls of other services since the start, and those of them that were refused, could not be answered now,"
            " met a bug, or came without a good token",
            "outcome",
            {name: partial(self._figure, name) for name in _COUNTED},
        )
        process.metrics.gauge(
            "port_calls_open", "Calls of other services in hand", read=lambda: self._figure("in_hand")
        )
        self.services: Sequence[Service] = (*ports.values(), self._server)

    def _figure(self, name: str) -> int:
        return self._first.figures()[name]

    def figures(self) -> dict[str, int]:
        """Of the keeper's own port."""
        return self._first.figures()

    def listeners(self) -> tuple[Listening, ...]:
        """The one port, for other services and for REST."""
        name = self._process.name
        return (Listening(name, self._process.settings.host, self._server.port, "HTTP, service token; REST, /docs"),)


def _by_name(ports: Mapping[str, PortApp[Any]]) -> ASGIApp:
    """The port that a call's header names; the first, which says what it is, for one that names none of them."""
    known = {port_name(name): port for name, port in ports.items()}
    first = next(iter(known.values()))

    async def chosen(scope: Scope, receive: Receive, send: Send) -> None:
        name = dict(scope["headers"]).get(_HEADER, b"")
        await known.get(name, first)(scope, receive, send)

    return chosen
