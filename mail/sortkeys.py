"""What SORT and THREAD compare, taken from the header once (RFC 5256)."""

from __future__ import annotations

import re
from typing import NamedTuple

from mail import dates, words
from mail.headers import Headers
from mail.text import fold

SUBJECT_MAX = 1_000
"""How many characters of a subject count."""

ADDRESS_MAX = 320
"""How many characters of an address or a display name count."""

REFERENCES_MAX = 200
"""How many ids of References are kept: the first and the last ones."""

MESSAGE_ID_MAX = 998
"""The longest message id that takes part in threading, in bytes."""

_TRAILER = re.compile(r"(?:[ \t]|\(fwd\))+\Z", re.IGNORECASE)
_BLOB = r"\[[^\[\]]*+\][ \t]*+"
_LEADER = re.compile(rf"[ \t]++|(?:{_BLOB})*(re|fwd?+)[ \t]*+(?:{_BLOB})?:", re.IGNORECASE)
_LEADING_BLOB = re.compile(_BLOB)
_FORWARDED = re.compile(r"\[fwd:(.*)\]", re.IGNORECASE | re.DOTALL)
_MESSAGE_ID = re.compile(rb"<[ \t]*+((?:\"(?:[^\"\\\r\n]|\\.)*+\"|[^<>\"]++)+)>")
_QUOTED_LOCAL = re.compile(rb"\"([!#$%&'*+\-/0-9=?A-Z^_`a-z{|}~.\x80-\xff]++)\"(@.*)", re.DOTALL)


class SortKeys(NamedTuple):
    """The keys of one message. Texts are folded (`mail.text.fold`) unless said otherwise.

    subject is the base subject and is_reply whether a reply or forward mark was taken off it (RFC 5256 §2.1);
    sender, to and cc are the local part of the first address of their fields ("" when there is none), *_display their
    display name or else whole address (RFC 5957). sent is the Date field in Unix seconds and sent_day the day written
    there in days since 1970-01-01, None when the field is missing or broken. Message ids are as written, without the
    angle brackets and needless quotes; references are the ids of References or else the first of In-Reply-To,
    oldest first.
    """

    subject: str
    is_reply: bool
    sender: str
    sender_display: str
    to: str
    to_display: str
    cc: str
    sent: int | None
    sent_day: int | None
    message_id: str | None
    references: tuple[str, ...]


def keys(fields: Headers) -> SortKeys:
    """The sort and thread keys of a message from its header fields (`Part.fields`)."""
    subject, is_reply = base_subject(words.decode(fields.last(b"SUBJECT") or b""))
    sender, sender_display = _first_address(fields, b"FROM")
    to, to_display = _first_address(fields, b"TO")
    cc, _ = _first_address(fields, b"CC")
    sent = dates.parse(fields.last(b"DATE") or b"")
    own = message_ids(fields.last(b"MESSAGE-ID") or b"")
    references = message_ids(fields.last(b"REFERENCES") or b"")
    if not references:
        # RFC 5256 §3: without References the first id of In-Reply-To is the only one
        references = message_ids(fields.last(b"IN-REPLY-TO") or b"")[:1]
    if len(references) > REFERENCES_MAX:
        references = references[:1] + references[1 - REFERENCES_MAX :]
    return SortKeys(
        subject=fold(subject),
        is_reply=is_reply,
        sender=sender,
        sender_display=sender_display,
        to=to,
        to_display=to_display,
        cc=cc,
        sent=None if sent is None else sent.seconds,
        sent_day=None if sent is None else sent.day,
        message_id=own[0] if own else None,
        references=tuple(references),
    )


def base_subject(text: str) -> tuple[str, bool]:
    """The base subject of a decoded Subject, and whether it was marked as a reply or forward (RFC 5256 §2.1)."""
    # RFC 5256 §2.1 (1)
    text = " ".join(text[:SUBJECT_MAX].replace("\t", " ").split())
    marked = False
    while True:
        # (2)
        trailer = _TRAILER.search(text) if text.endswith((" ", "\t", ")")) else None
        if trailer:
            marked = marked or "(" in trailer[0]
            text = text[: trailer.start()]
        while True:
            # (3)
            leader = _LEADER.match(text)
            if leader:
                marked = marked or leader[1] is not None
                text = text[leader.end() :]
                continue
            # (4)
            blob = _LEADING_BLOB.match(text)
            if blob and blob.end() < len(text):
                text = text[blob.end() :]
                continue
            # (5)
            break
        # (6)
        forwarded = _FORWARDED.fullmatch(text)
        if forwarded is None:
            return text, marked
        marked = True
        text = forwarded[1]


def message_ids(value: bytes) -> list[str]:
    """The message ids in an unfolded value, in order, each normalised (RFC 5256 §2.2); what is no id is passed over."""
    if b"<" not in value:
        return []
    found: list[str] = []
    for text in _MESSAGE_ID.findall(value):
        text = text.rstrip()
        if b"@" not in text or len(text) > MESSAGE_ID_MAX:
            continue
        if text[0] == 0x22:
            # RFC 5256 §2.2: quoted or not, it is the same id
            quoted = _QUOTED_LOCAL.fullmatch(text)
            text = quoted[1] + quoted[2] if quoted else text
        found.append(text.decode("utf-8", "replace"))
    return found


def _first_address(fields: Headers, name: bytes) -> tuple[str, str]:
    lists = fields.addresses(name)
    if not lists or not lists[0]:
        return "", ""
    first = lists[0][0]
    local = words.decode(first.mailbox or b"")[:ADDRESS_MAX] if first.valid else ""
    if first.name is not None:
        display = words.line(first.name)
    elif first.host is None:
        display = local
    else:
        display = f"{local}@{words.decode(first.host)}" if first.valid else ""
    return fold(local), fold(display[:ADDRESS_MAX])
