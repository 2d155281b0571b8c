"""Several identity processes at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from identity.adapters.mongo.adapter import MongoIdentity
from identity.model import Alias, ChangeKind, NewAccount, Origin, Role, Verdict
from identity.port import Reason, Refused
from tests.identity.mongo_town import HOME, D, Town, town_of

ROUNDS = 15


@pytest.fixture(params=["mongomock", "mongodb"])
async def town(request: pytest.FixtureRequest) -> AsyncIterator[Town]:
    async with town_of(request.param) as town:
        yield town


async def outcome(call: object) -> object:
    """What it gives, or the reason of its refusal."""
    try:
        return await call  # type: ignore[misc]  # a call of the port
    except Refused as error:
        return error.reason


async def at_once(*calls: object) -> list[object]:
    return list(await asyncio.gather(*(outcome(call) for call in calls)))


async def administrators(identity: MongoIdentity) -> set[str]:
    return {one.id for one in await identity.accounts() if one.role is Role.ADMIN and one.enabled}


async def test_one_name_is_had_once(town: Town) -> None:
    one, two, three = [await town.settled(), await town.process(), await town.process()]
    for n in range(ROUNDS):
        new = NewAccount(f"name{n}@{D}", "x")
        answers = await at_once(
            one.add_account(new),
            two.add_account(new),
            two.put_alias(Alias(f"Name{n}@{D}", ("x@else.example",))),
            three.import_accounts([new, NewAccount(f"other{n}@{D}", "x")]),
        )
        imported = answers.pop()
        assert isinstance(imported, tuple)
        assert imported[1].account is not None
        won = [*(answer for answer in answers if answer is not Reason.ALREADY_EXISTS)]
        won += [outcome for outcome in imported[:1] if outcome.problem is None]
        assert len(won) == 1, answers
        accounts = [a for a in await one.accounts() if a.address.startswith(f"name{n}@")]
        aliases = [a for a in await two.aliases() if a.address.startswith(f"Name{n}@")]
        assert len(accounts) + len(aliases) == 1


async def test_two_administrators_who_end_each_other_leave_one(town: Town) -> None:
    one, two = await town.settled(), await town.process()
    first, second = sorted(await administrators(one))
    for n in range(ROUNDS):
        if n % 3 == 0:
            calls = one.update_account(first, enabled=False), two.update_account(second, enabled=False)
        elif n % 3 == 1:
            calls = one.update_account(first, role=Role.USER), two.update_account(second, enabled=False)
        else:
            calls = one.update_account(second, role=Role.USER), two.update_account(first, role=Role.USER)
        answers = await at_once(*calls)
        left = await administrators(two)
        assert len(left) == 1
        assert answers.count(Reason.IN_USE) == 1
        for id in (first, second):
            await two.update_account(id, enabled=True, role=Role.ADMIN)
    answers = await at_once(one.remove_account(first), two.remove_account(second))
    assert answers.count(Reason.IN_USE) == 1
    assert len(await administrators(one)) == 1


async def test_coming_and_going_administrators(town: Town) -> None:
    ports = [await town.settled(), await town.process(), await town.process()]
    ids = sorted(await administrators(ports[0]))
    ids += [(await town.add(ports[0], f"boss{n}", role=Role.ADMIN)).id for n in range(2)]
    for n in range(ROUNDS):
        calls = []
        for place, id in enumerate(ids):
            goes = (n + place) % 2
            calls.append(ports[place % 3].update_account(id, role=Role.USER if goes else Role.ADMIN))
            calls.append(ports[(place + 1) % 3].update_account(id, enabled=(n + place) % 3 != 0))
        answers = await at_once(*calls)
        assert await administrators(ports[n % 3])
        assert all(not isinstance(answer, Reason) or answer is Reason.IN_USE for answer in answers)
    # Whatever has happened, the list is right in the end: all but one may go, and that one may not.
    for id in await administrators(ports[0]):
        await outcome(ports[1].update_account(id, role=Role.USER))
    assert len(await administrators(ports[2])) == 1


async def test_a_refresh_token_in_two_hands(town: Town) -> None:
    one, two = await town.settled(), await town.process()
    principal = await one.authenticate("admin", "secret", HOME)
    for _ in range(ROUNDS):
        token = await one.issue_token(principal)
        answers = await at_once(one.refresh_token(token.refresh), two.refresh_token(token.refresh))
        good = [answer for answer in answers if not isinstance(answer, Reason)]
        assert len(good) <= 1
        for answer in good:
            assert await outcome(two.verify_token(answer.access)) is Reason.BAD_CREDENTIALS  # type: ignore[attr-defined]
        assert await outcome(one.verify_token(token.access)) is Reason.BAD_CREDENTIALS


async def test_a_domain_that_is_removed_while_names_come(town: Town) -> None:
    one, two, three = [await town.settled(), await town.process(), await town.process()]
    for n in range(ROUNDS):
        domain = f"d{n}.example"
        await one.add_domain(domain)
        gone, account, alias = await at_once(
            one.remove_domain(domain),
            two.import_accounts([NewAccount(f"a@{domain}", password_hash="$2b$04$" + "." * 53)]),
            three.put_alias(Alias(f"b@{domain}", ("x@else.example",))),
        )
        made = [account[0].account is not None, alias is None]  # type: ignore[index]
        assert (gone is None) is not any(made), (gone, account, alias)
        assert await two.domain_exists(domain) is any(made)
        if gone is None:
            assert account[0].problem == "no such domain"  # type: ignore[index]
            assert alias is Reason.NO_SUCH_DOMAIN
            assert await one.accounts(domain) == ()
            assert await one.aliases(domain) == ()
        else:
            assert gone is Reason.IN_USE
            assert (await three.resolve(f"a@{domain}")).verdict is (Verdict.LOCAL if made[0] else Verdict.UNKNOWN)


async def test_changes_of_one_account_by_all(town: Town) -> None:
    ports = [await town.settled(), await town.process(), await town.process()]
    alice = await town.add(ports[0], "alice")
    begin = (await ports[0].changes_since(0, 0)).seq
    await at_once(
        *(port.set_password(alice.id, f"new {n}") for n, port in enumerate(ports)),
        *(port.add_app_password(alice.id, f"phone {n}") for n, port in enumerate(ports)),
        *(port.add_app_password(alice.id, "same") for port in ports),
        *(port.update_account(alice.id, quota=n) for n, port in enumerate(ports)),
    )
    after = await ports[1].account(alice.id)
    assert after.version == alice.version + 3 + 3 + 1
    assert len(await ports[2].app_passwords(alice.id)) == 4
    changes = await ports[0].changes_since(begin, 0)
    assert [c.revoked for c in changes.changes] == [("password",)] * 3
    assert [c.seq for c in changes.changes] == [begin + 1, begin + 2, begin + 3]


async def test_what_one_changed_holds_in_the_other_at_once(town: Town) -> None:
    one, two = await town.settled(), await town.process()
    alice = await town.add(one, "alice")
    before = await two.authenticate("alice", "secret", HOME)
    token = await two.issue_token(before)
    await one.set_password(alice.id, "new")
    assert await outcome(two.authenticate("alice", "secret", HOME)) is Reason.BAD_CREDENTIALS
    assert await outcome(two.verify_token(token.access)) is Reason.BAD_CREDENTIALS
    assert not await two.still_valid(before)
    principal = await two.authenticate("alice", "new", HOME)
    other = await one.issue_token(principal)
    await one.revoke_token(other.access)
    assert await outcome(two.verify_token(other.access)) is Reason.BAD_CREDENTIALS
    phone, secret = await one.add_app_password(alice.id, "phone")
    assert (await two.authenticate("alice", secret, HOME)).credential == f"app:{phone.id}"
    await one.revoke_app_password(alice.id, phone.id)
    assert await outcome(two.authenticate("alice", secret, HOME)) is Reason.BAD_CREDENTIALS
    for n in range(3):
        await one.put_alias(Alias(f"list@{D}", (f"x{n}@else.example",)))
        assert (await two.resolve(f"list@{D}")).remote == (f"x{n}@else.example",)
        await one.update_domain(D, f"alice@{D}" if n % 2 else None, "+")
        verdict = (await two.resolve(f"nobody@{D}")).verdict
        assert verdict is (Verdict.LOCAL if n % 2 else Verdict.UNKNOWN)
    await one.update_account(alice.id, enabled=False)
    assert await outcome(two.authenticate("alice", "new", HOME)) is Reason.DISABLED
    await one.remove_account(alice.id)
    assert (await two.resolve(f"alice@{D}")).verdict is Verdict.UNKNOWN
    assert not await two.domain_exists("new.example")
    await one.add_domain("new.example")
    assert await two.domain_exists("new.example")
    await one.remove_domain("new.example")
    assert not await two.domain_exists("new.example")


async def test_news_of_all_comes_once_in_order_to_all(town: Town) -> None:
    ports = [await town.settled(), await town.process(), await town.process()]
    people = [await town.add(ports[0], f"p{n}") for n in range(3)]
    begin = (await ports[0].changes_since(0, 0)).seq
    total = 3 * ROUNDS

    async def listen(port: MongoIdentity) -> list[tuple[int, str, ChangeKind]]:
        heard, seq = [], begin
        while len(heard) < total:
            news = await port.changes_since(seq, 10)
            assert not news.reset
            heard += [(change.seq, change.account, change.kind) for change in news.changes]
            seq = news.seq
        return heard

    async def change(port: MongoIdentity, id: str) -> None:
        for n in range(ROUNDS):
            await port.update_account(id, enabled=False) if n % 2 == 0 else await port.set_password(id, f"x{n}")
            if n % 2 == 0:
                await port.update_account(id, enabled=True)

    listening = [asyncio.create_task(listen(port)) for port in ports]
    await asyncio.gather(*(change(port, one.id) for port, one in zip(ports, people, strict=True)))
    heard = await asyncio.wait_for(asyncio.gather(*listening), 20)
    assert heard[0] == heard[1] == heard[2]
    assert [seq for seq, _, _ in heard[0]] == list(range(begin + 1, begin + total + 1))
    for one in people:
        kinds = [kind for _, account, kind in heard[0] if account == one.id]
        assert kinds == [ChangeKind.CREDENTIALS if n % 2 else ChangeKind.DISABLED for n in range(ROUNDS)]


async def test_who_waits_elsewhere_is_woken_long_before_its_time_is_over(town: Town) -> None:
    one, two = await town.settled(), await town.process()
    alice = await town.add(one, "alice")
    seq = (await two.changes_since(0, 0)).seq
    for n in range(7):
        waiting = asyncio.create_task(two.changes_since(seq, 60))
        await asyncio.sleep(0.03 * n)
        await one.set_password(alice.id, f"new {n}")
        # How soon is measured by bench/distributed.py.
        seq = (await asyncio.wait_for(waiting, 20)).seq


async def test_processes_together_allow_no_more_guesses_than_one(town: Town) -> None:
    ports = [await town.settled(), await town.process(), await town.process()]
    await town.add(ports[0], "alice")
    answers = await at_once(
        *(ports[n % 3].authenticate("alice", f"guess {n}", Origin("203.0.113.7", "imap")) for n in range(30))
    )
    assert answers.count(Reason.BAD_CREDENTIALS) == 5
    assert answers.count(Reason.SLOW_DOWN) == 25
    assert await outcome(ports[1].authenticate("alice", "secret", Origin("203.0.113.7", "imap"))) is Reason.SLOW_DOWN
    # one after the other, from many places, until the account is slowed: 5 of its 20 are used
    counted = 0
    for n in range(30):
        origin = Origin(f"198.18.0.{n}", "imap")
        counted += await outcome(ports[n % 3].authenticate("alice", f"more {n}", origin)) is Reason.BAD_CREDENTIALS
    assert counted == 15


async def test_good_sign_ins_leave_no_guess_behind(town: Town) -> None:
    ports = [await town.settled(), await town.process(), await town.process()]
    for n in range(40):
        name = f"p{n % 4}"
        if n < 4:
            await town.add(ports[0], name)
        origin = Origin("203.0.113.7", "imap")
        await asyncio.gather(*(port.authenticate(name, "secret", origin) for port in ports))
    client = await town.client()
    levels = [one["level"] for one in await client.database["identity_guess"].find({}).to_list() if "level" in one]
    assert sum(levels) == 0
    await client.close()
