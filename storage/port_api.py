"""The storage port for other services, below `/port/`: see `runtime.portserver` for who may and how."""

from __future__ import annotations

from typing import Any

import structlog

from runtime.portcall import BadCall
from runtime.portserver import PortApp
from storage import wire
from storage.port import Storage, Unavailable

log = structlog.get_logger("storage")


class StoragePortApp(PortApp[Storage]):
    """As every port, but that a delivery which is none disturbs no other of its batch."""

    async def perform(self, method: str, body: bytes) -> Any:
        if method != "accept":
            return await super().perform(method, body)
        deliveries = self.codec.unpack_items(method, body)
        outcomes = iter(await self.port.accept([one for one in deliveries if not isinstance(one, BadCall)]))
        return [_turned_away(one) if isinstance(one, BadCall) else next(outcomes) for one in deliveries]


def port_app(storage: Storage, token: str) -> PortApp[Storage]:
    """The application that serves `storage` to who has the token. ValueError for a token that is too short."""
    return StoragePortApp(wire.codec(), storage, token, name=wire.NAME, polls=wire.POLLS)


def _turned_away(bad: BadCall) -> Unavailable:
    log.error("a delivery that is none", reason=str(bad))
    return Unavailable("internal error")
