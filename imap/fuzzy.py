"""Inexact matching of SEARCH FUZZY (RFC 6203 §3): what of a text is looked for, and how well a message fits.

Pure. A text is its words. A word is near where its stem stands (an ending of inflection cut off: "invoices" is near
"invoicing"), and far where two thirds of a long word stand (so that one slip of the pen does not lose it). A message
fits where a third of the words is missing at most, or where the text stands as it is. Nothing but substrings is asked
for, so that the index answers.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Sequence
from typing import NamedTuple

WORDS = 10
"""Words of a text that count."""
STEM = 4
"""Letters that an ending leaves at least."""
PIECE = 3
"""Letters of a third of a long word, at least: as many as the index has."""
BEST = 100
"""The score of a message that has the text as it is (RFC 6203 §4: 1 to 100)."""

_WORD = re.compile(r"[^\W_]+")
_ENDINGS = ("ingly", "ings", "edly", "ing", "ers", "ies", "ed", "en", "er", "es", "ly", "e", "n", "s", "y")
_NEAR, _FAR = 2, 1
_COUNT = 1 << 16


class Word(NamedTuple):
    """near: its stem. far: its thirds, () of a short word."""

    near: str
    far: tuple[str, ...]


class Hits(NamedTuple):
    """The messages, by UID, in which a word is near, and in which it is far."""

    near: Iterable[tuple[int, int]]
    far: Iterable[tuple[int, int]]


def words(text: str) -> tuple[Word, ...]:
    """The words of a text in its order, each once, the first WORDS of them."""
    found: dict[str, None] = {}
    for match in _WORD.finditer(text):
        found.setdefault(match[0].casefold(), None)
        if len(found) == WORDS:
            break
    return tuple(Word(stem(word), thirds(word)) for word in found)


def stem(word: str) -> str:
    """A word in small letters without its ending."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= STEM:
            return word[: -len(ending)]
    return word


def thirds(word: str) -> tuple[str, ...]:
    """Three pieces that are the word together; () where they would be too short."""
    size = len(word)
    if size < 3 * PIECE:
        return ()
    first, second = size // 3, 2 * size // 3
    return word[:first], word[first:second], word[second:]


def scored(whole: Iterable[tuple[int, int]], hits: Sequence[Hits]) -> tuple[array[int], array[int]]:
    """The UIDs that fit, ascending, and their scores. whole: where the text stands as it is; hits: of each word."""
    # what was found of each message: how many words, and what they are worth
    found: dict[int, int] = {}
    for hit in hits:
        near = {uid for low, high in hit.near for uid in range(low, high + 1)}
        for uid in near:
            found[uid] = found.get(uid, 0) + _COUNT + _NEAR
        for low, high in hit.far:
            for uid in range(low, high + 1):
                if uid not in near:
                    found[uid] = found.get(uid, 0) + _COUNT + _FAR
    needed = (len(hits) - len(hits) // 3) * _COUNT
    most = len(hits) * _NEAR
    scores = {uid: max(1, (BEST - 1) * (worth % _COUNT) // most) for uid, worth in found.items() if worth >= needed}
    for low, high in whole:
        scores.update(dict.fromkeys(range(low, high + 1), BEST))
    uids = sorted(scores)
    return array("I", uids), array("B", [scores[uid] for uid in uids])
