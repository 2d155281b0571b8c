"""Bans over REST, for administrators."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from identity.http_api import Done
from identity.model import Ban, BannedBy, NewBan, Principal
from identity.port import Identity
from runtime.rest import Guard, told


class BanValue(BaseModel):
    """Who may not connect. since, until: Unix seconds; until null: until it is lifted. hits: connections and commands
    refused. times: which ban in a row of this target it is."""

    id: str
    target: str
    reason: str
    since: float
    until: float | None
    by: BannedBy
    hits: int
    times: int


class BanValues(BaseModel):
    bans: list[BanValue]


class BanRequest(BaseModel):
    """target: an address, or a network. seconds: how long; null for until it is lifted."""

    model_config = ConfigDict(extra="forbid")
    target: str = Field(max_length=100, examples=["192.0.2.7", "198.51.100.0/24"])
    reason: str = Field(default="", max_length=200)
    seconds: float | None = Field(default=None, gt=0)


def router(identity: Identity, guard: Guard[Principal]) -> APIRouter:
    """The routes; `guard` as for `identity.http_api.router`."""
    routes = APIRouter(tags=["bans"], dependencies=[Depends(guard.admin)])

    @routes.get("/api/bans", summary="List the bans in force", responses=told(401, 403))
    async def bans() -> BanValues:
        return BanValues(bans=[_value(ban) for ban in await identity.bans()])

    @routes.post("/api/bans", summary="Ban an address or a network", status_code=201, responses=told(401, 403, 422))
    async def ban(body: BanRequest) -> BanValue:
        """In the place of the ban that the target has, if any. All doors know of it within seconds."""
        return _value(await identity.ban(NewBan(body.target, body.reason, BannedBy.ADMINISTRATOR, body.seconds)))

    @routes.delete("/api/bans/{id}", summary="Lift a ban", responses=told(401, 403, 404))
    async def lift(id: str) -> Done:
        await identity.lift_ban(id)
        return Done(status="lifted")

    return routes


def _value(ban: Ban) -> BanValue:
    return BanValue(
        id=ban.id,
        target=ban.target,
        reason=ban.reason,
        since=ban.since,
        until=ban.until,
        by=ban.by,
        hits=ban.hits,
        times=ban.times,
    )
