"""Ids as the port shows them: a letter and the row's number. What is not such an id names nothing (number 0)."""

from __future__ import annotations

import re

_ID = re.compile(r"[MESB]([0-9a-f]{1,15})")


def mailbox(number: int) -> str:
    return f"M{number:x}"


def email(number: int) -> str:
    return f"E{number:x}"


def spool(number: int) -> str:
    """Of one width, so that ids sort as their numbers do."""
    return f"S{number:012x}"


def blob(number: int) -> str:
    return f"B{number:012x}"


def number(text: str, letter: str) -> int:
    """The number in an id of this letter; 0, which no row has, where the text is no such id."""
    found = _ID.fullmatch(text)
    return int(found[1], 16) if found is not None and text[0] == letter else 0
