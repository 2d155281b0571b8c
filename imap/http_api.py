"""The IMAP service over REST: its figures, for administrators."""

from __future__ import annotations

from typing import TypeVar

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from imap.service import ImapService
from runtime.rest import Guard, told
from storage.port import Storage

P = TypeVar("P")


class Stats(BaseModel):
    """total_size_bytes: of all messages. emails_today: since midnight UTC. active_sessions: signed in."""

    total_emails: int
    total_size_bytes: int
    emails_today: int
    active_connections: int
    active_sessions: int


def router(service: ImapService, storage: Storage, guard: Guard[P], *, path: str = "/api/imap/stats") -> APIRouter:
    """The route `path`: "/api/stats" where the service runs alone, its own name where it shares an application."""
    routes = APIRouter(tags=["imap"])

    @routes.get(
        path,
        summary="Look at the figures of IMAP",
        responses=told(401, 403),
        dependencies=[Depends(guard.admin)],
    )
    async def stats() -> Stats:
        """What the readers are doing, and what there is to read."""
        kept, here = await storage.stats(), service.stats
        return Stats(
            total_emails=kept.emails,
            total_size_bytes=kept.size,
            emails_today=kept.emails_today,
            active_connections=here.active_connections,
            active_sessions=here.active_sessions,
        )

    return routes
