"""A file of the release before capability masks and integrations opens, keeps what it has, and has both."""

from __future__ import annotations

from pathlib import Path

from identity.adapters.sqlite.adapter import open_sqlite
from identity.adapters.sqlite.schema import MIGRATIONS
from identity.model import IntegrationSettings, Origin, Provider, Security
from identity.passwords import LibpassHasher
from identity.settings import IdentitySettings, PasswordSettings
from runtime.clock import ManualClock
from runtime.sqlite import Database

CHEAP = PasswordSettings(memory_kib=64, iterations=1, lanes=1, threads=2)
SETTINGS = IdentitySettings(default_domain="d.example", passwords=CHEAP)
HOME = Origin("127.0.0.1", "imap")
SENDS = IntegrationSettings(
    "work", Provider.SMTP, "a@far.example", "a", "mail.far.example", 587, Security.STARTTLS, True, "key", b"sealed"
)


async def test_a_file_of_before(tmp_path: Path) -> None:
    path = tmp_path / "identity.db"
    before = next(number for number, one in enumerate(MIGRATIONS) if one.name == "capability masks")
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
    await database.write(
        lambda c: (
            c.execute(
                "INSERT INTO app_password (id, account, name, hash, created_at) VALUES ('p', 'a', 'phone', x'00', 0.0)"
            ).rowcount
        )
    )
    await database.close()
    identity = await open_sqlite(path, SETTINGS, ManualClock(), LibpassHasher(CHEAP))
    try:
        assert (await identity.authenticate("alice", "secret", HOME)).mask == ()
        assert [(one.name, one.mask) for one in await identity.app_passwords("a")] == [("phone", ())]
        assert (await identity.mask_app_password("a", "p", ["IDLE"])).mask == ("IDLE",)
        await identity.update_account("a", mask=["NOTIFY"])
        assert (await identity.authenticate("alice", "secret", HOME)).mask == ("NOTIFY",)
        assert await identity.integrations("a") == ()
        assert await identity.add_integration("a", SENDS) == (await identity.integrations("a"))[0]
    finally:
        await identity.close()
