"""FUZZY keys of SEARCH, SORT and THREAD (RFC 6203): asked of storage word by word, and replaced by what was found.

The strings of HEADER, BODY, TEXT and their sisters are matched inexactly; other keys inside FUZZY are as exact as
outside of it (RFC 6203 §5 leaves that to the server).
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from imap import fuzzy
from imap.errors import No
from imap.session import Session
from imap.wire.forms import And, Body, Fuzzy, Header, InSet, Not, Or, SearchKey, Text
from imap.wire.numset import NumSet
from imap.wire.numset import Ranges as NumRanges
from storage import model
from storage.model import Query, Ranges

STRINGS = 10
"""Strings in one command that are matched inexactly: each is several searches."""

Leaf = Header | Body | Text


@dataclass(slots=True)
class Relevancy:
    """How well messages fit (RFC 6203 §4): of those that several strings were found in, the mean. `settle` comes
    between the last `add` and the first `of`."""

    _found: list[tuple[array[int], array[int]]] = field(default_factory=list)
    _scores: dict[int, int] = field(default_factory=dict)

    def add(self, uids: array[int], scores: array[int]) -> None:
        """What one string found."""
        self._found.append((uids, scores))

    def settle(self) -> None:
        """All strings have been looked for. Many messages make it long."""
        sums: dict[int, tuple[int, int]] = {}
        for uids, scores in self._found:
            for one, score in zip(uids, scores, strict=True):
                total, count = sums.get(one, (0, 0))
                sums[one] = (total + score, count + 1)
        self._scores = {one: total // count for one, (total, count) in sums.items()}

    def of(self, uid: int) -> int:
        """1 to 100; 1 of a message that no string was found in."""
        return self._scores.get(uid, 1)


async def resolved(session: Session, key: SearchKey) -> tuple[SearchKey, Relevancy]:
    """The same key with the UIDs that fit in place of inexact strings. Raises No for too many of these."""
    relevancy = Relevancy()
    leaves = dict.fromkeys(_leaves(key))
    if len(leaves) > STRINGS:
        raise No(f"At most {STRINGS} strings are matched inexactly in one command", "LIMIT")
    found: dict[Leaf, SearchKey] = {}
    for leaf in leaves:
        uids, scores = await _matches(session, leaf)
        relevancy.add(uids, scores)
        found[leaf] = InSet(NumSet(NumRanges.numbers(uids)), uid=True)
    if found:
        await asyncio.to_thread(relevancy.settle)
    return _replaced(key, found, within=False), relevancy


def _leaves(key: SearchKey) -> Iterator[Leaf]:
    # each key once, however many FUZZY stand around it
    todo = [(key, False)]
    while todo:
        one, within = todo.pop()
        match one:
            case And(keys):
                todo.extend([(each, within) for each in keys])
            case Or(left, right):
                todo.extend(((left, within), (right, within)))
            case Not(each):
                todo.append((each, within))
            case Fuzzy(each):
                todo.append((each, True))
            # a text without words has nothing to be inexact about
            case Header() | Body() | Text() if within and fuzzy.words(one.value):
                yield one


def _replaced(key: SearchKey, found: dict[Leaf, SearchKey], within: bool) -> SearchKey:
    match key:
        case Fuzzy(one):
            return _replaced(one, found, within=True)
        case And(keys):
            return And(tuple(_replaced(one, found, within) for one in keys))
        case Or(left, right):
            return Or(_replaced(left, found, within), _replaced(right, found, within))
        case Not(one):
            return Not(_replaced(one, found, within))
        case Header() | Body() | Text() if within:
            return found.get(key, key)
        case _:
            return key


async def _matches(session: Session, leaf: Leaf) -> tuple[array[int], array[int]]:
    whole = await _found(session, _contains(leaf, leaf.value))
    hits: list[fuzzy.Hits] = []
    for word in fuzzy.words(leaf.value):
        near = await _found(session, _contains(leaf, word.near))
        far: Ranges = ()
        if word.far:
            thirds = [_contains(leaf, third) for third in word.far]
            pairs = [model.And(tuple(third for third in thirds if third is not missing)) for missing in thirds]
            far = await _found(session, model.Or(tuple(pairs)))
        hits.append(fuzzy.Hits(near, far))
    # many messages make it long
    return await asyncio.to_thread(fuzzy.scored, whole, hits)


async def _found(session: Session, query: Query) -> Ranges:
    return (await session.storage.search(session.selected.ref, query)).uids


def _contains(leaf: Leaf, text: str) -> Query:
    match leaf:
        case Header(name, _):
            return model.HeaderContains(name, text)
        case Body():
            return model.BodyContains(text)
        case Text():
            return model.TextContains(text)
