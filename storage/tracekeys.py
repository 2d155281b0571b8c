"""By what traces are found: the keys of their events, and whether an event answers what was asked for.

A key is 40 bits of a hash, so that what is kept is narrow and of one length. Who finds events by their keys then looks
at the events themselves (``answers``), and so two texts of one key do no harm.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from storage.model import MAIL, Event, TraceFound

KEY_BITS: Final = 40
KEYS_MAX: Final = 1_024
"""Keys of the events that one call brings to one trace; events beyond are found by the others' keys and the trace."""
MESSAGE_ID_MAX: Final = 512
"""Characters of a Message-ID that events hold; a longer one is left out."""

_DETAILS: Final = frozenset({"message_id", "sender", "address", "to", "about", "auth", "name"})
"""The fields of an event's detail that hold a Message-ID or an address."""
_DETAILS_OF_REFUSED: Final = _DETAILS | {"peer"}
_TAKEN: Final = frozenset({"stored", "spooled", "attempt"})
"""Kinds of a message that was taken: its peer is no key, for all mail of a large sender would have the same one."""
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def folded(text: str) -> str:
    """The form in which texts are compared: without blanks and <> around it, in one case."""
    return text.strip().removeprefix("<").removesuffix(">").casefold()


def trace_ids(text: str) -> tuple[str, ...]:
    """The ids of traces that the text may stand for: itself, and without hyphens where it is written as a UUID."""
    text = text.strip()
    if not _ID.fullmatch(text):
        return ()
    return (text, text.replace("-", "").lower()) if _UUID.fullmatch(text) else (text,)


@lru_cache(8192)
def key(text: str) -> int:
    """The key of a text, which is folded here."""
    # Half a surrogate pair has no UTF-8.
    return _hashed(folded(text).encode("utf-8", "surrogatepass"))


@lru_cache(8192)
def account_key(account: str) -> int:
    """The key that all events have which are shown to the account."""
    return _hashed(b"\0" + account.encode("utf-8", "surrogatepass"))


def keys(events: Sequence[Event]) -> list[int]:
    """The keys of events of one trace that are kept together, each once, at most KEYS_MAX."""
    accounts: set[str] = set()
    texts: set[object] = set()
    details = _DETAILS
    for event in events:
        if event.kind in _TAKEN:
            break
    else:
        details = _DETAILS_OF_REFUSED
    for event in events:
        if event.account is not None:
            accounts.add(event.account)
        detail = event.detail
        for name in details & detail.keys():
            texts.add(detail[name])
        if len(texts) > KEYS_MAX:
            break
    found = {account_key(account) for account in accounts}
    found.update([key(text) for text in texts if text and isinstance(text, str)])
    return list(found)[:KEYS_MAX]


def wanted(text: str, account: str | None) -> list[int]:
    """The keys that events have, all of them, which answer; [] where every event does."""
    keys = [] if account is None else [account_key(account)]
    return [*keys, key(text)] if folded(text) else keys


def answers(event: Event, text: str, account: str | None) -> bool:
    """Is the event shown to the account (None: to all), and does it hold the text (folded; "": any)?"""
    if account is not None and event.account != account:
        return False
    return not text or any(
        folded(str(event.detail[name])) == text for name in _DETAILS_OF_REFUSED & event.detail.keys()
    )


def told(trace: str, events: Sequence[Event], since: float) -> TraceFound | None:
    """What is told of a trace that was found, by those of its events that are shown; None when it ended before."""
    if not events:
        return None
    ended = max([event.at for event in events])
    if ended < since:
        return None
    return TraceFound(trace, min([event.at for event in events]), ended, len(events))


def latest_first(found: Iterable[TraceFound]) -> tuple[TraceFound, ...]:
    return tuple(sorted(found, key=lambda one: (-one.ended, one.trace)))


def about(sender: str, message_id: str, queue: str) -> dict[str, str]:
    """What the detail of "stored" and "spooled" says of the message itself. sender: "" for the null reverse-path.
    queue: which it waits in, told where that is not the mail's."""
    known = {"sender": sender} | ({"message_id": message_id} if 0 < len(message_id) <= MESSAGE_ID_MAX else {})
    return known if queue == MAIL else {**known, "queue": queue}


def _hashed(octets: bytes) -> int:
    return int.from_bytes(blake2b(octets, digest_size=KEY_BITS // 8).digest(), "big")
