"""The asynchronous sending API, made as the settings say: how its messages are composed, and who sends them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote

import identity.port
import storage.port
from connectors.tasks import http_api
from connectors.tasks.http_api import Asked, Compose
from connectors.tasks.model import NewTask
from connectors.tasks.port import TaskQueue
from connectors.tasks.worker import Rules, Worker
from homing.hosts import open_hosts
from homing.http_api import Rest
from homing.keepers import EXIT_CONFIG
from homing.process import Process
from homing.queuesettings import Queue
from homing.settings import Settings
from identity.http_api import is_admin
from identity.limiting.gate import Gate
from identity.limiting.tallies import Limit
from identity.model import Principal
from identity.port import Identity
from mail import address, compose
from runtime.clock import Clock
from runtime.lifecycle import StartError
from smtp import traceheaders
from smtp.outbound.local import LocalFirst
from smtp.outbound.remote import smtp_transport
from smtp.outbound.schedule import HOLD
from smtp.outbound.settings import duration
from smtp.outbound.tlspolicy import TlsPolicies
from smtp.outbound.transport import Letter, Outcome, Phase, Result, Status, Transport
from storage.model import SYSTEM, Delivery, Operation
from storage.port import Storage

DISABLED = Outcome(Status.FAILED, Phase.MAIL, "5.7.1", "The account is disabled, or is there no more")
TAKEN = Outcome(Status.SENT, Phase.TEXT, "2.0.0", "Accepted by this server's own queue")


def add_routes(process: Process, rest: Rest, queue: TaskQueue, gate: Gate) -> None:
    """Serve the API. gate: counts messages of the account, as those that come over SMTP."""

    def admit(caller: Principal) -> float | None:
        rates = gate.rates
        limits = [
            Limit(by, caller.account, rate)
            for by, rate in (("account", rates.account), ("account_recipients", rates.account_recipients))
            if rate is not None
        ]
        over = gate.charge(limits)
        return None if over is None else over.wait

    make = composing(process.settings, process.clock)
    rest.add([http_api.router(queue, rest.guard, make, admit, is_admin)])


def composing(settings: Settings, clock: Clock) -> Compose:
    """How a message is made of what was asked for."""

    def made(caller: Principal, asked: Asked) -> NewTask:
        now, trace = clock.now(), uuid.uuid4()
        sender = sender_of(settings.queue, caller.address)
        to = address.parse_mailbox(asked.to)
        text = compose.message(
            sender=sender,
            recipients=[asked.to],
            subject=asked.subject,
            body=asked.body,
            date=int(now),
            message_id=compose.new_message_id(str(trace), settings.domain),
        )
        head = traceheaders.received_http(asked.peer, settings.name, trace.hex, now)
        if sender != caller.address:
            head += compose.field("Reply-To", caller.address).encode()
        return NewTask(caller.account, sender, str(to), head + text, trace.hex)

    return made


def sender_of(queue: Queue, own: str) -> str:
    """The address that a message comes from. own: the account's."""
    if queue.smtp_host is None:
        return own
    if queue.sender is not None:
        return queue.sender
    return queue.smtp_user if queue.smtp_user is not None and "@" in queue.smtp_user else own


def make_worker(
    process: Process, queue: TaskQueue, identity_: Identity, storage_: Storage, *, concurrency: int | None = None
) -> Worker:
    """Who sends tasks; nothing is claimed yet. concurrency: instead of that of the settings. Raises StartError for
    settings that cannot be used."""
    settings = process.settings
    asked = settings.queue
    rules = Rules(
        concurrency=asked.concurrency if concurrency is None else concurrency,
        delays=tuple(duration(text) for text in asked.retry),
        lease=asked.lease,
        drain_seconds=settings.outbound.drain_seconds,
    )
    try:
        transport = through(settings) if asked.smtp_host else own_mail(identity_, storage_, process.clock)
    except (ValueError, OSError) as error:
        raise StartError(f"Tasks cannot be sent with the settings of queue: {error}.", exit_code=EXIT_CONFIG) from error
    return Worker(
        queue,
        EnabledAlone(transport, identity_, process.clock),
        rules,
        passing=(storage.port.Unavailable, identity.port.Unavailable),
        metrics=process.metrics,
    )


def through(settings: Settings) -> Transport:
    """The transport over the server of the settings, by aiosmtplib as mail to any relay. Raises ValueError."""
    asked, own = settings.queue, settings.outbound
    changed: Mapping[str, object] = {
        "routes": (f"*={route_of(asked)}",),
        "connect_timeout": min(own.connect_timeout, asked.smtp_timeout),
        "command_timeout": asked.smtp_timeout,
    }
    policies = TlsPolicies(None, None, roots=own.roots)
    return smtp_transport(
        own.model_copy(update=changed), open_hosts(settings, asked.smtp_host or ""), policies, settings.name
    )


def route_of(asked: Queue) -> str:
    """The route of `outbound.routes` that means the same; with the password."""
    scheme = "smtps" if asked.smtp_port == 465 else "smtp+tls" if asked.smtp_tls == "must" else "smtp"
    secret = "" if asked.smtp_pass is None else asked.smtp_pass.get_secret_value()
    signed = f"{quote(asked.smtp_user, safe='')}:{quote(secret, safe='')}@" if asked.smtp_user else ""
    host = asked.smtp_host or ""
    return f"{scheme}://{signed}{f'[{host}]' if ':' in host else host}:{asked.smtp_port}"


def own_mail(identity_: Identity, storage_: Storage, clock: Clock) -> Transport:
    """The transport that makes a task mail of the account: delivered to mailboxes of this server, and for other domains
    handed to the spool, by the same operation however often it is tried."""
    return _OwnMail(LocalFirst(_ToSpool(storage_, clock), identity_, storage_, clock))


class EnabledAlone:
    """Sends what is of enabled accounts by ``beyond``: nobody sends by having asked for it before he was disabled."""

    def __init__(self, beyond: Transport, identity_: Identity, clock: Clock) -> None:
        self._beyond = beyond
        self._identity = identity_
        self._clock = clock

    async def send(self, letter: Letter) -> Result:
        """As ``Transport.send``; identity's Unavailable escapes."""
        began = self._clock.monotonic()
        try:
            account = await self._identity.account(letter.account or "")
            enabled = account.enabled and not account.removed
        except identity.port.Refused:
            enabled = False
        if enabled:
            return await self._beyond.send(letter)
        return Result({one.address: DISABLED for one in letter.recipients}, self._clock.monotonic() - began)

    async def close(self) -> None:
        await self._beyond.close()


class _OwnMail:
    """LocalFirst looks at mail that is held for a time: for a task that time has always come."""

    def __init__(self, local: LocalFirst) -> None:
        self._local = local

    async def send(self, letter: Letter) -> Result:
        return await self._local.send(replace(letter, params={**letter.params, HOLD: "0"}))

    async def close(self) -> None:
        await self._local.close()


class _ToSpool:
    """What is for other domains becomes mail that waits in the spool. A task's message fits in one call."""

    def __init__(self, storage_: Storage, clock: Clock) -> None:
        self._storage = storage_
        self._clock = clock

    async def send(self, letter: Letter) -> Result:
        began = self._clock.monotonic()
        delivery = Delivery(
            op=Operation(f"task-{letter.item}", letter.account or SYSTEM),
            content=await letter.read(0, letter.size),
            sender=letter.sender,
            received_at=self._clock.now(),
            trace=letter.trace,
            remote=letter.recipients,
            params={name: value for name, value in letter.params.items() if name != HOLD},
        )
        (outcome,) = await self._storage.accept([delivery])
        if isinstance(outcome, storage.port.Unavailable):
            raise outcome
        told = TAKEN
        if isinstance(outcome, storage.port.Refused):
            told = Outcome(Status.FAILED, Phase.TEXT, "5.3.0", f"The mail store refused it: {outcome.text}")
        return Result({one.address: told for one in letter.recipients}, self._clock.monotonic() - began)

    async def close(self) -> None:
        return None
