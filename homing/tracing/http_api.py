"""Traces over REST: `GET /api/trace?q=…` and `GET /api/trace/{id}`. Accounts see their own, administrators all."""

from __future__ import annotations

from fastapi import APIRouter, Depends, HTTPException, Path, Query
from pydantic import BaseModel, Field

from homing.tracing.finding import Shown, by_id, names_of, search
from homing.tracing.story import State, tell
from identity.http_api import is_admin
from identity.model import Principal
from identity.port import Identity
from runtime.clock import Clock
from runtime.rest import Guard, told
from storage.port import Storage

LIMIT = 20
LIMIT_MAX = 100


class Found(BaseModel):
    """One trace in a list. Times: Unix seconds."""

    trace: str = Field(description="its id, for `GET /api/trace/{id}`")
    started: float
    ended: float
    events: int = Field(description="how many are shown to the caller")
    sender: str | None = Field(description='"" for the null sender; null where no event says it')
    recipients: list[str]
    sentence: str = Field(description="what happened, why, and what to do next")


class FoundTraces(BaseModel):
    """The latest first."""

    traces: list[Found]


class ToldFate(BaseModel):
    """One recipient. state, then what happened, why, and what to do next, a sentence each, "" for none."""

    address: str
    state: State
    at: float
    what: str
    why: str
    do: str


class ToldEvent(BaseModel):
    """One event. what, text: in words. detail: as it was recorded."""

    at: float
    kind: str
    what: str
    text: str
    detail: dict[str, str | int | float | bool | None]


class Trace(Found):
    """One trace, whole."""

    message_id: str
    size: int | None = Field(description="octets")
    fates: list[ToldFate]
    table: list[ToldEvent]


def router(storage: Storage, identity: Identity, guard: Guard[Principal], clock: Clock) -> APIRouter:
    """The routes. They ask the storage and the identity that they are given."""
    routes = APIRouter(tags=["trace"])
    user = Depends(guard.user)

    @routes.get("/api/trace", responses=told(401, 403), summary="Find what became of a message")
    async def find(
        q: str = Query("", max_length=1000, description="a Message-ID, an address, a peer's IP address, or a trace id"),
        since: float = Query(0.0, ge=0, description="Unix seconds: none that ended before"),
        limit: int = Query(LIMIT, ge=1, le=LIMIT_MAX),
        caller: Principal = user,
    ) -> FoundTraces:
        """The latest messages and refused attempts with this Message-ID, or with this address as sender or recipient;
        without `q` the latest of all. An account is shown what concerns its own mail, an administrator everything."""
        shown = await search(storage, q, _whose(caller), since=since, limit=limit)
        return FoundTraces(traces=[await _trace(one, caller) for one in shown])

    @routes.get("/api/trace/{id}", responses=told(401, 403, 404), summary="What became of one message")
    async def one(id: str = Path(max_length=100), caller: Principal = user) -> Trace:
        """Every event of the trace as a table, and in words what happened, why, and what to do next. `id` is in the
        reply to DATA, in the message's first Received field, and the `email_id` that `POST /send` answers."""
        shown = await by_id(storage, id, _whose(caller))
        if shown is None:
            raise HTTPException(404, "There is no trace of this id, or none that you may see.")
        return await _trace(shown, caller)

    async def _trace(shown: Shown, caller: Principal) -> Trace:
        names = await names_of(storage, identity, shown.events)
        events = sorted(shown.events, key=lambda event: event.at)
        story = tell(events, names, now=clock.now(), admin=is_admin(caller))
        return Trace(
            trace=story.trace,
            started=story.started,
            ended=story.ended,
            events=len(events),
            sender=story.sender,
            recipients=[fate.address for fate in story.fates],
            sentence=story.sentence,
            message_id=story.message_id,
            size=story.size,
            fates=[
                ToldFate(address=one.address, state=one.state, at=one.at, what=one.what, why=one.why, do=one.do)
                for one in story.fates
            ],
            table=[
                ToldEvent(at=line.at, kind=line.kind, what=line.what, text=line.detail, detail=dict(event.detail))
                for line, event in zip(story.lines, events, strict=True)
            ],
        )

    return routes


def _whose(caller: Principal) -> str | None:
    return None if is_admin(caller) else caller.account
