"""What every kind of identity's store gives and takes when it is moved: out of each, into each."""

from __future__ import annotations

import base64
import random
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from identity import migrate
from identity.adapters.mongo.adapter import open_mongo_identity
from identity.adapters.mongo.moving import open_transfer as open_mongo_transfer
from identity.adapters.sqlite.adapter import open_sqlite
from identity.adapters.sqlite.moving import open_transfer
from identity.migrate import compare, copy, survey
from identity.model import (
    Account,
    Alias,
    DkimAlgorithm,
    DkimState,
    IntegrationSettings,
    NewAccount,
    Origin,
    Provider,
    Role,
    Security,
)
from identity.passwords import LibpassHasher
from identity.port import Identity, Refused, Unavailable
from identity.settings import IdentitySettings, PasswordSettings
from identity.transfer import AccountRecord, DomainRecord, Kind, Record, Transfer, TransferRefused
from runtime.clock import ManualClock
from runtime.lifecycle import StartError
from runtime.mongo import open_mongo
from tests.scram import ScramClient

from .conftest import KINDS

CHEAP = PasswordSettings(memory_kib=64, iterations=1, lanes=1, threads=2)
SETTINGS = IdentitySettings(default_domain="one.example", passwords=CHEAP, scram=True, scram_iterations=4096)
HOME = Origin("127.0.0.1", "imap")
ELSEWHERE = IntegrationSettings(
    "n", Provider.GMAIL, "ann@example.net", "client", "", 0, Security.STARTTLS, True, "key-1", b"sealed"
)
NAMES = ("ann", "bob", "Çelik", "dora", "postmaster", "x+y")
DOMAINS = ("one.example", "zwei.example", "münchen.example")


@dataclass(frozen=True)
class Store:
    """A kind of store: where a new one is, and how it is opened in either way."""

    place: Callable[[Path], str]
    port: Callable[[str, ManualClock], Awaitable[Identity]]
    transfer: Callable[[str], Awaitable[Transfer]]


async def _mongo(place: str, clock: ManualClock) -> Identity:
    mongo = await open_mongo(place, app="homing-tests")
    try:
        return await open_mongo_identity(mongo, SETTINGS, clock, LibpassHasher(CHEAP))
    except BaseException:
        await mongo.close()
        raise


STORES = {
    "sqlite": Store(
        lambda folder: str(folder / f"{uuid.uuid4().hex}.db"),
        lambda place, clock: open_sqlite(place, SETTINGS, clock, LibpassHasher(CHEAP)),
        open_transfer,
    ),
    "mongodb": Store(KINDS["mongodb"].place, _mongo, open_mongo_transfer),
}


@pytest.fixture(params=sorted(STORES))
def source_store(request: pytest.FixtureRequest) -> Store:
    return STORES[request.param]


@pytest.fixture(params=sorted(STORES))
def target_store(request: pytest.FixtureRequest) -> Store:
    return STORES[request.param]


def quiet(records: int) -> None:
    return None


async def made(store: Store, folder: Path, seed: int, clock: ManualClock) -> tuple[str, dict[str, str]]:
    """A random identity, closed: its place, and secrets of app passwords by address."""
    place = store.place(folder)
    port = await store.port(place, clock)
    chance = random.Random(seed)
    secrets: dict[str, str] = {}
    try:
        for domain in DOMAINS:
            await port.add_domain(domain, "ann@one.example" if chance.random() < 0.5 else None)
        await port.update_domain("zwei.example", None, "-")
        for state in DkimState:
            await port.add_dkim_key(chance.choice(DOMAINS), DkimAlgorithm.ED25519, state)
        for name in NAMES:
            for domain in DOMAINS:
                if chance.random() < 0.4:
                    continue
                clock.advance(1.25)
                role = chance.choice(list(Role))
                quota = chance.choice((None, 0, 10**12))
                address = f"{name}@{domain}"
                account = await port.add_account(NewAccount(address, f"of {address}", None, quota, role, name.title()))
                for n in range(chance.randrange(3)):
                    _, secrets[address] = await port.add_app_password(account.id, f"phone {n}", ["ID"] * n)
                for n in range(chance.randrange(3)):
                    await port.add_integration(account.id, replace(ELSEWHERE, name=f"n{n}", sealed=chance.randbytes(9)))
                await port.update_account(account.id, mask=chance.choice(((), ("MOVE", "UIDONLY"))))
                # The last enabled administrator cannot go.
                with suppress(Refused):
                    match chance.randrange(6):
                        case 0:
                            await port.update_account(account.id, enabled=False)
                        case 1:
                            await port.remove_account(account.id)
                            secrets.pop(address, None)
                        case 2:
                            await port.set_password(account.id, f"new of {address}")
                        case _:
                            pass
        for n in range(chance.randrange(5)):
            await port.put_alias(Alias(f"list{n}@one.example", ("ann@one.example", f"out{n}@example.net")))
        await port.put_alias(Alias("sales@zwei.example", ("bob@one.example",)))
    finally:
        await port.close()
    return place, secrets


async def seen(store: Store, place: str, clock: ManualClock) -> dict[str, Any]:
    port = await store.port(place, clock)
    try:
        accounts = await port.accounts()
        found: dict[str, Any] = {
            "domains": sorted(await port.domains(), key=lambda one: one.id),
            "accounts": accounts,
            "removed": await port.removed_accounts(),
            "aliases": await port.aliases(),
            "hashes": await port.export_accounts(),
            "keys": [await port.dkim_keys(domain) for domain in DOMAINS],
            "salt": await port.scram_start("ann", HOME),
            "ready": await port.scram_ready(),
        }
        for account in accounts:
            found[account.id] = await port.app_passwords(account.id), await port.integrations(account.id)
            found[account.address] = await port.resolve(account.address)
        found["postmaster"] = await port.resolve("postmaster@one.example")
        return found
    finally:
        await port.close()


async def records(transfer: Transfer) -> list[Record]:
    found: list[Record] = []
    for kind in Kind:
        after = ""
        while page := await transfer.page(kind, after, 3):
            found += page
            after = page[-1][0]
    return found


@pytest.mark.parametrize("seed", range(4))
async def test_what_is_moved_is_what_was_there(
    source_store: Store, target_store: Store, tmp_path: Path, seed: int
) -> None:
    clock = ManualClock()
    old, secrets = await made(source_store, tmp_path, seed, clock)
    new = target_store.place(tmp_path)
    source, target = await source_store.transfer(old), await target_store.transfer(new)
    try:
        await copy(source, target, await survey(source), quiet)
        assert await records(target) == await records(source)
        report = await compare(source, target)
        assert report.problems == []
        assert all(row.same for row in report.rows)
        await target.finish()
    finally:
        await source.close()
        await target.close()
    assert await seen(target_store, new, clock) == await seen(source_store, old, clock)
    port = await target_store.port(new, clock)
    try:
        for account in await port.accounts():
            for password in (secrets.get(account.address), f"of {account.address}", f"new of {account.address}"):
                if password is None or not account.enabled:
                    continue
                with suppress(Refused):
                    await proven(port, account, password)
                    assert (await port.authenticate(account.address, password, HOME)).account == account.id
                    break
            else:
                assert not account.enabled, account.address
        for account in await port.accounts():
            # The name is taken, an administrator stays, and all can be changed as before.
            with pytest.raises(Refused):
                await port.put_alias(Alias(account.address, ("x@example.net",)))
            with suppress(Refused):
                await port.remove_account(account.id)
        assert any(account.role is Role.ADMIN and account.enabled for account in await port.accounts())
        removed = await port.removed_accounts()
        for id in removed:
            await port.finish_removal(id)
        assert await port.removed_accounts() == ()
    finally:
        await port.close()


async def proven(port: Identity, account: Account, password: str) -> None:
    """The keys have come along, and the salts of all names are the old ones."""
    client = ScramClient(account.address, password)
    salt = await port.scram_start(account.address, HOME)
    client.final(f"r={client.nonce}1,s={base64.b64encode(salt.salt).decode()},i={salt.iterations}".encode())
    signed = await port.scram_finish(account.address, client.message, client.proof, HOME)
    assert (signed.principal.account, signed.signature) == (account.id, client.server_signature)


class Dying:
    """A target that dies at its second change: before it, or after it but before anybody hears of it."""

    def __init__(self, target: Transfer, *, after: bool) -> None:
        self._target = target
        self._left = 0 if after else 1
        self._after = after

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._target, name)
        if name not in ("put", "begin"):
            return call

        async def dying(*arguments: Any) -> None:
            self._left -= 1
            if self._left < 0 and not self._after:
                raise Unavailable("killed")
            await call(*arguments)
            if self._left < 0:
                raise Unavailable("killed")

        return dying


@pytest.mark.parametrize("after", [False, True])
async def test_a_move_that_dies_anywhere_is_gone_on_with(
    source_store: Store, target_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    monkeypatch.setattr(migrate, "PAGE", 2)
    old, _ = await made(source_store, tmp_path, 7, ManualClock())
    new = target_store.place(tmp_path)
    source = await source_store.transfer(old)
    deaths = 0
    while True:
        target = await target_store.transfer(new)
        try:
            await copy(source, Dying(target, after=after), await survey(source), quiet)  # type: ignore[arg-type]
            break
        except Unavailable:
            deaths += 1
            assert deaths < 100
            await target.close()
    assert deaths > 4
    assert await records(target) == await records(source)
    await source.close()
    await target.close()


async def test_a_target_is_empty_or_of_this_very_source(
    source_store: Store, target_store: Store, tmp_path: Path
) -> None:
    clock = ManualClock()
    old, _ = await made(source_store, tmp_path, 1, clock)
    full, _ = await made(target_store, tmp_path, 2, clock)
    new = target_store.place(tmp_path)
    source, other, target = (
        await source_store.transfer(old),
        await target_store.transfer(full),
        await target_store.transfer(new),
    )
    try:
        found = await survey(source)
        with pytest.raises(TransferRefused, match="not empty"):
            await copy(source, other, found, quiet)
        with pytest.raises(TransferRefused, match="no unfinished"):
            await other.erase()
        await target.begin("another")
        await target.put([DomainRecord("left.example", "1", "left.example", None, "+", 1.0)], "")
        with pytest.raises(TransferRefused, match="another source"):
            await copy(source, target, found, quiet)
        with pytest.raises(StartError, match="unfinished migration"):
            await target_store.port(new, clock)
        await target.erase()
        await copy(source, target, found, quiet)
        assert (await compare(source, target)).problems == []
    finally:
        for transfer in (source, other, target):
            await transfer.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda one: one._replace(password_hash="other"), "password_hash differs"),
        (lambda one: one._replace(version=99), "version is 99"),
        (lambda one: one._replace(apps=()), "apps differs"),
        (lambda one: one._replace(quota=5), "quota is 5"),
        (None, "is missing"),
    ],
)
async def test_what_differs_is_told(
    source_store: Store, target_store: Store, tmp_path: Path, change: Any, words: str
) -> None:
    old, _ = await made(source_store, tmp_path, 3, ManualClock())
    source, target = await source_store.transfer(old), await target_store.transfer(target_store.place(tmp_path))
    try:
        found = await survey(source)
        await target.begin(found.state)
        spoiled = False
        for record in await records(source):
            if isinstance(record, AccountRecord) and record.apps and not spoiled:
                spoiled = True
                if change is None:
                    continue
                record = change(record)
            await target.put([record], "")
        assert spoiled
        report = await compare(source, target)
        assert [words in problem for problem in report.problems] == [True]
        assert "$argon2" not in repr(report)
    finally:
        await source.close()
        await target.close()
