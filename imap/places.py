"""Mailbox names as a client says them: one's own, and other users' below "Other Users/<address>/" (RFC 2342 §5).

What is not there and what one may not know of are the same here: NO_SUCH_MAILBOX of the storage port.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from identity.model import Verdict
from identity.port import Identity
from identity.port import Refused as IdentityRefused
from runtime.clock import Clock
from storage.model import DELIMITER, Mailbox, MailboxList, Rights
from storage.names import canonical
from storage.port import Reason, Refused, Storage
from storage.rights import check

OTHERS = "Other Users"
PREFIX = OTHERS + DELIMITER
"""What names of other users' mailboxes begin with."""
KNOWN_SECONDS = 60.0
"""How long an address that was asked of identity is used."""
KNOWN_MAX = 1_000
"""Addresses that one session remembers."""

# what an address may have and a level of a name, or a pattern for names, may not
_QUOTED = {"%": "%25", DELIMITER: "%2F", "*": "%2A"}


@dataclass(frozen=True, slots=True)
class Place:
    """Whose mailbox a name says. account: the owner. name: his own name for it. actor: who signed in, where that is
    another than the owner."""

    account: str
    name: str
    actor: str | None = None


def quoted(address: str) -> str:
    """An address as a level of a mailbox name."""
    return "".join([_QUOTED.get(character, character) for character in address])


def unquoted(level: str) -> str:
    """The address that such a level says."""
    for character, code in reversed(_QUOTED.items()):
        level = level.replace(code, character)
    return level


def may_match(pattern: str) -> bool:
    """Could a pattern of LIST match names of other users' mailboxes?"""
    start = pattern[: min((at for at in (pattern.find("*"), pattern.find("%")) if at >= 0), default=len(pattern))]
    return PREFIX.startswith(start) or start.startswith(PREFIX)


class Places:
    """As one session knows them."""

    def __init__(self, identity: Identity, storage: Storage, clock: Clock) -> None:
        self._identity = identity
        self._storage = storage
        self._clock = clock
        self._addresses: dict[str, tuple[str, float]] = {}
        self._last: tuple[str, Mailbox] | None = None

    async def of(self, me: str, name: str) -> Place:
        """Where the name leads. Raises storage's Refused: NO_SUCH_MAILBOX, for names below OTHERS alone; and identity's
        Unavailable."""
        self._last = None
        name = canonical(name)
        if name != OTHERS and not name.startswith(PREFIX):
            return Place(me, name)
        level, _, rest = name[len(PREFIX) :].partition(DELIMITER)
        account = await self.account_of(unquoted(level)) if level and rest else None
        if account is None:
            raise Refused(Reason.NO_SUCH_MAILBOX)
        return Place(account, canonical(rest), None if account == me else me)

    async def find(self, me: str, name: str, needed: Rights = Rights.NONE) -> Mailbox:
        """The mailbox of the name, with the name that it has for this user. Raises storage's Refused where it is not
        there, or not for who may do that."""
        place = await self.of(me, name)
        mailbox = await self._storage.mailbox(place.account, place.name, place.actor)
        check(mailbox.rights, needed)
        return mailbox if place.actor is None else await self._shown(mailbox)

    async def find_again(self, me: str, name: str, needed: Rights) -> tuple[Mailbox, str | None]:
        """As `find`. Of one's own mailbox it may be what was found the last time, if no other name was asked for since:
        then it comes with its name, and who uses it sees to it that it has that still."""
        if self._last is not None and self._last[0] == name and self._last[1].ref.account == me:
            mailbox = self._last[1]
            return mailbox, mailbox.name
        mailbox = await self.find(me, name, needed)
        if mailbox.ref.account == me:
            self._last = name, mailbox
        return mailbox, None

    async def listed(self, me: str, patterns: Iterable[str]) -> MailboxList:
        """One's own mailboxes, and those of others that one may look up where a pattern could match their names."""
        listed = await self._storage.list_mailboxes(me)
        # a name of one's own from before there were others' is theirs now
        own = [mailbox for mailbox in listed.mailboxes if not f"{mailbox.name}{DELIMITER}".startswith(PREFIX)]
        shared = await self.shared(me) if any(map(may_match, patterns)) else ()
        return replace(listed, mailboxes=(*own, *shared))

    async def shared(self, me: str) -> tuple[Mailbox, ...]:
        """Others' mailboxes that one may look up, with the names that they have for this user."""
        found: list[Mailbox] = []
        for mailbox in await self._storage.shared_with(me):
            try:
                found.append(await self._shown(mailbox))
            except Refused:
                # the owner has just been removed
                continue
        return tuple(found)

    async def name_of(self, me: str, name: str) -> str:
        """The name as LIST tells it; what leads nowhere, and what one may not look up, stays as it is."""
        try:
            place = await self.of(me, name)
            if place.actor is None:
                return place.name
            # whose alias an address is, is not told to everybody
            check((await self._storage.mailbox(place.account, place.name, place.actor)).rights, Rights.LOOKUP)
            return await self._name(place.account, place.name)
        except Refused:
            return name

    async def account_of(self, address: str) -> str | None:
        """The account that has the address, or that it is an alias of alone. None for an address of nobody, of several,
        and for one that but a catch-all takes."""
        try:
            account = await self._identity.find_account(address)
        except IdentityRefused:
            return await self._alias(address)
        return None if account.removed else account.id

    async def _alias(self, address: str) -> str | None:
        try:
            found = await self._identity.resolve(address)
            if found.verdict is not Verdict.LOCAL or found.remote or len(found.local) != 1:
                return None
            account = found.local[0].account
            return account if await self._identity.may_send_as(account, address) else None
        except IdentityRefused:
            return None

    async def address_of(self, account: str) -> str | None:
        """The account's own address. None for one that is not there any more."""
        now = self._clock.monotonic()
        address, until = self._addresses.get(account, ("", 0.0))
        if now < until:
            return address
        try:
            found = await self._identity.account(account)
        except IdentityRefused:
            return None
        if found.removed:
            return None
        if len(self._addresses) >= KNOWN_MAX:
            self._addresses.clear()
        self._addresses[account] = (found.address, now + KNOWN_SECONDS)
        return found.address

    async def _shown(self, mailbox: Mailbox) -> Mailbox:
        # RFC 6154 §2: what a mailbox is used for, it is for its owner
        name = await self._name(mailbox.ref.account, mailbox.name)
        return replace(mailbox, name=name, special_use=None)

    async def _name(self, account: str, name: str) -> str:
        address = await self.address_of(account)
        if address is None:
            raise Refused(Reason.NO_SUCH_MAILBOX)
        return f"{PREFIX}{quoted(address)}{DELIMITER}{name}"
