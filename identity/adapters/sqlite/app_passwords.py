"""App passwords: named, revocable, one for each program."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from identity import tokens
from identity.adapters.sqlite.base import Base
from identity.adapters.sqlite.rows import end_tokens, find, note_change
from identity.arguments import address_name, check_app_name, check_app_room, mask_names
from identity.model import AppPassword, ChangeKind
from identity.port import Reason, Refused
from identity.scram import ScramKeys

APP = "id, account, name, created_at, last_used, mask"


class AppPasswords(Base):
    """app_passwords, add_app_password, mask_app_password, revoke_app_password."""

    async def app_passwords(self, account: str) -> tuple[AppPassword, ...]:
        def read(connection: sqlite3.Connection) -> tuple[AppPassword, ...]:
            find(connection, account)
            rows = connection.execute(
                f"SELECT {APP} FROM app_password WHERE account = ? ORDER BY created_at, id",
                (account,),
            )
            return tuple(_app_of(row) for row in rows)

        return await self._read(read)

    async def add_app_password(self, account: str, name: str, mask: Sequence[str] = ()) -> tuple[AppPassword, str]:
        check_app_name(name)
        secret = tokens.new_app_secret()
        made = AppPassword(tokens.new_id(), account, name, self._clock.now(), None, mask_names(mask))
        kept = tokens.kept(tokens.app_letters(secret) or secret)
        of = address_name((await self._read(lambda c: find(c, account))).address)
        keys = await self._passwords.scram_keys(self._scram, of.key, tokens.app_forms(secret))
        await self._change_credentials(lambda c: _add(c, made, kept, keys))
        return made, secret

    async def mask_app_password(self, account: str, id: str, mask: Sequence[str]) -> AppPassword:
        masked = mask_names(mask)
        return await self._change_credentials(lambda c: _mask(c, account, id, masked))

    async def revoke_app_password(self, account: str, id: str) -> None:
        await self._change_credentials(lambda c: _revoke(c, account, id))
        self._used.pop(id, None)


def _add(connection: sqlite3.Connection, made: AppPassword, kept: bytes, keys: ScramKeys) -> None:
    find(connection, made.account)
    names = {name for (name,) in connection.execute("SELECT name FROM app_password WHERE account = ?", (made.account,))}
    check_app_room(made.name, names)
    connection.execute(
        "INSERT INTO app_password (id, account, name, hash, created_at, scram_iterations, scram_keys, mask)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (made.id, made.account, made.name, kept, made.created_at, keys.iterations, keys.keys, " ".join(made.mask)),
    )
    connection.execute("UPDATE account SET version = version + 1 WHERE id = ?", (made.account,))


def _mask(connection: sqlite3.Connection, account: str, id: str, mask: tuple[str, ...]) -> AppPassword:
    find(connection, account)
    row = connection.execute(
        f"UPDATE app_password SET mask = ? WHERE id = ? AND account = ? RETURNING {APP}", (" ".join(mask), id, account)
    ).fetchone()
    if row is None:
        raise Refused(Reason.NO_SUCH_CREDENTIAL)
    return _app_of(row)


def _app_of(row: tuple[Any, ...]) -> AppPassword:
    """The value of a row of APP."""
    id, account, name, created_at, last_used, mask = row
    return AppPassword(id, account, name, created_at, last_used, tuple(mask.split()))


def _revoke(connection: sqlite3.Connection, account: str, id: str) -> None:
    gone = connection.execute("DELETE FROM app_password WHERE id = ? AND account = ?", (id, account)).rowcount
    if not gone:
        raise Refused(Reason.NO_SUCH_CREDENTIAL)
    connection.execute("UPDATE account SET version = version + 1 WHERE id = ?", (account,))
    ended = end_tokens(connection, account, f"app:{id}")
    note_change(connection, account, ChangeKind.CREDENTIALS, (f"app:{id}", *ended))
