"""IMAP search words as people give them, made safe for the wire (RFC 3501 §6.4.4).

A list may hold single words and values (["FROM", "a@example.org", "UNSEEN"]), raw phrases (['FROM "a@example.org"',
"SINCE 1-Jan-2024"]), dates, numbers and nested lists; what stands where a word takes a value is that value, whatever
it has in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

from connectors.exceptions import MessageError

MAX_WORDS = 1_000
MAX_DEPTH = 50
MAX_CHARS = 64 * 1024

_STRING_WORDS = ("BCC", "BODY", "CC", "FROM", "SUBJECT", "TEXT", "TO", "X-GM-RAW", "X-GM-LABELS")
_DATE_WORDS = (
    *("BEFORE", "ON", "SINCE", "SENTBEFORE", "SENTON", "SENTSINCE"),
    *("SAVEDBEFORE", "SAVEDON", "SAVEDSINCE"),
)
_OTHER_WORDS = (
    *("KEYWORD", "UNKEYWORD", "LARGER", "SMALLER", "OLDER", "YOUNGER", "MODSEQ", "UID"),
    *("EMAILID", "THREADID", "X-GM-MSGID", "X-GM-THRID"),
)
_STRINGS = {"HEADER": 2} | dict.fromkeys(_STRING_WORDS, 1)
_OTHERS = dict.fromkeys((*_DATE_WORDS, *_OTHER_WORDS), 1)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_RAW = re.compile(r'\s*(?:(\()|(\))|"((?:[^"\\]|\\.)*+)"|([^\s()"]+))')
_PAIR = re.compile(r"\\(.)")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+,./:;<=>?@^_`|~\\-]+")


@dataclass(frozen=True, slots=True)
class Word:
    """A search word, or the value of one (then written as a string where it has to be)."""

    text: str
    is_string: bool = False


Tree = list["Word | Tree"]


def parse(criteria: str | Iterable[Any]) -> Tree:
    """The words as a tree; MessageError when they are none, are too many or cannot be told apart."""
    items = [criteria] if isinstance(criteria, str) else criteria
    if not isinstance(items, Iterable) or isinstance(items, bytes):
        raise MessageError("Search words have to be a list like ['UNSEEN', 'FROM', 'a@example.org'].")
    reader = _Reader()
    tree = reader.items(items, 0)
    if not tree:
        raise MessageError("There are no search words; ['ALL'] finds every message.")
    return tree


def uses(tree: Tree, prefix: str) -> bool:
    """Whether a word that begins with this prefix, in capitals, is among the words."""
    return any(
        uses(node, prefix) if isinstance(node, list) else not node.is_string and node.text.upper().startswith(prefix)
        for node in tree
    )


def is_ascii(tree: Tree) -> bool:
    return all(is_ascii(node) if isinstance(node, list) else node.text.isascii() for node in tree)


def wire(tree: Tree) -> str:
    """The words of an ASCII tree as they go over the wire."""
    return " ".join(f"({wire(node)})" if isinstance(node, list) else _written(node) for node in tree)


def literals(tree: Tree) -> list[Any]:
    """The words as IMAPClient wants them, which sends those that are not ASCII as literals.

    ALL at the end of a nested list changes nothing, and keeps IMAPClient from closing the bracket inside a literal.
    """
    return [[*literals(node), b"ALL"] if isinstance(node, list) else node.text.encode("utf-8") for node in tree]


def _written(word: Word) -> str:
    if not word.is_string and word.text:
        return word.text
    return '"' + word.text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class _Reader:
    """Reads items in order, knowing how many values the last word still takes."""

    def __init__(self) -> None:
        self._count = 0
        self._wanted = 0
        self._strings = False

    def items(self, items: Iterable[Any], depth: int) -> Tree:
        if depth > MAX_DEPTH:
            raise MessageError(f"Search words are nested deeper than {MAX_DEPTH} lists.")
        tree: Tree = []
        for item in items:
            if isinstance(item, date):
                self._add(tree, f"{item.day}-{_MONTHS[item.month - 1]}-{item.year:04}")
            elif isinstance(item, bool) or not isinstance(item, str | int | list | tuple):
                raise MessageError(f"A search word cannot be a {type(item).__name__}; use text, numbers and dates.")
            elif isinstance(item, int):
                self._add(tree, str(item))
            elif isinstance(item, str):
                self._text(tree, item, depth)
            else:
                self._wanted = 0
                nested = self.items(item, depth + 1)
                if not nested:
                    raise MessageError("A list among the search words is empty.")
                tree.append(nested)
        return tree

    def _text(self, tree: Tree, item: str, depth: int) -> None:
        if len(item) > MAX_CHARS or _CONTROLS.search(item) or any(0xD800 <= ord(char) <= 0xDFFF for char in item):
            raise MessageError("A search word is too long or has a control character in it, perhaps a line end.")
        if self._wanted:
            inner = item[1:-1]
            quoted = len(item) >= 2 and item[0] == item[-1] == '"' and not re.search(r'(?<!\\)"', inner)
            self._add(tree, _PAIR.sub(r"\1", inner) if quoted else item)
            return
        stack = [tree]
        at = 0
        while match := _RAW.match(item, at):
            at = match.end()
            opening, closing, quoted_text, plain = match.groups()
            if opening:
                self._wanted = 0
                nested: Tree = []
                stack[-1].append(nested)
                stack.append(nested)
                if depth + len(stack) > MAX_DEPTH:
                    raise MessageError(f"Search words are nested deeper than {MAX_DEPTH} brackets.")
            elif closing:
                self._wanted = 0
                if len(stack) == 1 or not stack[-1]:
                    raise MessageError(f"The brackets of the search words {item!r} do not fit.")
                stack.pop()
            else:
                self._add(stack[-1], plain if quoted_text is None else _PAIR.sub(r"\1", quoted_text))
        if item[at:].strip() or len(stack) > 1:
            raise MessageError(f"The quotes or brackets of the search words {item!r} do not fit.")

    def _add(self, tree: Tree, text: str) -> None:
        self._count += 1
        if self._count > MAX_WORDS:
            raise MessageError(f"There are more than {MAX_WORDS} search words.")
        if self._wanted:
            self._wanted -= 1
            tree.append(Word(text, self._strings or not _ATOM.fullmatch(text)))
            return
        name = text.upper()
        self._wanted = _STRINGS.get(name, 0) or _OTHERS.get(name, 0)
        self._strings = name in _STRINGS
        tree.append(Word(text, not _ATOM.fullmatch(text)))
