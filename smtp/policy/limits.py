"""Rates and bans as SMTP tells them: which counts each step adds to, and the reply where one is used up."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from identity.guesspolicy import place
from identity.limiting.gate import Gate, span
from identity.limiting.rules import Offence, network_of
from identity.limiting.tallies import Limit, Over
from identity.model import Ban, BannedBy
from runtime.clock import Clock
from runtime.ids import new_id
from smtp.journal import Journal
from smtp.session import Session, Transaction, connect_event
from smtp.wire.replies import Reply
from storage.model import Event

DOOR = "smtp"
_KEY_MAX = 128
_WHO = {
    "address": "messages from your address",
    "network": "messages from your network",
    "recipients": "recipients from your address",
    "sender": "messages of this sender",
    "account": "messages of your account",
    "account_recipients": "recipients of your account",
    "connections": "connections from your address",
}


@dataclass(frozen=True, slots=True)
class Limited(Reply):
    """A refusal by a rate or a ban. event, detail: how the trace tells it. wait: seconds after which a rate has room
    again, 0 for a ban."""

    event: str = ""
    detail: Mapping[str, str | float | None] = field(default_factory=dict, compare=False)
    wait: float = 0.0


class Limits:
    """What the handler asks at each step; see `identity.limiting.gate`. gate: None limits nothing, and bans nobody.

    A listener for LMTP is for another mail server of ours: nothing is counted there.
    """

    def __init__(self, gate: Gate | None, journal: Journal, clock: Clock) -> None:
        self._gate = gate
        self._journal = journal
        self._clock = clock

    # -- connections

    def connect(self, address: str) -> Reply | None:
        """One more connection: the reply to send away with, where they come too fast."""
        over = None if self._gate is None else self._gate.connect(DOOR, address)
        return None if over is None else _too_fast(421, "4.7.0", over, closes=True)

    async def admit(self, session: Session) -> Reply | None:
        """The greeting for who is banned. Where an account has signed in well lately the connection goes on: `mail`
        refuses all until it has signed in again."""
        if self._gate is None or (ban := self._gate.ban_of(session.peer)) is None:
            return None
        if await self._gate.spared(session.peer):
            return None
        reply = self._banned(self._gate, session, ban)
        if self._gate.worth_telling(ban.id):
            trace = new_id()
            told = Event(trace, self._clock.now(), reply.event, None, dict(reply.detail))
            self._journal.add((connect_event(session, trace), told))
        return reply

    # -- mail

    def mail(self, session: Session, sender: str) -> Reply | None:
        """One more message. sender: the reverse-path, "" for none (which belongs to nobody, so nobody's is counted)."""
        gate = self._gate
        if gate is None or session.rules.kind == "lmtp":
            return None
        if session.principal is None and (ban := gate.ban_of(session.peer)) is not None:
            return self._banned(gate, session, ban)
        over = gate.charge(_of_message(gate, session, sender))
        # RFC 5321 §4.3.2: 450 is no answer to MAIL, 451 is.
        return None if over is None else _too_fast(451, "4.7.1", over)

    def rcpt(self, session: Session) -> Reply | None:
        """One more recipient."""
        gate = self._gate
        if gate is None or session.rules.kind == "lmtp":
            return None
        over = gate.charge(_of_recipient(gate, session))
        return None if over is None else _too_fast(450, "4.7.1", over)

    def explain(self, session: Session, transaction: Transaction, reply: Reply) -> None:
        """Let the transaction's trace say why, where the reply is one of these."""
        if isinstance(reply, Limited):
            account = session.principal.account if session.principal is not None else None
            transaction.note(Event(transaction.trace, self._clock.now(), reply.event, account, dict(reply.detail)))

    # -- offences

    def unknown_recipient(self, session: Session, address: str) -> None:
        """A recipient that there is not was named by somebody who has not signed in."""
        if self._gate is not None and session.principal is None and session.rules.kind != "lmtp":
            self._gate.offend(Offence.UNKNOWN_RECIPIENT, session.peer, address.lower())

    def failed_sign_in(self, session: Session, name: str, secret: str, *, checked: bool) -> None:
        """A sign-in was refused; see `Gate.failed_sign_in`."""
        if self._gate is not None:
            self._gate.failed_sign_in(session.peer, name, secret, checked=checked)

    def took_mail(self, session: Session) -> None:
        """A message was taken."""
        if self._gate is not None and session.principal is None and session.rules.kind != "lmtp":
            self._gate.took_mail(session.peer)

    def abuse(self, session: Session) -> None:
        """The connection is ended for its errors."""
        if self._gate is not None and session.principal is None:
            self._gate.offend(Offence.ABUSE, session.peer)

    # -- inside

    def _banned(self, gate: Gate, session: Session, ban: Ban) -> Limited:
        gate.refused(ban, DOOR)
        detail = {"peer": session.peer, "reason": ban.reason, "until": ban.until}
        why = f" ({ban.reason})" if ban.by is BannedBy.RULE else ""
        if ban.until is None:
            text = f"Connections from your address are refused{why}; ask the postmaster"
            return Limited(554, "5.7.1", text, True, "banned", detail)
        until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(ban.until))
        # A server that tries again later is not told to give up.
        return Limited(
            421, "4.7.1", f"Connections from your address are refused until {until}{why}", True, "banned", detail
        )


def _of_message(gate: Gate, session: Session, sender: str) -> list[Limit]:
    rates = gate.rates
    limits: list[Limit] = []
    if session.principal is not None:
        whose = ""
        if rates.account is not None:
            limits.append(Limit("account", session.principal.account, rates.account))
    elif gate.exempt(session.peer):
        return limits
    else:
        # A stranger may write anybody's address there, and is not to use up that one's rate.
        whose = network_of(session.peer)
        if rates.address is not None:
            limits.append(Limit("address", place(session.peer), rates.address))
        if rates.network is not None:
            limits.append(Limit("network", whose, rates.network))
    if rates.sender is not None and sender:
        limits.append(Limit("sender", _short(f"{whose} {sender.lower()}"), rates.sender))
    return limits


def _of_recipient(gate: Gate, session: Session) -> list[Limit]:
    rates = gate.rates
    if session.principal is not None:
        rate = rates.account_recipients
        return [] if rate is None else [Limit("account_recipients", session.principal.account, rate)]
    if rates.recipients is None or gate.exempt(session.peer):
        return []
    return [Limit("recipients", place(session.peer), rates.recipients)]


def _too_fast(code: int, enhanced: str, over: Over, *, closes: bool = False) -> Limited:
    rate = over.limit.rate
    text = (
        f"Too many {_WHO[over.limit.by]}: {rate.amount} in {span(rate.window)} are allowed,"
        f" try again in {_wait(over.wait)}"
    )
    reply = str(Reply(code, enhanced, text))
    detail = {"by": over.limit.by, "limit": str(rate), "reply": reply}
    return Limited(code, enhanced, text, closes, "limited", detail, over.wait)


def _wait(seconds: float) -> str:
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= 2 * unit:
            return f"{math.ceil(seconds / unit)} {name}s"
    return f"{math.ceil(seconds)} seconds" if seconds > 1 else "a second"


def _short(key: str) -> str:
    """A key of bounded length."""
    if len(key) <= _KEY_MAX:
        return key
    return f"{key[:40]}…{hashlib.blake2b(key.encode('utf-8', 'replace'), digest_size=16).hexdigest()}"
