"""The hooks of the SMTP server: what MAIL, RCPT, DATA and AUTH mean here, asked of identity, storage and reception.

The names are aiosmtpd's (``handle_MAIL`` and so on); what they take and give is typed and ours. Each returns the reply;
errors of the ports escape, and the server turns them into replies by the table in ``errors``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from identity.model import Origin, Resolution, Verdict
from identity.port import Identity
from identity.port import Reason as IdentityReason
from identity.port import Refused as IdentityRefused
from identity.sasl import MECHANISMS, Challenge, Credentials, Exchange, Failed, Fault, mechanism
from runtime.clock import Clock
from runtime.ids import new_id
from runtime.limits import Budget, is_loopback
from smtp import traceheaders
from smtp.errors import reply_to
from smtp.figures import Figures
from smtp.intake import Intake, Streams
from smtp.journal import Journal
from smtp.policy.quota import QuotaCheck
from smtp.reception import Reception
from smtp.session import Session, Transaction, connect_event
from smtp.settings import SmtpSettings
from smtp.wire import replies
from smtp.wire.params import MailArgument, RcptArgument
from smtp.wire.replies import Reply
from storage.model import INLINE_MAX, SYSTEM, Delivery, Event, LocalRecipient, Operation, RemoteRecipient, StagedBlob
from storage.port import Reason, Refused, Storage

TARGETS_MAX = 5000
"""Accounts and addresses that all recipients of one message together may lead to."""
OPENED_MAX = 100_000

Ask = Callable[[bytes], Awaitable[bytes]]
"""Send a challenge (base64) and return the client's line."""

_SASL_FAULTS: dict[Fault, Reply] = {
    Fault.CANCELLED: replies.AUTH_CANCELLED,
    Fault.NOT_BASE64: replies.AUTH_BAD_BASE64,
    Fault.MALFORMED: replies.AUTH_BAD_BASE64,
    Fault.TOO_LONG: replies.AUTH_LINE_TOO_LONG,
    Fault.NOT_PERMITTED: replies.AUTH_FAILED,
    Fault.REFUSED: replies.AUTH_FAILED,
}


class Handler:
    """One for all connections of the service. domain: where mail for plain ``postmaster`` goes. hostname: what we
    call ourselves in Received.

    A submitted message without Date or Message-ID stays without (RFC 6409 §8 would allow to add them): its octets are
    kept as they came, also where they are signed.
    """

    def __init__(
        self,
        settings: SmtpSettings,
        *,
        hostname: str,
        domain: str,
        identity: Identity,
        storage: Storage,
        reception: Reception,
        streams: Streams,
        budget: Budget,
        journal: Journal,
        figures: Figures,
        clock: Clock,
    ) -> None:
        self.settings = settings
        self.hostname = hostname
        self._domain = domain
        self._identity = identity
        self._storage = storage
        self._reception = reception
        self._streams = streams
        self._budget = budget
        self._journal = journal
        self._figures = figures
        self._clock = clock
        self._quota = QuotaCheck(storage, clock)
        self._opened: set[str] = set()

    def now(self) -> float:
        """Unix seconds."""
        return self._clock.now()

    def connected(self, refusal: Reply | None) -> None:
        """A connection came, and was sent away with the reply or not."""
        self._figures.connections += 1
        if refusal is not None:
            self._figures.connections_refused += 1

    # -- AUTH

    def mechanisms(self, session: Session) -> tuple[str, ...]:
        """The SASL mechanisms that the connection may use now (RFC 4954 §3)."""
        plain = self.settings.plain_auth
        if session.tls is not None or plain == "always" or (plain == "loopback" and is_loopback(session.peer)):
            return MECHANISMS
        return ()

    async def handle_AUTH(self, session: Session, name: str, initial: bytes | None, ask: Ask) -> Reply:
        """The whole exchange (RFC 4954 §4)."""
        chosen = mechanism(name)
        if chosen is None:
            return replies.AUTH_UNKNOWN_MECHANISM
        exchange = Exchange(chosen)
        outcome = exchange.start(initial)
        while isinstance(outcome, Challenge):
            outcome = exchange.step(await ask(outcome.encoded))
        if isinstance(outcome, Failed):
            return self._auth_failed(session, _SASL_FAULTS[outcome.fault])
        if not isinstance(outcome, Credentials) or outcome.kind != "password":
            return replies.AUTH_UNKNOWN_MECHANISM
        try:
            principal = await self._identity.authenticate(
                outcome.name, outcome.secret, Origin(session.peer, "smtp", session.helo)
            )
        except IdentityRefused as error:
            return self._auth_failed(session, reply_to(error) or replies.AUTH_FAILED)
        except Exception as error:
            # RFC 4954 §6: 454 says that trying again later makes sense.
            if reply_to(error) is None:
                raise
            return replies.AUTH_UNAVAILABLE
        await self._open(principal.account)
        session.principal = principal
        # From here on news of changes finds this session; one that came just before is asked for.
        if not await self._identity.still_valid(principal):
            session.principal = None
            return self._auth_failed(session, replies.AUTH_FAILED)
        self._figures.sign_ins += 1
        return replies.AUTHENTICATED

    def _auth_failed(self, session: Session, reply: Reply) -> Reply:
        session.auth_failures += 1
        self._figures.sign_ins_failed += 1
        return replies.TOO_MANY_ERRORS if session.auth_failures >= self.settings.auth_failures_max else reply

    # -- MAIL and RCPT

    async def handle_MAIL(self, session: Session, transaction: Transaction, mail: MailArgument) -> Reply:
        """Begin a transaction: is the message's announced size within the limit, is the sender the account's own."""
        # RFC 1870 §6.1
        if mail.size is not None and mail.size > self.settings.size_max:
            return replies.MESSAGE_TOO_BIG
        # RFC 6409 §6.1; the null reverse-path belongs to everybody (RFC 5321 §4.5.5).
        sender = session.principal
        if sender is not None and mail.address and not await self._may_send_as(sender.account, mail.address):
            return replies.NOT_YOUR_ADDRESS
        transaction.begin(mail)
        return replies.SENDER_OK

    async def _may_send_as(self, account: str, address: str) -> bool:
        try:
            return await self._identity.may_send_as(account, address)
        except IdentityRefused:
            return False

    async def handle_RCPT(self, session: Session, transaction: Transaction, rcpt: RcptArgument) -> Reply:
        """Is it ours, who is it, is there room; what is not ours needs a signed-in sender."""
        assert transaction.mail is not None
        # RFC 5321 §4.5.3.1.10
        if transaction.accepted >= self.settings.recipients_max:
            return replies.TOO_MANY_RECIPIENTS
        address = rcpt.address if "@" in rcpt.address else f"{rcpt.address}@{self._domain}"
        reply, account = await self._judge(session, transaction, transaction.mail, address)
        if reply.positive:
            transaction.accepted += 1
        else:
            self._figures.recipients_refused += 1
        transaction.note(
            Event(transaction.trace, self._clock.now(), "rcpt", account, {"address": address, "reply": str(reply)})
        )
        return reply

    async def _judge(
        self, session: Session, transaction: Transaction, mail: MailArgument, address: str
    ) -> tuple[Reply, str | None]:
        """(the reply, the account whose trace shows it)."""
        sender = session.principal.account if session.principal is not None else None
        try:
            found = await self._identity.resolve(address)
        except IdentityRefused as error:
            if error.reason is IdentityReason.BAD_ADDRESS and session.principal is None and "@[" in address:
                return replies.RELAY_DENIED, None
            return reply_to(error) or replies.IDENTITY_UNAVAILABLE, sender
        if found.verdict is Verdict.UNKNOWN or (found.verdict is Verdict.LOCAL and not (found.local or found.remote)):
            return replies.NO_SUCH_USER, sender
        if found.verdict is Verdict.NOT_OURS:
            if session.principal is None:
                return replies.RELAY_DENIED, None
            _add_remote(transaction, address)
            return replies.RECIPIENT_OK, sender
        if len(transaction.local) + len(transaction.remote) + len(found.local) + len(found.remote) > TARGETS_MAX:
            return replies.TOO_MANY_TARGETS, sender
        if not await self._room(found, mail.size or 0):
            return replies.MAILBOX_FULL, found.local[0].account
        # All that can fail comes first: a refused address adds nobody.
        for target in found.local:
            await self._open(target.account)
        for target in found.local:
            if target.account not in transaction.local:
                own = traceheaders.prefix(mail.address, address)
                transaction.local[target.account] = LocalRecipient(target.account, address, own)
        # An alias of ours may lead to other domains, whoever writes to it.
        for other in found.remote:
            _add_remote(transaction, other)
        return replies.RECIPIENT_OK, found.local[0].account if len(found.local) == 1 else sender

    async def _room(self, found: Resolution, size: int) -> bool:
        """False when every account that the address leads to is over its quota: on a list one full mailbox keeps
        nobody else's mail away, and still gets its copy."""
        for target in found.local:
            if await self._quota.has_room(target.account, target.quota, size):
                return True
        return bool(found.remote)

    async def _open(self, account: str) -> None:
        """Once per account and process; storage then has its mailboxes."""
        if account in self._opened:
            return
        await self._storage.open_account(Operation(new_id(), SYSTEM), account)
        if len(self._opened) >= OPENED_MAX:
            self._opened.clear()
        self._opened.add(account)

    # -- DATA

    def open_intake(self, session: Session, transaction: Transaction) -> Intake | Reply:
        """What takes the text after DATA, or a refusal before the client sends any."""
        assert transaction.mail is not None
        announced = min(transaction.mail.size or 0, INLINE_MAX)
        if self._budget.used + announced >= self._budget.limit:
            return replies.NO_MEMORY
        head = traceheaders.received(
            session, self.hostname, transaction.trace, self._clock.now(), smtputf8=transaction.mail.smtputf8
        )
        return self._intake(head)

    def _intake(self, head: bytes) -> Intake:
        return Intake(
            head,
            size_max=self.settings.size_max,
            budget=self._budget,
            streams=self._streams,
            storage=self._storage,
        )

    async def handle_DATA(self, session: Session, transaction: Transaction, intake: Intake) -> Reply:
        """The text has ended: 250 once the message is durable for all its recipients, else for none."""
        reply = await self._outcome(session, transaction, intake)
        if reply.positive:
            self._figures.emails_received += 1
        else:
            self._figures.emails_refused += 1
            self.refused(session, transaction, reply, intake.size)
        return reply

    async def take_whole(self, session: Session, transaction: Transaction, head: bytes, text: bytes) -> Reply:
        """The same for a message of our own making, at once. head: its Received field."""
        intake = self._intake(head)
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
        if intake.refusal is not None:
            return intake.refusal
        try:
            content = await intake.finish()
            if intake.refusal is not None:
                return intake.refusal
            await self._submit(session, transaction, content, intake.size)
        except Exception as error:
            if isinstance(error, Refused) and error.reason is Reason.NO_SUCH_ACCOUNT:
                # Removed between RCPT and DATA: at the next try identity knows.
                self._opened.difference_update(transaction.local)
            reply = reply_to(error)
            if reply is None:
                raise
            return reply
        for account in transaction.local:
            self._quota.delivered(account, intake.size)
        return replies.queued(transaction.trace)

    async def _submit(self, session: Session, transaction: Transaction, content: bytes | StagedBlob, size: int) -> None:
        assert transaction.mail is not None
        now = self._clock.now()
        # Who signed in sees the message in the spool.
        actor = session.principal.account if session.principal is not None else SYSTEM
        await self._reception.submit(
            Delivery(
                op=Operation(new_id(), actor, self._events(session, transaction, size, now)),
                content=content,
                sender=transaction.mail.address,
                received_at=now,
                trace=transaction.trace,
                local=tuple(transaction.local.values()),
                remote=tuple(transaction.remote.values()),
                params=_way_on(transaction.mail) if transaction.remote else {},
            )
        )

    def _events(self, session: Session, transaction: Transaction, size: int, now: float) -> tuple[Event, ...]:
        account = session.principal.account if session.principal is not None else None
        return (
            connect_event(session, transaction.trace),
            *transaction.events,
            Event(transaction.trace, now, "data", account, {"size": size}),
        )

    def refused(self, session: Session, transaction: Transaction, reply: Reply | None, size: int) -> None:
        """A transaction ends without a message: what was seen of it goes to the bounded log of storage."""
        if not transaction.trace or (reply is None and not transaction.events):
            return
        verdict = str(reply) if reply is not None else "given up by the client"
        self._journal.add(
            (
                connect_event(session, transaction.trace),
                *transaction.events,
                Event(transaction.trace, self._clock.now(), "refused", None, {"reply": verdict, "size": size}),
            )
        )


def _add_remote(transaction: Transaction, address: str) -> None:
    local, _, domain = address.rpartition("@")
    transaction.remote.setdefault(f"{local}@{domain.lower()}", RemoteRecipient(address))


def _way_on(mail: MailArgument) -> dict[str, str]:
    """MAIL parameters that concern the next server."""
    params: dict[str, str] = {}
    if mail.body is not None:
        params["BODY"] = mail.body
    if mail.smtputf8:
        params["SMTPUTF8"] = ""
    return params
