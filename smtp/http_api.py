"""The SMTP service over REST: send, health, figures, settings that change while running, restart."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from pydantic import BaseModel, Field

from identity.model import Principal
from mail.address import AddressError
from mail.compose import NOT_IN_A_LINE
from runtime.clock import Clock
from runtime.listener import BindError
from runtime.rest import Guard, RequestCounters, peer, told
from smtp.errors import reply_to
from smtp.policy.limits import Limited
from smtp.sending import NotSent, Sender
from smtp.service import SmtpService
from smtp.settings import LiveSettings
from smtp.wire.replies import Reply

Save = Callable[[Mapping[str, str]], Awaitable[None]]
"""Keeps overrides by key ("smtp.timeout") over a restart."""


class SendBody(BaseModel):
    """A message of plain text to one address."""

    sender: str = Field(max_length=1024)
    recipient: str = Field(max_length=1024)
    subject: str = Field("", max_length=4096)
    body: str = Field("", max_length=8 * 1024 * 1024)


class Sent(BaseModel):
    status: str
    message: str
    email_id: str


class Health(BaseModel):
    """controller_running: do SMTP listeners take new connections now? False where all of them are switched off, and
    while `enabled` is false, which both may be as it was asked for. live: the process runs; ready: it can do its work
    now; depends_on: what it needs for that, "ok" or a sentence each."""

    status: str
    controller_running: bool
    uptime_seconds: float
    emails_in_queue: int
    live: bool = True
    ready: bool
    depends_on: dict[str, str]


class Stats(BaseModel):
    """emails_sent: through REST. emails_received: through SMTP. last_request_time: Unix seconds."""

    emails_sent: int
    emails_received: int
    emails_in_queue: int
    uptime_seconds: float
    requests_total: int
    requests_successful: int
    requests_failed: int
    last_request_time: float | None


@dataclass(frozen=True, slots=True)
class MoreFigures:
    """What else ``/api/stats`` tells. shape: the type of its answer. add: from SMTP's own figures and the caller to
    the whole answer."""

    shape: Any
    add: Callable[[Stats, Principal], Awaitable[Stats]]


async def _no_more(own: Stats, _caller: Principal) -> Stats:
    return own


class Config(BaseModel):
    max_workers: int
    pool_size: int
    timeout: float
    enabled: bool


class Restarted(BaseModel):
    status: str
    message: str


def router(
    service: SmtpService,
    sender: Sender,
    guard: Guard[Principal],
    *,
    counters: RequestCounters,
    clock: Clock,
    save: Save,
    healthy: Callable[[], bool],
    depends: Callable[[], dict[str, str]] = dict,
    more: MoreFigures | None = None,
) -> APIRouter:
    """The routes. healthy: does everything else run that was asked for, depends: and of what is not in this process,
    what state is it in; save: see ``Save``."""
    routes = APIRouter(tags=["smtp"])
    begun = clock.monotonic()
    user = Depends(guard.user)
    figures = more or MoreFigures(Stats, _no_more)

    @routes.post("/send", summary="Send a message", responses=told(401, 403, 404, 413, 422, 429, 507))
    async def send(body: SendBody, request: Request, caller: Principal = user) -> Sent:
        """Send a message in the name of the token's account; it is durable when this answers."""
        if NOT_IN_A_LINE.search(body.subject):
            raise HTTPException(422, "The subject has a control character in it, perhaps a line end; take it out.")
        try:
            email_id = await sender.send(
                caller,
                peer(request),
                sender=body.sender,
                recipients=[body.recipient],
                subject=body.subject,
                body=body.body,
            )
        except NotSent as refused:
            raise _problem(refused.reply) from None
        except AddressError as error:
            raise HTTPException(422, f"An address cannot be used: {error}.") from None
        except Exception as error:
            reply = reply_to(error)
            if reply is None:
                raise
            raise _problem(reply) from error
        return Sent(status="queued", message=f"Message to {body.recipient} is stored for delivery", email_id=email_id)

    @routes.get(
        "/api/health",
        summary="Does all run that was asked for?",
        responses={503: {"model": Health, "description": "Something does not run"}},
    )
    async def health(response: Response) -> Health:
        """200 while everything runs that was asked for, else 503. Open to all."""
        good = healthy() and service.complete
        response.status_code = 200 if good else 503
        return Health(
            status="healthy" if good else "unhealthy",
            controller_running=service.running,
            uptime_seconds=clock.monotonic() - begun,
            emails_in_queue=service.reception.emails_in_queue,
            ready=good,
            depends_on=depends(),
        )

    @routes.get("/api/stats", summary="Look at the figures", response_model=figures.shape, responses=told(401, 403))
    async def stats(caller: Principal = user) -> Stats:
        """The figures since the start."""
        own = Stats(
            emails_sent=service.figures.emails_sent,
            emails_received=service.figures.emails_received,
            emails_in_queue=service.reception.emails_in_queue,
            uptime_seconds=clock.monotonic() - begun,
            requests_total=counters.total,
            requests_successful=counters.successful,
            requests_failed=counters.failed,
            last_request_time=counters.last_request_time,
        )
        return await figures.add(own, caller)

    def config_now() -> Config:
        return Config.model_validate(service.live().model_dump())

    admin = [Depends(guard.admin)]

    @routes.get("/api/config", summary="Look at the settings", responses=told(401, 403), dependencies=admin)
    async def config() -> Config:
        """Those that can be changed here; `homing config` shows all."""
        return config_now()

    @routes.put("/api/config", summary="Change settings", responses=told(401, 403, 422), dependencies=admin)
    async def change(changed: LiveSettings) -> Config:
        """Any of the keys; in force at once, and kept over a restart."""
        given = changed.model_dump(exclude_none=True)
        if given:
            await save({f"smtp.{key}": _text(value) for key, value in given.items()})
            service.apply(changed)
        return config_now()

    @routes.post("/api/restart", summary="Restart the listeners", responses=told(401, 403), dependencies=admin)
    async def restart() -> Restarted:
        """Close the SMTP listeners and open them again; mail in hand is not lost."""
        try:
            await service.restart()
        except BindError as error:
            raise HTTPException(503, str(error)) from None
        return Restarted(status="restarted", message="The SMTP listeners were restarted")

    return routes


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


_STATUS = {
    "5.1.1": 404,
    "5.1.3": 422,
    "5.1.7": 422,
    "5.6.7": 422,
    "5.6.0": 422,
    "5.7.1": 403,
    "5.3.4": 413,
    "4.2.2": 507,
    "4.5.3": 422,
}


def _problem(reply: Reply) -> HTTPException:
    """An SMTP reply as HTTP tells it: 503 for all that may be tried again later and has no status of its own."""
    if isinstance(reply, Limited) and reply.wait > 0:
        return HTTPException(429, f"{reply.text}.", {"Retry-After": str(math.ceil(reply.wait))})
    status = _STATUS.get(reply.enhanced, 503 if reply.code < 500 else 422)
    headers = {"Retry-After": "30"} if status == 503 else None
    return HTTPException(status, f"{reply.text}.", headers)
