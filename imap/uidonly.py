"""UIDONLY: a session without message sequence numbers (RFC 9586 §3)."""

from __future__ import annotations

from imap.wire.forms import Form, InSet, Search, SearchKey, Select, Sort, Thread
from imap.wire.parse_search import inner

NUMBERED = frozenset(("FETCH", "STORE", "SEARCH", "SORT", "THREAD", "COPY", "MOVE", "REPLACE"))
"""Commands that name messages by number, or are answered so."""


def has_numbers(name: str, form: Form) -> bool:
    """Whether the command names messages by their numbers, or would be answered with such."""
    if name in NUMBERED:
        return True
    match form:
        case Search(key):
            return _names_numbers(key)
        case Sort(search) | Thread(search):
            return _names_numbers(search.key)
        case Select(resync=resync):
            # RFC 7162 §3.2.5.2: message sequence match data
            return resync is not None and bool(resync.numbers)
        case _:
            return False


def _names_numbers(key: SearchKey) -> bool:
    # RFC 5182 §2.1: "$" is no number
    return any(isinstance(one, InSet) and not one.uid and not one.numset.saved for one in inner(key))
