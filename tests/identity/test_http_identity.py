"""The identity port over HTTP: everything crosses as it is, and a lost answer doubles nothing."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from identity import wire
from identity.adapters.http import adapter
from identity.adapters.http.adapter import open_http
from identity.adapters.sqlite.adapter import open_sqlite
from identity.connect import connect
from identity.model import (
    Alias,
    BannedBy,
    DkimAlgorithm,
    DkimState,
    IntegrationSettings,
    NewAccount,
    NewBan,
    Origin,
    Provider,
    RateCharge,
    Role,
    Security,
)
from identity.port import Identity, Reason, Refused, Unavailable
from identity.port_api import port_app
from identity.settings import IdentitySettings, PasswordSettings
from runtime import portclient
from runtime.clock import ManualClock
from runtime.portframes import LENGTH
from tests.cutting import CuttingProxy
from tests.hurry import examples
from tests.portvalues import same, values
from tests.scram import ScramClient
from tests.served import TOKEN, Keeper

CODEC = wire.codec()
METHODS = sorted(CODEC.methods() - {"close"})
D = "test.example"
HOME = Origin("127.0.0.1", "imap")
ELSEWHERE = IntegrationSettings("n", Provider.SMTP, "a@b.example", "a", "h", 25, Security.TLS, True, "k", b"sealed")
SETTINGS = IdentitySettings(
    default_domain=D,
    passwords=PasswordSettings(memory_kib=64, iterations=1, lanes=1, threads=2),
    scram=True,
    scram_iterations=4096,
)


def test_every_method_is_of_one_kind() -> None:
    kinds = (wire.QUESTIONS, wire.IDEMPOTENT, wire.ONCE)
    assert sorted(name for kind in kinds for name in kind) == METHODS
    assert {name for name in METHODS if "wait" in CODEC.parameters(name)} == wire.POLLS


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=examples(40), deadline=None)
@given(data=st.data())
def test_arguments_and_results_come_as_they_went(method: str, data: st.DataObject) -> None:
    hints = get_type_hints(getattr(Identity, method))
    args = {name: data.draw(values(hints[name]), name) for name in CODEC.parameters(method)}
    assert same(CODEC.unpack_call(method, CODEC.pack_call(method, (), args)), args)
    result = data.draw(values(hints["return"]))
    joiner = CODEC.joiner(method)
    for frame in CODEC.frames(method, result):
        joiner.feed(frame[LENGTH:])
    assert same(joiner.result(), result)


@given(error=values(Refused | Unavailable))
def test_errors_come_as_they_went(error: Exception) -> None:
    joiner = CODEC.joiner("close")
    joiner.feed(CODEC.error_frame(error)[LENGTH:])
    assert same(joiner.error, error)


class Scene:
    """Identity behind a proxy that can cut answers; `behind` is the store itself."""

    def __init__(self, behind: Identity, port: Identity, keeper: Keeper, proxy: CuttingProxy) -> None:
        self.behind = behind
        self.port = port
        self.keeper = keeper
        self.proxy = proxy

    async def lost(self, cut: Any, call: Callable[[], Awaitable[object]]) -> str:
        """Do a call whose answer is lost, and which is sent once."""
        before = self.keeper.app.figures()["calls"]
        self.proxy.cuts.append(cut)
        with pytest.raises(Unavailable) as unavailable:
            await call()
        assert self.keeper.app.figures()["calls"] == before + 1
        return str(unavailable.value)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    behind = await open_sqlite(tmp_path / "identity.db", SETTINGS, ManualClock())
    async with Keeper(port_app(behind, TOKEN)) as keeper, CuttingProxy(keeper.rest.port) as proxy:
        port = open_http(proxy.url, TOKEN, timeout=60)
        await port.add_domain(D)
        yield Scene(behind, port, keeper, proxy)
        await port.close()
    await behind.close()


@pytest.mark.parametrize("cut", ["before", "head", "body"])
async def test_a_write_with_a_lost_answer_is_done_once_and_said_to_be_unknown(scene: Scene, cut: Any) -> None:
    port, behind = scene.port, scene.behind
    alice = await port.add_account(NewAccount(f"alice@{D}", "secret", role=Role.ADMIN))
    principal = await port.authenticate("alice", "secret", HOME)
    token = await port.issue_token(principal)
    spare = await port.add_app_password(alice.id, "spare")
    banned = await port.ban(NewBan("192.0.2.8", "", BannedBy.ADMINISTRATOR))
    lifted = await port.ban(NewBan("192.0.2.9", "", BannedBy.ADMINISTRATOR))
    key = await port.add_dkim_key(D, DkimAlgorithm.ED25519)
    first, second = [await port.add_integration(alice.id, replace(ELSEWHERE, name=name)) for name in ("one", "two")]
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "issue_token": lambda: port.issue_token(principal),
        "refresh_token": lambda: port.refresh_token(token.refresh),
        "add_domain": lambda: port.add_domain("second.example"),
        "update_domain": lambda: port.update_domain("second.example", None, "-"),
        "remove_domain": lambda: port.remove_domain("second.example"),
        "add_dkim_key": lambda: port.add_dkim_key(D, DkimAlgorithm.RSA),
        "remove_dkim_key": lambda: port.remove_dkim_key(D, key.selector),
        "add_account": lambda: port.add_account(NewAccount(f"bob@{D}", "secret")),
        "import_accounts": lambda: port.import_accounts([NewAccount(f"carol@{D}", "secret")]),
        "put_alias": lambda: port.put_alias(Alias(f"all@{D}", (f"alice@{D}",))),
        "remove_alias": lambda: port.remove_alias(f"all@{D}"),
        "add_app_password": lambda: port.add_app_password(alice.id, "phone"),
        "revoke_app_password": lambda: port.revoke_app_password(alice.id, spare[0].id),
        "update_account": lambda: port.update_account(alice.id, display_name="Alice"),
        "set_password": lambda: port.set_password(alice.id, "new"),
        "charge": lambda: port.charge([RateCharge("address:a", 3600, 10**9, 3)]),
        "ban": lambda: port.ban(NewBan("192.0.2.7", "", BannedBy.ADMINISTRATOR)),
        "hit_bans": lambda: port.hit_bans({banned.id: 2}),
        "lift_ban": lambda: port.lift_ban(lifted.id),
        "add_integration": lambda: port.add_integration(alice.id, replace(ELSEWHERE, name="third")),
        "change_integration": lambda: port.change_integration(alice.id, first.id, 1, ELSEWHERE),
        "set_default_integration": lambda: port.set_default_integration(alice.id, second.id),
        "remove_integration": lambda: port.remove_integration(alice.id, second.id),
    }
    assert set(calls) == wire.ONCE - {"remove_account"}
    for name, call in calls.items():
        assert "not known whether it was done" in await scene.lost(cut, call), name
    bob = await port.find_account(f"bob@{D}")
    await scene.lost(cut, lambda: port.remove_account(bob.id))

    assert [domain.name for domain in await behind.domains()] == [D]
    assert [account.address for account in await behind.accounts()] == [f"alice@{D}", f"carol@{D}"]
    assert await behind.removed_accounts() == (bob.id,)
    assert await behind.aliases() == ()
    assert [one.name for one in await behind.app_passwords(alice.id)] == ["phone"]
    left = [(one.settings.name, one.revision, one.default) for one in await behind.integrations(alice.id)]
    assert left == [("n", 2, False), ("third", 1, False)]
    now = await behind.account(alice.id)
    assert now.display_name == "Alice"
    assert (await behind.authenticate("alice", "new", HOME)).version == now.version
    assert [count.present for count in await behind.charge([RateCharge("address:a", 3600, 10**9, 0)])] == [3]
    (made,) = await behind.dkim_keys(D)
    assert made.selector != key.selector
    assert {one.target: one.hits for one in await behind.bans()} == {"192.0.2.7": 0, "192.0.2.8": 2}


@pytest.mark.parametrize("cuts", [["before"], ["body", "head", "before"]])
async def test_questions_are_asked_again(scene: Scene, cuts: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portclient, "PAUSE_FIRST", 0.002)
    port, behind = scene.port, scene.behind
    alice = await port.add_account(NewAccount(f"alice@{D}", "secret"))
    phone, _ = await behind.add_app_password(alice.id, "phone")
    principal = await behind.authenticate("alice", "secret", HOME)
    token = await behind.issue_token(principal)
    key = await behind.add_dkim_key(D, DkimAlgorithm.ED25519)
    salt = await behind.scram_start("alice", HOME)
    scram = ScramClient("alice", "secret")
    scram.final(f"r={scram.nonce}1,s={base64.b64encode(salt.salt).decode()},i={salt.iterations}".encode())
    calls: dict[str, Callable[[Identity], Awaitable[object]]] = {
        "domain_exists": lambda one: one.domain_exists(D),
        "resolve": lambda one: one.resolve(f"alice+x@{D}"),
        "authenticate": lambda one: one.authenticate("alice", "secret", HOME),
        "authenticate_token": lambda one: one.authenticate_token("alice", token.access, HOME),
        "scram_ready": lambda one: one.scram_ready(),
        "scram_start": lambda one: one.scram_start("alice", HOME),
        "scram_finish": lambda one: one.scram_finish("alice", scram.message, scram.proof, HOME),
        "may_send_as": lambda one: one.may_send_as(alice.id, f"alice@{D}"),
        "account": lambda one: one.account(alice.id),
        "still_valid": lambda one: one.still_valid(principal),
        "changes_since": lambda one: one.changes_since(0, 5),
        "verify_token": lambda one: one.verify_token(token.access),
        "domains": lambda one: one.domains(),
        "dkim_keys": lambda one: one.dkim_keys(D),
        "set_dkim_state": lambda one: one.set_dkim_state(D, key.selector, DkimState.RETIRED),
        "accounts": lambda one: one.accounts(D),
        "find_account": lambda one: one.find_account("alice"),
        "export_accounts": lambda one: one.export_accounts(),
        "removed_accounts": lambda one: one.removed_accounts(),
        "aliases": lambda one: one.aliases(),
        "app_passwords": lambda one: one.app_passwords(alice.id),
        "mask_app_password": lambda one: one.mask_app_password(alice.id, phone.id, ("ID",)),
        "bans": lambda one: one.bans(),
        "integrations": lambda one: one.integrations(alice.id),
        "sealed_with": lambda one: one.sealed_with(),
        "bans_since": lambda one: one.bans_since(""),
        "signed_in_from": lambda one: one.signed_in_from("192.0.2.7"),
        "revoke_token": lambda one: one.revoke_token(token.access),
        "finish_removal": lambda one: one.finish_removal(alice.id),
    }
    assert set(calls) == wire.REPEATABLE
    await behind.add_account(NewAccount(f"root@{D}", "secret", role=Role.ADMIN))
    for name, call in calls.items():
        if name == "finish_removal":
            await behind.remove_account(alice.id)
        scene.proxy.cuts.extend(cuts)
        assert await call(port) == await call(behind), name
        assert not scene.proxy.cuts


async def test_who_waits_for_changes_hears_of_one_at_once(scene: Scene) -> None:
    alice = await scene.port.add_account(NewAccount(f"alice@{D}", "secret"))
    seq = (await scene.port.changes_since(0, 0)).seq
    waiting = [asyncio.create_task(scene.port.changes_since(seq, 300)) for _ in range(3)]
    await asyncio.sleep(0.05)
    await scene.port.set_password(alice.id, "new")
    async with asyncio.timeout(30):
        for changes in await asyncio.gather(*waiting):
            assert [change.account for change in changes.changes] == [alice.id]


async def test_closing_ends_the_wait_with_nothing_new(scene: Scene) -> None:
    seq = (await scene.port.changes_since(0, 0)).seq
    waiting = asyncio.create_task(scene.port.changes_since(seq, 300))
    await asyncio.sleep(0.05)
    await scene.port.close()
    assert (await waiting).seq == seq
    with pytest.raises(Unavailable):
        await scene.port.changes_since(seq, 300)
    assert await scene.behind.domain_exists(D)


async def test_an_import_goes_in_several_calls(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "IMPORT_ROWS", 3)
    before = scene.keeper.app.figures()["calls"]
    rows = [NewAccount(f"u{n}@{D}" if n != 4 else "bad", "secret") for n in range(8)]
    outcomes = await scene.port.import_accounts(rows)
    assert scene.keeper.app.figures()["calls"] == before + 3
    assert [outcome.address for outcome in outcomes] == [row.address for row in rows]
    assert [outcome.problem is None for outcome in outcomes] == [n != 4 for n in range(8)]
    assert await scene.port.import_accounts([]) == ()


async def test_the_refusal_keeps_its_pause(scene: Scene) -> None:
    await scene.port.add_account(NewAccount(f"alice@{D}", "secret"))
    away = Origin("198.51.100.7", "smtp")
    while True:
        with pytest.raises(Refused) as refused:
            await scene.port.authenticate("alice", "wrong", away)
        if refused.value.reason is Reason.SLOW_DOWN:
            break
    assert refused.value.retry_after is not None
    assert refused.value.retry_after > 0


async def test_no_secret_is_in_what_is_told_of_a_failure(scene: Scene) -> None:
    secret = "s3cret-pa55word"
    for cut in ("before", "body"):
        text = await scene.lost(cut, lambda: scene.port.set_password("nobody", secret))
        assert secret not in text
        assert TOKEN not in text


async def test_a_url_of_http_is_this_adapter(scene: Scene) -> None:
    port = await connect(scene.keeper.url, SETTINGS, token=TOKEN, pool=3, timeout=60)
    assert await port.domain_exists(D)
    await port.close()
    assert await scene.behind.domain_exists(D)
    with pytest.raises(ValueError, match="service token"):
        await connect(scene.keeper.url, SETTINGS)
