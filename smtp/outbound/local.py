"""Mail that waited in the spool for accounts of this server: held for future release (RFC 4865), and now theirs."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import identity.port
from identity.model import Resolution, Verdict
from identity.port import Identity
from runtime.clock import Clock
from runtime.ids import new_id
from smtp import traceheaders
from smtp.outbound.schedule import HOLD
from smtp.outbound.transport import Letter, Outcome, Phase, Result, Status, Transport
from smtp.policy.quota import QuotaCheck
from storage.model import (
    INLINE_MAX,
    SYSTEM,
    Delivery,
    LocalRecipient,
    Operation,
    RemoteRecipient,
    StagedBlob,
)
from storage.port import Refused, Storage, Unavailable

DELIVERED = Outcome(Status.SENT, Phase.TEXT, "2.1.5", "Delivered to a mailbox of this server")
NO_SUCH_USER = Outcome(Status.FAILED, Phase.RCPT, "5.1.1", "There is no such user here")
BAD_ADDRESS = Outcome(Status.FAILED, Phase.RCPT, "5.1.3", "This is not an address that mail can be delivered to")
FULL = Outcome(Status.DEFERRED, Phase.RCPT, "4.2.2", "The mailbox is over its quota")


class LocalFirst:
    """A transport that delivers held mail for our own domains itself, and hands everything else to ``beyond``."""

    def __init__(self, beyond: Transport, identity: Identity, storage: Storage, clock: Clock) -> None:
        self._beyond = beyond
        self._identity = identity
        self._storage = storage
        self._clock = clock
        self._quota = QuotaCheck(storage, clock)

    async def send(self, letter: Letter) -> Result:
        """As ``Transport.send``; identity's Unavailable escapes too."""
        # Nothing else comes to the spool for a domain of ours: what is not held is delivered when it is accepted.
        if letter.route is not None or HOLD not in letter.params:
            return await self._beyond.send(letter)
        began = self._clock.monotonic()
        outcomes: dict[str, Outcome] = {}
        found: dict[str, Resolution] = {}
        for recipient in letter.recipients:
            try:
                resolved = await self._identity.resolve(recipient.address)
            except identity.port.Refused:
                outcomes[recipient.address] = BAD_ADDRESS
                continue
            if resolved.verdict is Verdict.NOT_OURS:
                # All of a letter are of one domain.
                return await self._beyond.send(letter)
            if resolved.verdict is Verdict.UNKNOWN or not (resolved.local or resolved.remote):
                outcomes[recipient.address] = NO_SUCH_USER
            elif not await self._has_room(resolved, letter.size):
                outcomes[recipient.address] = FULL
            else:
                found[recipient.address] = resolved
        if found:
            outcome = await self._deliver(letter, found)
            outcomes.update(dict.fromkeys(found, outcome))
        return Result(outcomes, self._clock.monotonic() - began)

    async def close(self) -> None:
        await self._beyond.close()

    async def _has_room(self, found: Resolution, size: int) -> bool:
        for target in found.local:
            if await self._quota.has_room(target.account, target.quota, size):
                return True
        return bool(found.remote)

    async def _deliver(self, letter: Letter, found: dict[str, Resolution]) -> Outcome:
        local: dict[str, LocalRecipient] = {}
        remote: dict[str, RemoteRecipient] = {}
        asked = {recipient.address: recipient.params for recipient in letter.recipients}
        for address, resolved in found.items():
            for target in resolved.local:
                await self._storage.open_account(Operation(new_id(), SYSTEM), target.account)
                own = LocalRecipient(target.account, address, traceheaders.prefix(letter.sender, address))
                local.setdefault(target.account, own)
            for other in resolved.remote:
                remote.setdefault(other, RemoteRecipient(other, asked[address]))
        delivery = Delivery(
            op=Operation(_operation(letter, found), SYSTEM),
            content=await self._content(letter),
            sender=letter.sender,
            received_at=self._clock.now(),
            trace=letter.trace,
            local=tuple(local.values()),
            remote=tuple(remote.values()),
            params={name: value for name, value in letter.params.items() if name != HOLD} if remote else {},
        )
        (accepted,) = await self._storage.accept([delivery])
        if isinstance(accepted, Unavailable):
            raise accepted
        if isinstance(accepted, Refused):
            return Outcome(Status.DEFERRED, Phase.TEXT, "4.3.0", f"The mail store refused it: {accepted.reason.value}")
        for account in local:
            self._quota.delivered(account, letter.size)
        return DELIVERED

    async def _content(self, letter: Letter) -> bytes | StagedBlob:
        if len(letter.head) + letter.size <= INLINE_MAX:
            return letter.head + await letter.read(0, letter.size)

        async def pieces() -> AsyncIterator[bytes]:
            if letter.head:
                yield letter.head
            for at in range(0, letter.size, INLINE_MAX):
                yield await letter.read(at, min(at + INLINE_MAX, letter.size))

        return await self._storage.stage(pieces())


def _operation(letter: Letter, found: dict[str, Resolution]) -> str:
    """The same for the same recipients of the same item: what was stored before a runner ended in the middle is not
    stored again by the next."""
    said = "\0".join((letter.item, *sorted(found)))
    return hashlib.blake2s(said.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
