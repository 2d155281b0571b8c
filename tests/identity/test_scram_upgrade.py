"""SCRAM on a store of a release that knew none: nothing is lost, and keys come with the next sign-ins."""

from __future__ import annotations

from pathlib import Path

from identity.adapters.mongo import queries
from identity.adapters.mongo.adapter import open_mongo_identity
from identity.adapters.mongo.moving import MongoTransfer
from identity.adapters.sqlite.adapter import open_sqlite
from identity.adapters.sqlite.schema import MIGRATIONS
from identity.model import NewAccount, Origin
from identity.passwords import LibpassHasher
from identity.settings import IdentitySettings, PasswordSettings
from identity.transfer import AccountRecord, Kind
from runtime.clock import ManualClock
from runtime.sqlite import Database
from tests.mongomock_async import open_mock

CHEAP = PasswordSettings(memory_kib=64, iterations=1, lanes=1, threads=2)
SETTINGS = IdentitySettings(default_domain="d.example", passwords=CHEAP, scram=True, scram_iterations=4096)
HOME = Origin("127.0.0.1", "imap")


async def test_a_file_of_before(tmp_path: Path) -> None:
    path = tmp_path / "identity.db"
    before = next(number for number, one in enumerate(MIGRATIONS) if one.name == "scram")
    database = Database(path, migrations=MIGRATIONS[:before], readers=1)
    await database.open()
    hash = LibpassHasher(CHEAP).hash("secret")
    await database.write(
        lambda c: (
            c.execute(
                "INSERT INTO account (id, key, domain, address, display_name, role, enabled, version, password_hash,"
                " password_version, created_at)"
                " VALUES ('a', 'alice@d.example', 'd.example', 'alice@d.example', '', 'user', 1, 1, ?, 1, 0.0)",
                (hash,),
            ).rowcount
        )
    )
    await database.close()
    identity = await open_sqlite(path, SETTINGS, ManualClock(), LibpassHasher(CHEAP))
    try:
        assert not await identity.scram_ready()
        await identity.authenticate("alice", "secret", HOME)
        assert await identity.scram_ready()
    finally:
        await identity.close()


async def test_documents_of_before() -> None:
    mongo = open_mock()
    identity = await open_mongo_identity(mongo, SETTINGS, ManualClock(), LibpassHasher(CHEAP))
    try:
        await identity.add_domain("d.example")
        account = await identity.add_account(NewAccount("alice@d.example", "secret"))
        app, secret = await identity.add_app_password(account.id, "phone")
        names = mongo.database[queries.NAMES]
        gone = {"scram": "", "scrammed": "", f"apps.{app.id}.scram": ""}
        await names.update_one({"_id": account.id}, {"$unset": gone})
        assert not await identity.scram_ready()
        (record,) = await MongoTransfer(mongo).page(Kind.ACCOUNTS, "", 10)
        assert isinstance(record, AccountRecord)
        assert (record.scram_iterations, record.scram_keys, record.apps[0].scram_keys) == (0, b"", b"")
        await identity.authenticate("alice", secret, HOME)
        assert not await identity.scram_ready()
        await identity.authenticate("alice", "secret", HOME)
        assert await identity.scram_ready()
        # An account of before loses an app password, and another is made.
        await names.update_one({"_id": account.id}, {"$unset": gone})
        await identity.revoke_app_password(account.id, app.id)
        await identity.add_app_password(account.id, "tablet")
        assert not await identity.scram_ready()
        await identity.set_password(account.id, "newer")
        assert await identity.scram_ready()
    finally:
        await identity.close()
