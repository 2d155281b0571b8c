"""No pattern is one that an early Python 3.11 matches wrongly.

Before 3.11.5 (Debian 12 has 3.11.2) a possessive repeat of a group goes on, when the group fails at last, not from
where that try began but from where its last repeat, branch or assertion did: such a group may fail only before these.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator, Sequence
from re import _constants as codes
from re import _parser as parser
from typing import Any

import pytest

from imap.commands import sections

PACKAGES = ("connectors", "homing", "identity", "imap", "mail", "runtime", "smtp", "storage")
ONE_CHARACTER = {codes.LITERAL, codes.NOT_LITERAL, codes.ANY, codes.IN}
REPEATS = {codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT}
Items = Sequence[tuple[Any, Any]]


def patterns() -> Iterator[tuple[str, re.Pattern[Any]]]:
    for package in PACKAGES:
        root = importlib.import_module(package)
        for module in pkgutil.walk_packages(root.__path__, f"{package}."):
            if module.name.endswith("__main__"):
                continue
            for name, value in vars(importlib.import_module(module.name)).items():
                if isinstance(value, re.Pattern):
                    yield f"{module.name}.{name}", value
    yield "imap.commands.sections._finder", sections._finder(frozenset({b"FROM", b"TO"})).__self__


def inner(items: Items) -> Items:
    """Without groups that only capture."""
    found: list[tuple[Any, Any]] = []
    for op, value in items:
        found += inner(value[3]) if op is codes.SUBPATTERN else [(op, value)]
    return found


def fails_early(items: Items) -> bool:
    """Characters first, and behind them nothing that could fail."""
    items = inner(items)
    count = 0
    while count < len(items) and items[count][0] in ONE_CHARACTER:
        count += 1
    return all(op in REPEATS and value[0] == 0 for op, value in items[count:])


def is_sound(body: Items) -> bool:
    body = inner(body)
    if len(body) == 1 and body[0][0] is codes.BRANCH:
        return all(op in ONE_CHARACTER for branch in body[0][1][1] for op, _ in inner(branch))
    return fails_early(body)


def unsound(items: Items) -> Iterator[Items]:
    """The bodies of possessive repeats that are matched wrongly."""
    for op, value in items:
        if op in REPEATS:
            if op is codes.POSSESSIVE_REPEAT and not is_sound(value[2]):
                yield value[2]
            yield from unsound(value[2])
        elif op is codes.SUBPATTERN:
            yield from unsound(value[3])
        elif op is codes.BRANCH:
            for branch in value[1]:
                yield from unsound(branch)
        elif op in (codes.ASSERT, codes.ASSERT_NOT):
            yield from unsound(value[1])
        elif op is codes.ATOMIC_GROUP:
            yield from unsound(value)


def test_no_possessive_group_fails_behind_a_repeat() -> None:
    found = dict(patterns())
    assert len(found) > 50
    wrong = {name: one.pattern for name, one in found.items() if list(unsound(parser.parse(one.pattern, one.flags)))}
    assert not wrong


@pytest.mark.parametrize(
    "pattern", ["a(?: b++)*+", "(?:[ab]*+c)?+d", "(?:\n(?:ab|cd))*+", "(?:a|b*+c)++", "((?:a(?=b))*+)"]
)
def test_what_is_matched_wrongly_is_found(pattern: str) -> None:
    assert list(unsound(parser.parse(pattern)))
