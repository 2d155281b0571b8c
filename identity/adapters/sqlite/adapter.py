"""The identity port over one SQLite file."""

from __future__ import annotations

import os
import sqlite3

from identity.adapters.sqlite.app_passwords import AppPasswords
from identity.adapters.sqlite.bearer import Bearer
from identity.adapters.sqlite.dkim import DkimKeys
from identity.adapters.sqlite.domains import Domains
from identity.adapters.sqlite.guess_store import SqliteGuessStore
from identity.adapters.sqlite.integrations import Integrations
from identity.adapters.sqlite.limiting import Limiting
from identity.adapters.sqlite.moving import is_marked
from identity.adapters.sqlite.questions import Questions
from identity.adapters.sqlite.schema import MIGRATIONS
from identity.adapters.sqlite.sign_in import SignIn
from identity.adapters.sqlite.transfer import Transfer
from identity.checked import Checked
from identity.guesses import Guesses
from identity.passwords import Hasher, Passwords
from identity.scram import SECRET_NAME, ScramRule, new_secret
from identity.settings import IdentitySettings
from identity.transfer import UNFINISHED
from runtime.clock import Clock
from runtime.lifecycle import StartError
from runtime.sqlite import Database


class SqliteIdentity(Questions, SignIn, Bearer, Domains, DkimKeys, Transfer, AppPasswords, Integrations, Limiting):
    """`identity.port.Identity`. Made by `open_sqlite`."""

    async def close(self) -> None:
        """Let those who wait for changes go, finish what is being written, close the file."""
        self._closed = True
        self._tell()
        await self._checked.close()
        await self._guesses.close()
        await self._writes.close()
        await self._database.close()
        await self._passwords.close()


async def open_sqlite(
    path: str | os.PathLike[str], settings: IdentitySettings, clock: Clock, hasher: Hasher | None = None
) -> SqliteIdentity:
    """Open (or make) the file, which this process alone owns. Raises what `Database.open` raises, and
    StartError where it is the target of an unfinished migration."""
    database = Database(path, migrations=MIGRATIONS, readers=2)
    await database.open()
    if await database.read(is_marked):
        await database.close()
        raise StartError(UNFINISHED)
    secret = await database.write(_secret) if settings.scram else None
    passwords = Passwords(settings.passwords, hasher)
    await passwords.open()
    guesses = Guesses(SqliteGuessStore(database), settings.guesses, settings.trusted_networks, clock)
    checked = Checked(clock, settings.checked_seconds)
    scram = ScramRule(secret, settings.scram_iterations)
    return SqliteIdentity(database, passwords, guesses, checked, scram, settings, clock)


def _secret(connection: sqlite3.Connection) -> bytes:
    """The secret by which salts are made; made when it is wanted first."""
    connection.execute("INSERT INTO secret VALUES (?, ?) ON CONFLICT DO NOTHING", (SECRET_NAME, new_secret()))
    ((secret,),) = connection.execute("SELECT value FROM secret WHERE name = ?", (SECRET_NAME,)).fetchall()
    return bytes(secret)
