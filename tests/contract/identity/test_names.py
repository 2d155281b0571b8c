"""domain_exists, resolve, may_send_as."""

from __future__ import annotations

import pytest

from identity.model import Alias, Verdict
from identity.port import Reason

D = "test.example"


async def local(world, address):
    resolution = await world.port.resolve(address)
    assert resolution.verdict is Verdict.LOCAL
    return [(target.address, target.detail) for target in resolution.local], list(resolution.remote)


async def verdict(world, address):
    return (await world.port.resolve(address)).verdict


@pytest.mark.parametrize("name", [D, "TEST.Example", "other.example", "", "..", "a" * 300, "\udcff.example", "[::1]"])
async def test_domain_exists(world, name):
    assert await world.port.domain_exists(name) is (name.lower() == D)


async def test_domain_is_compared_as_a_labels(world):
    await world.port.add_domain("bücher.example")
    assert await world.port.domain_exists("XN--BCHER-KVA.example")
    assert await world.port.domain_exists("BÜCHER.example")
    await world.add("leser@bücher.example")
    assert (await local(world, "leser@xn--bcher-kva.example"))[0] == [("leser@bücher.example", "")]
    assert await world.reason(world.port.add_domain("xn--bcher-kva.example")) is Reason.ALREADY_EXISTS


async def test_account_by_any_case_and_quoting(world):
    await world.add("Alice")
    for address in (f"alice@{D}", f"ALICE@{D.upper()}", f'"alice"@{D}', f'"al\\ice"@{D}'):
        assert await local(world, address) == ([(f"Alice@{D}", "")], [])
    assert await verdict(world, f"bob@{D}") is Verdict.UNKNOWN
    assert await verdict(world, "alice@elsewhere.example") is Verdict.NOT_OURS
    assert await verdict(world, "alice@[127.0.0.1]") is Verdict.NOT_OURS


@pytest.mark.parametrize(
    "address", ["", "alice", "@", f"@{D}", "a@", "a b@x.example", "a@b@", "a..b@x.example", "é" * 33 + "@x.example"]
)
async def test_bad_address(world, address):
    assert await world.reason(world.port.resolve(address)) is Reason.BAD_ADDRESS


async def test_detail_is_taken_off_after_the_exact_name(world):
    await world.add("alice")
    assert await local(world, f"alice+lists.python@{D}") == ([(f"alice@{D}", "lists.python")], [])
    assert await local(world, f"alice+@{D}") == ([(f"alice@{D}", "")], [])
    await world.add("alice+own")
    assert await local(world, f"alice+own@{D}") == ([(f"alice+own@{D}", "")], [])
    assert await verdict(world, f"+alice@{D}") is Verdict.UNKNOWN
    await world.port.update_domain(D, None, "-")
    assert await verdict(world, f"alice+lists@{D}") is Verdict.UNKNOWN
    assert await local(world, f"alice-lists@{D}") == ([(f"alice@{D}", "lists")], [])
    await world.port.update_domain(D, None, "")
    assert await verdict(world, f"alice-lists@{D}") is Verdict.UNKNOWN


async def test_alias_to_many_here_and_elsewhere_each_once(world):
    await world.add("alice")
    await world.add("bob")
    await world.port.put_alias(Alias(f"team@{D}", (f"alice@{D}", f"bob@{D}", "x@else.example", f"all@{D}")))
    await world.port.put_alias(Alias(f"all@{D}", (f"team@{D}", f"ALICE@{D}", "X@else.example", "y@else.example")))
    people, others = await local(world, f"team+detail@{D}")
    assert people == [(f"alice@{D}", "detail"), (f"bob@{D}", "detail")]
    assert others == ["x@else.example", "y@else.example"]


async def test_alias_that_leads_nowhere_is_unknown(world):
    await world.port.put_alias(Alias(f"a@{D}", (f"b@{D}",)))
    await world.port.put_alias(Alias(f"b@{D}", (f"a@{D}", f"b@{D}")))
    assert await verdict(world, f"a@{D}") is Verdict.UNKNOWN


async def test_ten_levels_and_one_more(world):
    await world.add("end")
    for level in range(10):
        await world.port.put_alias(Alias(f"a{level}@{D}", (f"a{level + 1}@{D}" if level < 9 else f"end@{D}",)))
    assert await local(world, f"a0@{D}") == ([(f"end@{D}", "")], [])
    await world.port.put_alias(Alias(f"more@{D}", (f"a0@{D}",)))
    assert await world.reason(world.port.resolve(f"more@{D}")) is Reason.LIMIT


async def test_thousand_targets_and_one_more(world):
    await world.port.put_alias(Alias(f"a@{D}", tuple(f"u{n}@else.example" for n in range(1000))))
    assert len((await world.port.resolve(f"a@{D}")).remote) == 1000
    await world.port.put_alias(Alias(f"b@{D}", (f"a@{D}", "one.more@else.example")))
    assert await world.reason(world.port.resolve(f"b@{D}")) is Reason.LIMIT
    many = tuple(f"u{n}@else.example" for n in range(1001))
    assert await world.reason(world.port.put_alias(Alias(f"c@{D}", many))) is Reason.LIMIT


async def test_catch_all_comes_last(world):
    await world.add("alice")
    await world.add("rest")
    await world.port.update_domain(D, f"rest@{D}", "+")
    assert await local(world, f"alice+x@{D}") == ([(f"alice@{D}", "x")], [])
    assert await local(world, f"whoever@{D}") == ([(f"rest@{D}", "")], [])
    await world.port.update_domain(D, "rest@else.example", "+")
    assert await local(world, f"whoever@{D}") == ([], ["rest@else.example"])
    await world.port.update_domain(D, f"nobody@{D}", "+")
    assert await verdict(world, f"whoever@{D}") is Verdict.UNKNOWN


async def test_postmaster_always_has_a_mailbox(world):
    assert await verdict(world, f"postmaster@{D}") is Verdict.UNKNOWN
    await world.admin()
    await world.add("rest")
    await world.port.update_domain(D, f"rest@{D}", "+")
    for address in (f"postmaster@{D}", f"PostMaster+x@{D}", "Postmaster"):
        assert await local(world, address) == ([(f"admin@{D}", "x" if "+" in address else "")], [])
    await world.add("postmaster")
    assert await local(world, "postmaster") == ([(f"postmaster@{D}", "")], [])


async def test_removed_is_unknown_and_disabled_still_gets_mail(world):
    await world.admin()
    alice = await world.add("alice", quota=5)
    assert (await world.port.resolve(f"alice@{D}")).local[0].quota == 5
    await world.port.update_account(alice.id, enabled=False, quota=7)
    assert (await world.port.resolve(f"alice@{D}")).local[0].quota == 7
    await world.port.remove_account(alice.id)
    assert await verdict(world, f"alice@{D}") is Verdict.UNKNOWN


async def test_who_may_send_as(world):
    admin = await world.admin()
    alice = await world.add("alice")
    await world.port.put_alias(Alias(f"team@{D}", (f"alice@{D}", "x@else.example")))
    await world.port.update_domain(D, f"alice@{D}", "+")
    may = world.port.may_send_as
    assert await may(alice.id, f"ALICE@{D}")
    assert await may(alice.id, f"alice+news@{D}")
    assert await may(alice.id, f"team@{D}")
    assert not await may(admin.id, f"team@{D}")
    assert not await may(alice.id, f"whoever@{D}"), "a catch-all makes nobody the owner of all names"
    assert not await may(admin.id, f"postmaster@{D}")
    assert not await may(alice.id, "x@else.example")
    await world.port.remove_alias(f"team@{D}")
    assert not await may(alice.id, f"team@{D}")
    assert await world.reason(may(alice.id, "nonsense")) is Reason.BAD_ADDRESS
