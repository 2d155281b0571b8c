"""A runner over the real stores of the embedded mode, and a transport whose answers a test writes down."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import identity.connect
import storage.connect
from identity.model import NewAccount
from identity.port import Identity
from identity.settings import IdentitySettings, PasswordSettings
from runtime.clock import SystemClock
from runtime.ids import new_id
from runtime.metrics import Metrics
from smtp.outbound.runner import Runner
from smtp.outbound.settings import OutboundSettings
from smtp.outbound.transport import Letter, Outcome, Phase, Result, Status
from storage.model import ALL_UIDS, INLINE_MAX, SYSTEM, Accepted, Delivery, Event, Operation, RemoteRecipient, Want
from storage.port import Storage
from tests.reading import rows_of

DEADLINE = 60.0
CHEAP = PasswordSettings(memory_kib=64, iterations=1)
MESSAGE = (
    b"From: ann@example.org\r\nTo: bob@remote.example\r\nSubject: hello\r\nMessage-ID: <m1@example.org>\r\n\r\nbody\r\n"
)

SENT = Outcome(Status.SENT, Phase.TEXT, "2.0.0", "ok queued", 250, "mx.remote.example [192.0.2.1]:25")
UNKNOWN = Outcome(Status.FAILED, Phase.RCPT, "5.1.1", "no such user", 550, "mx.remote.example [192.0.2.1]:25")
GREY = Outcome(Status.DEFERRED, Phase.RCPT, "4.7.1", "greylisted", 451, "mx.remote.example [192.0.2.1]:25")
DEAD = Outcome(Status.DEFERRED, Phase.CONNECT, "4.4.1", "Connection refused")


def same(letter: Letter, outcome: Outcome, **more: Any) -> Result:
    """The outcome for every recipient."""
    return Result({one.address: outcome for one in letter.recipients}, 0.01, **more)


@dataclass
class Scripted:
    """Each letter is answered by its domain's script, else it is taken."""

    scripts: dict[str, Callable[[Letter], Awaitable[Result]]] = field(default_factory=dict)
    letters: list[Letter] = field(default_factory=list)
    texts: list[bytes] = field(default_factory=list)
    open: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    most: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    closed: bool = False

    async def send(self, letter: Letter) -> Result:
        self.letters.append(letter)
        self.open[letter.domain] += 1
        self.most[letter.domain] = max(self.most[letter.domain], self.open[letter.domain])
        try:
            pieces = [
                await letter.read(at, min(at + INLINE_MAX, letter.size)) for at in range(0, letter.size, INLINE_MAX)
            ]
            self.texts.append(b"".join(pieces))
            script = self.scripts.get(letter.domain)
            return await script(letter) if script is not None else same(letter, SENT)
        finally:
            self.open[letter.domain] -= 1

    async def close(self) -> None:
        self.closed = True

    def answer(self, domain: str, *outcomes: Outcome, **more: Any) -> None:
        """One after the other, the last one from then on."""
        left = list(outcomes)

        async def script(letter: Letter) -> Result:
            return same(letter, left.pop(0) if len(left) > 1 else left[0], **more)

        self.scripts[domain] = script


@dataclass
class Spooled:
    """A store with ann@example.org, and what a runner of it needs."""

    storage: Storage
    identity: Identity
    account: str
    transport: Scripted = field(default_factory=Scripted)
    made: list[Runner] = field(default_factory=list)

    async def put(
        self,
        *addresses: str,
        sender: str = "ann@example.org",
        content: bytes = MESSAGE,
        params: Mapping[str, str] | None = None,
        recipient: Mapping[str, str] | None = None,
        received_at: float | None = None,
    ) -> tuple[str, str]:
        """Spool a message: (the first item, the trace)."""
        trace = new_id()
        (accepted,) = await self.storage.accept(
            [
                Delivery(
                    Operation(new_id(), self.account),
                    content,
                    sender,
                    SystemClock().now() if received_at is None else received_at,
                    trace,
                    remote=tuple(RemoteRecipient(address, recipient or {}) for address in addresses),
                    params=params or {},
                )
            ]
        )
        assert isinstance(accepted, Accepted)
        return accepted.spooled[0], trace

    def runner(self, transport: Any = None, storage: Any = None, **settings: Any) -> Runner:
        made = Runner(
            OutboundSettings(**{"drain_seconds": 2.0, **settings}),
            storage=storage or self.storage,
            identity=self.identity,
            transport=transport or self.transport,
            signer=None,
            clock=SystemClock(),
            metrics=Metrics("homing"),
            hostname="mx.example.org",
            domain="example.org",
        )
        self.made.append(made)
        return made

    @asynccontextmanager
    async def running(self, **more: Any) -> AsyncIterator[Runner]:
        runner = self.runner(**more)
        await runner.start()
        try:
            yield runner
        finally:
            await runner.drain()
            await runner.stop()

    async def events(self, trace: str, kind: str) -> list[Event]:
        return [event for event in await self.storage.trace(trace, None) if event.kind == kind]

    async def waiting(self) -> int:
        return (await self.storage.stats()).spool

    async def until(self, condition: Callable[[], Awaitable[Any]]) -> Any:
        """Wait for what is true, with a deadline."""
        async with asyncio.timeout(DEADLINE):
            while not (found := await condition()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return found

    async def inbox(self) -> list[bytes]:
        """Ann's messages, with their own headers."""
        mailbox = await self.storage.mailbox(self.account, "INBOX")
        rows = await rows_of(self.storage, mailbox.ref, ALL_UIDS, Want.PREFIX | Want.CONTENT)
        return [(row.prefix or b"") + (row.content or b"") for row in rows]


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Spooled]:
    """Over a folder."""
    who = await identity.connect.connect(f"sqlite://{folder}", IdentitySettings(passwords=CHEAP))
    store = await storage.connect.connect(f"sqlite://{folder}")
    await who.add_domain("example.org")
    ann = await who.add_account(NewAccount("ann@example.org", password="a secret of ann"))
    await store.open_account(Operation(new_id(), SYSTEM), ann.id)
    made = Spooled(store, who, ann.id)
    try:
        yield made
    finally:
        for runner in made.made:
            await runner.stop()
        await store.close()
        await who.close()
