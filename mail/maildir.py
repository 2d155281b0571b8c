"""The names in a Maildir: of messages with their flags, of folders (Maildir++), of keywords (Dovecot).

A message's name is ``unique[,S=size][,W=size]:2,FLAGS``: what stands before the colon never changes, S is the length of
the file and W that with CRLF line ends, the capital letters are flags (https://cr.yp.to/proto/maildir.html) and the
small ones keywords, by their place in the folder's ``dovecot-keywords``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from mail import flags as flag

KEYWORDS_MAX = 26
"""Keywords that the names of one folder's messages can have: a letter each."""

_SIZE = re.compile(r",([SW])=(\d{1,18})(?=,|\Z)")
_LETTERS = (("D", flag.DRAFT), ("F", flag.FLAGGED), ("R", flag.ANSWERED), ("S", flag.SEEN), ("T", flag.DELETED))


class Name(NamedTuple):
    """What a file's name says. unique: all before the flags. size, crlf_size: S and W, None where they are not said.
    keywords: those whose letters have a name."""

    unique: str
    flags: int
    keywords: tuple[str, ...]
    size: int | None
    crlf_size: int | None

    @property
    def exact(self) -> bool:
        """Is the file as the message is, whatever its line ends are?"""
        return self.size is not None and self.size == self.crlf_size


def parse(name: str, keywords: Sequence[str] = ()) -> Name:
    """Any name gives a value; one without flags has none. keywords: those of the folder, in their order."""
    unique, colon, info = name.rpartition(":")
    if not colon or not info.startswith("2,"):
        unique, info = name, ""
    letters = info[2:]
    sizes = {letter: int(number) for letter, number in _SIZE.findall(unique)}
    bits = sum(bit for letter, bit in _LETTERS if letter in letters)
    places = sorted({ord(letter) - ord("a") for letter in letters if "a" <= letter <= "z"})
    named = tuple(keywords[place] for place in places if place < len(keywords) and keywords[place])
    return Name(unique, bits, named, sizes.get("S"), sizes.get("W"))


def build(unique: str, bits: int, keywords: Iterable[str], places: Mapping[str, int]) -> str:
    """A file's name; keywords without a place among the letters are left out."""
    letters = [letter for letter, bit in _LETTERS if bits & bit]
    letters += sorted(chr(ord("a") + place) for one in keywords if (place := places.get(one, KEYWORDS_MAX)) < 26)
    return f"{unique}:2,{''.join(letters)}"


def keywords(text: str) -> tuple[str, ...]:
    """What a ``dovecot-keywords`` says, in order of the letters; "" for a letter without one."""
    found = [""] * KEYWORDS_MAX
    for line in text.splitlines():
        number, _, name = line.partition(" ")
        if number.isascii() and number.isdigit() and len(number) < 3 and int(number) < KEYWORDS_MAX:
            found[int(number)] = name if flag.is_keyword(name) else ""
    return tuple(found)


def keywords_text(names: Sequence[str]) -> str:
    """The file for these keywords, at most KEYWORDS_MAX of them."""
    return "".join(f"{place} {name}\n" for place, name in enumerate(names[:KEYWORDS_MAX]))
