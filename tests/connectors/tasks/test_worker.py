"""Workers against remote servers in every state: what each comes to, and that a task ends once."""

from __future__ import annotations

import asyncio
import ssl
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connectors.tasks.adapters.spool import SpoolTasks
from connectors.tasks.model import Claimed, NewTask, Status, Task
from connectors.tasks.port import Unavailable
from connectors.tasks.worker import LOST_MAX, Rules, Worker
from homing.settings import load_settings
from homing.tasks import route_of, sender_of, through
from runtime.metrics import Metrics
from smtp.outbound.transport import Letter, Outcome, Phase, Result, Transport
from smtp.outbound.transport import Status as Sent
from storage.adapters.sqlite.adapter import SqliteStorage
from tests.live import free_ports
from tests.smtp.outbound import pki
from tests.smtp.outbound.peers import Peer

TO = "x@far.example"
SECONDS = 60.0


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[SpoolTasks]:
    store = SqliteStorage(tmp_path / "data")
    await store.open(index=False)
    tasks = SpoolTasks(store)
    yield tasks
    await tasks.close()
    await store.close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.tasks.worker.POLL_SECONDS", 0.02)


async def put(queue: SpoolTasks, to: str = TO) -> str:
    task = NewTask("ann", "ann@example.org", to, b"Subject: x\r\n\r\n.Hello\r\n", uuid.uuid4().hex)
    return await queue.put(task, uuid.uuid4().hex)


async def ended(queue: SpoolTasks, id: str) -> Task:
    async with asyncio.timeout(SECONDS):
        while True:
            task = await queue.task(id, None)
            if task.status is not Status.PENDING:
                return task
            await asyncio.sleep(0.01)


@asynccontextmanager
async def working(queue: SpoolTasks, transport: Transport, **rules: Any) -> AsyncIterator[Worker]:
    how = {"delays": (0.0,), "lease": 30.0, **rules}
    worker = Worker(queue, transport, Rules(**how), metrics=Metrics("test"), passing=(ConnectionError,))
    await worker.start()
    try:
        yield worker
    finally:
        await worker.drain()
        await worker.stop()


class Certified:
    """Certificates for localhost, and the file of who has signed them."""

    def __init__(self, folder: Path) -> None:
        authority = pki.authority()
        folder.mkdir(exist_ok=True)
        self.roots = folder / "roots.pem"
        self.roots.write_bytes(authority.pem)
        self.good = pki.server("localhost", by=authority).server(folder)
        self.wrong = pki.server("elsewhere.example", by=authority).server(folder)


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    return Certified(tmp_path_factory.mktemp("pki"))


def transport_to(port: int, certified: Certified, **env: str) -> Transport:
    settings = load_settings(
        {
            "SMTP_HOST": "localhost",
            "SMTP_PORT": str(port),
            "SMTP_USER": "me@example.org",
            "SMTP_PASS": "p:@/ä",
            "HOMING_OUTBOUND_ROOTS": str(certified.roots),
            "HOMING_QUEUE_SMTP_TIMEOUT": "15",
            **env,
        }
    ).settings
    return through(settings)


def _tls(peer: Peer, context: ssl.SSLContext) -> None:
    peer.tls = context


AUTH = ("AUTH PLAIN LOGIN",)
# A short message is all on its way before the server's end is seen: that is in doubt too.
# What is done to the server; the status, how many attempts, what the reason says, and whether it is in doubt.
FAILURES: dict[str, tuple[Callable[[Peer, Certified], object], Status, int, str, bool]] = {
    "all is well": (lambda peer, _: None, Status.SUCCESS, 1, "", False),
    "a certificate for another name": (
        lambda peer, certified: _tls(peer, certified.wrong), Status.FAILED, 3, "certificate", False,
    ),
    "no STARTTLS": (lambda peer, _: setattr(peer, "tls", None), Status.FAILED, 3, "TLS", False),
    "a refused login": (
        lambda peer, _: peer.replies.update(AUTH="535 5.7.8 Wrong name or password"), Status.FAILED, 1, "535", False,
    ),
    "a refused recipient": (
        lambda peer, _: peer.replies.update(RCPT="550 5.1.1 No such user"), Status.FAILED, 1, "550 5.1.1 No such user",
        False,
    ),
    "a recipient refused for now": (
        lambda peer, _: peer.replies.update(RCPT=["451 4.7.1 Grey", "451 4.7.1 Grey", "250 2.1.5 Ok"]), Status.SUCCESS,
        3, "", False,
    ),
    "busy for ever": (lambda peer, _: peer.replies.update(MAIL="421 4.3.2 Busy"), Status.FAILED, 3, "421", False),
    "the connection closed within the message": (lambda peer, _: peer.close.add("MIDDLE"), Status.FAILED, 3, "", True),
    "no reply after the message": (lambda peer, _: peer.silent.add("TEXT"), Status.FAILED, 3, "", True),
    "the connection closed after the message": (lambda peer, _: peer.close.add("TEXT"), Status.FAILED, 3, "", True),
    "a message refused": (
        lambda peer, _: peer.replies.update(TEXT="554 5.7.1 Spam"), Status.FAILED, 1, "554 5.7.1 Spam", False,
    ),
    "a silent server": (lambda peer, _: peer.silent.add("CONNECT"), Status.FAILED, 3, "", False),
}  # fmt: skip


IMPATIENT = {
    "no reply after the message": {"HOMING_OUTBOUND_DATA_TIMEOUT": "0.2"},
    "a silent server": {"HOMING_QUEUE_SMTP_TIMEOUT": "0.2"},
}


@pytest.mark.parametrize("how", FAILURES)
async def test_what_a_server_does_becomes_a_status_and_a_reason(
    queue: SpoolTasks, certified: Certified, how: str
) -> None:
    change, status, attempts, reason, doubtful = FAILURES[how]
    peer = Peer(tls=certified.good)
    peer.extensions = (*peer.extensions, *AUTH)
    change(peer, certified)
    async with peer, working(queue, transport_to(peer.port, certified, **IMPATIENT.get(how, {}))):
        task = await ended(queue, await put(queue))
    assert (task.status, task.attempts, task.doubtful) == (status, attempts, doubtful), task.reason
    assert reason in task.reason
    assert bool(task.reason) == (status is Status.FAILED)
    assert "\n" not in task.reason
    assert "p:@" not in task.reason
    if status is Status.SUCCESS:
        assert [one.text for one in peer.taken] == [b"Subject: x\r\n\r\n..Hello\r\n"]
        assert peer.taken[0].tls
        assert peer.taken[0].rcpt[0].startswith(f"RCPT TO:<{TO}>")
    if not doubtful:
        # Twice only where the reply could not be seen.
        assert len(peer.taken) <= 1


async def test_a_host_that_there_is_not_and_a_closed_port(queue: SpoolTasks, certified: Certified) -> None:
    (port,) = free_ports(1)
    async with working(queue, transport_to(port, certified)):
        task = await ended(queue, await put(queue))
    assert (task.status, task.attempts, task.doubtful) == (Status.FAILED, 3, False)
    assert str(port) in task.reason
    missing = {"SMTP_HOST": "no-such-host.invalid", "HOMING_DNS_SERVERS": f"127.0.0.1:{port}"}
    async with working(queue, transport_to(port, certified, **missing, HOMING_DNS_TIMEOUT="0.2")):
        task = await ended(queue, await put(queue))
    assert (task.status, task.attempts, task.doubtful) == (Status.FAILED, 3, False)
    assert "no-such-host.invalid" in task.reason


async def test_doubt_is_told_of_a_success_too(queue: SpoolTasks, certified: Certified) -> None:
    peer = Peer(tls=certified.good)
    peer.extensions = (*peer.extensions, *AUTH)
    peer.close.add("TEXT")

    class Once:
        """The server recovers after the first attempt."""

        def __init__(self, beyond: Transport) -> None:
            self._beyond = beyond

        async def send(self, letter: Letter) -> Result:
            result = await self._beyond.send(letter)
            peer.close.discard("TEXT")
            return result

        async def close(self) -> None:
            await self._beyond.close()

    async with peer, working(queue, Once(transport_to(peer.port, certified))):
        task = await ended(queue, await put(queue))
    assert (task.status, task.attempts, task.doubtful) == (Status.SUCCESS, 2, True)


class Fake:
    """A transport that does what it is told."""

    def __init__(self, do: Callable[[Letter], Awaitable[Outcome]]) -> None:
        self._do = do
        self.letters: list[Letter] = []
        self.closed = False

    async def send(self, letter: Letter) -> Result:
        self.letters.append(letter)
        return Result({letter.recipients[0].address: await self._do(letter)}, 0.01)

    async def close(self) -> None:
        self.closed = True


OK = Outcome(Sent.SENT, Phase.TEXT, "2.0.0", "ok", 250)


async def test_many_are_sent_at_once_and_no_more(queue: SpoolTasks) -> None:
    together, most = 0, 0

    async def slow(_letter: Letter) -> Outcome:
        nonlocal together, most
        together += 1
        most = max(most, together)
        await asyncio.sleep(0.005)
        together -= 1
        return OK

    ids = [await put(queue) for _ in range(20)]
    async with working(queue, Fake(slow), concurrency=3) as worker:
        assert {(await ended(queue, id)).status for id in ids} == {Status.SUCCESS}
    assert 2 <= most <= 3
    assert (worker.figures.succeeded, worker.figures.failed, worker.running) == (20, 0, 0)


async def test_a_drain_lets_what_is_sent_end(queue: SpoolTasks) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def held(_letter: Letter) -> Outcome:
        begun.set()
        await go.wait()
        return OK

    id, other = await put(queue), ""
    async with working(queue, Fake(held)) as worker:
        await begun.wait()
        draining = asyncio.create_task(worker.drain())
        await asyncio.sleep(0)
        other = await put(queue)
        go.set()
        await draining
        assert (await queue.task(id, None)).status is Status.SUCCESS
        assert (await queue.task(other, None)).status is Status.PENDING
        assert not (await queue.task(other, None)).doubtful


async def test_what_is_broken_off_is_in_doubt_and_no_attempt(queue: SpoolTasks) -> None:
    begun = asyncio.Event()

    async def forever(_letter: Letter) -> Outcome:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    id = await put(queue)
    async with working(queue, Fake(forever), drain_seconds=0.05):
        await begun.wait()
    task = await queue.task(id, None)
    assert (task.status, task.attempts, task.doubtful) == (Status.PENDING, 0, True)

    async def good(_letter: Letter) -> Outcome:
        return OK

    async with working(queue, Fake(good)):
        task = await ended(queue, id)
    assert (task.status, task.attempts, task.doubtful) == (Status.SUCCESS, 1, True)


class Slow:
    """A queue whose first claim runs out while its message is read; another worker has the task then."""

    def __init__(self, queue: SpoolTasks, told: bool) -> None:
        self._queue = queue
        self._told = told
        self._claimed = False
        self.read = asyncio.Event()
        self.go = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    async def claim(self, limit: int, lease: float, wait: float = 0.0) -> tuple[Claimed, ...]:
        if self._claimed:
            # The task is for the other one.
            await self.go.wait()
            return await self._queue.claim(limit, lease, wait)
        found = await self._queue.claim(limit, 0.05, wait)
        self._claimed = bool(found)
        return tuple(replace(one, content=None) for one in found)

    async def content(self, id: str) -> bytes:
        self.read.set()
        await self.go.wait()
        return await self._queue.content(id)

    async def extend(self, leases: Mapping[str, str], lease: float) -> frozenset[str]:
        if not self._told and not self.go.is_set():
            raise Unavailable("away")
        return await self._queue.extend(leases, lease)


@pytest.mark.parametrize("told", [True, False])
async def test_what_another_worker_has_taken_over_is_not_begun(queue: SpoolTasks, told: bool) -> None:
    """told: the worker has asked for more time, and heard that the lease is another's. Else it could not ask, and its
    time has passed."""

    async def good(_letter: Letter) -> Outcome:
        return OK

    slow, fake = Slow(queue, told), Fake(good)
    id = await put(queue)
    async with working(slow, fake, lease=30.0 if told else 0.2) as worker:  # type: ignore[arg-type]
        async with asyncio.timeout(SECONDS):
            await slow.read.wait()
            while not (taken := await queue.claim(1, 600.0, 0.05)):
                pass
            assert taken[0].task.id == id
            if told:
                await worker._extend()
            else:
                await asyncio.sleep(0.25)
            slow.go.set()
            while worker.running:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert not fake.letters
    await queue.succeed(taken[0])


async def test_a_bug_is_an_attempt_and_what_passes_is_none(queue: SpoolTasks) -> None:
    async def broken(_letter: Letter) -> Outcome:
        raise KeyError("x")

    async with working(queue, Fake(broken)):
        task = await ended(queue, await put(queue))
    assert (task.status, task.attempts, task.doubtful) == (Status.FAILED, 3, False)
    assert "error of its own" in task.reason

    asked = asyncio.Event()

    async def away(_letter: Letter) -> Outcome:
        asked.set()
        raise ConnectionError("storage is away")

    async with working(queue, Fake(away)):
        id = await put(queue)
        await asked.wait()
    assert await queue.task(id, None) == Task(id, "ann", TO, Status.PENDING, 0)


async def test_what_kills_its_workers_is_given_up(queue: SpoolTasks) -> None:
    async def never(_letter: Letter) -> Outcome:
        raise AssertionError("it is not tried again")

    id = await put(queue)
    for _ in range(LOST_MAX):
        async with asyncio.timeout(SECONDS):
            while not await queue.claim(1, 0.001, 1.0):
                pass
    fake = Fake(never)
    async with working(queue, fake):
        task = await ended(queue, id)
    assert (task.status, task.attempts, task.doubtful) == (Status.FAILED, 0, True)
    assert "workers" in task.reason
    assert not fake.letters


async def test_a_queue_that_is_away_is_asked_again(queue: SpoolTasks, monkeypatch: pytest.MonkeyPatch) -> None:
    async def good(_letter: Letter) -> Outcome:
        return OK

    failures = 4

    def failing(real: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any, **how: Any) -> Any:
            nonlocal failures
            if failures > 0:
                failures -= 1
                raise Unavailable("away")
            return await real(*args, **how)

        return call

    id = await put(queue)
    for name in ("claim", "succeed"):
        monkeypatch.setattr(queue, name, failing(getattr(queue, name)))
    monkeypatch.setattr("connectors.tasks.worker.RETRY_MIN", 0.001)
    fake = Fake(good)
    async with working(queue, fake):
        assert (await ended(queue, id)).attempts == 1
    assert failures == 0
    assert len(fake.letters) == 1
    assert fake.closed


@pytest.mark.parametrize(
    ("env", "route"),
    [
        ({}, "smtp+tls://h.example:587"),
        ({"SMTP_PORT": "465"}, "smtps://h.example:465"),
        ({"SMTP_PORT": "2525", "HOMING_QUEUE_SMTP_TLS": "may"}, "smtp://h.example:2525"),
        ({"SMTP_USER": "a@b", "SMTP_PASS": "p:/@%"}, "smtp+tls://a%40b:p%3A%2F%40%25@h.example:587"),
    ],
)
def test_routes(env: dict[str, str], route: str) -> None:
    assert route_of(load_settings({"SMTP_HOST": "h.example", **env}).settings.queue) == route


def test_names_of_the_environment_count_beside_the_host_alone() -> None:
    queue = load_settings({"SMTP_PORT": "9000", "SMTP_USER": "x", "SMTP_PASS": "y"}).settings
    assert (queue.rest.port, queue.queue.smtp_port, queue.queue.smtp_user) == (9000, 587, None)
    both = load_settings({"SMTP_HOST": "h", "SMTP_PORT": "9000", "SMTP_USER": "x"}).settings
    assert (both.rest.port, both.queue.smtp_port, both.queue.smtp_user) == (8000, 9000, "x")
    empty = load_settings({"SMTP_HOST": "", "SMTP_PORT": "9000"}).settings
    assert (empty.rest.port, empty.queue.smtp_host, empty.queue.smtp_port) == (8000, None, 587)


def test_senders() -> None:
    def of(**env: str) -> str:
        return sender_of(load_settings(env).settings.queue, "ann@example.org")

    assert of() == "ann@example.org"
    assert of(SMTP_HOST="h") == of(SMTP_HOST="h", SMTP_USER="apikey") == "ann@example.org"
    assert of(SMTP_HOST="h", SMTP_USER="me@gmail.example") == "me@gmail.example"
    assert of(SMTP_HOST="h", SMTP_USER="me@gmail.example", HOMING_QUEUE_SENDER="no@x.example") == "no@x.example"
