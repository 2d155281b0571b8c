"""A port served over HTTP on this machine, and its client: what stands between a door and another process."""

from __future__ import annotations

from typing import Any

from starlette.responses import PlainTextResponse

from identity.adapters.http.adapter import open_http as open_identity
from identity.port import Identity
from identity.port_api import port_app as identity_app
from runtime.portserver import PortApp, beside
from runtime.rest import RestServer
from storage.adapters.http.adapter import open_http as open_storage
from storage.port import Storage
from storage.port_api import port_app as storage_app

TOKEN = "service-token-of-the-tests"


class Keeper:
    """A port's server on a loopback socket; the port itself stays the caller's."""

    def __init__(self, app: PortApp[Any], port: int = 0) -> None:
        self.app = app
        self.rest = RestServer(beside(PlainTextResponse("beside"), app), host="127.0.0.1", port=port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.rest.port}"

    async def __aenter__(self) -> Keeper:
        await self.app.start()
        await self.rest.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.app.drain()
        await self.rest.drain()
        await self.rest.stop()
        await self.app.stop()


class Behind:
    """A client, its server and the port behind it, closed together."""

    def __init__(self, client: Any, keeper: Keeper) -> None:
        self._client = client
        self._keeper = keeper
        self._closed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def close(self) -> None:
        await self._client.close()
        if not self._closed:
            self._closed = True
            await self._keeper.__aexit__()
            await self._keeper.app.port.close()


async def storage_behind_http(store: Storage, **how: Any) -> Any:
    """The store as another process sees it."""
    keeper = await Keeper(storage_app(store, TOKEN)).__aenter__()
    return Behind(open_storage(keeper.url, TOKEN, **how), keeper)


async def identity_behind_http(identity: Identity, **how: Any) -> Any:
    """The identity as another process sees it."""
    keeper = await Keeper(identity_app(identity, TOKEN)).__aenter__()
    return Behind(open_identity(keeper.url, TOKEN, **how), keeper)
