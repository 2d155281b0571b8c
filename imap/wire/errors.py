"""The one way in which the wire says no."""

from __future__ import annotations

from typing import Literal


class BadSyntax(Exception):
    """A command that cannot be understood, or not be taken as it is.

    `tag` is "*" where none could be read. `condition` is the status of the answer: "BAD", or "NO" with a response
    `code` (without brackets: "TOOBIG", "BADCHARSET (UTF-8 US-ASCII)", "CANNOT"). `text` says what was expected, and
    where.
    """

    __slots__ = ("code", "condition", "tag", "text")

    def __init__(
        self, text: str, *, tag: str = "*", condition: Literal["BAD", "NO"] = "BAD", code: str | None = None
    ) -> None:
        super().__init__(text)
        self.text = text
        self.tag = tag
        self.condition: Literal["BAD", "NO"] = condition
        self.code = code
