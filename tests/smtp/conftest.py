"""A running SMTP service on ports of the kernel's choice, over in-memory ports."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop

from runtime.clock import SystemClock
from runtime.listener import Tls, make_self_signed
from runtime.metrics import Metrics
from smtp.service import SmtpService
from smtp.settings import SmtpSettings
from tests.hurry import loops
from tests.smtp.fakes import FakeIdentity, FakeStorage

DEADLINE = 60.0
LoopFactory = Callable[[], asyncio.AbstractEventLoop]


@dataclass
class Client:
    """Speaks SMTP line by line."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    seen: list[str] = field(default_factory=list)

    async def reply(self) -> str:
        """The next whole reply, its lines joined by LF."""
        lines = []
        async with asyncio.timeout(DEADLINE):
            while True:
                raw = await self.reader.readline()
                if not raw:
                    raise EOFError("the server closed the connection")
                line = raw.decode().rstrip("\r\n")
                lines.append(line)
                if line[3:4] != "-":
                    return "\n".join(lines)

    async def say(self, line: str | bytes) -> str:
        await self.send(line if isinstance(line, bytes) else line.encode() + b"\r\n")
        return await self.reply()

    async def send(self, octets: bytes) -> None:
        self.writer.write(octets)
        await self.writer.drain()

    async def hello(self, name: str = "client.example") -> str:
        await self.reply()
        return await self.say(f"EHLO {name}")

    async def sign_in(self, user: str = "alice@example.org", password: str = "wonder") -> str:
        import base64

        return await self.say("AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode())

    async def envelope(self, sender: str = "a@remote.example", *recipients: str) -> None:
        assert (await self.say(f"MAIL FROM:<{sender}>")).startswith("250")
        for one in recipients or ("alice@example.org",):
            assert (await self.say(f"RCPT TO:<{one}>")).startswith("250")

    async def data(self, text: bytes) -> str:
        assert (await self.say("DATA")).startswith("354")
        await self.send(text)
        return await self.reply()

    async def closed(self) -> bytes:
        """What still comes until the server closes."""
        async with asyncio.timeout(DEADLINE):
            try:
                return await self.reader.read(-1)
            except ConnectionResetError:
                return b""


@dataclass
class Running:
    service: SmtpService
    identity: FakeIdentity
    storage: FakeStorage
    client_tls: ssl.SSLContext

    async def connect(self, listener: str = "smtp", source: str | None = None) -> Client:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            self.service.ports[listener],
            ssl=self.client_tls if listener == "submissions" else None,
            local_addr=(source, 0) if source else None,
        )
        return Client(reader, writer)


Start = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_self_signed(tmp_path_factory.mktemp("tls"), ["localhost"])


@pytest.fixture
def start(certificate: tuple[Path, Path]) -> Start:
    """start(**settings): the service, running."""

    @asynccontextmanager
    async def starting(**changed: Any) -> AsyncIterator[Running]:
        identity, storage = FakeIdentity(), FakeStorage()
        settings = SmtpSettings(**{"port": 0, "submission_port": 0, "submissions_port": 0, **changed})
        service = SmtpService(
            settings,
            host="127.0.0.1",
            hostname="mx.example.org",
            domain="example.org",
            identity=identity,  # type: ignore[arg-type]  # what the service asks of it
            storage=storage,  # type: ignore[arg-type]  # likewise
            tls=Tls(*certificate).context,
            clock=SystemClock(),
            metrics=Metrics("homing"),
        )
        client_tls = ssl.create_default_context(cafile=str(certificate[0]))
        client_tls.check_hostname = False
        await service.start()
        try:
            yield Running(service, identity, storage, client_tls)
        finally:
            await service.stop()

    return starting


@pytest.fixture
async def running(start: Start) -> AsyncIterator[Running]:
    async with start() as one:
        yield one


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """Wait for a condition, with a deadline."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition():  # noqa: ASYNC110  # what is waited for is in the server, without an event
                await asyncio.sleep(0.005)

    return wait


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    """The runner of the spool has no socket of its own, and is tried under one alone."""
    if item.path.name.startswith("test_runner"):
        return {"uvloop": uvloop.new_event_loop}
    return loops()
