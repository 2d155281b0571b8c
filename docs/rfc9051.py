"""The requirements of RFC 9051 (docs/rfc9051.toml), what is wrong with that list, and its part of docs/rfc.md."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path

KEYWORDS = ("MUST", "MUST NOT")
SECTION = re.compile(r"[2-7](\.[0-9]+)*")
REASON = re.compile(r"client|(not offered|missing): .+")
TITLES = {
    "2": "Protocol overview",
    "3": "States",
    "4": "Data formats",
    "5": "Operational considerations",
    "6": "Client commands",
    "7": "Server responses",
}


@dataclass(frozen=True, slots=True)
class Requirement:
    """text: after MUST NOT, what must not be. tests: pytest functions (file::function) and dialogues (file#tags); ()
    where there is a reason instead."""

    section: str
    keyword: str
    text: str
    tests: tuple[str, ...] = ()
    reason: str = ""

    @property
    def kind(self) -> str:
        """Why there is no test: "client", "not offered" or "missing"; "" where there is one."""
        return self.reason.partition(":")[0]


def read(path: Path) -> tuple[Requirement, ...]:
    """All of a file, in its order. Raises TypeError for a key that is not known."""
    found = tomllib.loads(path.read_text("utf-8"))["requirement"]
    return tuple(Requirement(**{**one, "tests": tuple(one.get("tests", ()))}) for one in found)


def faults(requirements: Iterable[Requirement], root: Path) -> Iterator[str]:
    """What is wrong: a section, keyword or reason that is none, neither tests nor a reason or both, an order other than
    that of sections, a test that is not there (below root), an entry twice."""
    seen: set[tuple[str, str, str]] = set()
    last: list[int] = []
    for one in requirements:
        name = f"§{one.section} {one.text!r}"
        if not SECTION.fullmatch(one.section):
            yield f"{name}: not a section of 2 to 7"
            continue
        place = [int(number) for number in one.section.split(".")]
        if place < last:
            yield f"{name}: out of order"
        last = place
        if one.keyword not in KEYWORDS:
            yield f"{name}: {one.keyword} is no keyword"
        if bool(one.tests) == bool(one.reason):
            yield f"{name}: tests, or a reason why there is none"
        if one.reason and not REASON.fullmatch(one.reason):
            yield f"{name}: {one.reason!r} is no reason"
        if (one.section, one.keyword, one.text) in seen:
            yield f"{name}: twice"
        seen.add((one.section, one.keyword, one.text))
        for test in one.tests:
            if not is_there(test, root):
                yield f"{name}: there is no {test}"


def is_there(test: str, root: Path) -> bool:
    """Is there such a function, or are there such tags in such a dialogue?"""
    name, _, function = test.partition("::")
    if function:
        path = root / name
        return path.is_file() and function.partition("[")[0] in _functions(path)
    name, _, tags = test.partition("#")
    path = root / name
    return path.is_file() and bool(tags) and _tags(path) >= set(tags.split())


@cache
def _functions(path: Path) -> frozenset[str]:
    nodes = ast.parse(path.read_text("utf-8")).body
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in nodes if isinstance(node, kinds) and node.name.startswith("test_"))


@cache
def _tags(path: Path) -> frozenset[str]:
    """Tags of the commands whose end the dialogue shows."""
    return frozenset(re.findall(r"^S: ([a-z]+[0-9]+) (?:OK|NO|BAD)\b", path.read_text("utf-8"), re.M))


def counts(requirements: Sequence[Requirement]) -> str:
    """One paragraph."""
    kinds = Counter(one.kind for one in requirements)
    return (
        f"RFC 9051 (IMAP4rev2) §§2–7 has {len(requirements)} requirements (MUST, MUST NOT) in the list at the end of"
        f" this page: {kinds['']} with tests and {len(requirements) - kinds['']} without, of which {kinds['client']}"
        f" bind the client, {kinds['not offered']} bind nothing that is offered here, and {kinds['missing']} lack"
        " their test."
    )


def page(requirements: Sequence[Requirement]) -> list[str]:
    """The lines of the list, by section, with the counts of each chapter."""
    out = [
        "## RFC 9051, requirement by requirement",
        "",
        "From `docs/rfc9051.toml`; a house test looks for each test named here. After MUST NOT stands what must not be."
        " `file.txt a1 b2` is a dialogue of tests/transcripts/imap, with the tags of the commands that show it.",
    ]
    for chapter, ones in groupby(requirements, lambda one: one.section[0]):
        listed = list(ones)
        tested = sum(bool(one.tests) for one in listed)
        out += ["", f"### §{chapter} {TITLES[chapter]}: {tested} of {len(listed)} with tests", ""]
        out += [f"- §{one.section} {one.keyword}: {one.text} {_shown(one)}" for one in listed]
    return out


def _shown(one: Requirement) -> str:
    if one.kind == "client":
        return "*Binds the client.*"
    if one.reason:
        kind, _, why = one.reason.partition(": ")
        return f"*{kind.capitalize()}: {why}.*"
    return ", ".join(f"`{_short(test)}`" for test in one.tests)


def _short(test: str) -> str:
    return test.removeprefix("tests/transcripts/imap/").removeprefix("tests/").replace("#", " ")
