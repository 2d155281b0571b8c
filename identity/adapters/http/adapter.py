"""The identity port, each call sent to the process that keeps it.

A write whose answer was lost is Unavailable with a sentence that it may have been done, since nobody here knows: see
`identity.wire`. One that never reached the other process is sent again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, cast

from identity import wire
from identity.model import Changes, ImportOutcome, NewAccount
from identity.port import Identity, Unavailable
from runtime.portclient import POOL, TIMEOUT, PortClient

IMPORT_ROWS: Final = 100
"""Rows of an import in one call: as many passwords are hashed well within its time."""
WAIT_MAX: Final = 300.0
"""Seconds that ``changes_since`` waits at most."""


class HttpIdentity:
    """Made by `open_http`. What is not here goes to the other process as it is."""

    def __init__(self, client: PortClient[Identity]) -> None:
        self._client = client
        self._methods = wire.codec().methods()

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if name.startswith("_") or name not in self._methods:
            raise AttributeError(name)
        return partial(self._client.call, name)

    async def changes_since(self, seq: int, wait: float) -> Changes:
        wait = min(wait, WAIT_MAX)
        return cast(Changes, await self._client.poll("changes_since", seq, wait, wait=wait, idle=Changes(seq, ())))

    async def import_accounts(self, rows: Sequence[NewAccount]) -> tuple[ImportOutcome, ...]:
        """In several calls: where one of them is Unavailable, the rows before it have been imported."""
        outcomes: list[ImportOutcome] = []
        for start in range(0, len(rows), IMPORT_ROWS):
            outcomes += await self._client.call("import_accounts", rows[start : start + IMPORT_ROWS])
        return tuple(outcomes)

    async def close(self) -> None:
        """Close the connections: the store behind is not ours to close."""
        await self._client.close()


def open_http(url: str, token: str, *, pool: int = POOL, timeout: float = TIMEOUT) -> Identity:
    """The port served at the URL; nothing is asked yet. ValueError for a URL or token that cannot be."""
    client = PortClient(
        url,
        wire.codec(),
        name=wire.NAME,
        token=token,
        repeatable=wire.REPEATABLE,
        unavailable=Unavailable,
        pool=pool,
        timeout=timeout,
    )
    return cast(Identity, HttpIdentity(client))
