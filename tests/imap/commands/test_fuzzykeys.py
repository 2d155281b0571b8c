"""FUZZY keys: what they cost."""

from __future__ import annotations

import threading

import pytest

from imap import fuzzy
from imap.commands.fuzzykeys import Relevancy
from tests.imap.fakes import Client


async def test_a_string_is_looked_at_once_however_many_fuzzies_are_around_it(
    alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    words = fuzzy.words

    def counted(text: str) -> tuple[fuzzy.Word, ...]:
        looked.append(text)
        return words(text)

    monkeypatch.setattr(fuzzy, "words", counted)
    await alice("x APPEND INBOX", b"Subject: one two\r\n\r\nbody\r\n")
    await alice("x SELECT INBOX")
    said = await alice(f'x SEARCH {"FUZZY " * 90}(SUBJECT "one" OR NOT TEXT "two" SUBJECT "two")')
    assert said == "* SEARCH 1\nx OK Searched\n"
    # to find it, and to search for it
    assert len(looked) == 2 * 3


async def test_scores_are_not_put_together_on_the_loop(alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    settle = Relevancy.settle

    def noted(self: Relevancy) -> None:
        threads.append(threading.get_ident())
        settle(self)

    monkeypatch.setattr(Relevancy, "settle", noted)
    await alice("x APPEND INBOX", b"Subject: one two\r\n\r\nbody\r\n")
    await alice("x SELECT INBOX")
    assert " RELEVANCY (100)" in await alice('x SEARCH RETURN (RELEVANCY ALL) FUZZY SUBJECT "one"')
    await alice("x SEARCH ALL")
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()
