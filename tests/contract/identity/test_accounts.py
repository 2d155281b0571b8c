"""Domains, accounts, aliases, import and export."""

from __future__ import annotations

import pytest

from identity.model import Alias, NewAccount, Role, Verdict
from identity.port import Reason, Unavailable

D = "test.example"
# of the password "x"
SHA512 = (
    "$6$rounds=1000$Re14O8QCFvdItZgC$"
    "fGqOAv5PijDH6Un4SFgZmqOHb75FWaU7UFBQFy.RddEIdWU.cuMNsGVt.D3qQAtnRvZ/3Y0f2TNabKawUyB8v0"
)
BCRYPT = "$2b$04$y6sgilIpQPhe5bUFpdvZ1ewu33awYb7F4DG98xbonr5t.qvbUMSWy"


async def test_domains(world):
    made = await world.port.add_domain("Other.example", f"x@{D}")
    assert [d.name for d in await world.port.domains()] == ["Other.example", D]
    assert (made.catch_all, made.subaddress) == (f"x@{D}", "+")
    assert (await world.port.update_domain("other.EXAMPLE", None, "")).id == made.id
    for bad in ("", "a b", "-x.example", "x" * 64 + ".example", "[127.0.0.1]"):
        assert await world.reason(world.port.add_domain(bad)) is Reason.BAD_ADDRESS
    assert await world.reason(world.port.add_domain("x.example", "no address")) is Reason.BAD_ADDRESS
    assert await world.reason(world.port.update_domain(D, None, "ab")) is Reason.BAD_ADDRESS
    assert await world.reason(world.port.update_domain(D, None, "a")) is Reason.BAD_ADDRESS
    assert await world.reason(world.port.update_domain("no.example", None, "")) is Reason.NO_SUCH_DOMAIN
    await world.add("a@other.example")
    assert await world.reason(world.port.remove_domain("other.example")) is Reason.IN_USE
    await world.port.remove_account((await world.port.find_account("a@other.example")).id)
    await world.port.put_alias(Alias("b@other.example", (f"x@{D}",)))
    assert await world.reason(world.port.remove_domain("other.example")) is Reason.IN_USE
    await world.port.remove_alias("b@other.example")
    await world.port.remove_domain("OTHER.example")
    assert await world.reason(world.port.remove_domain("other.example")) is Reason.NO_SUCH_DOMAIN
    assert not await world.port.domain_exists("other.example")


async def test_what_an_account_must_be(world):
    await world.add("alice")
    await world.port.put_alias(Alias(f"team@{D}", (f"alice@{D}",)))
    add = world.port.add_account
    for new, reason in {
        NewAccount(f"ALICE@{D}", "x"): Reason.ALREADY_EXISTS,
        NewAccount(f"team@{D}", "x"): Reason.ALREADY_EXISTS,
        NewAccount("a@no.example", "x"): Reason.NO_SUCH_DOMAIN,
        NewAccount("alice", "x"): Reason.BAD_ADDRESS,
        NewAccount(f"\u202ecilā@{D}", "x"): Reason.BAD_ADDRESS,
        NewAccount(f"a\u200b@{D}", "x"): Reason.BAD_ADDRESS,
        NewAccount(f"a\u00a0b@{D}", "x"): Reason.BAD_ADDRESS,
        NewAccount(f"b@{D}", ""): Reason.BAD_PASSWORD,
        NewAccount(f"b@{D}"): Reason.BAD_PASSWORD,
        NewAccount(f"b@{D}", "x", BCRYPT): Reason.BAD_PASSWORD,
        NewAccount(f"b@{D}", "a\0b"): Reason.BAD_PASSWORD,
        NewAccount(f"b@{D}", "é" * 512 + "x"): Reason.BAD_PASSWORD,
        NewAccount(f"b@{D}", password_hash="$1$md5$xxxx"): Reason.BAD_PASSWORD,
        NewAccount(f"b@{D}", "x", quota=-1): Reason.LIMIT,
        NewAccount(f"b@{D}", "x", quota=2**63): Reason.LIMIT,
        NewAccount(f"b@{D}", "x", display_name="a\nb"): Reason.LIMIT,
    }.items():
        assert await world.reason(add(new)) is reason, new
    await world.add("b", "é" * 512)
    await world.sign_in("b", "é" * 512)
    # What joins letters is not seen either, and a part of the word.
    await add(NewAccount(f"می\u200cخواهم@{D}", "x"))


async def test_find_and_list(world):
    for name in ("carol", "Bob", "alice"):
        await world.add(name)
    await world.port.add_domain("z.example")
    dave = await world.add("dave@z.example")
    assert [a.address for a in await world.port.accounts()] == [
        f"alice@{D}",
        f"Bob@{D}",
        f"carol@{D}",
        "dave@z.example",
    ]
    assert [a.address for a in await world.port.accounts(limit=1, after=f"ALICE@{D}")] == [f"Bob@{D}"]
    assert await world.port.accounts(domain="Z.example") == (dave,)
    assert await world.port.account(dave.id) == dave
    assert (await world.port.find_account("bob")).address == f"Bob@{D}"
    assert await world.reason(world.port.find_account("nobody")) is Reason.NO_SUCH_ACCOUNT
    assert await world.reason(world.port.find_account("no body@")) is Reason.NO_SUCH_ACCOUNT
    assert await world.reason(world.port.account("none")) is Reason.NO_SUCH_ACCOUNT
    assert await world.reason(world.port.accounts(limit=0)) is Reason.LIMIT
    assert await world.reason(world.port.accounts(limit=10**9)) is Reason.LIMIT


async def test_update(world):
    await world.admin()
    alice = await world.add("alice", quota=1)
    changed = await world.port.update_account(alice.id, display_name="Alice Ä", quota=2)
    assert (changed.display_name, changed.quota, changed.version) == ("Alice Ä", 2, alice.version)
    assert (await world.port.update_account(alice.id, no_quota=True)).quota is None
    promoted = await world.port.update_account(alice.id, role=Role.ADMIN)
    assert (promoted.role, promoted.version) == (Role.ADMIN, alice.version + 1)
    assert (await world.port.update_account(alice.id)).version == promoted.version
    assert await world.reason(world.port.update_account("none", quota=1)) is Reason.NO_SUCH_ACCOUNT


async def test_the_last_enabled_administrator_stays(world):
    admin = await world.admin()
    other = await world.add("other", role=Role.ADMIN)
    await world.port.update_account(other.id, enabled=False)
    for call in (
        world.port.update_account(admin.id, enabled=False),
        world.port.update_account(admin.id, role=Role.USER),
        world.port.remove_account(admin.id),
    ):
        assert await world.reason(call) is Reason.IN_USE
    await world.port.update_account(other.id, enabled=True)
    await world.port.remove_account(admin.id)
    assert await world.reason(world.port.remove_account(other.id)) is Reason.IN_USE


async def test_removal_frees_the_name_and_never_the_id(world):
    await world.admin()
    first = await world.add("alice")
    await world.port.remove_account(first.id)
    assert await world.port.removed_accounts() == (first.id,)
    assert await world.reason(world.port.account(first.id)) is Reason.NO_SUCH_ACCOUNT
    assert await world.reason(world.port.remove_account(first.id)) is Reason.NO_SUCH_ACCOUNT
    assert await world.reason(world.sign_in("alice")) is Reason.BAD_CREDENTIALS
    second = await world.add("alice", "another")
    assert second.id != first.id
    await world.reopen()
    assert await world.port.removed_accounts() == (first.id,)
    await world.port.finish_removal(second.id)
    await world.port.finish_removal(first.id)
    await world.port.finish_removal(first.id)
    assert await world.port.removed_accounts() == ()
    assert (await world.port.find_account("alice")).id == second.id


async def test_aliases(world):
    await world.add("alice")
    put = world.port.put_alias
    await put(Alias(f"b@{D}", (f"alice@{D}", f"ALICE@{D}", "x@else.example")))
    await put(Alias(f"a@{D}", (f"b@{D}",)))
    assert await world.port.aliases() == (
        Alias(f"a@{D}", (f"b@{D}",)),
        Alias(f"b@{D}", (f"alice@{D}", "x@else.example")),
    )
    assert [a.address for a in await world.port.aliases(D, 1, f"a@{D}")] == [f"b@{D}"]
    assert await world.port.aliases("no.example") == ()
    await put(Alias(f"B@{D}", ("y@else.example",)))
    assert (await world.port.aliases(after=f"a@{D}"))[0].targets == ("y@else.example",)
    assert await world.reason(put(Alias(f"alice@{D}", ("y@else.example",)))) is Reason.ALREADY_EXISTS
    assert await world.reason(put(Alias("a@no.example", ("y@else.example",)))) is Reason.NO_SUCH_DOMAIN
    assert await world.reason(put(Alias(f"c@{D}", ()))) is Reason.BAD_ADDRESS
    assert await world.reason(put(Alias(f"c@{D}", ("nonsense",)))) is Reason.BAD_ADDRESS
    assert await world.reason(put(Alias(f"\u2066c@{D}", ("y@else.example",)))) is Reason.BAD_ADDRESS
    await world.port.remove_alias(f"A@{D}")
    assert await world.reason(world.port.remove_alias(f"a@{D}")) is Reason.NO_SUCH_ALIAS


async def test_import_of_five_thousand_and_the_bad_rows_among_them(world):
    await world.add("taken")
    rows = [NewAccount(f"u{n:04}@{D}", password_hash=SHA512, quota=n) for n in range(5000)]
    rows[10] = NewAccount("nonsense", password_hash=SHA512)
    rows[20] = NewAccount(f"taken@{D}", password_hash=SHA512)
    rows[30] = NewAccount(f"U0029@{D}", password_hash=SHA512)
    rows[40] = NewAccount("x@no.example", "clear")
    rows[50] = NewAccount(f"u0050@{D}", "in clear")
    rows[60] = NewAccount(f"u0060@{D}", password_hash="{BLF-CRYPT}" + BCRYPT)
    outcomes = await world.port.import_accounts(rows)
    assert [outcome.address for outcome in outcomes] == [row.address for row in rows]
    assert [n for n, outcome in enumerate(outcomes) if outcome.problem is not None] == [10, 20, 30, 40]
    assert all((outcome.account is None) == (outcome.problem is not None) for outcome in outcomes)
    assert len(await world.port.accounts(limit=10_000)) == 4997
    assert (await world.sign_in("u4999", "x")).quota == 4999
    await world.sign_in("u0050", "in clear")
    await world.sign_in("u0060", "x")
    assert await world.port.import_accounts(()) == ()


async def test_export_is_what_an_import_takes_back(world):
    mask = ("uidonly", "THREAD")
    await world.port.import_accounts([NewAccount(f"a@{D}", password_hash=SHA512, quota=7, display_name="A", mask=mask)])
    await world.add("b", role=Role.ADMIN)
    assert (await world.port.find_account("a")).mask == ("THREAD", "UIDONLY")
    first, second = await world.port.export_accounts()
    assert (first.address, first.password_hash, first.quota, first.display_name) == (f"a@{D}", SHA512, 7, "A")
    assert (first.mask, second.mask) == (("THREAD", "UIDONLY"), ())
    assert second.role is Role.ADMIN
    assert second.password_hash.startswith("$argon2id$")
    assert SHA512 not in repr(first)
    assert [e.address for e in await world.port.export_accounts(1, f"a@{D}")] == [f"b@{D}"]
    await world.port.remove_account((await world.port.find_account("a")).id)
    again = NewAccount(first.address, password_hash=first.password_hash, quota=first.quota)
    assert (await world.port.import_accounts([again]))[0].problem is None
    await world.sign_in("a", "x")
    (outcome,) = await world.port.import_accounts([NewAccount(f"c@{D}", "clear", mask=("no name",))])
    assert outcome.account is None


@pytest.mark.parametrize("hash", [SHA512, BCRYPT])
async def test_imported_hash_is_replaced_at_the_first_good_sign_in(world, hash):
    await world.port.import_accounts([NewAccount(f"a@{D}", password_hash=hash)])
    before = await world.port.find_account("a")
    assert await world.reason(world.sign_in("a", "wrong")) is Reason.BAD_CREDENTIALS
    assert (await world.port.export_accounts())[0].password_hash == hash
    await world.sign_in("a", "x")
    assert (await world.port.export_accounts())[0].password_hash.startswith("$argon2id$")
    assert await world.port.find_account("a") == before, "the same password: nothing ends"
    world.clock.advance(61)
    await world.sign_in("a", "x")


async def test_all_is_there_after_a_reopening(world):
    alice = await world.add("alice", quota=9)
    await world.port.put_alias(Alias(f"team@{D}", (f"alice@{D}",)))
    await world.reopen()
    assert await world.port.account(alice.id) == alice
    assert (await world.port.resolve(f"team@{D}")).verdict is Verdict.LOCAL
    await world.sign_in("alice")


async def test_a_closed_identity_is_unavailable(world):
    await world.port.close()
    with pytest.raises(Unavailable):
        await world.port.accounts()
    await world.open()
