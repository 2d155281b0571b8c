"""New accounts on their way into a store: checked, then their passwords hashed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from identity.arguments import address_name, check_display_name, check_quota
from identity.model import NewAccount
from identity.names import Name
from identity.passwords import Passwords, accepted_hash, check_acceptable
from identity.port import Reason, Refused


@dataclass(frozen=True, slots=True)
class Fresh:
    """A new account whose values are checked. hash: None while the password is still to be hashed."""

    new: NewAccount
    name: Name
    hash: str | None = field(repr=False)


def checked_row(new: NewAccount) -> Fresh:
    """A new account whose values are acceptable in themselves. Raises Refused BAD_ADDRESS, BAD_PASSWORD, LIMIT."""
    name = address_name(new.address)
    check_quota(new.quota)
    check_display_name(new.display_name)
    if (new.password is None) == (new.password_hash is None):
        raise Refused(Reason.BAD_PASSWORD, "an account has a password or a password hash")
    if new.password is not None:
        check_acceptable(new.password)
        return Fresh(new, name, None)
    return Fresh(new, name, accepted_hash(new.password_hash or ""))


async def checked_rows(rows: Sequence[NewAccount]) -> list[Fresh | str]:
    """Rows of an import: each checked, or the sentence that says why not. On a thread, for their number."""

    def checked(row: NewAccount) -> Fresh | str:
        try:
            return checked_row(row)
        except Refused as error:
            return error.text

    return await asyncio.to_thread(lambda: [checked(row) for row in rows])


async def hash_of(passwords: Passwords, fresh: Fresh) -> str:
    """The hash that came with it, or that of its password. Raises Unavailable."""
    if fresh.hash is not None:
        return fresh.hash
    return await passwords.hash(fresh.new.password or "")


async def hashes_of(passwords: Passwords, rows: Sequence[Fresh | str]) -> list[str]:
    """The hash of each row, "" for one that was refused. Raises Unavailable."""
    turn = asyncio.Semaphore(passwords.threads)

    async def hashed(row: Fresh | str) -> str:
        if isinstance(row, str):
            return ""
        # No more at once than there are threads, so that who signs in meanwhile waits for few.
        async with turn:
            return await hash_of(passwords, row)

    return await asyncio.gather(*(hashed(row) for row in rows))
