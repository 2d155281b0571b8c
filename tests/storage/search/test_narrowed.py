"""In a large mailbox the index says first which emails can hold a text at all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mail.flags import SEEN
from storage.adapters.sqlite import search_build, search_lookup
from storage.adapters.sqlite.search_lookup import Possible
from storage.model import And, BodyContains, HasFlags, HeaderContains, Not, Or, TextContains


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Possible | None]:
    """What the index answered; every mailbox counts as large."""
    found: list[Possible | None] = []
    possible = search_lookup.possible

    def noted(*args: Any) -> Possible | None:
        found.append(possible(*args))
        return found[-1]

    monkeypatch.setattr(search_lookup, "FEW", 0)
    monkeypatch.setattr(search_lookup, "possible", noted)
    return found


async def test_only_what_has_the_trigrams_is_looked_at(store: Any, letter: Any, asked: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(search_build, "TEXT_MAX", 1000)
    apple, _, scrambled, large = await store.add(
        letter((("Subject", "Apple"),), "apple pie", flags=SEEN),
        letter((), "plum"),
        letter((), "ple app ppl"),
        letter((), "x" * 1000 + " apple"),
    )
    await store.index.catch_up()
    # behind the mark
    await store.add(letter((), "apple tart"), letter((), "plum tart"))
    uids = [uid for uid, *_ in await store.entries()]
    assert await store.search(BodyContains("apple")) == [uids[0], uids[3], uids[4]]
    mark, emails = asked.pop()
    assert (mark, sorted(json.loads(emails))) == (large, [apple, scrambled, large])
    assert await store.search(TextContains("apple pie")) == [uids[0]]
    assert await store.search(HeaderContains("Subject", "apple")) == [uids[0]]
    assert await store.search(And((HasFlags(SEEN), BodyContains("apple")))) == [uids[0]]
    assert await store.search(And((BodyContains("apple"), BodyContains("tart")))) == [uids[4]]
    assert await store.search(And((BodyContains("apple"), Not(BodyContains("tart"))))) == [uids[0], uids[3]]
    assert len(asked) == 5
    assert all(asked)


async def test_a_text_that_a_match_may_lack_narrows_nothing(store: Any, letter: Any, asked: Any) -> None:
    await store.add(letter((), "apple"), letter((), "plum"), letter((), "pear"))
    await store.index.catch_up()
    uids = [uid for uid, *_ in await store.entries()]
    assert await store.search(Not(BodyContains("apple"))) == uids[1:]
    assert await store.search(Or((BodyContains("apple"), BodyContains("plum")))) == uids[:2]
    assert asked == []
    assert await store.search(BodyContains("pe")) == [uids[2]]
    assert asked == [None]


async def test_messages_that_come_after_the_index_was_asked_are_found(
    store: Any, letter: Any, asked: Any, monkeypatch: Any
) -> None:
    await store.add(letter((), "apple"))
    await store.index.catch_up()
    possible = store.index.possible

    async def then_one_more(*args: Any) -> Possible | None:
        answer: Possible | None = await possible(*args)
        await store.add(letter((), "apple tart"))
        await store.index.catch_up()
        return answer

    monkeypatch.setattr(store.index, "possible", then_one_more)
    found = await store.search(BodyContains("apple"))
    assert found == [uid for uid, *_ in await store.entries()]
    assert len(found) == 2
