"""The identity port over one MongoDB database."""

from __future__ import annotations

from identity.adapters.mongo import queries
from identity.adapters.mongo.app_passwords import AppPasswords
from identity.adapters.mongo.database import Database, OnStep
from identity.adapters.mongo.dkim import DkimKeys
from identity.adapters.mongo.documents import secret_document
from identity.adapters.mongo.domains import Domains
from identity.adapters.mongo.guess_store import MongoGuessStore
from identity.adapters.mongo.indexes import INDEXES
from identity.adapters.mongo.integrations import Integrations
from identity.adapters.mongo.questions import Questions
from identity.adapters.mongo.transfer import Transfer
from identity.adapters.mongo.upkeep import Upkeep
from identity.checked import Checked
from identity.passwords import Hasher, Passwords
from identity.port import Unavailable
from identity.scram import SECRET_NAME, ScramRule, new_secret
from identity.settings import IdentitySettings
from identity.shared_guesses import SharedGuesses
from identity.transfer import UNFINISHED
from runtime.clock import Clock
from runtime.lifecycle import StartError
from runtime.mongo import Mongo, MongoUnavailable, ensure_indexes, open_mongo


class MongoIdentity(Questions, Upkeep, DkimKeys, Domains, Integrations, Transfer, AppPasswords):
    """`identity.port.Identity`. Made by `open_mongo_identity`; any number of processes may have one each."""

    def __init__(
        self, database: Database, passwords: Passwords, scram: ScramRule, settings: IdentitySettings, clock: Clock
    ) -> None:
        self._guess_store = MongoGuessStore(database)
        guesses = SharedGuesses(self._guess_store, settings.guesses, settings.trusted_networks, clock)
        checked = Checked(clock, settings.checked_seconds)
        super().__init__(database, passwords, guesses, checked, scram, settings, clock)

    async def close(self) -> None:
        """Let those who wait for changes go, finish what is being written, close the client."""
        await self.stop()
        await self._news.close()
        await self._checked.close()
        await self._guesses.close()
        await self._writes.close()
        await self._database.close()
        await self._passwords.close()


async def connect_mongo(url: str, settings: IdentitySettings, clock: Clock) -> MongoIdentity:
    """Open the database that the URL names. Raises Unavailable, and ValueError for a URL that is none."""
    try:
        mongo = await open_mongo(url, app="homing-identity")
    except MongoUnavailable as error:
        raise Unavailable(str(error)) from error
    try:
        return await open_mongo_identity(mongo, settings, clock)
    except BaseException:
        await mongo.close()
        raise


async def open_mongo_identity(
    mongo: Mongo,
    settings: IdentitySettings,
    clock: Clock,
    hasher: Hasher | None = None,
    on_step: OnStep | None = None,
) -> MongoIdentity:
    """Make the indexes and begin the upkeep. The client is closed with the adapter. Raises Unavailable,
    and StartError where it is the target of an unfinished migration."""
    try:
        await ensure_indexes(mongo.database, INDEXES)
    except MongoUnavailable as error:
        raise Unavailable(str(error)) from error
    if await Database(mongo).first(queries.transfer()) is not None:
        raise StartError(UNFINISHED)
    secret = await _secret(Database(mongo)) if settings.scram else None
    passwords = Passwords(settings.passwords, hasher)
    await passwords.open()
    scram = ScramRule(secret, settings.scram_iterations)
    identity = MongoIdentity(Database(mongo, on_step), passwords, scram, settings, clock)
    identity.start()
    return identity


async def _secret(database: Database) -> bytes:
    """The secret by which salts are made; made when it is wanted first, by one of the processes."""
    await database.insert(queries.STATE, [secret_document(SECRET_NAME, new_secret())])
    found = await database.first(queries.secret(SECRET_NAME))
    if found is None:
        raise Unavailable("the store has lost its secret")
    return bytes(found["value"])
