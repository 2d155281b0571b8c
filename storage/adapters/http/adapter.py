"""The storage port, each call sent to the process that keeps the store.

What the port says holds, with one weakness that no client can mend: Unavailable after a call was sent may come for one
that was done, its answer lost and every repeat too. The repeat that the caller then makes, under the same operation id,
changes nothing more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, cast

from runtime.portclient import POOL, TIMEOUT, PortClient
from storage import wire
from storage.adapters.http import settlements as settlements_
from storage.adapters.http.deliveries import Deliveries
from storage.limits import WATCH_MAX
from storage.model import (
    INLINE_MAX,
    MAIL,
    Accepted,
    Appended,
    Claimed,
    Delivery,
    MailboxRef,
    NewMessage,
    Operation,
    Settlement,
    StagedBlob,
)
from storage.port import Reason, Refused, Storage, Unavailable
from storage.turns import Turns

APPEND_OCTETS: Final = 4 * 1024 * 1024
"""Octets of messages that one APPEND carries; what is beyond is staged first."""


class HttpStorage:
    """Made by `open_http`. What is not here goes to the other process as it is."""

    def __init__(self, client: PortClient[Storage]) -> None:
        self._client = client
        self._methods = wire.codec().methods()
        self._appending = Turns()
        self._deliveries = Deliveries(partial(client.call, "accept"))

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if name.startswith("_") or name not in self._methods:
            raise AttributeError(name)
        return partial(self._client.call, name)

    async def watch(self, accounts: Mapping[str, int], wait: float) -> Mapping[str, int]:
        wait = min(wait, WATCH_MAX)
        return cast(Mapping[str, int], await self._client.poll("watch", accounts, wait, wait=wait, idle={}))

    async def stage(self, chunks: AsyncIterable[bytes]) -> StagedBlob:
        return cast(StagedBlob, await self._client.stream("stage", _checked(chunks)))

    async def accept(self, deliveries: Sequence[Delivery]) -> Sequence[Accepted | Refused | Unavailable]:
        return await self._deliveries.accept(deliveries)

    async def claim(
        self,
        limit: int,
        per_domain: int,
        lease: float,
        wait: float = 0.0,
        skip: frozenset[str] = frozenset(),
        queue: str = MAIL,
    ) -> tuple[Claimed, ...]:
        wait = min(wait, WATCH_MAX)
        found = await self._client.poll("claim", limit, per_domain, lease, wait, skip, queue, wait=wait, idle=())
        return cast(tuple[Claimed, ...], found)

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Refused | Unavailable | None]:
        return await settlements_.settle(partial(self._client.call, "settle"), settlements)

    async def append(
        self,
        op: Operation,
        ref: MailboxRef,
        messages: Sequence[NewMessage],
        quota: int | None,
        name: str | None = None,
    ) -> Appended:
        async with self._appending.of(ref.mailbox, op.sequence):
            carried = 0
            fitting: list[NewMessage] = []
            for message in messages:
                if isinstance(message.content, bytes):
                    if len(message.content) > INLINE_MAX:
                        raise Refused(Reason.TOO_BIG, f"A body over {INLINE_MAX} octets is staged first.")
                    carried += len(message.content)
                    if carried > APPEND_OCTETS:
                        message = replace(message, content=await self.stage(_one(message.content)))
                fitting.append(message)
            return cast(Appended, await self._client.call("append", op, ref, fitting, quota, name))

    async def replace(
        self, op: Operation, ref: MailboxRef, uid: int, target: MailboxRef, message: NewMessage, quota: int | None
    ) -> Appended:
        if isinstance(message.content, bytes) and len(message.content) > INLINE_MAX:
            raise Refused(Reason.TOO_BIG, f"A body over {INLINE_MAX} octets is staged first.")
        return cast(Appended, await self._client.call("replace", op, ref, uid, target, message, quota))

    async def close(self) -> None:
        """Close the connections: the store behind is not ours to close."""
        # Side by side: deliveries on their way fail with the connections, and tell their callers.
        await asyncio.gather(self._client.close(), self._deliveries.close())


def open_http(url: str, token: str, *, pool: int = POOL, timeout: float = TIMEOUT) -> Storage:
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
    return cast(Storage, HttpStorage(client))


async def _checked(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        if len(chunk) > INLINE_MAX:
            raise Refused(Reason.TOO_BIG)
        yield chunk


async def _one(content: bytes) -> AsyncIterator[bytes]:
    yield content
