"""Notes that the identity service keeps, over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from homing.ports import NOTES, notes_codec
from runtime.portclient import PortBug, PortClient
from smtp.outbound.notes import PAGE_MAX, Note, Notes, NotesUnavailable, check

POOL = 2
REPEATABLE = frozenset({"get", "put", "first", "page", "remove"})


class HttpNotes:
    """`smtp.outbound.notes.Notes`. url, token: of the identity service; seconds: for a call with its repeats."""

    def __init__(self, url: str, *, token: str, seconds: float) -> None:
        self._client: PortClient[Notes] = PortClient(
            url,
            notes_codec(),
            name=NOTES,
            token=token,
            repeatable=REPEATABLE,
            unavailable=NotesUnavailable,
            pool=POOL,
            timeout=seconds,
        )

    async def get(self, space: str, key: str) -> str | None:
        text: str | None = await self._call("get", space, key)
        return text

    async def put(self, space: str, key: str, text: str, until: float) -> None:
        check(space, key, text=text)
        await self._call("put", space, key, text, until)

    async def first(self, space: str, key: str, text: str, until: float) -> str:
        check(space, key, text=text)
        return str(await self._call("first", space, key, text, until))

    async def page(self, space: str, after: str = "", limit: int = PAGE_MAX) -> tuple[Note, ...]:
        notes: tuple[Note, ...] = await self._call("page", space, after, limit)
        return notes

    async def remove(self, space: str, keys: Sequence[str]) -> None:
        await self._call("remove", space, tuple(keys))

    async def close(self) -> None:
        await self._client.close()

    async def _call(self, method: str, *args: object) -> Any:
        try:
            return await self._client.call(method, *args)
        except PortBug as error:
            # What waits for a note can wait longer; the bug is told where it was met.
            raise NotesUnavailable(str(error)) from error
