"""Notices to senders: from what became of a message to the delivery that tells its sender (RFC 3464)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import identity.port
from identity.model import Verdict as Kind
from identity.port import Identity
from mail import compose, dsn
from mail.dsn import About, Action
from runtime.clock import Clock
from runtime.ids import new_id
from smtp import traceheaders
from storage.model import (
    INLINE_MAX,
    SYSTEM,
    Delivery,
    Event,
    LocalRecipient,
    Operation,
    RemoteRecipient,
    StagedBlob,
)
from storage.port import Storage

OWN = "X-HOMING-OWN"
"""A parameter of messages that this server itself has written, which are signed like those of our accounts. It goes to
no other server."""

Read = Callable[[int, int], Awaitable[bytes]]
"""Octets [start, end) of a stored message; at most INLINE_MAX of them."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The message that is told of. item: of the spool, "" for one that was never there. account: whose trace it is
    shown in. arrived: Unix seconds. params: MAIL parameters as in ``Delivery``. read: octets of it."""

    trace: str
    sender: str
    arrived: float
    size: int
    read: Read
    item: str = ""
    account: str | None = None
    params: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """delivery: the notice, or None where there must be none. events: in the message's own trace."""

    delivery: Delivery | None
    events: tuple[Event, ...]


class Notices:
    """Makes notices. hostname: of this server; domain: whose mailer-daemon and postmaster it has. return_max: octets up
    to which a message goes back whole."""

    def __init__(
        self, identity: Identity, storage: Storage, clock: Clock, *, hostname: str, domain: str, return_max: int
    ) -> None:
        self._identity = identity
        self._storage = storage
        self._clock = clock
        self._hostname = hostname
        self._domain = domain
        self._return_max = return_max

    async def tell(self, subject: Subject, about: Sequence[About]) -> Told:
        """The notice of these recipients, for ``Settlement.report`` or ``accept``; of those already that may be told
        (``dsn.wanted``). Raises identity's and storage's Unavailable, and storage's Refused."""
        if not about:
            return Told(None, ())
        now = self._clock.now()
        # RFC 5321 §6.1, RFC 3461 §6.2: a notice of a notice would never end.
        if not subject.sender:
            return self._nobody(subject, about, "it has no sender", now)
        local, remote = await self._recipients(subject.sender)
        if not (local or remote):
            return self._nobody(subject, about, "its sender's address does not exist here", now)
        composed = await self._compose(subject, about, now)
        trace = new_id()
        content = self._received(trace, now) + composed.content
        delivery = Delivery(
            op=Operation(new_id(), SYSTEM),
            content=content if len(content) <= INLINE_MAX else await self._staged(content),
            sender="",
            received_at=now,
            trace=trace,
            local=local,
            remote=remote,
            params=_way(composed, subject) if remote else {},
        )
        return Told(delivery, tuple(self._event(subject, one, trace, now) for one in about))

    def _nobody(self, subject: Subject, about: Sequence[About], why: str, now: float) -> Told:
        return Told(
            None,
            tuple(
                Event(
                    subject.trace,
                    now,
                    "suppressed",
                    subject.account,
                    {"item": subject.item, "about": one.address, "why": why},
                )
                for one in about
                if one.action is Action.FAILED
            ),
        )

    def _event(self, subject: Subject, one: About, trace: str, now: float) -> Event:
        detail = {
            "item": subject.item,
            "action": one.action.value,
            "to": subject.sender,
            "about": one.address,
            "trace": trace,
        }
        return Event(subject.trace, now, "dsn", subject.account, dict(detail))

    async def _recipients(self, sender: str) -> tuple[tuple[LocalRecipient, ...], tuple[RemoteRecipient, ...]]:
        try:
            found = await self._identity.resolve(sender)
        except identity.port.Refused:
            # Not an address, or one that leads to too many.
            return (), ()
        # RFC 3461 §6.2: nobody tells of what became of a notice.
        quiet = {"NOTIFY": "NEVER"}
        if found.verdict is Kind.NOT_OURS:
            return (), (RemoteRecipient(sender, quiet),)
        for target in found.local:
            await self._storage.open_account(Operation(new_id(), SYSTEM), target.account)
        local = tuple(LocalRecipient(target.account, sender, traceheaders.prefix("", sender)) for target in found.local)
        return local, tuple(RemoteRecipient(address, quiet) for address in found.remote)

    async def _compose(self, subject: Subject, about: Sequence[About], now: float) -> dsn.Notice:
        params = subject.params or {}
        # RFC 3461 §4.3: RET is for failures; all others return the header alone. RFC 8689 §5: so does REQUIRETLS.
        failed = any(one.action is Action.FAILED for one in about)
        header_only = params.get("RET", "FULL").upper() == "HDRS" or "REQUIRETLS" in params
        whole = failed and not header_only and subject.size <= self._return_max
        text = await subject.read(0, subject.size if whole else min(subject.size, dsn.HEADER_MAX))
        original = dsn.Original(
            text=text,
            arrived=subject.arrived,
            whole=whole and len(text) == subject.size,
            envid=params.get("ENVID"),
            smtputf8="SMTPUTF8" in params,
        )
        return dsn.notice(
            about,
            original,
            to=subject.sender,
            hostname=self._hostname,
            domain=self._domain,
            date=now,
            unique=new_id(),
        )

    def _received(self, trace: str, now: float) -> bytes:
        return compose.received(
            helo=self._hostname, client="", by=self._hostname, protocol="local", id=trace, date=int(now)
        )

    async def _staged(self, content: bytes) -> StagedBlob:
        async def pieces() -> AsyncIterator[bytes]:
            for at in range(0, len(content), INLINE_MAX):
                yield content[at : at + INLINE_MAX]

        return await self._storage.stage(pieces())


def _way(composed: dsn.Notice, subject: Subject) -> dict[str, str]:
    params = {OWN: ""}
    if composed.eight_bit:
        params["BODY"] = "8BITMIME"
    if composed.smtputf8:
        params["SMTPUTF8"] = ""
    # RFC 8689 §5: what had to be kept from others' eyes on its way out has to be on its way back.
    if subject.params and "REQUIRETLS" in subject.params:
        params["REQUIRETLS"] = ""
    return params
