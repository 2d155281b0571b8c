"""The one place where a message is parsed: what is stored beside its bytes, for DATA, APPEND and import alike."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, NamedTuple

from mail import headers, ingestform
from mail.sortkeys import SortKeys, message_ids
from mail.structure import Part
from storage.model import Keys

VERSION: Final = ingestform.VERSION * 1000 + 1
"""Of the forms below: rises with what ``mail`` answers (thousands) and with how it is kept (the rest)."""

USUAL_SINCE: Final = ingestform.USUAL_SINCE * 1000
"""No store tells the usual lines of a message that was described by a lower version than this one."""

UNREAD: Final = 0
"""In the place of VERSION with a message that nothing was read out of (``named``)."""

_DAY = 86400
_json = json.JSONEncoder(separators=(",", ":")).encode


class Forms(NamedTuple):
    """What is read out of a message once, in the form in which it is kept. version: VERSION as it was then, or UNREAD.

    sent: the Date field in Unix seconds, or None; sent_day: the first second, as if UTC, of the calendar day written
    there. headers: the usual lines verbatim, None when over the bound. keys: JSON, see ``keys_json``; message_id: out
    of them, not kept beside. The others are those of ``mail.ingestform.Described``.
    """

    version: int
    sent: int | None
    sent_day: int | None
    envelope: bytes
    body: bytes
    bodystructure: bytes
    parts: bytes
    headers: bytes | None
    preview: str
    keys: str
    message_id: str = ""


def describe(raw: bytes) -> tuple[Forms, Part]:
    """The forms of any bytes, and their structure. Linear in their length; holds the GIL for short stretches only."""
    return describe_all([raw])[0]


def describe_all(raws: Sequence[bytes]) -> list[tuple[Forms, Part]]:
    """`describe` for each, which takes less time than one by one (`mail.ingestform`)."""
    return [(_forms(found), found.part) for found in ingestform.describe_all(raws)]


def _forms(found: ingestform.Described) -> Forms:
    keys = found.keys
    return Forms(
        version=VERSION,
        sent=keys.sent,
        sent_day=None if keys.sent_day is None else keys.sent_day * _DAY,
        envelope=found.envelope,
        body=found.body,
        bodystructure=found.bodystructure,
        parts=found.parts,
        headers=found.usual,
        # Half a surrogate pair cannot be stored as UTF-8.
        preview=found.preview.encode("utf-8", "replace").decode(),
        keys=keys_json(keys),
        message_id=keys.message_id or "",
    )


def named(raw: bytes) -> Forms:
    """Of a message that is in no mailbox, and is only to be sent on: its Message-ID, and nothing to be read."""
    own = message_ids(headers.parse(raw).last(b"MESSAGE-ID") or b"")
    return Forms(UNREAD, None, None, b"", b"", b"", b"", None, "", "", own[0] if own else "")


def keys_json(keys: SortKeys) -> str:
    """The fields of ``storage.model.Keys`` in its order, ``sent`` null where the message has no date."""
    return _json(
        (
            keys.subject,
            keys.sender,
            keys.to,
            keys.cc,
            keys.sender_display,
            keys.to_display,
            keys.sent,
            keys.message_id or "",
            keys.references,
        )
    )


def message_id_of(stored: str) -> str:
    """The Message-ID out of what ``keys_json`` made, without <>; "" where the message has none."""
    found: str = json.loads(stored)[7]
    return found


def keys_of(stored: str, internaldate: int) -> Keys:
    """The keys again, out of what ``keys_json`` made of them."""
    # RFC 5256 §2.2: without a Date that can be read, the internal date is the sent date.
    subject, sender, to, cc, from_display, to_display, sent, message_id, references = json.loads(stored)
    return Keys(
        subject,
        sender,
        to,
        cc,
        from_display,
        to_display,
        internaldate if sent is None else sent,
        message_id,
        tuple(references),
    )
