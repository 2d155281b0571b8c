"""The figures of all services together, over REST."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel

from identity.http_api import is_admin
from identity.model import Principal
from imap.service import ImapService
from runtime.metrics import CONTENT_TYPE, Metrics
from runtime.rest import Guard
from smtp.http_api import MoreFigures, Stats
from storage.port import Storage


class Index(BaseModel):
    """The search index: lag: messages not yet in it; lag_seconds: how long the oldest of them has waited."""

    lag: int
    lag_seconds: float
    cpu_seconds: float
    error: str | None


class AllStats(Stats):
    """For administrators, besides SMTP's figures: what is kept (total_size_bytes: of all messages; spool: messages
    that wait to be sent to other servers), who reads, and whether the search index is up to date."""

    accounts: int
    total_emails: int
    total_size_bytes: int
    emails_today: int
    spool: int
    active_connections: int
    active_sessions: int
    index: Index


def more_figures(imap: ImapService, storage: Storage) -> MoreFigures:
    """What `GET /api/stats` tells an administrator besides SMTP's own figures."""

    async def add(own: Stats, caller: Principal) -> Stats:
        if not is_admin(caller):
            return own
        kept, readers = await storage.stats(), imap.stats
        return AllStats(
            **own.model_dump(),
            accounts=kept.accounts,
            total_emails=kept.emails,
            total_size_bytes=kept.size,
            emails_today=kept.emails_today,
            spool=kept.spool,
            active_connections=readers.active_connections,
            active_sessions=readers.active_sessions,
            index=Index(
                lag=kept.index.lag,
                lag_seconds=kept.index.lag_seconds,
                cpu_seconds=kept.index.cpu_seconds,
                error=kept.index.error,
            ),
        )

    return MoreFigures(AllStats | Stats, add)


def router(guard: Guard[Principal], metrics: Metrics) -> APIRouter:
    """`GET /metrics` for administrators."""
    routes = APIRouter(tags=["server"])

    @routes.get("/metrics", dependencies=[Depends(guard.admin)])
    async def figures() -> Response:
        """All figures in prometheus's text form."""
        return Response(metrics.render(), media_type=CONTENT_TYPE)

    return routes
