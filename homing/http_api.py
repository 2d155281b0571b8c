"""The REST application of a process: its errors, who may call, and the routes that every process has."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from fastapi import APIRouter, Depends, FastAPI, Request, Response

from connectors.tasks import http_api as tasks_api
from homing import __version__
from homing.gauges import show_requests
from homing.overrides import OverrideRefused, OverridesUnavailable
from homing.ports import Listening
from homing.process import Process
from identity import http_api as identity_api
from identity.model import Principal
from identity.port import Identity
from runtime.limits import is_loopback
from runtime.metrics import CONTENT_TYPE
from runtime.rest import Guard, Problem, RequestCounters, RestServer, bearer, make_app, peer, told
from runtime.tls import Tls
from storage.port import Refused as StorageRefused
from storage.port import Unavailable as StorageUnavailable

log = structlog.get_logger("rest")


@dataclass(slots=True)
class Rest:
    """An application before it is served. `guard` asks identity about every token."""

    app: FastAPI
    guard: Guard[Principal]
    counters: RequestCounters

    def add(self, routes: Sequence[APIRouter]) -> None:
        """Serve these too."""
        for one in routes:
            self.app.include_router(one)


def make_rest(process: Process, identity: Identity) -> Rest:
    """An application with /docs, /metrics and the routes for signing in, which every process has: a token of one is
    good at all."""
    counters = RequestCounters()
    name = process.name
    app = make_app(
        title="Homing" if name == "homing" else f"Homing: {name}",
        version=__version__,
        counters=counters,
        problems={**identity_api.problems(), **_problems()},
        on_bug=lambda error: log.error("a REST request met a bug", exc_info=error),
        max_body=process.settings.rest.max_body,
    )
    guard: Guard[Principal] = Guard(
        identity_api.verifier(identity),
        is_admin=identity_api.is_admin,
        allow_plain=process.settings.rest.insecure,
    )
    show_requests(process.metrics, counters)
    rest = Rest(app, guard, counters)
    rest.add([_metrics(guard, process), identity_api.router(identity, guard, process.clock)])
    return rest


def serve_rest(process: Process, rest: Rest, port: int, tls: Tls | None) -> RestServer:
    """The server of an application, with the certificate where the settings ask for it."""
    secure = tls if process.settings.rest.tls else None
    return RestServer(rest.app, host=process.settings.host, port=port, tls=secure)


def rest_listening(process: Process, server: RestServer | None, *, keeper: bool = False) -> tuple[Listening, ...]:
    """How the server shows in the table."""
    if server is None:
        return ()
    secure = process.settings.rest.tls and not keeper
    return (Listening("REST", process.settings.host, server.port, "HTTPS, /docs" if secure else "HTTP, /docs"),)


def _problems() -> dict[type[Exception], Callable[[Exception], Problem]]:
    return {
        StorageUnavailable: lambda _error: Problem(503, "Storage cannot answer now; try again.", 5.0),
        StorageRefused: lambda error: Problem(422, str(error)),
        **tasks_api.problems(),
        OverrideRefused: lambda error: Problem(422, str(error)),
        OverridesUnavailable: lambda _error: Problem(503, "Settings cannot be kept or read now; try again.", 5.0),
    }


def saving(process: Process) -> Callable[[Mapping[str, str]], Awaitable[None]]:
    """How routes keep settings (`smtp.http_api.Save`)."""

    async def save(values: Mapping[str, str]) -> None:
        await process.keeper.change(values)

    return save


def _metrics(guard: Guard[Principal], process: Process) -> APIRouter:
    routes = APIRouter(tags=["server"])
    metrics, asked = process.metrics, process.settings.metrics
    secret = None if asked.token is None else asked.token.get_secret_value().encode()

    async def may_read(request: Request) -> None:
        """As the settings of the group `metrics` say; else administrators."""
        if asked.read == "all" or (asked.read == "loopback" and is_loopback(peer(request))):
            return
        token = bearer(request)
        if secret is not None and token is not None and hmac.compare_digest(token.encode(), secret):
            return
        await guard.admin(request, token)

    @routes.get(
        "/metrics", dependencies=[Depends(may_read)], summary="All figures, for Prometheus", responses=told(401, 403)
    )
    async def figures() -> Response:
        """All figures in prometheus's text form."""
        return Response(metrics.render(), media_type=CONTENT_TYPE)

    return routes
