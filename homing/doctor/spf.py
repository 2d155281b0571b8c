"""Does an SPF record let an address send (RFC 7208)? For our own records: what others will come to.

Macros are not expanded: a term with one matches nothing here, and is told. The sender is nobody in particular.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Protocol

from runtime.dns import MX, Answer, DnsTemporary, NoSuchName

LOOKUPS_MAX: Final = 10
"""Terms that ask the DNS, all records together. # RFC 7208 §4.6.4"""
VOID_MAX: Final = 2
"""Questions without an answer. # RFC 7208 §4.6.4"""
NAMES_MAX: Final = 10
"""Hosts of one mx term. # RFC 7208 §4.6.4"""

_TERM: Final = re.compile(r"(?P<sign>[-+?~]?)(?P<name>[A-Za-z][A-Za-z0-9_.-]*)(?P<rest>(?:[:/].*)?)")
_MODIFIER: Final = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9_.-]*)=(?P<value>.*)")
_SIGNS: Final = {"": "pass", "+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}
_MECHANISMS: Final = ("all", "include", "a", "mx", "ptr", "ip4", "ip6", "exists")
_ASKING: Final = ("include", "a", "mx", "ptr", "exists")
_CIDR: Final = re.compile(r"(?P<host>[^/]*)(?:/(?P<four>\d{1,2}))?(?://(?P<six>\d{1,3}))?")


class SpfResult(Enum):
    """# RFC 7208 §2.6"""

    PASS = "pass"
    FAIL = "fail"
    SOFTFAIL = "softfail"
    NEUTRAL = "neutral"
    PERMERROR = "permerror"
    TEMPERROR = "temperror"


class BadSpf(ValueError):
    """The text says what is wrong with the record."""


@dataclass(frozen=True, slots=True)
class Term:
    """One mechanism. value: what stands behind its colon, or its whole rest for a and mx ("/24", ":host/24")."""

    result: SpfResult
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class SpfRecord:
    """redirect: the domain of that modifier, "" for none."""

    terms: tuple[Term, ...]
    redirect: str = ""

    @property
    def default(self) -> SpfResult | None:
        """What all others come to; None where a redirect says it."""
        last = next((term for term in self.terms if term.name == "all"), None)
        if last is not None:
            return last.result
        return None if self.redirect else SpfResult.NEUTRAL


class Names(Protocol):
    """What is asked of the resolver."""

    async def txt(self, name: str) -> Answer[str]: ...

    async def mx(self, domain: str) -> Answer[MX]: ...

    async def addresses(self, host: str, *, v6: bool = True, v4: bool = True) -> Answer[str]: ...


def spf_texts(texts: Sequence[str]) -> tuple[str, ...]:
    """The SPF records among the TXT records of a name. # RFC 7208 §4.5"""
    return tuple(text for text in texts if re.match(r"v=spf1( |$)", text, re.IGNORECASE))


def parse(text: str) -> SpfRecord:
    """Raises BadSpf. # RFC 7208 §4.6, §12"""
    terms: list[Term] = []
    modifiers: dict[str, str] = {}
    for word in text.split(" ")[1:]:
        if not word:
            continue
        if (found := _MODIFIER.fullmatch(word)) is not None:
            name = found["name"].lower()
            if name in ("redirect", "exp") and name in modifiers:
                raise BadSpf(f"{name}= stands twice")
            modifiers[name] = found["value"]
            continue
        match = _TERM.fullmatch(word)
        if match is None or match["name"].lower() not in _MECHANISMS:
            raise BadSpf(f"{word!r} is nothing that SPF knows")
        terms.append(_term(word, match["name"].lower(), _SIGNS[match["sign"]], match["rest"]))
    return SpfRecord(tuple(terms), modifiers.get("redirect", ""))


def _term(word: str, name: str, result: str, rest: str) -> Term:
    value = rest.removeprefix(":")
    if name == "all" and rest:
        raise BadSpf(f"{word!r}: nothing stands behind all")
    if name in ("include", "exists", "ip4", "ip6") and (not rest.startswith(":") or not value):
        raise BadSpf(f"{word!r} lacks what it is about")
    if name in ("ip4", "ip6"):
        try:
            network = ipaddress.ip_network(value, strict=False)
        except ValueError:
            raise BadSpf(f"{word!r} has no address that can be read") from None
        if network.version != int(name[-1]):
            raise BadSpf(f"{word!r} has an address of the other family")
    if name in ("a", "mx"):
        _host_and_prefixes(word, value)
    return Term(SpfResult(result), name, value)


def _host_and_prefixes(word: str, value: str) -> tuple[str, int, int]:
    found = _CIDR.fullmatch(value)
    four = 32 if found is None else int(found["four"] or 32)
    six = 128 if found is None else int(found["six"] or 128)
    if found is None or four > 32 or six > 128:
        raise BadSpf(f"{word!r} cannot be read")
    return found["host"], four, six


@dataclass(frozen=True, slots=True)
class Verdict:
    """lookups: how many terms asked the DNS. why: for errors, a sentence. passed_over: terms with macros."""

    result: SpfResult
    lookups: int
    why: str = ""
    passed_over: tuple[str, ...] = ()


@dataclass(slots=True)
class _Budget:
    lookups: int = 0
    voids: int = 0
    passed_over: list[str] = field(default_factory=list)

    def spend(self) -> None:
        self.lookups += 1
        if self.lookups > LOOKUPS_MAX:
            raise BadSpf(f"it takes more than {LOOKUPS_MAX} lookups")

    def void(self) -> None:
        self.voids += 1
        if self.voids > VOID_MAX:
            raise BadSpf(f"more than {VOID_MAX} of the names in it lead nowhere")


async def evaluate(text: str, domain: str, address: str, names: Names) -> Verdict:
    """What others come to when mail of the domain, with this record, arrives from the address. # RFC 7208 §4"""
    budget = _Budget()
    why = ""
    try:
        result = await _check(text, domain, address, names, budget)
    except BadSpf as error:
        result, why = SpfResult.PERMERROR, str(error)
    except DnsTemporary as error:
        result, why = SpfResult.TEMPERROR, str(error)
    return Verdict(result, budget.lookups, why, tuple(dict.fromkeys(budget.passed_over)))


async def _check(text: str, domain: str, address: str, names: Names, budget: _Budget) -> SpfResult:
    record = parse(text)
    for term in record.terms:
        if term.name in _ASKING:
            budget.spend()
        if "%" in term.value:
            budget.passed_over.append(f"{term.name}:{term.value}")
        elif await _matches(term, domain, address, names, budget):
            return term.result
    # RFC 7208 §6.1: redirect is not looked at where there is an all.
    if record.redirect and not any(term.name == "all" for term in record.terms):
        budget.spend()
        if "%" in record.redirect:
            budget.passed_over.append(f"redirect={record.redirect}")
            return SpfResult.NEUTRAL
        return await _other(record.redirect, address, names, budget)
    return SpfResult.NEUTRAL


async def _other(domain: str, address: str, names: Names, budget: _Budget) -> SpfResult:
    """What the record of another domain says. # RFC 7208 §5.2, §6.1"""
    try:
        found = spf_texts((await names.txt(domain)).values)
    except NoSuchName:
        found = ()
    if len(found) != 1:
        raise BadSpf(f"{domain} has {'no SPF record' if not found else 'several SPF records'}")
    return await _check(found[0], domain, address, names, budget)


async def _matches(term: Term, domain: str, address: str, names: Names, budget: _Budget) -> bool:
    match term.name:
        case "all":
            return True
        case "ip4" | "ip6":
            network = ipaddress.ip_network(term.value, strict=False)
            parsed = ipaddress.ip_address(address)
            return parsed.version == network.version and parsed in network
        case "include":
            return await _other(term.value, address, names, budget) is SpfResult.PASS
        case "a":
            host, four, six = _host_and_prefixes(term.name, term.value)
            return await _is_of(host or domain, four, six, address, names, budget)
        case "mx":
            host, four, six = _host_and_prefixes(term.name, term.value)
            return await _is_mx(host or domain, four, six, address, names, budget)
        case "exists":
            try:
                found = bool((await names.addresses(term.value, v6=False)).values)
            except NoSuchName:
                found = False
            if not found:
                budget.void()
            return found
        case _:
            # RFC 7208 §5.5: ptr is not to be relied on; many do not ask.
            return False


async def _is_mx(domain: str, four: int, six: int, address: str, names: Names, budget: _Budget) -> bool:
    try:
        found = (await names.mx(domain)).values
    except NoSuchName:
        found = ()
    if not found:
        budget.void()
    if len(found) > NAMES_MAX:
        raise BadSpf(f"{domain} has more than {NAMES_MAX} MX records")
    for mx in found:
        if mx.host != "." and await _is_of(mx.host, four, six, address, names, None):
            return True
    return False


async def _is_of(host: str, four: int, six: int, address: str, names: Names, budget: _Budget | None) -> bool:
    parsed = ipaddress.ip_address(address)
    try:
        found = (await names.addresses(host, v6=parsed.version == 6, v4=parsed.version == 4)).values
    except NoSuchName:
        found = ()
    if not found and budget is not None:
        budget.void()
    prefix = four if parsed.version == 4 else six
    return any(parsed in ipaddress.ip_network(f"{one}/{prefix}", strict=False) for one in found)


def with_addresses(text: str, addresses: Sequence[str]) -> str:
    """The record, with addresses that it lacks before everything else."""
    words = text.split()
    return " ".join([words[0], *(f"ip6:{one}" if ":" in one else f"ip4:{one}" for one in addresses), *words[1:]])
