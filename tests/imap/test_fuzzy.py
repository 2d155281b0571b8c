"""Inexact matching against a plain reading of its rules."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from imap import fuzzy
from imap.fuzzy import BEST, PIECE, STEM, WORDS, Hits

UIDS = st.sets(st.integers(1, 12)).map(lambda uids: tuple((uid, uid) for uid in sorted(uids)))


@given(st.text(max_size=60))
def test_words_are_substrings(text: str) -> None:
    for word in fuzzy.words(text):
        assert word.near
        assert not word.far or ("".join(word.far).startswith(word.near) and min(map(len, word.far)) >= PIECE)
    assert len(fuzzy.words(text)) <= WORDS


def test_words_of_a_text() -> None:
    near = [word.near for word in fuzzy.words("The Invoices, invoicing: re-sent THE e-mail's")]
    assert near == ["the", "invoic", "invoic", "re", "sent", "e", "mail", "s"]
    assert fuzzy.stem("breaking") == fuzzy.stem("breaks") == fuzzy.stem("breaker") == "break"
    assert fuzzy.stem("does") == "does"
    assert all(len(fuzzy.stem(word)) >= STEM for word in ("ringing", "unseen", "families"))
    assert fuzzy.thirds("receiving") == ("rec", "eiv", "ing")
    assert fuzzy.thirds("received") == ()
    assert fuzzy.words("... _ -") == ()


@given(UIDS, st.lists(st.tuples(UIDS, UIDS), min_size=1, max_size=5))
def test_scores(
    whole: tuple[tuple[int, int], ...], hits: list[tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]]
) -> None:
    uids, scores = fuzzy.scored(whole, [Hits(*hit) for hit in hits])
    found = dict(zip(uids, scores, strict=True))
    assert list(uids) == sorted(found)
    for uid in range(1, 13):
        pair = (uid, uid)
        worth = [2 if pair in near else 1 if pair in far else 0 for near, far in hits]
        fits = len([one for one in worth if one]) >= len(hits) - len(hits) // 3
        if pair in whole:
            assert found[uid] == BEST
        elif fits:
            assert found[uid] == max(1, 99 * sum(worth) // (2 * len(hits)))
            assert 1 <= found[uid] < BEST
        else:
            assert uid not in found
