"""The REST server: one FastAPI application, run inside the process's own event loop and life cycle.

Routers live in each room's `http_api.py` and `admin_api.py` as `def router(port, guard: Guard[P]) -> APIRouter`. In
it `signed_in = Depends(guard.user)` (or `guard.admin`) and on every route that is not open `caller: P = signed_in`; not
inside `Annotated`, where FastAPI could not find the local name. Errors answer `{"detail": "one sentence"}` with a
fitting status.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import OAuth2PasswordBearer
from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.apidocs import docs_routes
from runtime.lifecycle import StartError
from runtime.limits import is_loopback
from runtime.listener import Tls, bind, port_of

P = TypeVar("P")
_IDLE_SECONDS = 1.0
_FAULTS_TOLD = 3
_PLACE_MAX = 100
Verify = Callable[[str], Awaitable[P | None]]
"""From a bearer token to who it stands for; None when it is unknown, expired or revoked."""


# RFC 6750 §2.1; named so that /docs offers to sign in.
_BEARER = OAuth2PasswordBearer(tokenUrl="/token", auto_error=False)


@dataclass(frozen=True, slots=True)
class Problem:
    """How an exception is told over HTTP: the status, one sentence, and seconds until a retry makes sense."""

    status: int
    detail: str
    retry_after: float | None = None


class Told(BaseModel):
    """An error: one sentence."""

    detail: str = Field(examples=["wrong name or password"])


_ANSWERS: Mapping[int, str] = {
    400: "The request is not one that is served here",
    401: "No valid token, or wrong name or password",
    403: "Not permitted, account disabled, or plain HTTP from another machine",
    404: "There is none",
    409: "There is one already, or it is in use",
    413: "It is too long",
    422: "A value is not acceptable",
    429: "Too much was asked, or guessed: wait for Retry-After seconds",
    503: "Cannot answer now: try again",
    507: "The mailbox has no room",
}


def told(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, and 503, for its documentation."""
    return {status: {"model": Told, "description": _ANSWERS[status]} for status in (*statuses, 503)}


class Guard(Generic[P]):
    """Says who calls. `allow_plain` permits tokens over plain HTTP from other machines (a private network)."""

    def __init__(self, verify: Verify[P], *, is_admin: Callable[[P], bool], allow_plain: bool = False) -> None:
        self._verify = verify
        self._is_admin = is_admin
        self._allow_plain = allow_plain

    async def private(self, request: Request) -> None:
        """Dependency of `/token` and of all bearer routes: 403 for plain HTTP from a non-loopback address."""
        if request.url.scheme == "https" or self._allow_plain or is_loopback(peer(request)):
            return
        raise HTTPException(
            403, "This route is served over HTTPS or from the machine itself; see the setting rest.insecure."
        )

    async def user(self, request: Request, token: str | None = Depends(_BEARER)) -> P:
        """Dependency: the caller, by bearer token. 401 without a good one."""
        await self.private(request)
        caller = await self._verify(token) if token else None
        if caller is None:
            raise HTTPException(
                401, "A valid bearer token is needed; POST /token gives one.", {"WWW-Authenticate": "Bearer"}
            )
        return caller

    async def admin(self, request: Request, token: str | None = Depends(_BEARER)) -> P:
        """Dependency: the caller, who must be an administrator; else 403."""
        caller = await self.user(request, token)
        if not self._is_admin(caller):
            raise HTTPException(403, "This is for administrators.")
        return caller


def peer(request: Request) -> str:
    """The caller's IP address (of a proxy on this machine: the one that it tells)."""
    return request.client.host if request.client is not None else ""


def bearer(request: Request) -> str | None:
    """The token of the request (RFC 6750 §2.1), None where there is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


@dataclass(slots=True)
class RequestCounters:
    """Requests since the start, for `/api/stats`: below 400 is successful; `last_request_time` is Unix seconds."""

    total: int = 0
    successful: int = 0
    failed: int = 0
    last_request_time: float | None = None


def make_app(
    *,
    title: str,
    version: str,
    counters: RequestCounters,
    problems: Mapping[type[Exception], Callable[[Exception], Problem]],
    on_bug: Callable[[Exception], None],
    max_body: int = 16 * 1024 * 1024,
) -> FastAPI:
    """An application with `/docs`, counted requests, bounded bodies (octets; one more is 413) and told errors.

    `problems` translates the errors of ports; what is in no entry is a bug: `on_bug` gets it, the caller gets a 500
    without details.
    """
    app = FastAPI(
        title=title,
        version=version,
        # FastAPI's own pages have others' servers bring their programs.
        docs_url=None,
        redoc_url=None,
        routes=docs_routes(title),
        responses={422: {"model": Told, "description": "A value is not acceptable"}},
    )
    app.add_exception_handler(RequestValidationError, _not_acceptable)
    for kind, tell in problems.items():
        app.add_exception_handler(kind, _handler(tell))
    app.add_middleware(_Edge, counters=counters, on_bug=on_bug, max_body=max_body)
    return app


def _handler(tell: Callable[[Exception], Problem]) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(_request: Request, error: Exception) -> Response:
        problem = tell(error)
        headers = None if problem.retry_after is None else {"Retry-After": str(max(1, math.ceil(problem.retry_after)))}
        return JSONResponse({"detail": problem.detail}, problem.status, headers)

    return answer


async def _not_acceptable(_request: Request, error: Exception) -> Response:
    """422 in one sentence. FastAPI's own answer repeats what was sent, and that may be a password."""
    faults = error.errors() if isinstance(error, RequestValidationError) else ()
    told = "; ".join(map(_fault, faults[:_FAULTS_TOLD]))
    more = len(faults) - _FAULTS_TOLD
    return JSONResponse({"detail": told + (f"; and {more} more" if more > 0 else "") + "."}, 422)


def _fault(fault: Mapping[str, Any]) -> str:
    loc: Sequence[str | int] = fault["loc"]
    place = ".".join(str(step) for step in loc[1:] or loc)[:_PLACE_MAX]
    match fault["type"]:
        case "json_invalid":
            # loc ends with the place in the body.
            return f"body: no JSON: {fault['ctx']['error']}, at character {place}"
        case "model_attributes_type":
            return f"{place}: a JSON object is wanted, and Content-Type: application/json"
        case "extra_forbidden":
            return f"{place}: there is no such key"
        case _:
            return f"{place}: {fault['msg']}"


class _Edge:
    """The outermost layer: counts, bounds the body, and tells bugs."""

    def __init__(
        self, app: ASGIApp, counters: RequestCounters, on_bug: Callable[[Exception], None], max_body: int
    ) -> None:
        self._app = app
        self._counters = counters
        self._on_bug = on_bug
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0
        received = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        async def receiving() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_body:
                raise HTTPException(413, f"The body is longer than {self._max_body} octets.")
            return message

        try:
            if _announced(scope) > self._max_body:
                answer = JSONResponse({"detail": f"The body is longer than {self._max_body} octets."}, 413)
                await answer(scope, receive, sending)
            else:
                await self._app(scope, receiving, sending)
        except Exception as error:
            self._on_bug(error)
            if status == 0:
                await JSONResponse({"detail": "The server has met an error of its own."}, 500)(scope, receive, sending)
        finally:
            self._counters.total += 1
            self._counters.last_request_time = time.time()
            if 0 < status < 400:
                self._counters.successful += 1
            else:
                self._counters.failed += 1


def _announced(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


class RestServer:
    """uvicorn as a service among others: it leaves signals alone and starts on sockets of ours.

    `host` and `port` as for `listener.bind`; after `start`, `port` is the one in use.
    """

    def __init__(self, app: ASGIApp, *, host: str, port: int, tls: Tls | None = None) -> None:
        self._app = app
        self._host = host
        self._tls = tls
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self.port = port

    async def start(self) -> None:
        sockets = bind(self._host, self.port, what="REST")
        self.port = port_of(sockets)
        config = uvicorn.Config(
            self._app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            # A proxy on this machine may say for whom it asks; nobody else may.
            proxy_headers=True,
            forwarded_allow_ips=["127.0.0.1", "::1"],
            timeout_keep_alive=15,
            ssl_context_factory=None if self._tls is None else _given(self._tls.context),
        )
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets), name="rest")
        begun = asyncio.create_task(self._server.begun.wait())
        await asyncio.wait({self._serving, begun}, return_when=asyncio.FIRST_COMPLETED)
        if not begun.done():
            begun.cancel()
            raise StartError("The REST server did not start; the log says why.")

    async def drain(self) -> None:
        if self._server is None or self._serving is None:
            return
        self._server.should_exit = True
        while requests := set(self._server.server_state.tasks):
            await asyncio.wait(requests)
        # What is left are idle connections; a TLS client may leave the closing handshake unanswered for long.
        await asyncio.wait({self._serving}, timeout=_IDLE_SECONDS)

    async def stop(self) -> None:
        if self._server is None or self._serving is None:
            return
        self._server.should_exit = self._server.force_exit = True
        await asyncio.wait({self._serving}, timeout=_IDLE_SECONDS)
        self._serving.cancel()
        await asyncio.gather(self._serving, return_exceptions=True)


def _given(context: ssl.SSLContext) -> Callable[..., ssl.SSLContext]:
    return lambda *_: context


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.begun = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.begun.set()
