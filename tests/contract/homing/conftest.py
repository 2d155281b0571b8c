"""The stores of saved settings, each through its own adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import quote

import pytest

from homing.connect import connect_overrides
from homing.overrides import Overrides
from homing.ports import SETTINGS, overrides_codec
from runtime.portserver import PortApp, beside
from runtime.rest import RestServer
from tests.mongo import dropped, mongo_url

TOKEN = "the secret of the services".replace(" ", "-")
Another = Callable[[], Awaitable[Overrides]]


@pytest.fixture(params=["sqlite", "http", "mongodb", "ferretdb"])
async def another(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Another]:
    """Opens the store; again and again where several processes may have it open."""
    async with AsyncExitStack() as stack:

        async def opened(url: str, token: str = "") -> Overrides:
            store = await connect_overrides(url, token=token)
            stack.push_async_callback(store.close)
            return store

        match request.param:
            case "mongodb" | "ferretdb":
                url = mongo_url(request.param)
                stack.push_async_callback(dropped, url)
                yield lambda: opened(url)
            case kind:
                store = await opened(f"sqlite://{quote(str(tmp_path))}")

                async def same() -> Overrides:
                    return store

                if kind == "sqlite":
                    yield same
                    return
                port = PortApp(overrides_codec(), store, TOKEN, name=SETTINGS)
                server = RestServer(beside(port, port), host="127.0.0.1", port=0)
                await server.start()
                stack.push_async_callback(server.stop)
                yield lambda: opened(f"http://127.0.0.1:{server.port}", TOKEN)


@pytest.fixture
async def store(another: Another) -> Overrides:
    return await another()
