"""From the end of a message's text to the reply: the commit, and what is told of it.

SMTP has one reply for all recipients: the message is durable for all of them, or for none. LMTP (RFC 2033 §4.2) has
one for each, and each is true of its own recipient.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from mail.dsn import About, Action, wanted
from runtime.clock import Clock
from runtime.ids import new_id
from runtime.limits import Budget
from smtp import traceheaders
from smtp.errors import reply_to
from smtp.figures import Figures
from smtp.intake import Intake, Streams
from smtp.journal import Journal
from smtp.outbound.notices import Notices, Read, Subject
from smtp.policy.quota import QuotaCheck
from smtp.reception import Reception
from smtp.session import Recipient, Session, Transaction, connect_event
from smtp.settings import SmtpSettings
from smtp.wire import replies
from smtp.wire.replies import Reply
from storage.model import INLINE_MAX, SYSTEM, Delivery, Event, LocalRecipient, Operation, StagedBlob
from storage.port import Reason, Refused, Storage

log = structlog.get_logger("smtp")


class Acceptance:
    """The part of the handler that comes after DATA and BDAT. One for all connections of the service."""

    def __init__(
        self,
        settings: SmtpSettings,
        *,
        hostname: str,
        storage: Storage,
        reception: Reception,
        streams: Streams,
        budget: Budget,
        journal: Journal,
        figures: Figures,
        clock: Clock,
        notices: Notices,
    ) -> None:
        self.settings = settings
        self.hostname = hostname
        self._storage = storage
        self._reception = reception
        self._streams = streams
        self._budget = budget
        self._journal = journal
        self._figures = figures
        self._clock = clock
        self._notices = notices
        self._quota = QuotaCheck(storage, clock)
        self._opened: set[str] = set()

    def now(self) -> float:
        """Unix seconds."""
        return self._clock.now()

    def size_max(self, session: Session) -> int:
        """Octets of the largest message on the connection's listener."""
        return self.settings.size_max if session.rules.size_max is None else session.rules.size_max

    # -- taking the text

    def open_intake(self, session: Session, transaction: Transaction) -> Intake | Reply:
        """What takes the text after DATA or BDAT, or a refusal before the client sends any."""
        assert transaction.mail is not None
        announced = min(transaction.mail.size or 0, INLINE_MAX)
        if self._budget.used + announced >= self._budget.limit:
            return replies.NO_MEMORY
        head = traceheaders.received(
            session, self.hostname, transaction.trace, self._clock.now(), smtputf8=transaction.mail.smtputf8
        )
        return self._intake(session, head)

    def _intake(self, session: Session, head: bytes) -> Intake:
        return Intake(
            head,
            size_max=self.size_max(session),
            budget=self._budget,
            streams=self._streams,
            storage=self._storage,
        )

    # -- its end

    async def handle_DATA(self, session: Session, transaction: Transaction, intake: Intake) -> tuple[Reply, ...]:
        """The text has ended: 250 once the message is durable. One reply for all recipients, or over LMTP one for each
        RCPT that was accepted, in order."""
        if session.rules.kind == "lmtp":
            outcomes = await self._each(session, transaction, intake)
        else:
            outcomes = (await self._outcome(session, transaction, intake),)
        if outcomes[0].positive or any(reply.positive for reply in outcomes):
            self.taken(session)
        else:
            self._figures.emails_refused += 1
            self.refused(session, transaction, outcomes[0], intake.size)
        return outcomes

    def taken(self, session: Session) -> None:
        """A message was stored for one at least who came over SMTP or LMTP."""
        self._figures.emails_received += 1

    async def take_whole(self, session: Session, transaction: Transaction, head: bytes, text: bytes) -> Reply:
        """The same for a message of our own making, at once. head: its Received field."""
        intake = self._intake(session, head)
        try:
            for at in range(0, len(text), INLINE_MAX):
                if intake.take(text[at : at + INLINE_MAX]):
                    await intake.spill()
            reply = await self._outcome(session, transaction, intake)
            if not reply.positive:
                self.refused(session, transaction, reply, intake.size)
            return reply
        finally:
            await intake.close()

    async def _outcome(self, session: Session, transaction: Transaction, intake: Intake) -> Reply:
        """One reply for all."""
        try:
            content = await _content(intake)
            if isinstance(content, Reply):
                return content
            await self._submit(
                session, transaction, content, intake.size, transaction.local.values(), transaction.remote
            )
            await self._told(session, transaction, transaction.recipients, intake.beginning)
        except Exception as error:
            return self._reply_to(error, transaction)
        return replies.queued(transaction.trace)

    async def _each(self, session: Session, transaction: Transaction, intake: Intake) -> tuple[Reply, ...]:
        """One reply for each accepted RCPT."""
        recipients = transaction.recipients
        try:
            content = await _content(intake)
            fates = [await self._no_room(one, intake.size) for one in recipients]
        except Exception as error:
            content, fates = self._reply_to(error, transaction), []
        if isinstance(content, Reply):
            return (content,) * len(recipients)
        for one, fate in zip(recipients, fates, strict=True):
            if fate is not None:
                detail = {"address": one.address, "reply": str(fate)}
                account = one.targets[0].account if len(one.targets) == 1 else None
                transaction.note(Event(transaction.trace, self._clock.now(), "rcpt", account, detail))
        left = [one for one, fate in zip(recipients, fates, strict=True) if fate is None]
        stored = replies.queued(transaction.trace)
        late: dict[int, Reply] = {}
        if left:
            try:
                onward = [key for one in left for key in one.remote]
                await self._submit(session, transaction, content, intake.size, _of(left, transaction), onward)
            except Refused:
                # One of them is at fault, and the others' mail is not to suffer: each on its own.
                late = await self._alone(session, transaction, content, intake.size, left)
            except Exception as error:
                late = dict.fromkeys(map(id, left), self._reply_to(error, transaction))
        await self._told(session, transaction, [one for one in left if id(one) not in late], intake.beginning)
        return tuple(fate or late.get(id(one), stored) for one, fate in zip(recipients, fates, strict=True))

    async def _alone(
        self,
        session: Session,
        transaction: Transaction,
        content: bytes | StagedBlob,
        size: int,
        recipients: list[Recipient],
    ) -> dict[int, Reply]:
        """Deliver to one recipient after the other; by ``id`` of the recipient, the replies of those that failed."""
        failed: dict[int, Reply] = {}
        stored: set[str] = set()
        for one in recipients:
            # An account or address that several lead to gets the mail once.
            places = [place for place in _of([one], transaction) if place.account not in stored]
            onward = [key for key in one.remote if key not in stored]
            if places or onward:
                try:
                    await self._submit(session, transaction, content, size, places, onward)
                except Exception as error:
                    failed[id(one)] = self._reply_to(error, transaction)
                else:
                    stored.update((place.account for place in places), onward)
        return failed

    async def _no_room(self, one: Recipient, size: int) -> Reply | None:
        """None when an account that the address leads to has room; what is stored is stored for all of them."""
        if one.remote or not one.targets:
            return None
        for target in one.targets:
            if await self._quota.has_room(target.account, target.quota, size):
                return None
        hopeless = all(target.quota is not None and size > target.quota for target in one.targets)
        return replies.LARGER_THAN_MAILBOX if hopeless else replies.MAILBOX_FULL

    def _reply_to(self, error: Exception, transaction: Transaction) -> Reply:
        """The reply to an error of a port, or to what is a bug: over LMTP that too is told of each recipient."""
        if isinstance(error, Refused) and error.reason is Reason.NO_SUCH_ACCOUNT:
            # Removed between RCPT and DATA: at the next try identity knows.
            self._opened.difference_update(transaction.local)
        reply = reply_to(error)
        if reply is None:
            log.error("taking a message", trace=transaction.trace, exc_info=error)
            return replies.SERVER_BUG
        return reply

    async def _submit(
        self,
        session: Session,
        transaction: Transaction,
        content: bytes | StagedBlob,
        size: int,
        local: Iterable[LocalRecipient],
        onward: Iterable[str],
    ) -> None:
        """Commit the message for these accounts, and for the addresses with these keys in ``transaction.remote``."""
        assert transaction.mail is not None
        now = self._clock.now()
        # Who signed in sees the message in the spool.
        actor = session.principal.account if session.principal is not None else SYSTEM
        places = tuple(local)
        remote = tuple(transaction.remote[key] for key in dict.fromkeys(onward))
        await self._reception.submit(
            Delivery(
                op=Operation(new_id(), actor, self._events(session, transaction, size, now)),
                content=content,
                sender=transaction.mail.address,
                received_at=now,
                trace=transaction.trace,
                local=places,
                remote=remote,
                params=transaction.way_on() if remote else {},
            )
        )
        for place in places:
            self._quota.delivered(place.account, size)

    async def _told(
        self, session: Session, transaction: Transaction, recipients: list[Recipient], beginning: bytes
    ) -> None:
        """Tell the sender of deliveries, where that was asked for (RFC 3461 §6.2.2). The message is stored already and
        the reply not yet given: whoever does not hear it sends, and is told, again."""
        mail = transaction.mail
        asking = [one for one in recipients if one.notify is not None]
        if not asking or mail is None or not mail.address:
            return
        about = [each for one in asking if (each := _success(one, self._clock.now())) is not None]
        if not about:
            return
        account = session.principal.account if session.principal is not None else None
        subject = Subject(
            trace=transaction.trace,
            sender=mail.address,
            arrived=self._clock.now(),
            size=len(beginning),
            read=_reader(beginning),
            account=account,
            params=transaction.way_on(),
        )
        try:
            told = await self._notices.tell(subject, about)
            if told.delivery is not None:
                await self._reception.submit(told.delivery)
        except Exception as error:
            if reply_to(error) is None:
                log.exception("telling of a delivery", trace=transaction.trace)
            # The message has been taken all the same.
            why = f"the notice could not be stored: {error}"
            now = self._clock.now()
            self._journal.add(
                Event(transaction.trace, now, "suppressed", account, {"item": "", "about": one.address, "why": why})
                for one in about
            )
            return
        self._journal.add(told.events)

    # -- the trace

    def _events(self, session: Session, transaction: Transaction, size: int, now: float) -> tuple[Event, ...]:
        account = session.principal.account if session.principal is not None else None
        return (
            connect_event(session, transaction.trace),
            *transaction.events,
            Event(transaction.trace, now, "data", account, {"size": size}),
        )

    def refused(self, session: Session, transaction: Transaction, reply: Reply | None, size: int) -> None:
        """A transaction ends without a message: what was seen of it goes to the bounded log of storage."""
        # MAIL alone and nothing after it says nothing about anybody's mail.
        if not transaction.trace or (reply is None and all(event.kind == "mail" for event in transaction.events)):
            return
        verdict = str(reply) if reply is not None else "given up by the client"
        account = session.principal.account if session.principal is not None else None
        accounts = {event.account for event in transaction.events if event.kind == "rcpt"}
        if account is None and len(accounts) == 1:
            # Who alone would have got it is shown that it did not come.
            (account,) = accounts
        self._journal.add(
            (
                connect_event(session, transaction.trace),
                *transaction.events,
                Event(transaction.trace, self._clock.now(), "refused", account, {"reply": verdict, "size": size}),
            )
        )


def _success(one: Recipient, now: float) -> About | None:
    """What is told of an address whose mail was stored here; None where nobody asked, or where the server to which it
    goes on tells."""
    if one.notify is None or not wanted(one.notify, Action.DELIVERED):
        return None
    if len(one.targets) + len(one.remote) > 1:
        # RFC 3461 §5.2.7.3
        return About(
            one.address,
            Action.EXPANDED,
            "2.1.5",
            "It went to all whom the address leads to",
            original=one.orcpt,
            at=now,
        )
    if not one.targets:
        return None
    return About(one.address, Action.DELIVERED, "2.1.5", "It was stored in the mailbox", original=one.orcpt, at=now)


def _reader(beginning: bytes) -> Read:
    async def read(start: int, end: int) -> bytes:
        return beginning[start:end]

    return read


async def _content(intake: Intake) -> bytes | StagedBlob | Reply:
    """The whole message, or what speaks against it. Raises storage's errors."""
    if intake.refusal is not None:
        return intake.refusal
    content = await intake.finish()
    return content if intake.refusal is None else intake.refusal


def _of(recipients: list[Recipient], transaction: Transaction) -> list[LocalRecipient]:
    """The accounts that these recipients lead to, each once."""
    accounts = dict.fromkeys(target.account for one in recipients for target in one.targets)
    return [transaction.local[account] for account in accounts]
