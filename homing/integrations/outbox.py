"""Sends a message through an account's own integration, and tells what became of it. Connectors run on threads of the
relay (`connectors.relay`); nothing here keeps the loop waiting."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import structlog

from connectors import letter, recipients
from connectors.exceptions import ConfigurationError, MessageError
from connectors.recipients import Person
from connectors.relay import Relay, Tried
from homing.integrations.book import Book
from homing.integrations.failures import Cause, NotSent, Said, Sent, of_exception, of_outcome
from homing.integrations.vault import SecretsUnreadable
from identity.limiting.gate import Gate
from identity.limiting.tallies import Limit
from identity.model import Integration, Principal
from mail.compose import NOT_IN_A_LINE
from runtime.clock import Clock
from runtime.ids import new_id
from smtp.outbound.transport import Letter, Status
from storage.model import Event, RemoteRecipient
from storage.port import Storage

RELAYS_MAX: Final = 200
"""Integrations whose connections are kept for the next message."""
SHARE: Final = 4
"""The part of what may be sent at once that one account's slow servers can keep from others: one in so many."""
RECIPIENTS_MAX: Final = 100

T = TypeVar("T")
log = structlog.get_logger("sending")


@dataclass(frozen=True, slots=True)
class Done:
    """A message that the provider has taken for at least one recipient. refused: those that it was not taken for."""

    message_id: str
    integration: str
    accepted: tuple[str, ...]
    refused: tuple[tuple[str, Said], ...]
    trace: str


class Outbox:
    """As a service it begins by itself; at the end it closes the connections that are kept."""

    def __init__(self, book: Book, storage: Storage, gate: Gate, clock: Clock) -> None:
        self._book = book
        self._storage = storage
        self._gate = gate
        self._clock = clock
        self._slots = asyncio.Semaphore(book.rules.sends)
        self._shares: dict[str, asyncio.Semaphore] = {}
        self._waiting = 0
        self._of: Counter[str] = Counter()
        self._relays: OrderedDict[tuple[str, str], tuple[int, Relay]] = OrderedDict()
        self._work: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        return None

    async def drain(self) -> None:
        """Wait for what is being sent."""
        if self._work:
            await asyncio.wait(set(self._work))

    async def stop(self) -> None:
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        while self._relays:
            await self._relays.popitem()[1][1].close()

    async def test(self, caller: Principal, id: str) -> Integration:
        """Sign in, without a message. Raises NotSent, and identity's errors."""
        one = await self._book.chosen(caller.account, id)
        async with self._turn(caller.account):
            try:
                # Of its own: what is proved is that signing in works now.
                relay = self._made(one)
                await self._bounded(caller.account, self._signed_in(relay))
            except TimeoutError:
                raise NotSent(Cause.TIMED_OUT, self._overdue()) from None
        await self._book.renew(one)
        return one

    async def send(
        self, caller: Principal, *, to: str, subject: str, message: str, html: str | None, integration: str | None
    ) -> Done:
        """Send, as nobody but the integration's own address. Raises NotSent, and identity's errors."""
        one = await self._book.chosen(caller.account, integration)
        sender, people, written = _written(one, to, subject, message, html)
        self._charge(caller, len(people))
        trace = new_id()
        async with self._turn(caller.account):
            relay = await self._relay(one)
            parcel = _parcel(trace, sender, people, written)
            sending = self._and_record(caller, one, written.message_id, trace, relay, parcel)
            try:
                tried = await self._bounded(caller.account, sending)
            except TimeoutError:
                text = f"{self._overdue()} It may have been sent: look whether it arrived before sending again."
                raise NotSent(Cause.UNSEEN, text, sent=Sent.MAYBE) from None
        if tried.unopened is not None:
            raise of_exception(tried.unopened)
        await self._book.renew(one)
        return _told(tried, people, written.message_id, one, trace)

    # -- one at a time, or so

    @asynccontextmanager
    async def _turn(self, account: str) -> AsyncIterator[None]:
        rules = self._book.rules
        if self._of[account] >= rules.of_account or self._waiting >= rules.waiting:
            raise NotSent(Cause.TOO_BUSY, "Too many messages are being sent at the moment; try again.")
        self._of[account] += 1
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            self._leave(account)

    def _leave(self, account: str) -> None:
        self._of[account] -= 1
        if not self._of[account]:
            del self._of[account]
            self._shares.pop(account, None)

    async def _bounded(self, account: str, work: Coroutine[Any, Any, T]) -> T:
        """Its outcome within the time there is. Raises TimeoutError; it goes on then, and counts until it ends."""

        begun = False
        share = self._shares.setdefault(account, asyncio.Semaphore(max(1, self._book.rules.sends // SHARE)))

        async def in_turn() -> T:
            nonlocal begun
            async with share, self._slots:
                begun = True
                return await work

        task = asyncio.create_task(in_turn(), name="sending")
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        done, _ = await asyncio.wait({task}, timeout=self._book.rules.total)
        if done:
            return task.result()
        if not begun:
            task.cancel()
            await asyncio.wait({task})
            work.close()
            raise NotSent(Cause.TOO_BUSY, "This server is busy with other messages; try again.")
        self._of[account] += 1

        def ended(task: asyncio.Task[T]) -> None:
            self._leave(account)
            if not task.cancelled() and (error := task.exception()) is not None:
                log.warning("a message that nobody waited for any more", reason=str(error))

        task.add_done_callback(ended)
        raise TimeoutError

    def _overdue(self) -> str:
        return f"The provider's server has not come to an end within {self._book.rules.total:.0f} s."

    def _charge(self, caller: Principal, people: int) -> None:
        rates = self._gate.rates
        for by, rate, amount in (
            ("account", rates.account, 1),
            ("account_recipients", rates.account_recipients, people),
        ):
            over = None if rate is None else self._gate.charge([Limit(by, caller.account, rate)], amount)
            if over is not None:
                text = f"You have sent as much as you may for now ({over.limit.rate}); try again later."
                raise NotSent(Cause.TOO_BUSY, text, again=over.wait)

    # -- connections

    async def _relay(self, one: Integration) -> Relay:
        """The kept one of an integration as it is now."""
        key = (one.account, one.id)
        kept = self._relays.get(key)
        if kept is not None and kept[0] == one.revision:
            self._relays.move_to_end(key)
            return kept[1]
        relay = self._made(one)
        old = self._relays.pop(key, None)
        self._relays[key] = (one.revision, relay)
        ended = [] if old is None else [old]
        while len(self._relays) > RELAYS_MAX:
            ended.append(self._relays.popitem(last=False)[1])
        for _, relay_before in ended:
            await relay_before.close()
        return relay

    def _made(self, one: Integration) -> Relay:
        try:
            config = self._book.config(one.settings, self._book.secrets(one))
            relay = Relay(one.settings.name, config, dot_seconds=self._book.rules.seconds)
        except SecretsUnreadable as error:
            raise NotSent(Cause.SECRET_UNREADABLE, str(error)) from error
        except ConfigurationError as error:
            raise NotSent(Cause.BAD_SETTINGS, str(error)) from error
        return relay

    async def _signed_in(self, relay: Relay) -> None:
        try:
            await relay.sign_in()
        except Exception as error:
            raise of_exception(error) from error

    # -- the record

    async def _and_record(
        self, caller: Principal, one: Integration, message_id: str, trace: str, relay: Relay, parcel: Letter
    ) -> Tried:
        tried = await relay.attempt(parcel)
        try:
            await self._storage.record(_events(self._clock.now(), caller, one, message_id, trace, parcel, tried))
        except Exception as error:
            # It was sent, or was not, whatever becomes of the record.
            log.warning("what became of a message could not be recorded", trace=trace, reason=str(error))
        return tried


def _written(
    one: Integration, to: str, subject: str, message: str, html: str | None
) -> tuple[Person, tuple[Person, ...], letter.Letter]:
    try:
        if NOT_IN_A_LINE.search(subject):
            raise MessageError("The subject has a control character in it, perhaps a line end; take it out.")
        sender, people = recipients.one(one.settings.from_email, "sender"), recipients.several(to)
        if len(people) > RECIPIENTS_MAX:
            raise MessageError(f"A message goes to at most {RECIPIENTS_MAX} recipients; send several.")
        return sender, people, letter.write(sender, people, subject, text=message, html=html)
    except MessageError as error:
        raise NotSent(Cause.NOT_ACCEPTABLE, str(error)) from error


def _parcel(trace: str, sender: Person, people: Sequence[Person], written: letter.Letter) -> Letter:
    async def read(start: int, end: int) -> bytes:
        return written.raw[start:end]

    return Letter(
        item=trace,
        trace=trace,
        sender=sender.wire,
        domain="",
        recipients=tuple(RemoteRecipient(person.wire) for person in people),
        size=len(written.raw),
        read=read,
        params={"SMTPUTF8": ""} if written.needs_utf8 else {},
    )


def _told(tried: Tried, people: Sequence[Person], message_id: str, one: Integration, trace: str) -> Done:
    outcomes = tried.result.outcomes
    accepted = [str(person.mailbox) for person in people if outcomes[person.wire].status is Status.SENT]
    refused = [
        (str(person.mailbox), of_outcome(outcomes[person.wire]))
        for person in people
        if outcomes[person.wire].status is not Status.SENT
    ]
    if accepted:
        return Done(message_id, one.settings.name, tuple(accepted), tuple(refused), trace)
    # What leaves most open is told first.
    first = next((said for _, said in refused if said.sent is Sent.MAYBE), refused[0][1])
    texts = tuple((address, said.text) for address, said in refused)
    raise NotSent(first.cause, _sentence(first.text), sent=first.sent, recipients=texts)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _events(
    now: float, caller: Principal, one: Integration, message_id: str, trace: str, parcel: Letter, tried: Tried
) -> list[Event]:
    result = tried.result
    found = []
    for recipient in parcel.recipients:
        outcome = result.outcomes[recipient.address]
        found.append(
            Event(
                trace,
                now,
                "attempt",
                caller.account,
                {
                    "item": trace,
                    "address": recipient.address,
                    "sender": parcel.sender,
                    "message_id": message_id,
                    "domain": recipient.address.rpartition("@")[2],
                    "integration": one.settings.name,
                    # Nobody tries it again.
                    "status": "sent" if outcome.status is Status.SENT else "failed",
                    "phase": outcome.phase.value,
                    "code": outcome.code,
                    "enhanced": outcome.enhanced,
                    "text": outcome.text,
                    "remote": outcome.remote,
                    "tls": result.tls,
                    "verified": result.verified,
                    "attempt": 1,
                    "doubtful": outcome.doubtful,
                    "seconds": round(result.seconds, 3),
                },
            )
        )
    return found
