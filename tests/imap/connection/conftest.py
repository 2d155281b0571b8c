"""A dialogue that says little, a server for it on loopback, and a client."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from imap.connection import Connections
from imap.dialogue import Out
from imap.limits import ConnectionLimits
from imap.wire.errors import BadSyntax
from imap.wire.forms import Append, Command, Login
from imap.wire.writer import tagged, untagged
from runtime.limits import ConnectionLimit
from tests.hurry import loops

DEADLINE = 60.0
MEGABYTE = b"x" * 65534 + b"\r\n"


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return loops()


class Talk:
    """A dialogue whose commands show what a connection can do."""

    utf8 = False

    def __init__(self, out: Out, world: World) -> None:
        self.out = out
        self.world = world
        self.gone = 0

    async def greet(self) -> None:
        self.out.write(untagged("OK", "ready"))

    async def settle(self) -> bool:
        return False

    async def news(self) -> None:
        await self._pieces()

    async def run(self, command: Command | BadSyntax) -> None:
        self.world.running += 1
        self.world.ran += 1
        try:
            await self._run(command)
        finally:
            self.world.running -= 1

    async def _run(self, command: Command | BadSyntax) -> None:
        if isinstance(command, BadSyntax):
            answer = tagged if command.tag != "*" else (lambda tag, *rest: untagged(*rest))
            self.out.write(answer(command.tag, command.condition, command.text, command.code))
            return
        text = "done"
        match command.name:
            case "LOGIN":
                assert isinstance(command.form, Login)
                if command.form.user == "broken":
                    raise RuntimeError("a bug")
                self.out.signed_in()
            case "CHECK":
                await self.world.gate.wait()
            case "AUTHENTICATE":
                text = f"heard {(await self.out.continuation(b'c2F5')).decode()}"
            case "IDLE":
                self.out.write(b"+ idling\r\n")
                while (line := await self.out.line_or_wake()) is None:
                    self.out.write(b"* news\r\n")
                text = line.decode()
            case "EXPUNGE":
                await self._pieces()
            case "STARTTLS":
                await self.out.start_tls(tagged(command.tag, "OK", "begin"))
                return
            case "LOGOUT":
                self.out.write(untagged("BYE", "bye"))
                self.out.close()
            case "APPEND":
                text = await self._append(command)
        self.out.write(tagged(command.tag, "OK", text))

    async def _pieces(self) -> None:
        for _ in range(self.world.pieces):
            self.out.write(MEGABYTE)
            self.world.written += 1
            await self.out.drain()

    async def _append(self, command: Command) -> str:
        assert isinstance(command.form, Append)
        if command.form.mailbox == "refused":
            return "refused"
        digest = hashlib.sha256()
        size = 0
        try:
            async for chunk in self.out.literal():
                size += len(chunk)
                digest.update(chunk)
                if command.form.mailbox == "half":
                    return "half"
                if command.form.mailbox == "slow":
                    await self.world.gate.wait()
        except BadSyntax as error:
            return f"more followed {error.tag}"
        if self.out.behind_literal:
            return f"{size} then {self.out.behind_literal.decode()}"
        return f"{size} {digest.hexdigest()}"

    def closed(self) -> None:
        self.gone += 1
        assert self.world.running == 0 or len(self.world.talks) > 1


class World:
    """One server with its talks."""

    def __init__(self, connections: Connections, port: int, trust: ssl.SSLContext) -> None:
        self.connections = connections
        self.port = port
        self.trust = trust
        self.talks: list[Talk] = []
        self.gate = asyncio.Event()
        self.pieces = 16
        self.written = 0
        self.running = 0
        self.ran = 0
        self.bugs: list[str] = []

    async def client(self, *, tls: bool = False) -> Client:
        port = self.tls_port if tls else self.port
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            port,
            ssl=self.trust if tls else None,
            server_hostname="localhost" if tls else None,
            limit=1 << 20,
        )
        client = Client(reader, writer)
        assert (await client.line()).startswith(b"* ")
        return client

    tls_port = 0


class Client:
    """Lines out, lines in, with a deadline on each."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, octets: bytes) -> None:
        self.writer.write(octets)

    async def line(self) -> bytes:
        return await asyncio.wait_for(self.reader.readline(), DEADLINE)

    async def ask(self, octets: bytes) -> bytes:
        self.send(octets)
        return await self.line()

    async def rest(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(-1), DEADLINE)

    async def start_tls(self, trust: ssl.SSLContext) -> None:
        await asyncio.wait_for(self.writer.start_tls(trust, server_hostname="localhost"), DEADLINE)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 (what is waited for lies in others' hands and has no event)
            await asyncio.sleep(0.002)


@pytest.fixture(name="until")
def until_fixture() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    return until


Start = Callable[..., Awaitable[World]]


@pytest.fixture
async def start(certificate: Path) -> AsyncIterator[Start]:
    """Start a server: start(limits=…, admission=…) -> World."""
    servers: list[asyncio.Server] = []
    worlds: list[World] = []

    async def go(limits: ConnectionLimits | None = None, admission: int | None = None) -> World:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        trust = ssl.create_default_context(cafile=str(certificate))

        def make(out: Out) -> Talk:
            talk = Talk(out, world)
            world.talks.append(talk)
            return talk

        limit = None if admission is None else ConnectionLimit(admission, exempt=())
        connections = Connections(make, tls=context, limits=limits, admission=limit)
        loop = asyncio.get_running_loop()
        plain = await loop.create_server(connections.protocol, "127.0.0.1", 0)
        secure = await loop.create_server(connections.protocol, "127.0.0.1", 0, ssl=context)
        servers.extend((plain, secure))
        world = World(connections, plain.sockets[0].getsockname()[1], trust)
        world.tls_port = secure.sockets[0].getsockname()[1]
        loop.set_exception_handler(lambda _, context: world.bugs.append(str(context.get("exception"))))
        worlds.append(world)
        return world

    yield go
    for server in servers:
        server.close()
    for world in worlds:
        world.gate.set()
        await world.connections.end(within=0.2)
        await until(lambda world=world: not world.connections.open)
        assert all(talk.gone == 1 for talk in world.talks)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for localhost, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path
