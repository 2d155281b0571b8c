"""What callers give for messages and mailboxes, checked before anything is asked of a server."""

from __future__ import annotations

from collections.abc import Iterable

from connectors.exceptions import MessageError

MAX_IDS = 100_000
"""The most ids that one call takes."""

MAX_RESULTS = 10_000
"""The most messages that one call gives."""


def ids(given: int | str | Iterable[int | str]) -> list[int]:
    """Message ids as numbers, each once; MessageError for what is none."""
    several = [given] if isinstance(given, int | str) else given
    if not isinstance(several, Iterable) or isinstance(several, bytes):
        raise MessageError("Message ids have to be a number or a list of numbers, as in a message's 'id'.")
    found: dict[int, None] = {}
    for one in several:
        if isinstance(one, str) and one.isascii() and one.isdigit() and len(one) <= 10:
            one = int(one)
        # RFC 3501 §9: nz-number
        if isinstance(one, bool) or not isinstance(one, int) or not 0 < one < 2**32:
            raise MessageError(f"{one!r} is no id of a message; take the 'id' of a message that was read.")
        found[one] = None
        if len(found) > MAX_IDS:
            raise MessageError(f"At most {MAX_IDS} messages can be named at once; name them in several calls.")
    return list(found)


def limit_of(limit: object) -> int:
    """A limit of results: 1 to MAX_RESULTS, None for MAX_RESULTS; else MessageError."""
    if limit is None:
        return MAX_RESULTS
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_RESULTS:
        raise MessageError(f"'limit' has to be a number from 1 to {MAX_RESULTS}, not {limit!r}.")
    return limit


def mailbox_name(name: object) -> None:
    if not isinstance(name, str) or not name or len(name) > 1_000:
        raise MessageError("The name of a mailbox has to be text of 1 to 1000 characters.")
    if any(ord(char) < 0x20 or ord(char) == 0x7F or 0xD800 <= ord(char) <= 0xDFFF for char in name):
        raise MessageError("The name of a mailbox has a control character in it, perhaps a line end; take it out.")
