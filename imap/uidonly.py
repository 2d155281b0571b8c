"""Which commands have message sequence numbers in them: none may in a session with UIDONLY (RFC 9586 §3)."""

from __future__ import annotations

from imap.wire.forms import Form, InSet, Search, Select, Sort, Thread
from imap.wire.parse_search import inner

NUMBERED = frozenset(("FETCH", "STORE", "SEARCH", "SORT", "THREAD", "COPY", "MOVE", "REPLACE"))
"""Commands that name messages by number, or are answered so."""


def has_numbers(name: str, form: Form) -> bool:
    """Whether the command names messages by their numbers, or would be answered with such."""
    if name in NUMBERED:
        return True
    if searches_numbers(form):
        return True
    # RFC 7162 §3.2.5.2: message sequence match data
    return isinstance(form, Select) and form.resync is not None and bool(form.resync.numbers)


def searches_numbers(form: Form) -> bool:
    """Whether a search, by number or by UID, has numbers of messages among its keys."""
    match form:
        case Search(key) | Sort(Search(key)) | Thread(Search(key)):
            # RFC 5182 §2.1: "$" is no number
            return any(isinstance(one, InSet) and not one.uid and one.numset.named for one in inner(key))
        case _:
            return False
