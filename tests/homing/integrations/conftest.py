"""The routes behind the real guard and the real application, over SQLite; what is recorded is kept in a list."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from connectors import oauth
from homing.integrations import http_api
from homing.integrations.book import Book, Rules
from homing.integrations.making import Integrations
from homing.integrations.outbox import Outbox
from homing.integrations.vault import Vault, open_vault
from identity import http_api as identity_api
from identity.adapters.sqlite.adapter import open_sqlite
from identity.limiting.gate import Gate
from identity.limiting.rules import BanRules, RateRules
from identity.model import Account, NewAccount, Role
from identity.port import Identity
from identity.settings import IdentitySettings, PasswordSettings
from runtime.clock import ManualClock
from runtime.metrics import Metrics
from runtime.rest import Guard, RequestCounters, make_app
from storage.model import Event
from storage.port import Storage
from tests.connectors.certs import Certs, make
from tests.connectors.servers import SmtpServer, TokenServer

D = "home.example"
ELSEWHERE = "alice@test.example"
SECRET = "correct horse"


class Recording:
    """What of storage is used here."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.broken = False

    async def record(self, events: Sequence[Event]) -> None:
        if self.broken:
            raise OSError("storage is away")
        self.events += events


@dataclass
class Scene:
    """alice and bob have an account and a token each; nothing is sent to anywhere but the test's servers."""

    identity: Identity
    clock: ManualClock
    folder: Path
    rules: Rules
    rates: RateRules = field(default_factory=RateRules)
    recording: Recording = field(default_factory=Recording)
    bugs: list[Exception] = field(default_factory=list)
    people: dict[str, Account] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    vault: Vault = None  # type: ignore[assignment]  # set by `serve`
    outbox: Outbox = None  # type: ignore[assignment]
    http: httpx.AsyncClient = None  # type: ignore[assignment]

    async def stop(self) -> None:
        await self.http.aclose()
        await self.outbox.drain()
        await self.outbox.stop()

    def serve(self, vault: Vault | None = None, **rules: Any) -> None:
        self.rules = replace(self.rules, **rules)
        self.vault = vault or open_vault(None, None, self.folder)
        gate = Gate(self.identity, self.rates, BanRules(), trusted=(), clock=self.clock, metrics=Metrics("test"))
        book = Book(self.identity, self.vault, self.rules)
        self.outbox = Outbox(book, cast(Storage, self.recording), gate, self.clock)
        app = make_app(
            title="t",
            version="1",
            counters=RequestCounters(),
            problems=identity_api.problems(),
            on_bug=self.bugs.append,
        )
        guard = Guard(identity_api.verifier(self.identity), is_admin=identity_api.is_admin)
        app.include_router(identity_api.router(self.identity, guard, self.clock))
        app.include_router(http_api.router(Integrations(self.vault, book, self.outbox), self.identity, guard))
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app, client=("127.0.0.1", 1)), base_url="http://t")

    async def ask(self, method: str, path: str, body: Any = None, who: str = "alice") -> httpx.Response:
        headers = self.headers.get(who, {})
        return await self.http.request(method, f"/smtp/{path}", json=body, headers=headers)

    async def add(self, who: str = "alice", **values: Any) -> dict[str, Any]:
        given = {"name": "work", "from_email": ELSEWHERE, "user": ELSEWHERE, "secret": SECRET, "host": "127.0.0.1"}
        answer = await self.ask("POST", "integrations", given | values, who)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def send(self, who: str = "alice", **values: Any) -> httpx.Response:
        return await self.ask(
            "POST", "send-email", {"to": "bob@b.example", "subject": "s", "message": "m"} | values, who
        )


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certs:
    return make(tmp_path_factory.mktemp("certs"), ["127.0.0.1", "localhost"])


@pytest.fixture
def smtp(certs: Certs) -> Iterator[SmtpServer]:
    with SmtpServer(certs.context()) as server:
        yield server


@pytest.fixture
def tokens(certs: Certs) -> Iterator[TokenServer]:
    oauth.forget_all()
    with TokenServer(certs.context()) as server:
        yield server
    oauth.forget_all()


@pytest.fixture
async def scene(tmp_path: Path, certs: Certs) -> AsyncIterator[Scene]:
    clock = ManualClock()
    cheap = PasswordSettings(memory_kib=64, iterations=1, lanes=1, threads=1)
    settings = IdentitySettings(default_domain=D, passwords=cheap)
    identity = await open_sqlite(tmp_path / "identity.db", settings, clock)
    await identity.add_domain(D)
    made = Scene(identity, clock, tmp_path, Rules(ca_file=str(certs.ca), seconds=10.0, total=20.0))
    made.serve()
    for name, role in (("alice", Role.USER), ("bob", Role.USER), ("admin", Role.ADMIN)):
        made.people[name] = await identity.add_account(NewAccount(f"{name}@{D}", name, role=role))
        answer = await made.http.post("/token", data={"username": name, "password": name})
        made.headers[name] = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    yield made
    await made.stop()
    await identity.close()
    assert made.bugs == []
