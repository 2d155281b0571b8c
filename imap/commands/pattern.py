"""LIST's wildcards (RFC 3501 §6.3.8): `*` is any octets, `%` any but the hierarchy delimiter.

All positions of the pattern that a name could have reached are kept as the bits of one number, so that a name is
looked at once: no pattern makes the match slow.
"""

from __future__ import annotations

import re

from storage.model import DELIMITER, INBOX

NAME_MAX = 1024
"""No mailbox name is longer; a pattern with more letters than this matches none."""


class Pattern:
    """`matches(name)` in time linear in the name's length."""

    def __init__(self, text: str) -> None:
        # neighbouring wildcards are one, and the wider of them
        text = re.sub(r"[*%]*\*[*%]*", "*", text)
        text = re.sub(r"%+", "%", text)
        letters = len(text) - text.count("*") - text.count("%")
        self._everything = text == "*"
        self._literal = text if letters == len(text) else None
        self._fails = letters > NAME_MAX
        self._final = 1 << len(text)
        self._stars = self._percents = 0
        self._letters: dict[str, int] = {}
        if self._fails:
            return
        for at, char in enumerate(text):
            if char == "*":
                self._stars |= 1 << at
            elif char == "%":
                self._percents |= 1 << at
            else:
                self._letters[char] = self._letters.get(char, 0) | 1 << at
        self._wild = self._stars | self._percents

    def matches(self, name: str) -> bool:
        """Whether the whole name matches."""
        if self._everything:
            return True
        if self._literal is not None:
            return name == self._literal
        if self._fails:
            return False
        wild, stars, letters = self._wild, self._stars, self._letters
        # bit n: the name so far can be matched by the pattern's first n characters; a wildcard may match nothing
        reached = 1
        reached |= (reached & wild) << 1
        for char in name:
            stay = reached & (stars if char == DELIMITER else wild)
            reached = stay | (reached & letters.get(char, 0)) << 1
            reached |= (reached & wild) << 1
            if not reached:
                return False
        return bool(reached & self._final)


class MailboxPattern:
    """A pattern for mailbox names, whose first level INBOX is the same in any case (RFC 3501 §5.1)."""

    def __init__(self, reference: str, pattern: str) -> None:
        text = reference + pattern
        self._pattern = Pattern(text)
        self._inbox = Pattern(_ascii_upper(text))
        named = _ascii_upper(text[: len(INBOX)]) == INBOX
        self._under_inbox = Pattern(INBOX + text[len(INBOX) :]) if named else self._pattern

    def matches(self, name: str) -> bool:
        """Whether the name matches."""
        if name == INBOX:
            return self._inbox.matches(name)
        pattern = self._under_inbox if name.startswith(INBOX + DELIMITER) else self._pattern
        return pattern.matches(name)


def _ascii_upper(text: str) -> str:
    """Capitals for US-ASCII letters alone: a dotless i is none, though its capital is I."""
    return text.encode("utf-8", "surrogatepass").upper().decode("utf-8", "surrogatepass")
