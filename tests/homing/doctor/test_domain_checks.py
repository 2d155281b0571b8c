"""What a domain publishes, beside what it should: texts in, findings out."""

from __future__ import annotations

import pytest

from homing.doctor.domainchecks import (
    MxFound,
    StsFound,
    check_dkim,
    check_dkim_none,
    check_dmarc,
    check_helo,
    check_mx,
    check_spf,
    check_sts,
    check_tlsrpt,
)
from homing.doctor.finding import State
from homing.doctor.records import needed, spf_text
from homing.doctor.setup import OurDomain
from homing.doctor.spf import SpfResult, Verdict
from identity.model import DkimState
from runtime.dns import MX
from smtp.outbound.mtasts import Mode, Policy
from tests.homing.doctor.made import DOMAIN, HOST, V4, V6, key, setup

PASS = Verdict(SpfResult.PASS, 0)
FAIL = Verdict(SpfResult.FAIL, 1)
MX_LINE = "ours.example. 3600 IN MX 10 mx.ours.example."


@pytest.mark.parametrize(
    ("found", "state", "text", "paste"),
    [
        (MxFound((MX(10, HOST),), {}), State.OK, f"10 {HOST}", ()),
        (MxFound((MX(5, "a.example"), MX(10, HOST)), {}), State.OK, f"5 a.example, 10 {HOST}", ()),
        (MxFound(None, {}), State.BAD, "the domain is not in the DNS", (MX_LINE,)),
        (MxFound((), {}), State.BAD, "no MX record", (MX_LINE,)),
        (MxFound((), {}, implicit=(V4,)), State.WARN, "no MX record", (MX_LINE,)),
        (MxFound((MX(0, "."),), {}), State.BAD, "0 .", (MX_LINE,)),
        (MxFound((MX(10, "b.example"),), {"b.example": ("198.51.100.1",)}), State.BAD, "10 b.example", (MX_LINE,)),
        (MxFound((MX(10, "b.example"),), {"b.example": (V6,)}), State.WARN, "10 b.example", (MX_LINE,)),
        (MxFound((MX(10, "b.example"),), {"b.example": ("10.0.0.1",)}, own=("10.0.0.1",)), State.WARN, "10 b.example",
         (MX_LINE,)),
    ],
)  # fmt: skip
def test_mx(found: MxFound, state: State, text: str, paste: tuple[str, ...]) -> None:
    told = check_mx(setup(), DOMAIN, found)
    assert (told.state, told.found, told.wanted, told.paste) == (state, text, HOST, paste)


WANTED_SPF = f'ours.example. 3600 IN TXT "v=spf1 ip4:{V4} ip6:{V6} -all"'


@pytest.mark.parametrize(
    ("texts", "verdicts", "state", "paste", "why"),
    [
        (["v=spf1 mx -all", "other"], {V4: PASS, V6: PASS}, State.OK, (), ""),
        (["other"], {}, State.BAD, (WANTED_SPF,), "refuse"),
        (["v=spf1 -all", "v=spf1 mx -all"], {}, State.BAD, (WANTED_SPF,), "Several"),
        (["v=spf1 ip4:x -all"], {}, State.BAD, (WANTED_SPF,), "'ip4:x' has no address that can be read"),
        (["v=spf1 include:a.example ~all"], {V4: PASS, V6: FAIL}, State.BAD,
         (f'ours.example. 3600 IN TXT "v=spf1 ip6:{V6} include:a.example ~all"',), f"{V6}: fail"),
        (["v=spf1 mx -all"], {V4: Verdict(SpfResult.PERMERROR, 11, "it takes more than 10 lookups")}, State.BAD,
         (WANTED_SPF,), "more than 10 lookups"),
        (["v=spf1 mx -all"], {V4: Verdict(SpfResult.TEMPERROR, 1, "no answer")}, State.SKIPPED, (), "no answer"),
        (["v=spf1 mx +all"], {V4: PASS}, State.WARN, (), "everybody may send"),
        (["v=spf1 mx"], {V4: PASS}, State.WARN, (), "keeps nobody out"),
        (["v=spf1 mx -all"], {}, State.WARN, (), "doctor.addresses"),
        (["v=spf1 redirect=a.example"], {V4: PASS}, State.OK, (), ""),
        (["v=spf1 exists:%{i}.a.example -all"], {V4: Verdict(SpfResult.FAIL, 1, "", ("exists:%{i}.a.example",))},
         State.BAD, (f'ours.example. 3600 IN TXT "v=spf1 ip4:{V4} exists:%{{i}}.a.example -all"',), "macros"),
    ],
)  # fmt: skip
def test_spf(texts: list[str], verdicts: dict[str, Verdict], state: State, paste: tuple[str, ...], why: str) -> None:
    told = check_spf(setup(), DOMAIN, texts, verdicts)
    assert (told.state, told.paste) == (state, paste)
    assert why in told.why


def test_spf_where_a_relay_sends() -> None:
    relayed = setup(relay="relay.example")
    told = check_spf(relayed, DOMAIN, ["v=spf1 include:relay.example -all"], {V4: FAIL})
    assert (told.state, told.paste) == (State.OK, ())
    assert "Mail leaves by relay.example" in told.why
    assert check_spf(relayed, DOMAIN, [], {}).state is State.WARN


def test_the_name_of_the_server_has_a_record_too() -> None:
    assert check_helo(setup(), [], {}).paste == ('mx.ours.example. 3600 IN TXT "v=spf1 a -all"',)
    told = check_helo(setup(), ["v=spf1 a -all"], {V4: PASS})
    assert (told.check, told.state) == ("helo", State.OK)


@pytest.mark.parametrize(
    ("texts", "key_state", "state", "found"),
    [
        ([f"v=DKIM1; k=rsa; p={'A' * 300}"], DkimState.ACTIVE, State.OK, "the key"),
        ([f"p={'A' * 150} {'A' * 150}"], DkimState.ACTIVE, State.OK, "the key"),
        ([], DkimState.ACTIVE, State.BAD, "no record"),
        ([], DkimState.PUBLISHED, State.WARN, "no record"),
        ([], DkimState.RETIRED, State.WARN, "no record"),
        (["v=DKIM1; p=AAAA"], DkimState.ACTIVE, State.BAD, "another key: v=DKIM1; p=AAAA"),
        (["v=DKIM1; p="], DkimState.ACTIVE, State.BAD, "a record that revokes the key (p=)"),
        (["a", "b"], DkimState.ACTIVE, State.BAD, "2 records"),
        ([f"k=ed25519; p={'A' * 300}"], DkimState.ACTIVE, State.BAD, "the key, as one of the kind ed25519"),
        ([f"t=y; p={'A' * 300}"], DkimState.ACTIVE, State.WARN, "the key, marked as a test (t=y)"),
    ],
)
def test_dkim(texts: list[str], key_state: DkimState, state: State, found: str) -> None:
    told = check_dkim(key(state=key_state), texts)
    assert (told.subject, told.state, told.found) == ("s1._domainkey.ours.example", state, found)
    if state is State.OK:
        assert told.paste == ()
    else:
        (line,) = told.paste
        # RFC 1035 §3.3: a string of a TXT record has at most 255 octets.
        begin, rest = "v=DKIM1; k=rsa; p=" + "A" * 237, "A" * 63
        assert line == f's1._domainkey.ours.example. 3600 IN TXT "{begin}" "{rest}"'


def test_a_domain_without_keys() -> None:
    told = check_dkim_none(OurDomain(DOMAIN))
    assert (told.state, told.paste) == (State.BAD, ("homing domain dkim rotate ours.example",))


@pytest.mark.parametrize(
    ("texts", "above", "state", "found"),
    [
        (["v=DMARC1; p=reject"], [], State.OK, "v=DMARC1; p=reject"),
        (["v=DMARC1; p=none; rua=mailto:a@ours.example"], [], State.OK, "p=none"),
        ([], [], State.WARN, "no DMARC record"),
        (["v=DMARC1; p=reject", "v=DMARC1; p=none"], [], State.BAD, "2 records"),
        (["v=DMARC1; p=strict"], [], State.BAD, "p=strict"),
        (["v=DMARC1"], [], State.BAD, "v=DMARC1"),
        (["v=DMARC1; p=reject; rua=postmaster@ours.example"], [], State.BAD, "rua"),
        (["v=DMARC1; p=reject; pct=10"], [], State.WARN, "pct"),
        ([], ["v=DMARC1; p=none; sp=reject"], State.OK, "(of example)"),
        ([], ["v=DMARC1; p=none; sp=maybe"], State.BAD, "(of example)"),
    ],
)
def test_dmarc(texts: list[str], above: list[str], state: State, found: str) -> None:
    told = check_dmarc(DOMAIN, texts, "example", above)
    assert told.state is state
    assert found in told.found
    wanted = '_dmarc.ours.example. 3600 IN TXT "v=DMARC1; p=quarantine; rua=mailto:postmaster@ours.example"'
    assert told.paste == (() if state is State.OK else (wanted,))


POLICY = Policy(Mode.ENFORCE, (HOST,), 604800)
RECORD = "v=STSv1; id=20260101;"


@pytest.mark.parametrize(
    ("found", "state", "text"),
    [
        (StsFound((RECORD,), POLICY, mx=(HOST,)), State.OK, f"mode enforce for {HOST}"),
        (StsFound(()), State.BAD, "no MTA-STS record"),
        (StsFound((RECORD,), None, "the server answered 404"), State.BAD, "no policy: the server answered 404"),
        (StsFound((RECORD,), Policy(Mode.TESTING, (HOST,), 604800)), State.BAD, f"mode testing for {HOST}"),
        (StsFound((RECORD,), POLICY, mx=(HOST, "b.example")), State.BAD, "does not name: b.example"),
        (StsFound(("v=STSv1; id=old;",), POLICY, mx=(HOST,)), State.WARN, "id=old"),
    ],
)
def test_mta_sts(found: StsFound, state: State, text: str) -> None:
    told = check_sts(setup(policy=POLICY, policy_record=RECORD), DOMAIN, found)
    assert told.state is state
    assert text in told.found


def test_mta_sts_that_is_off() -> None:
    assert check_sts(setup(), DOMAIN, StsFound(())).state is State.SKIPPED
    assert check_sts(setup(), DOMAIN, StsFound((RECORD,))).state is State.WARN


def test_tls_rpt() -> None:
    assert check_tlsrpt(DOMAIN, ["v=TLSRPTv1; rua=mailto:a@ours.example"]).found == "mailto:a@ours.example"
    told = check_tlsrpt(DOMAIN, [])
    wanted = '_smtp._tls.ours.example. 3600 IN TXT "v=TLSRPTv1; rua=mailto:postmaster@ours.example"'
    assert (told.state, told.paste) == (State.WARN, (wanted,))
    assert "cannot be used" in check_tlsrpt(DOMAIN, ["v=TLSRPTv1; rua=a@ours.example"]).why


def test_all_records_of_a_domain() -> None:
    whole = setup(policy=POLICY, policy_record=RECORD)
    lines = [
        one.line().replace("A" * 237, "…").replace("A" * 63, "…") for one in needed(whole, whole.domains[0]).records
    ]
    assert lines == [
        "ours.example. 3600 IN MX 10 mx.ours.example.",
        'ours.example. 3600 IN TXT "v=spf1 ip4:192.0.2.25 ip6:2001:db8:25::25 -all"',
        's1._domainkey.ours.example. 3600 IN TXT "v=DKIM1; k=rsa; p=…" "…"',
        '_dmarc.ours.example. 3600 IN TXT "v=DMARC1; p=quarantine; rua=mailto:postmaster@ours.example"',
        '_smtp._tls.ours.example. 3600 IN TXT "v=TLSRPTv1; rua=mailto:postmaster@ours.example"',
        '_mta-sts.ours.example. 3600 IN TXT "v=STSv1; id=20260101;"',
        "mta-sts.ours.example. 3600 IN CNAME mx.ours.example.",
        "mx.ours.example. 3600 IN A 192.0.2.25",
        "mx.ours.example. 3600 IN AAAA 2001:db8:25::25",
        "25.2.0.192.in-addr.arpa. 3600 IN PTR mx.ours.example.",
        f"5.2.0.0.{'0.' * 16}5.2.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 3600 IN PTR mx.ours.example.",
        'mx.ours.example. 3600 IN TXT "v=spf1 a -all"',
    ]
    assert needed(whole, whole.domains[0]).missing == ("TLSA: there is none in this test",)
    assert spf_text(()) == "v=spf1 mx -all"


def test_what_cannot_be_said_is_told() -> None:
    bare = setup(hostname="localhost", addresses=(), domains=(OurDomain(DOMAIN),))
    told = needed(bare, bare.domains[0])
    assert [one.partition(":")[0] for one in told.missing] == ["MX", "DKIM", "MTA-STS"]
    relayed = setup(relay="relay.example")
    assert any(
        one.startswith("SPF: mail leaves by relay.example") for one in needed(relayed, relayed.domains[0]).missing
    )
