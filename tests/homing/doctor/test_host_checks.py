"""The server's name, addresses and certificate: values in, findings out."""

from __future__ import annotations

import time

import pytest

from homing.doctor.finding import Finding, State
from homing.doctor.hostchecks import (
    DAY,
    HostFound,
    ListFound,
    PtrFound,
    check_addresses,
    check_caa,
    check_certificate,
    check_dane,
    check_hostname,
    check_listed,
    check_ptr,
    check_tlsa,
    issuer_of,
)
from homing.doctor.records import tlsa_record
from homing.doctor.setup import Certificate, is_named, is_public
from runtime.dns import CAA, TLSA
from tests.homing.doctor.made import HOST, V4, V6, certified, setup
from tests.smtp.outbound import pki


@pytest.mark.parametrize(
    ("name", "found", "state", "text"),
    [
        (HOST, HostFound((V4,), HOST), State.OK, HOST),
        (HOST, HostFound(None), State.BAD, "the name is not in the DNS"),
        (HOST, None, State.BAD, "the name is not in the DNS"),
        (HOST, HostFound((), HOST), State.BAD, "the name has no address"),
        (HOST, HostFound((V4,), "host.provider.example"), State.BAD, "an alias (CNAME) of host.provider.example"),
        ("localhost", None, State.BAD, "localhost, which no other server knows"),
        ("mail", None, State.BAD, "mail, which no other server knows"),
        ("192.0.2.1", None, State.BAD, "192.0.2.1, which no other server knows"),
    ],
)
def test_hostname(name: str, found: HostFound | None, state: State, text: str) -> None:
    told = check_hostname(setup(hostname=name), found)
    assert (told.state, told.found) == (state, text)


A, AAAA = f"{HOST}. 3600 IN A {V4}", f"{HOST}. 3600 IN AAAA {V6}"


@pytest.mark.parametrize(
    ("have", "configured", "state", "paste"),
    [
        ((V6, V4), True, State.OK, ()),
        (("2001:db8:25:0::25", V4), True, State.OK, ()),
        ((), True, State.BAD, (A, AAAA)),
        ((V4,), True, State.WARN, (AAAA,)),
        ((V4, V6, "198.51.100.1"), True, State.WARN, ()),
        (("198.51.100.1",), True, State.BAD, (A, AAAA)),
        (("198.51.100.1",), False, State.WARN, (A, AAAA)),
        (("10.0.0.5",), True, State.BAD, (A, AAAA)),
    ],
)
def test_addresses(have: tuple[str, ...], configured: bool, state: State, paste: tuple[str, ...]) -> None:
    told = check_addresses(setup(configured=configured), HostFound(have, HOST))
    assert (told.state, told.paste) == (state, paste)


def test_addresses_that_are_not_known() -> None:
    assert check_addresses(setup(addresses=(), configured=False), HostFound((V4,), HOST)).state is State.OK
    private = setup(addresses=("10.0.0.5",))
    assert check_addresses(private, HostFound(("10.0.0.5",), HOST)).state is State.OK


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (PtrFound((HOST,), (HOST,)), State.OK),
        (PtrFound(()), State.BAD),
        (PtrFound((HOST,)), State.BAD),
        (PtrFound(("host.provider.example",), ("host.provider.example",)), State.WARN),
        (PtrFound((HOST, "b.example"), (HOST,)), State.WARN),
    ],
)
def test_ptr(found: PtrFound, state: State) -> None:
    told = check_ptr(setup(), V4, found)
    assert told.state is state
    assert told.paste == (() if state is State.OK else (f"25.2.0.192.in-addr.arpa. 3600 IN PTR {HOST}.",))


@pytest.mark.parametrize(
    ("found", "state", "text"),
    [
        (ListFound(()), State.OK, "not listed"),
        (ListFound(("127.0.0.4",), "ask https://list.example"), State.BAD, "(127.0.0.4): ask https://list.example"),
        (ListFound(("127.255.255.254",)), State.SKIPPED, "refuses to answer (127.255.255.254)"),
        (ListFound(("198.51.100.80",)), State.SKIPPED, "no answer of a list"),
        (ListFound((), alive=False), State.SKIPPED, "its test entry"),
        (ListFound(("127.0.0.2",), alive=False), State.SKIPPED, "its test entry"),
    ],
)
def test_lists(found: ListFound, state: State, text: str) -> None:
    told = check_listed(V4, "list.example", found)
    assert told.state is state
    assert text in told.found


def found_of(findings: list[Finding], what: str) -> Finding:
    return next(one for one in findings if one.subject.startswith(what))


@pytest.mark.parametrize(
    ("days", "state"), [(90, State.OK), (20, State.WARN), (2, State.BAD), (-1, State.BAD), (-61, State.BAD)]
)
def test_certificate_dates(days: float, state: State) -> None:
    made = pki.server(HOST, days=90)
    now = time.time() + (90 - days) * DAY if days > -60 else time.time() - 61 * DAY
    told = found_of(check_certificate(setup(certificate=certified(made)), now), "dates")
    assert told.state is state


def test_certificate_names_and_issuer() -> None:
    now = time.time()
    for names, state in (((HOST,), State.OK), (("*.ours.example",), State.OK), (("ours.example",), State.BAD)):
        told = check_certificate(setup(certificate=certified(pki.server(*names))), now)
        assert found_of(told, "names").state is state
        assert found_of(told, "issuer").state is State.OK
    own = check_certificate(setup(certificate=certified(pki.server(HOST), own=True)), now)
    assert "self-signed" in found_of(own, "issuer").found
    stranger = Certificate((pki.server(HOST).der,), untrusted="the certificate is not trusted: no issuer")
    assert found_of(check_certificate(setup(certificate=stranger), now), "issuer").state is State.WARN
    assert check_certificate(setup(certificate=Certificate((b"x",))), now)[0].state is State.BAD
    assert check_certificate(setup(), now)[0].state is State.SKIPPED


def test_tlsa() -> None:
    now = time.time()
    made, other = pki.server(HOST, days=90), pki.server(HOST)
    ours = setup(certificate=certified(made))
    record = tlsa_record(HOST, certified(made))
    right = TLSA(3, 1, 1, bytes.fromhex(record.data.split()[-1]))
    wrong = TLSA(3, 1, 1, bytes.fromhex(tlsa_record(HOST, certified(other)).data.split()[-1]))
    whole = TLSA(3, 0, 0, made.der)

    def state(*records: TLSA, secure: bool = True, at: float = now) -> State:
        return check_tlsa(ours, records, secure=secure, now=at).state

    assert state(right) is State.OK
    assert state(right, wrong) is State.OK
    assert state(wrong) is State.BAD
    assert state(wrong, secure=False) is State.WARN
    assert state() is State.WARN
    assert state(secure=False) is State.SKIPPED
    assert state(right, secure=False) is State.WARN
    # A record of the certificate itself ends with it; before a renewal the next key is to be there.
    assert state(whole) is State.WARN
    assert state(right, at=now + 80 * DAY) is State.WARN
    assert state(right, wrong, at=now + 80 * DAY) is State.OK
    assert check_tlsa(ours, (), secure=True, now=now).paste == (record.line(),)
    assert record.line() == f"_25._tcp.{HOST}. 3600 IN TLSA 3 1 1 {right.data.hex()}"
    assert check_tlsa(setup(), (right,), secure=True, now=now).state is State.SKIPPED


def test_tlsa_of_an_authority() -> None:
    above = pki.authority()
    made = pki.server(HOST, by=above)
    chain = setup(certificate=Certificate((made.der, above.der)))
    assert check_tlsa(chain, (TLSA(2, 0, 0, above.der),), secure=True, now=time.time()).state is State.OK
    assert check_tlsa(chain, (TLSA(2, 0, 0, made.der),), secure=True, now=time.time()).state is State.BAD


@pytest.mark.parametrize(
    ("enabled", "trusted", "proved", "state", "text"),
    [
        (True, ["127.0.0.1"], True, State.OK, "active by 127.0.0.1"),
        (True, ["127.0.0.1"], False, State.WARN, "127.0.0.1 does not set the AD bit"),
        (True, [], None, State.WARN, "none of the resolvers (192.0.2.53) is trusted"),
        (True, ["127.0.0.1"], None, State.SKIPPED, "could not be asked"),
        (False, [], None, State.SKIPPED, "switched off"),
    ],
)
def test_dane(enabled: bool, trusted: list[str], proved: bool | None, state: State, text: str) -> None:
    told = check_dane(enabled=enabled, servers=["192.0.2.53"], trusted=trusted, proved=proved)
    assert told.state is state
    assert text in told.found


def test_caa() -> None:
    assert check_caa(HOST, HOST, (), "").state is State.OK
    told = check_caa(HOST, "ours.example", (CAA(0, "issue", "ca.example"),), "An Authority")
    assert (told.state, told.found) == (State.OK, "issue ca.example (at ours.example)")
    assert check_caa(HOST, HOST, (CAA(0, "issue", ";"),), "An Authority").state is State.WARN
    assert check_caa(HOST, HOST, (CAA(0, "issue", ";"),), "").state is State.OK
    above = pki.authority("An Authority")
    assert issuer_of(certified(pki.server(HOST, by=above))) == "An Authority"
    assert issuer_of(certified(pki.server(HOST), own=True)) == ""


def test_what_the_internet_knows() -> None:
    assert [is_public(one) for one in ("8.8.8.8", "10.1.1.1", "100.64.0.1", "::1", "fe80::1", "2a00::1", "x")] == [
        True, False, False, False, False, True, False,
    ]  # fmt: skip
    assert [is_named(one) for one in ("mx.example.org", "localhost", "a.localhost", "mail.local", "192.0.2.1")] == [
        True, False, False, False, False,
    ]  # fmt: skip
