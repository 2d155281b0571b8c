"""The hooks of the SMTP server: what MAIL, RCPT, DATA and AUTH mean here, asked of identity, storage and reception.

The names are aiosmtpd's (``handle_MAIL`` and so on); what they take and give is typed and ours. Each returns the reply;
errors of the ports escape, and the server turns them into replies by the table in ``errors``.
"""

from __future__ import annotations

from dataclasses import replace

from identity.model import Origin, Resolution, Target, Verdict
from identity.port import Identity
from identity.port import Reason as IdentityReason
from identity.port import Refused as IdentityRefused
from identity.sasl import Ask, Conversation, Ended, Exchange, Fault, Ground, mechanism, mechanisms
from identity.scram_offer import ScramOffer
from runtime.clock import Clock
from runtime.ids import new_id
from runtime.limits import Budget
from smtp import traceheaders
from smtp.acceptance import Acceptance
from smtp.errors import reply_to
from smtp.figures import Figures
from smtp.intake import Streams
from smtp.journal import Journal
from smtp.outbound.notices import Notices
from smtp.policy.limits import Limited, Limits
from smtp.policy.turnedaway import TurnedAway
from smtp.reception import Reception
from smtp.session import Recipient, Session, Transaction, connect_event
from smtp.settings import SmtpSettings
from smtp.wire import ehlo, replies
from smtp.wire.dsn import original, without_success
from smtp.wire.hold import date_time
from smtp.wire.params import MailArgument, RcptArgument
from smtp.wire.replies import Reply
from storage.model import SYSTEM, Event, LocalRecipient, Operation, RemoteRecipient
from storage.port import Storage

TARGETS_MAX = 5000
"""Accounts and addresses that all recipients of one message together may lead to."""
OPENED_MAX = 100_000
NAME_MAX = 320
"""Characters of what a client says at sign-in that the trace keeps."""
HOLD_PAST_SECONDS = 300
"""By how much a moment until which mail is to be held may have passed: clocks differ, and a client is slow."""

_SASL_FAULTS: dict[Fault, Reply] = {
    Fault.CANCELLED: replies.AUTH_CANCELLED,
    Fault.NOT_BASE64: replies.AUTH_BAD_BASE64,
    Fault.MALFORMED: replies.AUTH_BAD_BASE64,
    Fault.TOO_LONG: replies.AUTH_LINE_TOO_LONG,
    Fault.NOT_PERMITTED: replies.AUTH_FAILED,
    Fault.REFUSED: replies.AUTH_FAILED,
}


class Handler(Acceptance):
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
        limits: Limits,
    ) -> None:
        super().__init__(
            settings,
            hostname=hostname,
            storage=storage,
            reception=reception,
            streams=streams,
            budget=budget,
            journal=journal,
            figures=figures,
            clock=clock,
            # Those of success return no more than the header.
            notices=Notices(identity, storage, clock, hostname=hostname, domain=domain, return_max=0),
        )
        self.limits = limits
        self.scram = ScramOffer(identity, clock, settings.scram)
        self._turned_away = TurnedAway(journal, clock)
        self._domain = domain
        self._identity = identity

    def connected(self, session: Session, refusal: Reply | None) -> None:
        """A connection came, and was sent away with the reply or not."""
        self._figures.connections += 1
        if refusal is not None:
            self._figures.connections_refused += 1
            self._turned_away.note(session, refusal)

    def taken(self, session: Session) -> None:
        super().taken(session)
        self.limits.took_mail(session)

    # -- EHLO

    def offer(self, session: Session, *, starttls: bool) -> ehlo.Facts:
        """What the connection is offered now. starttls: there is a certificate."""
        hold = self._hold_max(session)
        return ehlo.Facts(
            kind=session.rules.kind,
            size_max=self.size_max(session),
            recipients_max=self.recipients_max(session),
            mails_max=self.settings.mails_max,
            tls=session.tls is not None,
            starttls=starttls and session.rules.starttls,
            mechanisms=self.mechanisms(session),
            hold_max=hold,
            # By the minute, so that the answer is made once for many; it may be later than what was told.
            hold_until=date_time((self._clock.now() + hold) // 60 * 60) if hold else "",
        )

    def recipients_max(self, session: Session) -> int:
        """Recipients of one message on the connection's listener."""
        asked = session.rules.recipients_max
        return self.settings.recipients_max if asked is None else asked

    def _hold_max(self, session: Session) -> int:
        return int(self.settings.hold_max) if session.rules.kind == "submission" else 0

    # -- AUTH

    def mechanisms(self, session: Session) -> tuple[str, ...]:
        """The SASL mechanisms that the connection may use now (RFC 4954 §3)."""
        if session.rules.auth == "off":
            return ()
        plain = self.settings.plain_auth
        if session.tls is not None or plain == "always" or (plain == "loopback" and session.near):
            return mechanisms(_ground(session))
        return ()

    async def handle_AUTH(self, session: Session, name: str, initial: bytes | None, ask: Ask) -> Reply:
        """The whole exchange (RFC 4954 §4)."""
        chosen = mechanism(name, _ground(session))
        if chosen is None:
            return replies.AUTH_UNKNOWN_MECHANISM
        exchange = Exchange(chosen)
        said = Conversation(exchange, self._identity, Origin(session.peer, "smtp", session.helo), ask)
        try:
            principal = await said.run(exchange.start(initial))
        except Ended as error:
            return self._auth_failed(session, name, said.name or None, _SASL_FAULTS[error.fault])
        except IdentityRefused as error:
            if error.reason in (IdentityReason.BAD_CREDENTIALS, IdentityReason.SLOW_DOWN):
                checked = error.reason is IdentityReason.BAD_CREDENTIALS
                self.limits.failed_sign_in(session, said.name, said.secret, checked=checked)
            return self._auth_failed(session, name, said.name or None, reply_to(error) or replies.AUTH_FAILED)
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
            return self._auth_failed(session, name, said.name or principal.address, replies.AUTH_FAILED)
        self._figures.sign_ins += 1
        return replies.AUTHENTICATED

    def _auth_failed(self, session: Session, mechanism: str, name: str | None, reply: Reply) -> Reply:
        session.auth_failures += 1
        self._figures.sign_ins_failed += 1
        if reply is not replies.AUTH_SLOW_DOWN or self._turned_away.worth_telling("auth", session):
            trace = new_id()
            detail = {"name": name and name[:NAME_MAX], "mechanism": mechanism[:NAME_MAX].upper(), "reply": str(reply)}
            self._journal.add((connect_event(session, trace), Event(trace, self._clock.now(), "auth", None, detail)))
        return replies.TOO_MANY_ERRORS if session.auth_failures >= self.settings.auth_failures_max else reply

    # -- MAIL and RCPT

    async def handle_MAIL(self, session: Session, transaction: Transaction, mail: MailArgument) -> Reply:
        """Begin a transaction: is the message's announced size within the limit, is the sender the account's own."""
        reply = await self._judge_sender(session, mail)
        if reply.positive:
            self.begin(session, transaction, mail)
        else:
            self._refused_mail(session, mail, reply)
        return reply

    def _refused_mail(self, session: Session, mail: MailArgument, reply: Reply) -> None:
        # A rate that is used up is no error that would end the connection, and the client may ask without end.
        if isinstance(reply, Limited) and not self._turned_away.worth_telling("limited", session):
            return
        refused = Transaction(trace=new_id())
        self.limits.explain(session, refused, reply)
        self._note_mail(session, refused, mail, reply)
        self.refused(session, refused, reply, 0)

    def begin(self, session: Session, transaction: Transaction, mail: MailArgument) -> None:
        """Begin a transaction, whoever the sender is."""
        session.mails += 1
        transaction.begin(mail)
        transaction.hold_until = self._held_until(mail)
        self._note_mail(session, transaction, mail, replies.SENDER_OK)

    def _note_mail(self, session: Session, transaction: Transaction, mail: MailArgument, reply: Reply) -> None:
        account = session.principal.account if session.principal is not None else None
        detail: dict[str, str | int] = {"address": mail.address, "reply": str(reply)}
        if mail.size is not None:
            # Storage keeps numbers of 64 bits.
            detail["size"] = min(mail.size, 2**63 - 1)
        transaction.note(Event(transaction.trace, self._clock.now(), "mail", account, detail))

    async def _judge_sender(self, session: Session, mail: MailArgument) -> Reply:
        # RFC 9422 §4.1
        if session.mails >= self.settings.mails_max:
            return replies.TOO_MANY_MAILS
        # RFC 1870 §6.1
        if mail.size is not None and mail.size > self.size_max(session):
            return replies.MESSAGE_TOO_BIG
        # RFC 8689 §2
        if mail.requiretls and session.tls is None:
            return replies.REQUIRETLS_NEEDS_TLS
        until = self._held_until(mail)
        if until is not None:
            most = self._hold_max(session)
            if not most:
                return replies.UNKNOWN_PARAMETER
            # RFC 4865 §4
            if until > self._clock.now() + most:
                return replies.HOLD_TOO_LONG
            if until < self._clock.now() - HOLD_PAST_SECONDS:
                return replies.HOLD_IS_PAST
        # RFC 6409 §6.1; the null reverse-path belongs to everybody (RFC 5321 §4.5.5).
        sender = session.principal
        if sender is not None and mail.address and not await self._may_send_as(sender.account, mail.address):
            return replies.NOT_YOUR_ADDRESS
        return self.limits.mail(session, mail.address) or replies.SENDER_OK

    def _held_until(self, mail: MailArgument) -> int | None:
        if mail.hold_for is not None:
            return int(self._clock.now()) + mail.hold_for
        return mail.hold_until

    async def _may_send_as(self, account: str, address: str) -> bool:
        try:
            return await self._identity.may_send_as(account, address)
        except IdentityRefused:
            return False

    async def handle_RCPT(self, session: Session, transaction: Transaction, rcpt: RcptArgument) -> Reply:
        """Is it ours, who is it, is there room; what is not ours needs a signed-in sender."""
        assert transaction.mail is not None
        # RFC 5321 §4.5.3.1.10
        if transaction.accepted >= self.recipients_max(session):
            return replies.TOO_MANY_RECIPIENTS
        if "@" not in rcpt.address:
            rcpt = replace(rcpt, address=f"{rcpt.address}@{self._domain}")
        address, account = rcpt.address, None
        reply = self.limits.rcpt(session)
        if reply is None:
            reply, account = await self._judge(session, transaction, transaction.mail, rcpt)
        if not reply.positive:
            self._figures.recipients_refused += 1
            self.limits.explain(session, transaction, reply)
        if reply is replies.NO_SUCH_USER:
            self.limits.unknown_recipient(session, address)
        transaction.note(
            Event(transaction.trace, self._clock.now(), "rcpt", account, {"address": address, "reply": str(reply)})
        )
        return reply

    async def _judge(
        self, session: Session, transaction: Transaction, mail: MailArgument, rcpt: RcptArgument
    ) -> tuple[Reply, str | None]:
        """(the reply, the account whose trace shows it)."""
        address = rcpt.address
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
            _add(transaction, rcpt, onward=_onward(transaction, address, found))
            return replies.RECIPIENT_OK, sender
        if len(transaction.local) + len(transaction.remote) + len(found.local) + len(found.remote) > TARGETS_MAX:
            return replies.TOO_MANY_TARGETS, sender
        if not await self._room(found, mail.size or 0):
            return replies.MAILBOX_FULL, found.local[0].account
        if transaction.hold_until is not None:
            # RFC 4865 §3: nobody gets it earlier. It waits in the spool under the address as it was named, and finds
            # its way to a mailbox when it is released.
            _add(transaction, rcpt, onward=_onward(transaction, address, found))
            return replies.RECIPIENT_OK, sender
        # All that can fail comes first: a refused address adds nobody.
        for target in found.local:
            await self._open(target.account)
        for target in found.local:
            if target.account not in transaction.local:
                own = traceheaders.prefix(mail.address, address)
                transaction.local[target.account] = LocalRecipient(target.account, address, own)
        # An alias of ours may lead to other domains, whoever writes to it.
        _add(transaction, rcpt, targets=found.local, onward=found.remote)
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


def _add(
    transaction: Transaction, rcpt: RcptArgument, *, targets: tuple[Target, ...] = (), onward: tuple[str, ...] = ()
) -> None:
    """Count a recipient that is accepted, and the addresses of other domains that it leads to."""
    # RFC 3461 §5.2.7: what one address leads to alone inherits all that was asked; of several, success is told here.
    alone = len(targets) + len(onward) == 1
    keys: tuple[str, ...] = ()
    if onward:
        params: dict[str, str] = {}
        notify = rcpt.notify if alone else without_success(rcpt.notify)
        if notify is not None:
            params["NOTIFY"] = notify
        if rcpt.orcpt is not None or onward != (rcpt.address,):
            params["ORCPT"] = rcpt.orcpt or original(rcpt.address)
        keys = tuple(map(_key, onward))
        for key, address in zip(keys, onward, strict=True):
            transaction.remote.setdefault(key, RemoteRecipient(address, params))
    transaction.recipients.append(Recipient(rcpt.address, targets, keys, rcpt.notify, rcpt.orcpt))


def _key(address: str) -> str:
    """Of an address of another domain, in ``Transaction.remote``."""
    local, _, domain = address.rpartition("@")
    return f"{local}@{domain.lower()}"


def _onward(transaction: Transaction, address: str, found: Resolution) -> tuple[str, ...]:
    """The address as it is named, for the spool; () where the message is held already for all whom it leads to, who
    would get it once for each of its names when it is released."""
    if transaction.hold_until is None:
        return (address,)
    ends = {target.account for target in found.local} | {
        _key(one) for one in found.remote or (() if found.local else (address,))
    }
    if ends <= transaction.held:
        return ()
    transaction.held |= ends
    return (address,)


def _ground(session: Session) -> Ground:
    return Ground(session.scram, b"" if session.tls is None else session.tls.binding)
