"""Where mail for an address goes: aliases, catch-all, plus-addressing and postmaster followed.

Pure: it asks a `Directory`, which an adapter makes of its tables, and every question is about one key.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from identity.model import Resolution, Target, Verdict
from identity.names import BadName, Name, parse, without_detail

MAX_DEPTH = 10
MAX_TARGETS = 1000
# Names looked at for one address, so that a wide web of aliases without targets ends too.
MAX_NAMES = 4000


class TooWide(Exception):
    """The address leads over more than MAX_DEPTH levels or to more than MAX_TARGETS targets."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a domain says of unknown names. subaddress: "" for none."""

    catch_all: str | None
    subaddress: str


@dataclass(frozen=True, slots=True)
class Holder:
    """The account that has an address."""

    account: str
    address: str
    quota: int | None


class Directory(Protocol):
    """The tables that are asked. Keys are those of `identity.names`."""

    def rule(self, domain: str) -> Rule | None:
        """None when the domain is not ours."""
        ...

    def holder(self, key: str) -> Holder | None:
        """The account of exactly this address, removed ones left out."""
        ...

    def targets(self, key: str) -> tuple[str, ...] | None:
        """The targets of the alias of exactly this address."""
        ...

    def administrator(self) -> Holder | None:
        """Who gets the mail of a postmaster that has no account."""
        ...


def recipient(address: str, default_domain: str) -> Name:
    """An address as RCPT names it. Raises BadName."""
    # RFC 5321 §4.1.1.3: "Postmaster" may stand without a domain.
    if address.lower() == "postmaster" and default_domain:
        return parse(f"{address}@{default_domain}")
    return parse(address)


def resolve(name: Name, directory: Directory, *, catch_all: bool = True) -> Resolution:
    """Follow one address to its end. Each account and each outside address appears once, in the order found.

    The exact name comes first, then the name without its detail, then (for postmaster) the administrator, then the
    catch-all; a loop is cut where it closes. catch_all=False leaves out the last two, for the question whose address
    it is. Raises TooWide.
    """
    if directory.rule(name.domain) is None:
        return Resolution(Verdict.NOT_OURS)
    local: dict[str, Target] = {}
    remote: dict[str, str] = {}
    seen = {name.key}
    waiting = deque([(name, "", 0)])
    while waiting:
        here, detail, depth = waiting.popleft()
        found = _one(here, detail, directory, catch_all)
        if isinstance(found, Target):
            local.setdefault(found.account, found)
        else:
            texts, detail = found
            for text in texts:
                try:
                    onward = parse(text)
                except BadName:
                    # The store holds checked addresses; one from an older rule leads nowhere.
                    continue
                if onward.key in seen:
                    continue
                if depth >= MAX_DEPTH or len(seen) >= MAX_NAMES:
                    raise TooWide
                seen.add(onward.key)
                if directory.rule(onward.domain) is None:
                    remote[onward.key] = text
                else:
                    waiting.append((onward, detail, depth + 1))
        if len(local) + len(remote) > MAX_TARGETS:
            raise TooWide
    if not local and not remote:
        return Resolution(Verdict.UNKNOWN)
    return Resolution(Verdict.LOCAL, tuple(local.values()), tuple(remote.values()))


def _one(name: Name, carried: str, directory: Directory, catch_all: bool) -> Target | tuple[tuple[str, ...], str]:
    """One step: the account that has the name, or the addresses that it stands for (none: unknown) and its detail."""
    rule = directory.rule(name.domain)
    if rule is None:
        return (), ""
    candidates = [(name, carried)]
    if (cut := without_detail(name, rule.subaddress)) is not None:
        base, detail = cut
        candidates.append((base, detail or carried))
    for candidate, detail in candidates:
        if (holder := directory.holder(candidate.key)) is not None:
            return Target(holder.account, holder.address, holder.quota, detail)
        if (targets := directory.targets(candidate.key)) is not None:
            return targets, detail
    if catch_all:
        for candidate, detail in candidates:
            # RFC 5321 §4.5.1: every domain has a postmaster.
            if candidate.local_key == "postmaster" and (holder := directory.administrator()) is not None:
                return Target(holder.account, holder.address, holder.quota, detail)
        if rule.catch_all is not None:
            return (rule.catch_all,), ""
    return (), ""
