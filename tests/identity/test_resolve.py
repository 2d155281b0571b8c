from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from identity.model import Target, Verdict
from identity.names import BadName, domain_key, local_key, parse, without_detail
from identity.resolve import MAX_TARGETS, Holder, Rule, TooWide, recipient, resolve
from tests.hurry import examples

D = "d.example"


class Tables:
    """A directory of dictionaries."""

    def __init__(
        self,
        accounts: dict[str, str] | None = None,
        aliases: dict[str, tuple[str, ...]] | None = None,
        catch_all: str | None = None,
    ) -> None:
        self.accounts = accounts or {}
        self.aliases = aliases or {}
        self.rules = {D: Rule(catch_all, "+")}
        self.questions = 0

    def rule(self, domain: str) -> Rule | None:
        self.questions += 1
        return self.rules.get(domain)

    def holder(self, key: str) -> Holder | None:
        self.questions += 1
        return Holder(self.accounts[key], key, None) if key in self.accounts else None

    def targets(self, key: str) -> tuple[str, ...] | None:
        self.questions += 1
        return self.aliases.get(key)

    def administrator(self) -> Holder | None:
        return Holder("root", f"root@{D}", None)


def test_a_detail_is_carried_through_an_alias_unless_the_target_has_one() -> None:
    tables = Tables({f"a@{D}": "A", f"b@{D}": "B"}, {f"l@{D}": (f"a@{D}", f"b+own@{D}")})
    assert resolve(parse(f"l+x@{D}"), tables).local == (
        Target("A", f"a@{D}", None, "x"),
        Target("B", f"b@{D}", None, "own"),
    )


def test_a_catch_all_carries_no_detail() -> None:
    tables = Tables({f"rest@{D}": "R"}, catch_all=f"rest@{D}")
    assert resolve(parse(f"who+x@{D}"), tables).local == (Target("R", f"rest@{D}", None, ""),)


def test_a_wide_web_without_targets_ends() -> None:
    width = 60
    aliases = {
        f"l{level}-{n}@{D}": tuple(f"l{level + 1}-{m}@{D}" for m in range(width))
        for level in range(9)
        for n in range(width)
    }
    tables = Tables(aliases=aliases)
    assert resolve(parse(f"l0-0@{D}"), tables).verdict is Verdict.UNKNOWN
    assert tables.questions < 20_000


def test_more_names_than_the_limit() -> None:
    aliases = {f"a@{D}": tuple(f"b{n}@{D}" for n in range(1000))}
    for n in range(1000):
        aliases[f"b{n}@{D}"] = tuple(f"c{n}-{m}@{D}" for m in range(10))
    with pytest.raises(TooWide):
        resolve(parse(f"a@{D}"), Tables(aliases=aliases))


def test_an_unreadable_target_leads_nowhere() -> None:
    assert resolve(parse(f"a@{D}"), Tables(aliases={f"a@{D}": ("nonsense",)})).verdict is Verdict.UNKNOWN


def test_postmaster_without_a_domain() -> None:
    assert recipient("Postmaster", D).key == f"postmaster@{D}"
    with pytest.raises(BadName):
        recipient("postmaster", "")
    with pytest.raises(BadName):
        recipient("webmaster", D)


names = st.sampled_from([f"{local}@{domain}" for local in "abcdef" for domain in (D, "else.example")])
webs = st.dictionaries(names, st.lists(names, max_size=4).map(tuple), max_size=8)


@given(names, webs, st.sets(names, max_size=3), st.none() | names)
@settings(max_examples=examples(200))
def test_any_web_ends_and_names_each_once(
    begin: str, aliases: dict[str, tuple[str, ...]], accounts: set[str], catch_all: str | None
) -> None:
    tables = Tables({name: name for name in accounts}, aliases, catch_all)
    found = resolve(parse(begin), tables)
    assert (found.verdict is Verdict.NOT_OURS) == begin.endswith("@else.example")
    assert (found.verdict is Verdict.LOCAL) == bool(found.local or found.remote)
    accounts_found = [target.account for target in found.local]
    assert len(set(accounts_found)) == len(accounts_found)
    assert len(set(found.remote)) == len(found.remote) <= MAX_TARGETS
    assert all(name.endswith("@else.example") for name in found.remote)
    # what can be reached without a catch-all is reached with one too
    bare = resolve(parse(begin), tables, catch_all=False)
    assert {target.account for target in bare.local} <= set(accounts_found)


@given(st.text(max_size=80))
@settings(max_examples=examples(200))
def test_any_text_is_an_address_or_bad(text: str) -> None:
    for candidate in (text, f"{text}@{D}", f"a@{text}"):
        try:
            name = parse(candidate)
        except BadName:
            continue
        assert local_key(name.local_key) == name.local_key
        assert name.domain == name.domain.lower()
        assert name.domain.isascii()


@given(st.text(min_size=1, max_size=20))
@settings(max_examples=examples(200))
def test_keys_are_caseless(text: str) -> None:
    assert local_key(local_key(text)) == local_key(text)
    assert local_key(text.swapcase().casefold()) == local_key(text.casefold())


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("A.b@EXAMPLE.com", "a.b@example.com"),
        ('"a b"@x.example', "a b@x.example"),
        ('"a\\"b"@x.example', 'a"b@x.example'),
        ('"a@b"@x.example', "a@b@x.example"),
        ("Ünï@bücher.example", "ünï@xn--bcher-kva.example"),
        ("U\u0308@x.example", "ü@x.example"),
        ("a@[IPv6:::1]", "a@[ipv6:::1]"),
        ("x" * 64 + "@x.example", "x" * 64 + "@x.example"),
    ],
)
def test_key(address: str, key: str) -> None:
    assert parse(address).key == key


@pytest.mark.parametrize(
    "address",
    [
        "x" * 65 + "@x.example",
        "é" * 32 + "x@x.example",
        "a@" + ".".join(["x" * 49] * 6),
        '""@x.example',
        '"a"b@x.example',
        '"a\r\n"@x.example',
        "a.@x.example",
        "a@x..example",
        "a@-x.example",
        "a@x_y.example",
        "a@x.example.",
        "a@[]",
        "a\0@x.example",
        "a@" + "ü" * 300,
        "x" * 100_000,
    ],
)
def test_bad(address: str) -> None:
    with pytest.raises(BadName):
        parse(address)


def test_without_detail() -> None:
    name = parse(f"Al+b+c@{D}")
    found = without_detail(name, "+")
    assert found is not None
    assert (found[0].key, found[1]) == (f"al@{D}", "b+c")
    assert without_detail(name, "") is None
    assert without_detail(name, "-") is None
    assert without_detail(parse(f"+b@{D}"), "+") is None


def test_domain_key_is_linear_in_its_size() -> None:
    begin = time.process_time()
    for text in ("a" * 10**6, "ü" * 10**6, "." * 10**6):
        with pytest.raises(BadName):
            domain_key(text)
    # Were it quadratic, it would be hours.
    assert time.process_time() - begin < 10
