"""What the services serve over REST besides their own work: health, figures, settings, restart."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, Field

from homing.overrides import OverrideRefused, SettingsKeeper
from identity.model import Principal
from runtime.clock import Clock
from runtime.rest import Guard, RequestCounters, told
from storage.model import StorageStats
from storage.port import Storage


class ServiceHealth(BaseModel):
    """live: the process runs. ready: it can do its work now. depends_on: "ok" or a sentence for each."""

    status: str = Field(examples=["healthy"])
    service: str
    live: bool = True
    ready: bool
    depends_on: dict[str, str]
    uptime_seconds: float


class Settings(BaseModel):
    """settings: of this service, in force now, as text by key, secrets masked. waiting: the keys of those just saved
    that are in force from the next start on."""

    settings: dict[str, str]
    waiting: list[str] = []


class Restarting(BaseModel):
    status: str
    message: str


GROUPS = {
    "identity": ("identity.", "signin.", "metrics.", "log."),
    "storage": ("storage.", "trace.", "metrics.", "log."),
    "imap": ("imap.", "imaps.", "trace.reads", "signin.", "limits.", "rates.connections", "bans.", "metrics.", "log."),
    "worker": ("queue.", "worker.", "metrics.", "log."),
}
"""What begins the keys of the settings that a service shows."""


def service_router(
    name: str,
    guard: Guard[Principal],
    *,
    keeper: SettingsKeeper,
    clock: Clock,
    healthy: Callable[[], bool],
    depends: Callable[[], dict[str, str]],
    again: Callable[[], None],
) -> APIRouter:
    """Health, settings and restart of a service that is a process of its own. healthy: does all run that was asked for,
    depends: the state of what it depends on; again: begin the process again, once this has been answered."""
    routes = APIRouter(tags=[name])
    begun = clock.monotonic()

    @routes.get(
        "/api/health",
        summary="Can it do its work?",
        responses={503: {"model": ServiceHealth, "description": "It cannot do its work now"}},
    )
    async def health(response: Response) -> ServiceHealth:
        """200 while the service can do its work, else 503. Open to all."""
        good = healthy()
        response.status_code = 200 if good else 503
        return ServiceHealth(
            status="healthy" if good else "unhealthy",
            service=name,
            ready=good,
            depends_on=depends(),
            uptime_seconds=clock.monotonic() - begun,
        )

    async def settings_now() -> dict[str, str]:
        return {row.key: row.value for row in await keeper.settings() if row.key.startswith(GROUPS[name])}

    admin = [Depends(guard.admin)]

    @routes.get("/api/config", summary="Look at the settings", responses=told(401, 403), dependencies=admin)
    async def config() -> Settings:
        return Settings(settings=await settings_now())

    @routes.put("/api/config", summary="Change settings", responses=told(401, 403, 422), dependencies=admin)
    async def change(values: dict[str, str | int | float | bool | None]) -> Settings:
        """Keep values over file and environment, for all processes; null takes a kept one back."""
        before = await settings_now()
        if unknown := sorted(values.keys() - before.keys()):
            raise OverrideRefused(f"{unknown[0]} is not a setting of {name}.")
        now = await keeper.change({key: _text(value) for key, value in values.items()})
        return Settings(settings=await settings_now(), waiting=[] if now else sorted(values))

    @routes.post("/api/restart", summary="Restart the service", responses=told(401, 403), dependencies=admin)
    async def restart() -> Restarting:
        """Finish the work in hand and begin again as the same process, with the settings as they are then."""
        again()
        return Restarting(status="restarting", message=f"{name} finishes the work in hand and begins again")

    return routes


def _text(value: str | float | bool | None) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)


class ServiceStats(BaseModel):
    """Since the start. last_request_time: Unix seconds. port: the calls of other services."""

    uptime_seconds: float
    requests_total: int
    requests_successful: int
    requests_failed: int
    last_request_time: float | None
    port: dict[str, int]


class Index(BaseModel):
    """The search index: lag: messages not yet in it; lag_seconds: how long the oldest of them has waited."""

    lag: int
    lag_seconds: float
    cpu_seconds: float
    error: str | None


class StorageServiceStats(ServiceStats):
    """total_size_bytes: of all messages; spool: messages that wait to be sent to other servers."""

    accounts: int
    total_emails: int
    total_size_bytes: int
    emails_today: int
    spool: int
    index: Index


def index(kept: StorageStats) -> Index:
    """The search index's state."""
    return Index(
        lag=kept.index.lag,
        lag_seconds=kept.index.lag_seconds,
        cpu_seconds=kept.index.cpu_seconds,
        error=kept.index.error,
    )


def stats_router(
    name: str,
    guard: Guard[Principal],
    *,
    counters: RequestCounters,
    clock: Clock,
    calls: Callable[[], dict[str, int]],
    storage: Storage | None = None,
) -> APIRouter:
    """`GET /api/stats` of a keeper. calls: figures of its port; storage: the keeper itself, where it is that."""
    routes = APIRouter(tags=[name])
    begun = clock.monotonic()

    @routes.get(
        "/api/stats",
        summary="Look at the figures",
        responses=told(401, 403),
        dependencies=[Depends(guard.admin)],
        response_model=ServiceStats if storage is None else StorageServiceStats,
    )
    async def stats() -> ServiceStats:
        """The figures since the start."""
        own = ServiceStats(
            uptime_seconds=clock.monotonic() - begun,
            requests_total=counters.total,
            requests_successful=counters.successful,
            requests_failed=counters.failed,
            last_request_time=counters.last_request_time,
            port=calls(),
        )
        if storage is None:
            return own
        kept = await storage.stats()
        return StorageServiceStats(
            **own.model_dump(),
            accounts=kept.accounts,
            total_emails=kept.emails,
            total_size_bytes=kept.size,
            emails_today=kept.emails_today,
            spool=kept.spool,
            index=index(kept),
        )

    return routes
