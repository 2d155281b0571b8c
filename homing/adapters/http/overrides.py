"""Overrides that the identity service keeps, over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homing.overrides import Overrides, OverridesUnavailable, Saved
from homing.ports import SETTINGS, overrides_codec
from runtime.portclient import PortBug, PortClient

POOL = 2
# Keeping is not repeated where it may have been done: it would find another revision, and say that it was not.
REPEATABLE = frozenset({"read"})


class HttpOverrides:
    """`homing.overrides.Overrides`. url, token: of the identity service; seconds: for a call with its repeats."""

    def __init__(self, url: str, *, token: str, seconds: float) -> None:
        self._client: PortClient[Overrides] = PortClient(
            url,
            overrides_codec(),
            name=SETTINGS,
            token=token,
            repeatable=REPEATABLE,
            unavailable=OverridesUnavailable,
            pool=POOL,
            timeout=seconds,
        )

    async def read(self) -> Saved:
        saved: Saved = await self._call("read")
        return saved

    async def replace(self, revision: int, values: Mapping[str, str]) -> bool:
        return bool(await self._call("replace", revision, values))

    async def close(self) -> None:
        await self._client.close()

    async def _call(self, method: str, *args: object) -> Any:
        try:
            return await self._client.call(method, *args)
        except PortBug as error:
            # Who begins or goes on without saved settings can do so here too; the bug is told where it was met.
            raise OverridesUnavailable(str(error)) from error
