"""What IMAP says of a message, made a dict for people: header fields, text, HTML, attachments (RFC 3501 §7.4.2)."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from connectors import letter
from mail import addresslist, charsets, dates, headers, params, parts, text, words

MAX_PARTS = 1_000
"""How many parts of one message are looked at."""

MAX_DEPTH = 50

_ENCODINGS = {b"base64": parts.BASE64, b"quoted-printable": parts.QUOTED_PRINTABLE}
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]+")
_AROUND = " ."


@dataclass(frozen=True, slots=True)
class Leaf:
    """One part without parts of its own: the section that names it, its type, and where it belongs.

    kind is "plain", "html", "attachment" or "inline" (a picture that the HTML shows); size counts encoded bytes.
    """

    section: str
    content_type: str
    charset: str
    encoding: int
    size: int
    filename: str
    content_id: str
    kind: str


def leaves(body: Any) -> list[Leaf]:
    """The leaves of a BODYSTRUCTURE as IMAPClient parses it, in order; what is broken in it is left out.

    An enclosed message is one leaf. The first text/plain and text/html that are no attachments are the message's text.
    """
    found: list[Leaf] = []
    texts: set[str] = set()
    for section, part, related in _walk(body, "", 0, False):
        leaf = _leaf(section, part, related, texts)
        if leaf is not None:
            found.append(leaf)
            texts.add(leaf.kind)
        if len(found) == MAX_PARTS:
            break
    return found


def _walk(body: Any, section: str, depth: int, related: bool) -> Iterator[tuple[str, Sequence[Any], bool]]:
    if not isinstance(body, tuple) or not body or depth > MAX_DEPTH:
        return
    if not isinstance(body[0], list):
        # RFC 3501 §6.4.5: a message that is no multipart has one part, 1
        yield section or "1", body, related
        return
    inside = _lower(body[1] if len(body) > 1 else None) == b"related"
    for number, part in enumerate(body[0], 1):
        yield from _walk(part, f"{section}.{number}" if section else str(number), depth + 1, inside)


def _leaf(section: str, part: Sequence[Any], related: bool, texts: set[str]) -> Leaf | None:
    if len(part) < 7:
        return None
    main, sub = _lower(part[0]) or b"application", _lower(part[1]) or b"octet-stream"
    kind = f"{main.decode('latin-1')}/{sub.decode('latin-1')}"
    # RFC 3501 §7.4.2: behind the basic fields come lines for text, envelope, body and lines for a message; then MD5
    encloses = main == b"message" and len(part) > 7 and isinstance(part[7], tuple)
    at = 7 + (1 if main == b"text" else 3 if encloses else 0)
    disposition, details = _disposition(part[at + 1] if len(part) > at + 1 else None)
    own = params.decoded(_pairs(part[2]))
    name = params.decoded(details).get("filename") or own.get("name") or ""
    content_id = part[3].decode("latin-1").strip("<> ") if isinstance(part[3], bytes) else ""
    if kind in ("text/plain", "text/html") and disposition != b"attachment" and not name:
        use = sub.decode("latin-1")
        if use in texts:
            # A further text, like a mailing list's footer, is neither the text nor a file.
            use = "more"
    elif disposition == b"attachment" or not (content_id and related):
        use = "attachment" if name or disposition == b"attachment" or main != b"text" else "more"
    else:
        use = "inline"
    size = part[6] if isinstance(part[6], int) else 0
    encoding = _ENCODINGS.get(_lower(part[5]) or b"", parts.SEVENBIT)
    filename = safe_name(name) or f"part-{section}{mimetypes.guess_extension(kind) or '.bin'}"
    return Leaf(section, kind, own.get("charset", ""), encoding, size, filename, content_id, use)


def _lower(value: Any) -> bytes | None:
    return value.lower() if isinstance(value, bytes) else None


def _pairs(value: Any) -> params.Pairs:
    if not isinstance(value, tuple):
        return ()
    flat = [_bytes(one).replace(b"\\", b"\\\\").replace(b'"', b'\\"') for one in value]
    written = b"".join(b'; %b="%b"' % pair for pair in zip(flat[::2], flat[1::2], strict=False))
    # Read again as a header field has them: some servers leave the pieces of RFC 2231 §3 to us.
    return params.scan(written)


def _disposition(value: Any) -> tuple[bytes, params.Pairs]:
    if isinstance(value, tuple) and value:
        return _lower(value[0]) or b"", _pairs(value[1] if len(value) > 1 else None)
    return b"", ()


def safe_name(name: str) -> str:
    """A file name that a stranger has written, fit to write under: no folders, no controls, no leading dots."""
    last = _CONTROLS.sub("", name.replace("\\", "/")).rsplit("/", 1)[-1].strip(_AROUND)
    if len(last) > letter.MAX_FILENAME_CHARS:
        stem, dot, ending = last.rpartition(".")
        keep = ending if dot and len(ending) <= 16 else ""
        last = (stem or last)[: letter.MAX_FILENAME_CHARS - len(keep) - 1] + ("." + keep if keep else "")
    return last


def decoded(leaf: Leaf, raw: bytes) -> bytes:
    """The bytes of a leaf without their transfer encoding."""
    return b"".join(text.transfer_decode(raw, 0, len(raw), leaf.encoding))


def message(
    uid: int,
    row: Mapping[bytes, Any],
    found_leaves: Sequence[Leaf],
    texts: Mapping[str, bytes],
    *,
    text_max: int,
    gmail: bool,
) -> dict[str, Any]:
    """The dict that `receive_messages` and `search_messages` give, as docs/connectors.md lists it.

    row has what FETCH answered; texts the encoded bytes of the sections of the plain and the HTML text.
    """
    fields = headers.parse(_bytes(row.get(b"BODY[HEADER]")))
    received = row.get(b"INTERNALDATE")
    by_kind = {leaf.kind: leaf for leaf in found_leaves if leaf.section in texts}
    plain = _text(by_kind.get("plain"), texts)
    html = _text(by_kind.get("html"), texts)
    files = [leaf for leaf in found_leaves if leaf.kind == "attachment"]
    found: dict[str, Any] = {
        "id": uid,
        "message_id": words.line(fields.first(b"MESSAGE-ID") or b"").strip("<> "),
        "subject": words.line(fields.last(b"SUBJECT") or b""),
        "from": ", ".join(_people(fields, b"FROM")),
        "to": _people(fields, b"TO"),
        "cc": _people(fields, b"CC"),
        "reply_to": _people(fields, b"REPLY-TO"),
        "date": _date(fields) or received,
        "received": received,
        "body": plain if plain is not None else letter.text_of(html or ""),
        "html_body": html,
        "truncated": any(leaf.size > text_max for leaf in by_kind.values()),
        "has_attachments": bool(files),
        "attachments": [
            {"filename": leaf.filename, "content_type": leaf.content_type, "size": decoded_size(leaf)} for leaf in files
        ],
        "flags": [_bytes(flag).decode("utf-8", "replace") for flag in row.get(b"FLAGS") or ()],
        "size": row.get(b"RFC822.SIZE") if isinstance(row.get(b"RFC822.SIZE"), int) else 0,
    }
    found["unread"] = not any(flag.lower() == "\\seen" for flag in found["flags"])
    if gmail:
        found["labels"] = list(row.get(b"X-GM-LABELS") or ())
        found["thread_id"] = row.get(b"X-GM-THRID")
    return found


def decoded_size(leaf: Leaf) -> int:
    """About how many bytes a leaf has when decoded: exact to a few bytes for base64, an upper bound for the rest."""
    # RFC 2045 §6.8: 76 characters and a line end carry 57 bytes
    return leaf.size * 57 // 78 if leaf.encoding == parts.BASE64 else leaf.size


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else b"" if value is None else str(value).encode()


def _text(leaf: Leaf | None, texts: Mapping[str, bytes]) -> str | None:
    if leaf is None:
        return None
    raw = texts[leaf.section]
    slices = text.transfer_decode(raw, 0, len(raw), leaf.encoding)
    return "".join(charsets.decode_slices(slices, leaf.charset)).replace("\r\n", "\n")


def _people(fields: headers.Headers, name: bytes) -> list[str]:
    shown = []
    for value in fields.all(name):
        for entry in addresslist.parse(value):
            if entry.mailbox is None or entry.host is None:
                continue
            address = f"{_decoded(entry.mailbox)}@{_decoded(entry.host)}" if entry.valid else _decoded(entry.mailbox)
            person = words.line(entry.name) if entry.name else ""
            shown.append(f"{person} <{address}>" if person else address)
    return shown


def _decoded(value: bytes) -> str:
    return charsets.decode(value, "")


def _date(fields: headers.Headers) -> datetime | None:
    moment = dates.parse(fields.first(b"DATE") or b"")
    if moment is None:
        return None
    try:
        return datetime.fromtimestamp(moment.seconds, UTC).astimezone(timezone(timedelta(seconds=moment.offset)))
    except (ValueError, OverflowError, OSError):
        return None
