"""Identity as a part of a process: opened, its removed accounts purged, closed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from identity.connect import connect
from identity.dkim import Published
from identity.model import NewAccount, Role
from identity.passwords import check_acceptable
from identity.port import Identity, Reason, Refused, Unavailable
from identity.rotation import rotate_forever
from identity.settings import IdentitySettings
from identity.tokens import new_password
from runtime.clock import Clock, SystemClock

log = structlog.get_logger("identity")

Purge = Callable[[str], Awaitable[bool]]
"""Removes some or all of the mail of an account (by id); True when nothing is left. Resumable, and may raise."""

Turn = Callable[[], Awaitable[bool]]
"""Is it this process's turn, where several could do the same? What is done in turn is safe without it."""

PURGE_EVERY = 60.0
PURGE_AGAIN = 0.1


@dataclass(frozen=True, slots=True)
class FirstRun:
    """What the first run made. A password is here only when it was made, and is told once; a login that another process
    made at the same moment is None, and told there."""

    domain: str
    admin: str | None
    admin_password: str | None = field(repr=False)
    user: str | None
    user_password: str | None = field(repr=False)


async def always() -> bool:
    """The turn of a process that has no others beside it."""
    return True


class IdentityService:
    """The port behind `url`, while it runs. `purge` comes from the composition root, since identity knows no mail, and
    so does `published`, since it asks no DNS: without it the record of a new DKIM key is taken to be there in time."""

    def __init__(
        self,
        url: str,
        settings: IdentitySettings,
        *,
        purge: Purge,
        clock: Clock | None = None,
        turn: Turn = always,
        published: Published | None = None,
    ) -> None:
        self._url = url
        self._settings = settings
        self._purge = purge
        self._clock = clock
        self._turn = turn
        self._published = published
        self._identity: Identity | None = None
        self._purging: asyncio.Task[None] | None = None
        self._rotating: asyncio.Task[None] | None = None

    @property
    def identity(self) -> Identity:
        """The open port. RuntimeError before `start` and after `stop`."""
        if self._identity is None:
            raise RuntimeError("identity is not open")
        return self._identity

    async def start(self) -> None:
        """Open the store, begin to purge, and let rotations of DKIM keys go on."""
        self._identity = await connect(self._url, self._settings, self._clock)
        self._purging = asyncio.create_task(
            purge_forever(self._identity, self._purge, turn=self._turn), name="identity purge"
        )
        rotating = rotate_forever(
            self._identity,
            self._settings.dkim,
            self._clock or SystemClock(),
            published=self._published,
            turn=self._turn,
        )
        self._rotating = asyncio.create_task(rotating, name="identity dkim")

    async def drain(self) -> None:
        """Stop the upkeep; what is left is found at the next start. The port goes on answering."""
        tasks = [task for task in (self._purging, self._rotating) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._purging = self._rotating = None

    async def stop(self) -> None:
        await self.drain()
        identity, self._identity = self._identity, None
        if identity is not None:
            await identity.close()

    async def ensure_first_run(self, domain: str, admin_password: str | None = None) -> FirstRun | None:
        """See the function of this name."""
        return await ensure_first_run(self.identity, domain, admin_password)


async def purge_forever(identity: Identity, purge: Purge, every: float = PURGE_EVERY, *, turn: Turn = always) -> None:
    """Purge removed accounts, at once after each removal and every so many seconds for those left over."""
    seq = 0
    left = True
    while True:
        try:
            seq = (await identity.changes_since(seq, 0.0 if left else every)).seq
            left = await purge_once(identity, purge, turn=turn)
            pause = PURGE_AGAIN if left else 0.0
        except Unavailable as error:
            log.warning("purge waits", reason=str(error))
            pause = every
        except Exception:
            log.exception("purge failed")
            pause = every
        await asyncio.sleep(pause)


async def purge_once(identity: Identity, purge: Purge, *, turn: Turn = always) -> bool:
    """Ask for one step of each account that is being purged, where it is this process's turn. True when any of them is
    not finished."""
    left = False
    removed = await identity.removed_accounts()
    if not removed or not await turn():
        return False
    for account in removed:
        if await purge(account):
            await identity.finish_removal(account)
            log.info("account purged", account=account)
        else:
            left = True
    return left


async def ensure_first_run(identity: Identity, domain: str, admin_password: str | None = None) -> FirstRun | None:
    """Where there is no account yet: make the domain, the administrator admin@DOMAIN and the user user@DOMAIN.

    Both accounts come with one commit where the store has one for both, so a run that was killed before leaves all or
    nothing to do. Of several processes that do this at the same moment each tells what it made itself. None when there
    are accounts. Raises Refused BAD_ADDRESS for the domain, BAD_PASSWORD for the password.
    """
    if await identity.accounts(limit=1):
        return None
    if admin_password is not None:
        check_acceptable(admin_password)
    if not await identity.domain_exists(domain):
        try:
            await identity.add_domain(domain)
        except Refused as error:
            if error.reason is not Reason.ALREADY_EXISTS:
                raise
    passwords = (new_password() if admin_password is None else admin_password, new_password())
    admin, user = await identity.import_accounts(
        (
            NewAccount(f"admin@{domain}", passwords[0], role=Role.ADMIN, display_name="Administrator"),
            NewAccount(f"user@{domain}", passwords[1]),
        )
    )
    if admin.account is None and user.account is None:
        if await identity.accounts(limit=1):
            return None
        raise Refused(Reason.BAD_PASSWORD, f"{admin.address}: {admin.problem}")
    return FirstRun(
        domain,
        None if admin.account is None else admin.account.address,
        passwords[0] if admin.account is not None and admin_password is None else None,
        None if user.account is None else user.account.address,
        None if user.account is None else passwords[1],
    )
