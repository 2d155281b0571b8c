"""SPF records as others judge them (RFC 7208), with a resolver of plain tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.doctor.spf import BadSpf, SpfResult, Verdict, evaluate, parse, spf_texts, with_addresses
from runtime.dns import MX, Answer, DnsTemporary, NoSuchName

V4, V6, OTHER = "192.0.2.25", "2001:db8::25", "198.51.100.1"


class Table:
    """`homing.doctor.spf.Names`; "!" as a name's only text: no answer now."""

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        self.names = names

    async def txt(self, name: str) -> Answer[str]:
        return Answer(tuple(self._of(name, "txt")), False, 60, name)

    async def mx(self, domain: str) -> Answer[MX]:
        return Answer(tuple(MX(10, one) for one in self._of(domain, "mx")), False, 60, domain)

    async def addresses(self, host: str, *, v6: bool = True, v4: bool = True) -> Answer[str]:
        found = [one for one in self._of(host, "a") if (v6 if ":" in one else v4)]
        return Answer(tuple(found), False, 60, host)

    def _of(self, name: str, kind: str) -> Sequence[str]:
        found = self.names.get(f"{kind} {name}")
        if found is None:
            raise NoSuchName(name)
        if found == ["!"]:
            raise DnsTemporary(f"no answer to {name}")
        return found


NAMES = {
    "a ours.example": [V4, V6],
    "mx ours.example": ["mx.ours.example"],
    "a mx.ours.example": [V4],
    "txt good.example": ["v=spf1 ip4:192.0.2.0/24 -all", "other"],
    "txt bad.example": ["v=spf1 -all"],
    "txt loop.example": ["v=spf1 include:loop.example -all"],
    "txt slow.example": ["!"],
    "txt two.example": ["v=spf1 -all", "v=spf1 +all"],
    "a there.example": ["127.0.0.2"],
    "mx many.example": [f"m{n}.example" for n in range(11)],
}


async def verdict(text: str, address: str = V4) -> Verdict:
    return await evaluate(text, "ours.example", address, Table(NAMES))


@pytest.mark.parametrize(
    ("text", "address", "result"),
    [
        ("v=spf1", V4, SpfResult.NEUTRAL),
        ("v=spf1 -all", V4, SpfResult.FAIL),
        ("v=spf1 ~ALL", V4, SpfResult.SOFTFAIL),
        ("v=spf1 ip4:192.0.2.25 -all", V4, SpfResult.PASS),
        ("v=spf1 ip4:192.0.2.0/24 -all", OTHER, SpfResult.FAIL),
        ("v=spf1 ip4:192.0.2.25 -all", V6, SpfResult.FAIL),
        ("v=spf1 ip6:2001:db8::/32 -all", V6, SpfResult.PASS),
        ("v=spf1 a -all", V6, SpfResult.PASS),
        ("v=spf1 a:there.example -all", V4, SpfResult.FAIL),
        ("v=spf1 a:mx.ours.example/24 -all", "192.0.2.99", SpfResult.PASS),
        ("v=spf1 a//32 -all", "2001:db8:ffff::1", SpfResult.PASS),
        ("v=spf1 mx -all", V4, SpfResult.PASS),
        ("v=spf1 mx -all", V6, SpfResult.FAIL),
        ("v=spf1 include:good.example -all", V4, SpfResult.PASS),
        ("v=spf1 include:bad.example ?all", V4, SpfResult.NEUTRAL),
        ("v=spf1 redirect=good.example", V4, SpfResult.PASS),
        ("v=spf1 ~all redirect=good.example", V4, SpfResult.SOFTFAIL),
        ("v=spf1 exists:there.example -all", V4, SpfResult.PASS),
        ("v=spf1 exists:none.example -all", V4, SpfResult.FAIL),
        ("v=spf1 -ip4:192.0.2.25 +all", V4, SpfResult.FAIL),
        ("v=spf1 ptr -all", V4, SpfResult.FAIL),
        ("v=spf1 include:none.example -all", V4, SpfResult.PERMERROR),
        ("v=spf1 include:two.example -all", V4, SpfResult.PERMERROR),
        ("v=spf1 include:loop.example -all", V4, SpfResult.PERMERROR),
        ("v=spf1 include:slow.example -all", V4, SpfResult.TEMPERROR),
        ("v=spf1 mx:many.example -all", V4, SpfResult.PERMERROR),
        ("v=spf1 a:n1.example a:n2.example a:n3.example -all", V4, SpfResult.PERMERROR),
        ("v=spf1 nonsense -all", V4, SpfResult.PERMERROR),
        ("v=spf1 unknown=anything -all", V4, SpfResult.FAIL),
    ],
)
async def test_what_others_come_to(text: str, address: str, result: SpfResult) -> None:
    assert (await verdict(text, address)).result is result


async def test_lookups_are_bounded() -> None:
    ten = " ".join(["a:mx.ours.example/32"] * 10)
    assert await verdict(f"v=spf1 {ten} -all", OTHER) == Verdict(SpfResult.FAIL, 10)
    eleven = await verdict(f"v=spf1 {ten} mx -all", OTHER)
    assert (eleven.result, eleven.why) == (SpfResult.PERMERROR, "it takes more than 10 lookups")


async def test_macros_are_told() -> None:
    found = await verdict("v=spf1 exists:%{i}.x.example include:%{d}.y.example -all")
    assert found == Verdict(SpfResult.FAIL, 2, "", ("exists:%{i}.x.example", "include:%{d}.y.example"))


@pytest.mark.parametrize(
    "word", ["all:x", "include", "include:", "ip4:2001:db8::1", "ip6:192.0.2.1", "a/99", "mx/", "redirect=a redirect=b"]
)
def test_what_is_no_record(word: str) -> None:
    with pytest.raises(BadSpf):
        parse(f"v=spf1 {word} -all")


@given(st.text(alphabet="v=spf1 amxipincludell:/.-~+?%{}0123456789,_\n", max_size=60))
def test_anything_can_be_read_or_is_refused(rest: str) -> None:
    try:
        record = parse("v=spf1 " + rest)
    except BadSpf:
        return
    assert all(term.name for term in record.terms)


def test_the_records_among_texts() -> None:
    assert spf_texts(["v=spf1", "V=SPF1 -all", "v=spf10 -all", "spf1 -all"]) == ("v=spf1", "V=SPF1 -all")
    assert with_addresses("v=spf1 a -all", [V4, V6]) == f"v=spf1 ip4:{V4} ip6:{V6} a -all"
