"""Which policy a host gets, and what comes of handshakes under it."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

import pytest

from runtime.clock import SystemClock
from runtime.dns import MX, TLSA, Answer, DnsTemporary, NoSuchName
from runtime.web import Fetched
from smtp.outbound.mtasts import Mode, StsPolicies
from smtp.outbound.tlspolicy import DomainPolicy, HostPolicy, Noted, TlsPolicies, authorities
from smtp.outbound.tlsresult import TlsProblem, TlsResult

from .fakenotes import FakeNotes
from .pki import Made, authority, server, shaken

DOMAIN, HOST = "there.example", "mx.there.example"
CA = authority()
LEAF = server(HOST, by=CA)
RECORD = TLSA(3, 1, 1, hashlib.sha256(LEAF.spki).digest())
UNUSABLE = TLSA(1, 1, 1, hashlib.sha256(LEAF.spki).digest())


class World:
    """The DNS and the policy server of one domain."""

    def __init__(self, folder: Path) -> None:
        self.tlsa_records: dict[str, tuple[TLSA, ...] | Exception] = {}
        self.tlsa_secure = True
        self.asked: list[tuple[int, str]] = []
        self.mode: Mode | None = None
        self.mx = HOST
        self.noted: list[Noted] = []
        roots = folder / "roots.pem"
        roots.write_bytes(CA.pem)
        clock = SystemClock()
        self.sts = StsPolicies(self, self.get, FakeNotes(clock), clock)
        self.policies = TlsPolicies(self, self.sts, report=self.noted.append, roots=roots)

    async def tlsa(self, port: int, host: str) -> Answer[TLSA]:
        self.asked.append((port, host))
        found = self.tlsa_records.get(host)
        if found is None:
            raise NoSuchName(host)
        if isinstance(found, Exception):
            raise found
        return Answer(found, self.tlsa_secure, 60, host)

    async def txt(self, name: str) -> Answer[str]:
        return Answer(() if self.mode is None else ("v=STSv1; id=1",), False, 60, name)

    async def get(self, url: str) -> Fetched:
        assert self.mode is not None
        text = f"version: STSv1\nmode: {self.mode.value}\nmx: {self.mx}\nmax_age: 86400\n"
        return Fetched("text/plain", text.encode())

    async def domain(self, secure: bool = True) -> DomainPolicy:
        return await self.policies.for_domain(DOMAIN, Answer((MX(10, HOST),), secure, 60, DOMAIN))

    async def host(
        self, *, mx: bool = True, secure: bool = True, canonical: str = HOST, tls: bool = False
    ) -> HostPolicy:
        return await self.policies.for_host(
            await self.domain(mx), HOST, Answer(("192.0.2.1",), secure, 60, canonical), requiretls=tls
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_without_any_policy_tls_is_taken_as_it_is(world: World, tmp_path: Path) -> None:
    policy = await world.host()
    assert policy == HostPolicy(False, "none", (HOST,))
    assert policy.proved == ""
    for made in (server("other.example"), server(HOST, days=-5)):
        tls = shaken(world.policies.context(policy), made.server(tmp_path), policy.server_name)
        assert world.policies.check(policy, tls) is None
    assert await TlsPolicies().for_host(DomainPolicy(DOMAIN), HOST, Answer(("x",), True, 1, HOST)) == policy


@pytest.mark.parametrize(
    ("mx", "addresses", "records"), [(False, True, True), (True, False, True), (True, True, False)]
)
async def test_dane_needs_every_answer_proved(world: World, mx: bool, addresses: bool, records: bool) -> None:
    world.tlsa_records[HOST], world.tlsa_secure = (RECORD,), records
    assert (await world.host(mx=mx, secure=addresses)).kind == "none"
    assert bool(world.asked) == (mx and addresses)


async def test_dane(world: World, tmp_path: Path) -> None:
    world.tlsa_records[HOST] = (UNUSABLE, RECORD)
    policy = await world.host()
    assert policy == HostPolicy(True, "dane", (HOST, DOMAIN), (RECORD,), "dane")
    assert (policy.proved, world.asked) == ("dane", [(25, HOST)])
    tls = shaken(world.policies.context(policy), LEAF.server(tmp_path), policy.server_name)
    assert world.policies.check(policy, tls) is None
    tls = shaken(world.policies.context(policy), server(HOST, by=CA).server(tmp_path), policy.server_name)
    problem = world.policies.check(policy, tls)
    assert problem is not None
    assert (problem.result, problem.fatal) == (TlsResult.VALIDATION_FAILURE, True)


async def test_the_name_behind_a_cname_first(world: World) -> None:
    world.tlsa_records = {"real.example": (RECORD,), HOST: (UNUSABLE,)}
    policy = await world.host(canonical="real.example")
    assert (policy.server_name, policy.names) == ("real.example", ("real.example", HOST, DOMAIN))
    world.tlsa_records = {HOST: (RECORD,)}
    world.asked.clear()
    assert (await world.host(canonical="real.example")).server_name == HOST
    assert [host for _, host in world.asked] == ["real.example", HOST]


async def test_without_an_answer_to_tlsa_the_host_waits(world: World) -> None:
    world.tlsa_records[HOST] = DnsTemporary("SERVFAIL")
    world.mode = Mode.ENFORCE
    with pytest.raises(DnsTemporary):
        await world.host()


async def test_unusable_records_alone_ask_for_tls_and_prove_nothing(world: World) -> None:
    world.tlsa_records[HOST] = (UNUSABLE,)
    policy = await world.host()
    assert (policy.required, policy.verify, policy.kind, policy.usable, policy.proved) == (
        True,
        "none",
        "dane",
        True,
        "",
    )


async def test_mta_sts_proves_more_than_unusable_records(world: World) -> None:
    world.tlsa_records[HOST], world.mode = (UNUSABLE,), Mode.ENFORCE
    policy = await world.host()
    assert (policy.verify, policy.kind) == ("web-pki", "mta-sts")


async def test_records_of_anchors_count_as_unusable_where_the_chain_cannot_be_seen(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smtp.outbound.tlspolicy.can_see_chain", lambda: False)
    anchor = TLSA(2, 0, 1, hashlib.sha256(CA.der).digest())
    world.tlsa_records[HOST] = (anchor,)
    policy = await world.host()
    assert (policy.required, policy.verify, policy.tlsa) == (True, "none", ())
    world.tlsa_records[HOST] = (anchor, RECORD)
    assert (await world.host()).tlsa == (RECORD,)


async def test_dane_goes_before_mta_sts(world: World) -> None:
    world.tlsa_records[HOST], world.mode, world.mx = (RECORD,), Mode.ENFORCE, "other.example"
    policy = await world.host()
    assert (policy.kind, policy.usable) == ("dane", True)


async def test_mta_sts(world: World, tmp_path: Path) -> None:
    world.mode = Mode.ENFORCE
    policy = await world.host(mx=False, secure=False)
    assert policy == HostPolicy(True, "web-pki", (HOST,), kind="mta-sts")
    assert policy.proved == "mta-sts"
    tls = shaken(world.policies.context(policy), LEAF.server(tmp_path), policy.server_name)
    assert world.policies.check(policy, tls) is None
    assert _failure(world, policy, server("other.example", by=CA), tmp_path) is TlsResult.HOST_MISMATCH
    assert _failure(world, policy, server(HOST, by=CA, days=-5), tmp_path) is TlsResult.EXPIRED
    assert _failure(world, policy, server(HOST, by=authority()), tmp_path) is TlsResult.NOT_TRUSTED
    assert _failure(world, policy, server(HOST), tmp_path) is TlsResult.NOT_TRUSTED


def _failure(world: World, policy: HostPolicy, made: Made, folder: Path) -> TlsResult:
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        shaken(world.policies.context(policy), made.server(folder), policy.server_name)
    return world.policies.explain(caught.value).result


async def test_a_host_that_the_policy_does_not_name(world: World) -> None:
    world.mode, world.mx = Mode.ENFORCE, "other.example"
    policy = await world.host()
    assert not policy.usable
    assert HOST in policy.reason


async def test_a_policy_that_is_tested_is_looked_at_and_stops_nothing(world: World, tmp_path: Path) -> None:
    world.mode = Mode.TESTING
    policy = await world.host()
    assert (policy.required, policy.verify, policy.usable) == (False, "none", True)

    def looked(made: Made, policy: HostPolicy = policy) -> TlsProblem | None:
        tls = shaken(world.policies.context(policy), made.server(tmp_path), policy.server_name)
        return world.policies.check(policy, tls)

    assert looked(LEAF) is None
    for made, result in (
        (server("other.example", by=CA), TlsResult.HOST_MISMATCH),
        (server(HOST, by=CA, days=-5), TlsResult.EXPIRED),
        (server(HOST), TlsResult.NOT_TRUSTED),
    ):
        problem = looked(made)
        assert problem is not None
        assert (problem.result, problem.fatal) == (result, False)


async def test_a_tested_policy_that_does_not_name_the_host(world: World, tmp_path: Path) -> None:
    world.mode, world.mx = Mode.TESTING, "other.example"
    policy = await world.host()
    assert policy.usable
    tls = shaken(world.policies.context(policy), LEAF.server(tmp_path), policy.server_name)
    problem = world.policies.check(policy, tls)
    assert problem is not None
    assert (problem.result, problem.fatal) == (TlsResult.VALIDATION_FAILURE, False)


async def test_a_policy_of_none_is_none(world: World) -> None:
    world.mode = Mode.NONE
    assert (await world.host()).kind == "none"


async def test_requiretls(world: World) -> None:
    # Nothing says that the host is the domain's.
    assert not (await world.host(mx=False, tls=True)).usable
    policy = await world.host(tls=True)
    assert (policy.required, policy.verify, policy.kind, policy.usable) == (True, "web-pki", "requiretls", True)
    world.tlsa_records[HOST] = (UNUSABLE,)
    assert (await world.host(tls=True)).verify == "web-pki"
    world.tlsa_records[HOST] = (RECORD,)
    assert (await world.host(tls=True)).verify == "dane"
    world.tlsa_records.clear()


@pytest.mark.parametrize(("mode", "kind"), [(Mode.ENFORCE, "mta-sts"), (Mode.TESTING, "requiretls")])
async def test_requiretls_with_mta_sts(world: World, tmp_path: Path, mode: Mode, kind: str) -> None:
    world.mode = mode
    policy = await world.host(mx=False, tls=True)
    assert (policy.verify, policy.kind, policy.usable) == ("web-pki", kind, True)
    other = World(tmp_path)
    other.mode, other.mx = mode, "other.example"
    assert not (await other.host(mx=False, tls=True)).usable


async def test_what_is_noted_says_under_which_policy(world: World, tmp_path: Path) -> None:
    domain = await world.domain()
    policy = await world.host()
    world.policies.note(domain, HOST, policy, TlsResult.SUCCESS)
    world.tlsa_records[HOST] = (RECORD,)
    world.policies.note(domain, HOST, await world.host(), TlsResult.SUCCESS, address="192.0.2.1")
    other = World(tmp_path)
    other.mode = Mode.ENFORCE
    world.policies.note(await other.domain(), HOST, policy, TlsResult.EXPIRED, detail="why")
    assert [(one.policy_type, one.result, one.host) for one in world.noted] == [
        ("no-policy-found", TlsResult.SUCCESS, HOST),
        ("tlsa", TlsResult.SUCCESS, HOST),
        ("sts", TlsResult.EXPIRED, HOST),
    ]
    assert world.noted[1].policy == (f"3 1 1 {RECORD.data.hex()}",)
    assert world.noted[2].policy == ("version: STSv1", "mode: enforce", f"mx: {HOST}", "max_age: 86400")


def test_a_handshake_that_fails_otherwise(world: World) -> None:
    assert world.policies.explain(OSError("reset")).result is TlsResult.VALIDATION_FAILURE
    assert world.policies.explain(TimeoutError()).text


def test_authorities_of_the_system_and_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "roots"
    file.write_bytes(b"# a comment\n" + CA.pem + LEAF.pem + CA.pem)
    assert authorities(file) == (CA.der, LEAF.der)
    assert all(one[:1] == b"0" for one in authorities(None))
    with pytest.raises(FileNotFoundError):
        TlsPolicies(roots=tmp_path / "none")
