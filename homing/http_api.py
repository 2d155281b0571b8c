"""The figures of all services together, over REST."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel

from identity.http_api import is_admin
from identity.model import Principal
from imap.service import ImapService
from runtime.clock import Clock
from runtime.metrics import CONTENT_TYPE, Metrics
from runtime.rest import Guard, RequestCounters
from smtp.http_api import Stats
from smtp.service import SmtpService
from storage.port import Storage

STATS = "/api/stats"


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


def router(
    smtp: SmtpService,
    imap: ImapService,
    storage: Storage,
    guard: Guard[Principal],
    *,
    metrics: Metrics,
    counters: RequestCounters,
    clock: Clock,
) -> APIRouter:
    """`GET /api/stats` of all services (it takes the place of SMTP's own), and `GET /metrics` for administrators."""
    routes = APIRouter(tags=["server"])
    begun = clock.monotonic()
    signed_in = Depends(guard.user)

    def of_smtp() -> Stats:
        return Stats(
            emails_sent=smtp.figures.emails_sent,
            emails_received=smtp.figures.emails_received,
            emails_in_queue=smtp.reception.emails_in_queue,
            uptime_seconds=clock.monotonic() - begun,
            requests_total=counters.total,
            requests_successful=counters.successful,
            requests_failed=counters.failed,
            last_request_time=counters.last_request_time,
        )

    @routes.get(STATS)
    async def stats(caller: Principal = signed_in) -> AllStats | Stats:
        """The figures since the start; an administrator sees those of the store and of the readers too."""
        if not is_admin(caller):
            return of_smtp()
        kept, readers = await storage.stats(), imap.stats
        return AllStats(
            **of_smtp().model_dump(),
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

    @routes.get("/metrics", dependencies=[Depends(guard.admin)])
    async def figures() -> Response:
        """All figures in prometheus's text form."""
        return Response(metrics.render(), media_type=CONTENT_TYPE)

    return routes
