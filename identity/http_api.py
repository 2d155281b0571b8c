"""Identity over REST for everyone who signs in: tokens, and is a domain ours.

The routers of this room tell a `Refused` or `Unavailable` of the port by letting it pass; the application translates it
by `problems`.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Path, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from identity.model import Origin, Principal, Role, Token
from identity.port import Identity, Reason, Refused, Unavailable
from runtime.clock import Clock
from runtime.rest import Guard, Problem, peer, told

STATUS = {
    Reason.BAD_CREDENTIALS: 401,
    Reason.SLOW_DOWN: 429,
    Reason.DISABLED: 403,
    Reason.NO_SUCH_DOMAIN: 404,
    Reason.NO_SUCH_ACCOUNT: 404,
    Reason.NO_SUCH_ALIAS: 404,
    Reason.NO_SUCH_CREDENTIAL: 404,
    Reason.NO_SUCH_BAN: 404,
    Reason.NO_SUCH_KEY: 404,
    Reason.NO_SUCH_INTEGRATION: 404,
    Reason.ALREADY_EXISTS: 409,
    Reason.IN_USE: 409,
    Reason.BAD_ADDRESS: 422,
    Reason.BAD_PASSWORD: 422,
    Reason.LIMIT: 422,
}

# RFC 6749 §5.1: no token may stay in a cache.
NOT_CACHED = {"Cache-Control": "no-store", "Pragma": "no-cache"}


def problems() -> Mapping[type[Exception], Callable[[Exception], Problem]]:
    """How the port's errors are told over HTTP, for `runtime.rest.make_app`."""

    def refused(error: Exception) -> Problem:
        if not isinstance(error, Refused):
            raise error
        return Problem(STATUS[error.reason], error.text, error.retry_after)

    def unavailable(_error: Exception) -> Problem:
        return Problem(503, "Identity cannot answer now; try again.", 5.0)

    return {Refused: refused, Unavailable: unavailable}


def verifier(identity: Identity) -> Callable[[str], Awaitable[Principal | None]]:
    """From a bearer token to its principal, for `runtime.rest.Guard`. Unavailable passes."""

    async def verify(token: str) -> Principal | None:
        try:
            return await identity.verify_token(token)
        except Refused:
            return None

    return verify


def is_admin(principal: Principal) -> bool:
    """For `runtime.rest.Guard`."""
    return principal.role is Role.ADMIN


class Bearer(BaseModel):
    """A bearer token (RFC 6749 §5.1)."""

    access_token: str
    token_type: str = "bearer"
    expires_in: int = Field(description="seconds", examples=[3600])
    refresh_token: str


class Login(BaseModel):
    """email: the whole address, or a name of the default domain."""

    model_config = ConfigDict(hide_input_in_errors=True)
    email: str = Field(max_length=1024, examples=["user@example.com"])
    password: str = Field(max_length=4096)


class Refresh(BaseModel):
    """The refresh token of a pair."""

    model_config = ConfigDict(hide_input_in_errors=True)
    refresh_token: str = Field(max_length=4096)


class Caller(BaseModel):
    """Whom a token stands for."""

    id: str
    email: str
    role: Role
    quota: int | None = Field(description="octets; null for no limit")


class Done(BaseModel):
    """It is done."""

    status: str = "ok"


class DomainExists(BaseModel):
    """Is mail for the domain kept here?"""

    exists: bool
    domain: str


def router(identity: Identity, guard: Guard[Principal], clock: Clock) -> APIRouter:
    """The routes; `guard` made with `verifier` and `is_admin`."""
    routes = APIRouter()
    signed_in = Depends(guard.user)

    def bearer(token: Token) -> Bearer:
        return Bearer(
            access_token=token.access,
            expires_in=max(0, math.floor(token.expires_at - clock.now())),
            refresh_token=token.refresh,
        )

    async def sign_in(request: Request, name: str, password: str) -> Bearer:
        principal = await identity.authenticate(name, password, origin(request))
        return bearer(await identity.issue_token(principal))

    @routes.post(
        "/token",
        tags=["sign-in"],
        summary="Get a bearer token (OAuth 2, RFC 6749)",
        response_model=Bearer,
        responses=told(400, 401, 403, 429),
        dependencies=[Depends(guard.private)],
    )
    async def token(
        request: Request,
        grant_type: Annotated[str, Form(description="password or refresh_token")] = "password",
        username: Annotated[str, Form(max_length=1024)] = "",
        password: Annotated[str, Form(max_length=4096, json_schema_extra={"format": "password"})] = "",
        refresh_token: Annotated[str, Form(max_length=4096)] = "",
    ) -> JSONResponse:
        try:
            match grant_type:
                # RFC 6749 §5.2: a parameter is missing, as all are where the body is no form
                case "password" if not (username and password):
                    return oauth_error(400, "invalid_request", "username and password are needed, as fields of a form")
                case "refresh_token" if not refresh_token:
                    return oauth_error(400, "invalid_request", "refresh_token is needed, as a field of a form")
                case "password":
                    # RFC 6749 §4.3.2. Tolerance: grant_type may be left out.
                    answer = await sign_in(request, username, password)
                case "refresh_token":
                    # RFC 6749 §6
                    answer = bearer(await identity.refresh_token(refresh_token))
                case _:
                    return oauth_error(400, "unsupported_grant_type", "grant_type is password or refresh_token")
        except Refused as error:
            # RFC 6749 §5.2 answers 400; Tolerance: clients of this interface look for 401 as of every sign-in.
            return oauth_error(STATUS[error.reason], "invalid_grant", error.text, error.retry_after)
        return JSONResponse(answer.model_dump(), headers=NOT_CACHED)

    @routes.post(
        "/api/login",
        tags=["sign-in"],
        summary="Sign in with an address and a password",
        responses=told(401, 403, 422, 429),
        dependencies=[Depends(guard.private)],
    )
    async def login(request: Request, body: Login) -> Bearer:
        return await sign_in(request, body.email, body.password)

    @routes.post("/api/verify", tags=["sign-in"], summary="Whom does my token stand for?", responses=told(401, 403))
    @routes.get("/api/verify", tags=["sign-in"], summary="Whom does my token stand for?", responses=told(401, 403))
    async def verify(caller: Principal = signed_in) -> Caller:
        return Caller(id=caller.account, email=caller.address, role=caller.role, quota=caller.quota)

    @routes.post(
        "/api/refresh",
        tags=["sign-in"],
        summary="Get a new pair of tokens for a refresh token",
        description="The old pair ends. A refresh token that is used twice ends all that came from the same sign-in.",
        responses=told(401, 403, 422),
        dependencies=[Depends(guard.private)],
    )
    async def refresh(body: Refresh) -> Bearer:
        return bearer(await identity.refresh_token(body.refresh_token))

    @routes.post("/api/logout", tags=["sign-in"], summary="End my token", responses=told(401, 403))
    async def logout(request: Request, _caller: Principal = signed_in) -> Done:
        await identity.revoke_token(request.headers["authorization"].partition(" ")[2].strip())
        return Done()

    @routes.get(
        "/api/domains/{domain}/exists",
        tags=["domains"],
        summary="Is mail for this domain kept here?",
        responses=told(401, 403),
    )
    async def domain_exists(
        domain: Annotated[str, Path(max_length=1024, examples=["example.com"])],
        _caller: Principal = signed_in,
    ) -> DomainExists:
        return DomainExists(exists=await identity.domain_exists(domain), domain=domain)

    return routes


def origin(request: Request) -> Origin:
    """Where a request comes from, as `authenticate` asks."""
    return Origin(peer(request), "rest", request.headers.get("user-agent", "")[:200])


def oauth_error(status: int, error: str, text: str, retry_after: float | None = None) -> JSONResponse:
    """An error of the token endpoint (RFC 6749 §5.2), which also says `detail` as all routes do."""
    headers = dict(NOT_CACHED)
    if retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": error, "error_description": text, "detail": text}, status, headers)
