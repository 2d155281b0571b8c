"""A process that dies between any two of its steps: what the others find then, and what a repeated call gives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from identity.adapters.mongo import queries
from identity.adapters.mongo.adapter import MongoIdentity
from identity.adapters.mongo.documents import lives
from identity.model import Alias, ChangeKind, NewAccount, Origin, Role, Verdict
from identity.port import Reason, Refused, Unavailable
from tests.identity.mongo_town import HOME, D, Steps, Stumble, Town, killed, town_of

pytestmark = pytest.mark.slow

MOST_STEPS = 80


@dataclass
class Scene:
    """What there is before each call."""

    town: Town
    ids: dict[str, str] = field(default_factory=dict)
    held: dict[str, Any] = field(default_factory=dict)


Call = Callable[[MongoIdentity, Scene], Awaitable[Any]]


@dataclass(frozen=True)
class Case:
    """call: what dies. seen: is it made? again: what a repetition may be refused with, when it was. told: its news."""

    call: Call
    seen: Call
    again: Reason | None = None
    told: tuple[str, ChangeKind, tuple[str, ...]] | None = None
    credential: str = ""


async def refused(call: Awaitable[Any], *reasons: Reason) -> bool:
    try:
        await call
    except Refused as error:
        reason = error.reason
    else:
        return False
    assert reason in reasons
    return True


async def signs_in(port: MongoIdentity, name: str, password: str) -> bool:
    return not await refused(port.authenticate(name, password, HOME), Reason.BAD_CREDENTIALS, Reason.DISABLED)


async def has_name(port: MongoIdentity, local: str) -> bool:
    return (await port.resolve(f"{local}@{D}")).verdict is Verdict.LOCAL


async def is_administrator(port: MongoIdentity, id: str) -> bool:
    account = await port.account(id)
    return account.enabled and account.role is Role.ADMIN


async def no_token(port: MongoIdentity, token: Any) -> bool:
    return await refused(port.verify_token(token.access), Reason.BAD_CREDENTIALS)


ROWS = [NewAccount(f"i{n}@{D}", "x", role=Role.ADMIN if n == 1 else Role.USER) for n in range(3)]
CASES: dict[str, Case] = {
    "add_account": Case(
        lambda port, at: port.add_account(NewAccount(f"new@{D}", "x")),
        lambda port, at: signs_in(port, "new", "x"),
        Reason.ALREADY_EXISTS,
    ),
    "add_administrator": Case(
        lambda port, at: port.add_account(NewAccount(f"new@{D}", "x", role=Role.ADMIN)),
        lambda port, at: signs_in(port, "new", "x"),
        Reason.ALREADY_EXISTS,
    ),
    "import_accounts": Case(
        lambda port, at: port.import_accounts(ROWS),
        lambda port, at: has_name(port, "i2"),
    ),
    "put_alias": Case(
        lambda port, at: port.put_alias(Alias(f"new@{D}", (f"alice@{D}",))),
        lambda port, at: has_name(port, "new"),
    ),
    "replace_alias": Case(
        lambda port, at: port.put_alias(Alias(f"team@{D}", (f"alice@{D}",))),
        lambda port, at: has_name(port, "team"),
    ),
    "remove_alias": Case(
        lambda port, at: port.remove_alias(f"list@{D}"),
        lambda port, at: unknown(port, f"list@{D}"),
        Reason.NO_SUCH_ALIAS,
    ),
    "add_domain": Case(
        lambda port, at: port.add_domain("new.example"),
        lambda port, at: port.domain_exists("new.example"),
        Reason.ALREADY_EXISTS,
    ),
    "remove_domain": Case(
        lambda port, at: port.remove_domain("empty.example"),
        lambda port, at: no_domain(port, "empty.example"),
        Reason.NO_SUCH_DOMAIN,
    ),
    "set_password": Case(
        lambda port, at: port.set_password(at.ids["alice"], "new"),
        lambda port, at: signs_in(port, "alice", "new"),
        told=("alice", ChangeKind.CREDENTIALS, ("password", "token")),
        credential="password",
    ),
    "disable": Case(
        lambda port, at: port.update_account(at.ids["alice"], enabled=False),
        lambda port, at: is_disabled(port, at.ids["alice"]),
        told=("alice", ChangeKind.DISABLED, ()),
        credential="password",
    ),
    "disable_administrator": Case(
        lambda port, at: port.update_account(at.ids["second"], enabled=False),
        lambda port, at: is_disabled(port, at.ids["second"]),
        told=("second", ChangeKind.DISABLED, ()),
    ),
    "demote": Case(
        lambda port, at: port.update_account(at.ids["second"], role=Role.USER),
        lambda port, at: negation(is_administrator(port, at.ids["second"])),
        told=("second", ChangeKind.CREDENTIALS, ()),
    ),
    "promote": Case(
        lambda port, at: port.update_account(at.ids["alice"], role=Role.ADMIN),
        lambda port, at: is_administrator(port, at.ids["alice"]),
    ),
    "remove_account": Case(
        lambda port, at: port.remove_account(at.ids["alice"]),
        lambda port, at: unknown(port, f"alice@{D}"),
        Reason.NO_SUCH_ACCOUNT,
        told=("alice", ChangeKind.REMOVED, ()),
        credential="password",
    ),
    "remove_administrator": Case(
        lambda port, at: port.remove_account(at.ids["second"]),
        lambda port, at: unknown(port, f"second@{D}"),
        Reason.NO_SUCH_ACCOUNT,
        told=("second", ChangeKind.REMOVED, ()),
    ),
    "finish_removal": Case(
        lambda port, at: port.finish_removal(at.ids["gone"]),
        lambda port, at: is_forgotten(port, at.ids["gone"]),
    ),
    "add_app_password": Case(
        lambda port, at: port.add_app_password(at.ids["alice"], "laptop"),
        lambda port, at: has_app(port, at, "laptop"),
        Reason.ALREADY_EXISTS,
    ),
    "revoke_app_password": Case(
        lambda port, at: port.revoke_app_password(at.ids["alice"], at.ids["app"]),
        lambda port, at: negation(has_app(port, at, "phone")),
        Reason.NO_SUCH_CREDENTIAL,
        told=("alice", ChangeKind.CREDENTIALS, ("app", "by_app")),
        credential="by_app",
    ),
    "revoke_token": Case(
        lambda port, at: port.revoke_token(at.held["password"].access),
        lambda port, at: no_token(port, at.held["password"]),
        told=("alice", ChangeKind.CREDENTIALS, ("token",)),
        credential="password",
    ),
    "spent_refresh": Case(
        lambda port, at: refused(port.refresh_token(at.held["spent"].refresh), Reason.BAD_CREDENTIALS),
        lambda port, at: no_token(port, at.held["by_app"]),
        told=("alice", ChangeKind.CREDENTIALS, ("by_app",)),
        credential="by_app",
    ),
}


async def negation(call: Awaitable[bool]) -> bool:
    return not await call


async def unknown(port: MongoIdentity, address: str) -> bool:
    return (await port.resolve(address)).verdict is Verdict.UNKNOWN


async def no_domain(port: MongoIdentity, domain: str) -> bool:
    return not await port.domain_exists(domain)


async def is_disabled(port: MongoIdentity, id: str) -> bool:
    return not (await port.account(id)).enabled


async def is_forgotten(port: MongoIdentity, id: str) -> bool:
    return id not in await port.removed_accounts()


async def has_app(port: MongoIdentity, at: Scene, name: str) -> bool:
    return name in {one.name for one in await port.app_passwords(at.ids["alice"])}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("identity.adapters.mongo.administrators.LEAVE_SECONDS", 0.01)
    monkeypatch.setattr("identity.adapters.mongo.names.FINISH_SECONDS", 0.01)


async def scene(town: Town) -> tuple[Scene, MongoIdentity]:
    port, at = await town.settled(), Scene(town)
    for account in await port.accounts():
        at.ids[account.address.partition("@")[0]] = account.id
    for name in ("alice", "gone"):
        at.ids[name] = (await town.add(port, name)).id
    await port.remove_account(at.ids["gone"])
    await port.put_alias(Alias(f"team@{D}", (f"nobody@{D}",)))
    await port.put_alias(Alias(f"list@{D}", (f"alice@{D}",)))
    await port.add_domain("empty.example")
    app, secret = await port.add_app_password(at.ids["alice"], "phone")
    at.ids["app"] = app.id
    at.held["password"] = await port.issue_token(await port.authenticate("alice", "secret", HOME))
    at.held["spent"] = await port.issue_token(await port.authenticate("alice", secret, HOME))
    at.held["by_app"] = await port.refresh_token(at.held["spent"].refresh)
    for name, token in (("token", "password"), ("by_app", "by_app")):
        at.ids[name] = (await port.verify_token(at.held[token].access)).credential
    at.ids["seq"] = str((await port.changes_since(0, 0)).seq)
    return at, port


@pytest.fixture(params=["mongomock", "mongodb"])
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("name", sorted(CASES))
async def test_it_dies_at_any_step(server: str, name: str) -> None:
    case = CASES[name]
    # Each step has a setting of its own; on a server, every seventh step is looked at.
    step = 0 if server == "mongomock" else len(name) % 7
    while step < MOST_STEPS:
        async with town_of(server) as town:
            at, dying = await scene(town)
            if not await killed(dying, case.call(dying, at), step):
                await looked_at(case, at, await town.process(), made=True)
                break
            other = await town.process()
            await other.stop()
            seen = await case.seen(other, at)
            await looked_at(case, at, other, made=seen)
            if case.again is not None and seen:
                assert await refused(case.call(other, at), case.again)
            else:
                await case.call(other, at)
            await looked_at(case, at, other, made=True)
        step += 1 if server == "mongomock" else 7
    else:
        raise AssertionError("it takes more steps than were looked at")


@pytest.mark.parametrize("name", sorted(CASES))
async def test_the_database_is_away_for_a_moment_at_any_step(name: str) -> None:
    case = CASES[name]
    for step in range(MOST_STEPS):
        async with town_of("mongomock") as town:
            at, port = await scene(town)
            stumble = port._database.on_step = Stumble(step)
            try:
                await case.call(port, at)
            except Unavailable:
                seen = await case.seen(port, at)
            else:
                # What was made is said to be made, also when its news has to wait.
                seen = True
            await port._writes.close()
            port._database.on_step = None
            await looked_at(case, at, port, made=seen)
            if not stumble.stumbled:
                break
            if case.again is not None and seen:
                assert await refused(case.call(port, at), case.again)
            else:
                await case.call(port, at)
            await looked_at(case, at, port, made=True)
    else:
        raise AssertionError("it takes more steps than were looked at")


async def looked_at(case: Case, at: Scene, port: MongoIdentity, *, made: bool) -> None:
    """What holds whatever happened; and the change and its news are there, or neither."""
    await port.tell_all()
    assert await case.seen(port, at) is made
    news = await port.changes_since(int(at.ids["seq"]), 0)
    assert [change.seq for change in news.changes] == list(range(int(at.ids["seq"]) + 1, news.seq + 1))
    if case.told is None or not made:
        assert news.changes == ()
    else:
        who, kind, revoked = case.told
        # A call that was repeated is a change of its own.
        assert 1 <= len(news.changes) <= 2
        for n, change in enumerate(news.changes):
            assert (change.account, change.kind) == (at.ids[who], kind)
            if n == 0:
                named = [{"app": f"app:{at.ids['app']}"}.get(one, at.ids.get(one, one)) for one in revoked]
                assert list(change.revoked) == named
    if made and case.credential:
        assert await no_token(port, at.held[case.credential])
    await the_house_stands(at, port)


async def the_house_stands(at: Scene, port: MongoIdentity) -> None:
    """There is an administrator, the list of them names no other, and nothing is left untold."""
    client = await at.town.client()
    names = await client.database["identity_name"].find({}).to_list()
    state = await client.database["identity_state"].find_one({"_id": "administrators"})
    untold = [one for one in names if "untold" in one]
    families = await client.database["identity_token"].find({}).to_list()
    await client.close()
    real = {one["_id"] for one in names if one["kind"] == "account" and one["role"] == "admin" and one["enabled"]}
    assert real
    assert real == {one["_id"] for one in names if "admin" in one}
    assert state is not None
    assert set(state["listed"]) <= real
    assert not set(state["listed"]) & set(state["leaving"])
    assert untold == []
    # What was ended is told and gone; what is there holds.
    for family in families:
        assert lives(family, next(one for one in names if one["_id"] == family["account"]))
    assert {one.id for one in await port.accounts()} == {one["_id"] for one in names if one["kind"] == "account"}


async def test_a_dead_leaving_is_settled_and_its_change_comes_no_more(server: str) -> None:
    async with town_of(server) as town:
        at, dying = await scene(town)
        call = dying.update_account(at.ids["second"], enabled=False)
        # The list was changed, the account not yet.
        steps = Steps()
        dying._database.on_step = steps
        other = await town.process()

        def stop_before_the_account(name: str) -> None:
            steps(name)
            if name == "identity_name update":
                raise RuntimeError("dies here")

        dying._database.on_step = stop_before_the_account
        with pytest.raises(RuntimeError):
            await call
        dying._database.on_step = None
        state = await (await town.client()).database["identity_state"].find_one({"_id": "administrators"})
        assert state is not None
        assert list(state["leaving"]) == [at.ids["second"]]
        rev = state["leaving"][at.ids["second"]]["rev"]
        # For the other there seems to be one administrator alone, until it looks.
        await other.remove_account(at.ids["admin"])
        assert await refused(other.remove_account(at.ids["second"]), Reason.IN_USE)
        # What the dead one would have written finds another revision.
        assert not await dying._database.update(queries.account_at(at.ids["second"], rev), {"$set": {"enabled": False}})


async def test_the_upkeep_of_another_tells_what_the_dead_left(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("identity.adapters.mongo.upkeep.TELL_SECONDS", 0.05)
    async with town_of(server) as town:
        at, dying = await scene(town)
        other = await town.process()
        seq = int(at.ids["seq"])

        def stop_before_the_news(name: str) -> None:
            if name == "identity_change insert":
                raise RuntimeError("dies here")

        dying._database.on_step = stop_before_the_news
        with pytest.raises(RuntimeError):
            await dying.update_account(at.ids["alice"], enabled=False)
        (change,) = (await other.changes_since(seq, 60)).changes
        assert (change.account, change.kind) == (at.ids["alice"], ChangeKind.DISABLED)


async def test_a_name_that_was_reserved_by_the_dead(server: str) -> None:
    async with town_of(server) as town:
        _, dying = await scene(town)

        def stop_before_the_commit(name: str) -> None:
            if name == "identity_name update":
                raise RuntimeError("dies here")

        dying._database.on_step = stop_before_the_commit
        with pytest.raises(RuntimeError):
            await dying.add_account(NewAccount(f"new@{D}", "x"))
        dying._database.on_step = None
        other = await town.process()
        assert await unknown(other, f"new@{D}")
        assert await refused(other.find_account("new"), Reason.NO_SUCH_ACCOUNT)
        # Nobody wants it: the sweep takes it away after its time. Somebody does: it is had after a moment.
        made = await other.add_account(NewAccount(f"new@{D}", "y"))
        assert await signs_in(dying, "new", "y")
        assert (await dying.find_account("new")).id == made.id


async def test_a_reservation_that_its_domain_did_not_wait_for(server: str) -> None:
    async with town_of(server) as town:
        _, slow = await scene(town)
        other = await town.process()
        commit = slow._names._commit

        async def late(reserved: Any) -> Any:
            # It has looked at the domain, and stands still until that is gone.
            await other.remove_domain("empty.example")
            return await commit(reserved)

        slow._names._commit = late  # type: ignore[method-assign]  # for the test
        assert await refused(slow.add_account(NewAccount("new@empty.example", "x")), Reason.NO_SUCH_DOMAIN)
        assert await other.accounts("empty.example") == ()
        await other.add_domain("empty.example")
        await other.add_account(NewAccount("new@empty.example", "x"))


async def test_a_domain_whose_remover_stands_still_is_open_again_for_who_needs_it(server: str) -> None:
    async with town_of(server) as town:
        _, slow = await scene(town)
        other = await town.process()
        first = slow._database.first
        slow_is_late = True

        async def late(shape: queries.Shape) -> Any:
            nonlocal slow_is_late
            found = await first(shape)
            if slow_is_late and shape == queries.any_in("empty.example"):
                # It has found the domain empty, and stands still while another comes.
                slow_is_late = False
                await other.add_account(NewAccount("new@empty.example", "x"))
            return found

        slow._database.first = late  # type: ignore[method-assign]  # for the test
        assert await refused(slow.remove_domain("empty.example"), Reason.IN_USE)
        assert await other.domain_exists("empty.example")
        await other.authenticate("new@empty.example", "x", HOME)


async def test_what_is_old_is_swept(server: str) -> None:
    async with town_of(server) as town:
        _, port = await scene(town)

        def stop_before_the_commit(name: str) -> None:
            if name == "identity_name update":
                raise RuntimeError("dies here")

        port._database.on_step = stop_before_the_commit
        with pytest.raises(RuntimeError):
            await port.add_account(NewAccount(f"new@{D}", "x"))
        port._database.on_step = None
        for n in range(4):
            elsewhere = Origin("203.0.113.7", "imap")
            assert await refused(port.authenticate("alice", f"wrong {n}", elsewhere), Reason.BAD_CREDENTIALS)
        client = await town.client()
        assert await client.database["identity_guess"].find_one({"_id": "a:alice@" + D}) is not None
        town.clock.advance(31 * 86400)
        await port.sweep()
        assert await client.database["identity_name"].find({"kind": "reserved"}).to_list() == []
        assert await client.database["identity_token"].find({}).to_list() == []
        assert await client.database["identity_guess"].find({}).to_list() == []
        assert await client.database["identity_device"].find({}).to_list() == []
        await client.close()
