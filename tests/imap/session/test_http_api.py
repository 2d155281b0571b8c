"""The figures over REST, for administrators alone."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
from fastapi import FastAPI

from imap.http_api import router
from imap.service import ImapStats
from runtime.rest import Guard
from storage.model import IndexHealth, StorageStats


@dataclass
class Kept:
    async def stats(self) -> StorageStats:
        return StorageStats(2, 30, 4000, 5, 0, IndexHealth(0, 0.0, 0.0, None))


@dataclass
class Serving:
    stats: ImapStats


async def verify(token: str) -> str | None:
    return token if token in ("admin", "user") else None


async def test_stats() -> None:
    app = FastAPI()
    guard = Guard(verify, is_admin=lambda caller: caller == "admin")
    service = Serving(ImapStats(active_connections=7, active_sessions=6))
    app.include_router(router(service, Kept(), guard, path="/api/stats"))  # type: ignore[arg-type]  # what the route uses of them
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.get("/api/stats")).status_code == 401
        assert (await client.get("/api/stats", headers={"Authorization": "Bearer user"})).status_code == 403
        answer = await client.get("/api/stats", headers={"Authorization": "Bearer admin"})
    assert answer.json() == {
        "total_emails": 30,
        "total_size_bytes": 4000,
        "emails_today": 5,
        "active_connections": 7,
        "active_sessions": 6,
    }
