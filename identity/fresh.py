"""New accounts on their way into a store: checked, then their passwords hashed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from identity.arguments import check_display_name, check_quota, mask_names, new_name
from identity.model import NewAccount
from identity.names import Name
from identity.passwords import Passwords, accepted_hash, check_acceptable, scram_forms
from identity.port import Reason, Refused
from identity.scram import NO_KEYS, ScramKeys, ScramRule


@dataclass(frozen=True, slots=True)
class Fresh:
    """A new account whose values are checked. hash: None while the password is still to be hashed. mask: as it is
    kept."""

    new: NewAccount
    name: Name
    hash: str | None = field(repr=False)
    mask: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """How a password is kept. scram: no keys where the password itself is not known, or SCRAM is off."""

    hash: str = field(repr=False)
    scram: ScramKeys = NO_KEYS


NOT_KEPT = Kept("")


def checked_row(new: NewAccount) -> Fresh:
    """A new account whose values are acceptable in themselves. Raises Refused BAD_ADDRESS, BAD_PASSWORD, LIMIT."""
    name = new_name(new.address)
    check_quota(new.quota)
    check_display_name(new.display_name)
    mask = mask_names(new.mask)
    if (new.password is None) == (new.password_hash is None):
        raise Refused(Reason.BAD_PASSWORD, "an account has a password or a password hash")
    if new.password is not None:
        check_acceptable(new.password)
        return Fresh(new, name, None, mask)
    return Fresh(new, name, accepted_hash(new.password_hash or ""), mask)


async def checked_rows(rows: Sequence[NewAccount]) -> list[Fresh | str]:
    """Rows of an import: each checked, or the sentence that says why not. On a thread, for their number."""

    def checked(row: NewAccount) -> Fresh | str:
        try:
            return checked_row(row)
        except Refused as error:
            return error.text

    return await asyncio.to_thread(lambda: [checked(row) for row in rows])


async def kept_of(passwords: Passwords, rule: ScramRule, fresh: Fresh) -> Kept:
    """The hash that came with it, or hash and keys of its password. Raises Unavailable."""
    if fresh.hash is not None:
        return Kept(fresh.hash)
    return await kept(passwords, rule, fresh.name.key, fresh.new.password or "")


async def kept(passwords: Passwords, rule: ScramRule, name: str, password: str) -> Kept:
    """Hash and keys of an acceptable password, for the key of its account's name. Raises Unavailable."""
    hash = await passwords.hash(password)
    return Kept(hash, await passwords.scram_keys(rule, name, scram_forms(password)))


async def all_kept(passwords: Passwords, rule: ScramRule, rows: Sequence[Fresh | str]) -> list[Kept]:
    """How the password of each row is kept, NOT_KEPT for one that was refused. Raises Unavailable."""
    turn = asyncio.Semaphore(passwords.threads)

    async def hashed(row: Fresh | str) -> Kept:
        if isinstance(row, str):
            return NOT_KEPT
        # No more at once than there are threads, so that who signs in meanwhile waits for few.
        async with turn:
            return await kept_of(passwords, rule, row)

    return await asyncio.gather(*(hashed(row) for row in rows))
