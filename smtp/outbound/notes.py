"""What processes that send mail remember together, and over a restart: small texts by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

KEY_MAX: Final = 600
"""Characters of a space or a key."""
TEXT_MAX: Final = 256 * 1024
"""Octets of one text in UTF-8."""
PAGE_MAX: Final = 1000


class NotesUnavailable(Exception):
    """They cannot be had now: nothing was changed, or, after a put, it is not known whether it was."""


@dataclass(frozen=True, slots=True)
class Note:
    """key: within its space."""

    key: str
    text: str


class Notes(Protocol):
    """A store of notes. Every call may be repeated. A note whose time is over is as if it were not there. Errors:
    NotesUnavailable, and ValueError for what is too long."""

    async def get(self, space: str, key: str) -> str | None:
        """The text, or None."""

    async def put(self, space: str, key: str, text: str, until: float) -> None:
        """Keep it until so many Unix seconds, durably, in the place of what is there."""

    async def first(self, space: str, key: str, text: str, until: float) -> str:
        """Keep it where nothing is there. What is there then: the text itself, or that of whoever was first."""

    async def page(self, space: str, after: str = "", limit: int = PAGE_MAX) -> tuple[Note, ...]:
        """In order of key, after the one given; at most PAGE_MAX."""

    async def remove(self, space: str, keys: Sequence[str]) -> None:
        """At most PAGE_MAX; what is not there is left out."""

    async def close(self) -> None: ...


def check(*names: str, text: str = "") -> None:
    """Raises ValueError."""
    if any(len(name) > KEY_MAX or not name for name in names) or len(text.encode("utf-8")) > TEXT_MAX:
        raise ValueError(f"a note has names of 1 to {KEY_MAX} characters and a text of at most {TEXT_MAX} octets")
