"""A whole message made of text, HTML and files (RFC 5322, RFC 2045, RFC 2046, RFC 2183, RFC 2231)."""

from __future__ import annotations

import base64
import mimetypes
import os
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from connectors.exceptions import MessageError
from connectors.recipients import Person
from mail import address, compose, dates, words
from mail.text import strip_tags

MAX_ATTACHMENT_BYTES = 25 * 1024 * 1024
"""How many bytes of files one message may have, before they are encoded, unless the configuration says otherwise."""

MAX_ATTACHMENTS = 100
MAX_TEXT_CHARS = 16 * 1024 * 1024
MAX_SUBJECT_CHARS = 8_000
MAX_FILENAME_CHARS = 255

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_SURROGATES = re.compile(r"[\ud800-\udfff]")
_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")
_PLAIN_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_BREAKS = re.compile(r"<\s*(?:br|/p|/div|/tr|/li|/h[1-6]|/table|/ul|/ol|/blockquote)\b[^>]{0,1000}>", re.IGNORECASE)
_SPACES = re.compile(r"[ \t\r\f\v\xa0]+")
_ENCODED_LINE = 76


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file in a message: its name as the reader sees it, its type like application/pdf, its bytes."""

    filename: str
    content_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Letter:
    """A message ready to be sent: whole bytes with CRLF line ends. needs_utf8: a header field has a UTF-8 address."""

    raw: bytes
    message_id: str
    needs_utf8: bool


def write(
    sender: Person,
    recipients: Sequence[Person],
    subject: str,
    *,
    text: str | None,
    html: str | None = None,
    attachments: Sequence[Attachment] = (),
) -> Letter:
    """A message; of text and html at least one. HTML alone gets a text of its own, made from it, as the alternative.

    Line ends of any kind in text and html; control characters in the subject become spaces. MessageError when
    something is too long.
    """
    if not isinstance(subject, str) or not all(isinstance(part, str | None) for part in (text, html)):
        raise MessageError("Subject, text and HTML of a message have to be text.")
    if len(subject) > MAX_SUBJECT_CHARS:
        raise MessageError(f"The subject is longer than {MAX_SUBJECT_CHARS} characters; shorten it.")
    if len(text or "") + len(html or "") > MAX_TEXT_CHARS:
        raise MessageError(f"The text is longer than {MAX_TEXT_CHARS} characters; send it as an attachment.")
    if html is not None and text is None:
        text = text_of(html)
    message_id = compose.new_message_id(secrets.token_hex(16), sender.mailbox.domain_key or "localhost")
    body = _text_part("plain", text or "")
    if html is not None:
        body = _multipart("alternative", [body, _text_part("html", html)])
    if attachments:
        body = _multipart("mixed", [body, *[_attachment(one) for one in attachments]])
    now = time.time()
    head = [
        compose.field("From", _shown(sender)),
        compose.field("To", ", ".join(_shown(person) for person in recipients)),
        compose.field("Subject", words.encode(_tidy(subject))),
        f"Date: {dates.format_header(int(now), time.localtime(now).tm_gmtoff)}\r\n",
        f"Message-ID: <{message_id}>\r\n",
        "MIME-Version: 1.0\r\n",
    ]
    needs_utf8 = any(person.needs_utf8 for person in (sender, *recipients))
    return Letter("".join(head).encode("utf-8") + body, message_id, needs_utf8)


def read_files(paths: Iterable[str | os.PathLike[str] | Attachment], limit: int) -> list[Attachment]:
    """The files at these paths, each with its name and a type guessed from it; an Attachment stays as it is.

    Sizes are asked for before anything is read. MessageError for a file that cannot be read, for too many, and for
    more than limit bytes together.
    """
    if isinstance(paths, str | bytes | os.PathLike | Attachment):
        raise MessageError("The attachments have to be a list of paths; put the one path in a list.")
    found: list[Attachment] = []
    total = 0
    for path in paths:
        if len(found) == MAX_ATTACHMENTS:
            raise MessageError(f"A message may have at most {MAX_ATTACHMENTS} attachments; send several messages.")
        size = len(path.data) if isinstance(path, Attachment) else _size(path)
        total += size
        if total > limit:
            raise MessageError(
                f"The attachments are larger than {limit} bytes together ({_name(path)!r} "
                f"has {size}); send fewer or smaller files, or raise 'max_attachment_bytes' if the server takes more."
            )
        found.append(path if isinstance(path, Attachment) else _read(path, size))
    return found


def _name(path: str | os.PathLike[str] | Attachment) -> str:
    return path.filename if isinstance(path, Attachment) else os.fspath(path)


def _size(path: str | os.PathLike[str]) -> int:
    try:
        if not os.path.isfile(path):
            raise MessageError(f"The attachment {os.fspath(path)!r} is no file, or not there; check the path.")
        return os.path.getsize(path)
    except (OSError, TypeError, ValueError) as error:
        raise MessageError(f"The attachment {path!r} cannot be read: {error}.") from error


def _read(path: str | os.PathLike[str], size: int) -> Attachment:
    try:
        with open(path, "rb") as file:
            data = file.read(size + 1)
    except OSError as error:
        raise MessageError(f"The attachment {os.fspath(path)!r} cannot be read: {error}.") from error
    if len(data) > size:
        raise MessageError(f"The attachment {os.fspath(path)!r} grew while it was read; try again.")
    name = Path(path).name
    kind, encoding = mimetypes.guess_type(name)
    return Attachment(name, kind if kind and not encoding else "application/octet-stream", data)


def text_of(html: str) -> str:
    """HTML as plain text: lines where blocks and <br> end, no tags, no runs of spaces or empty lines."""
    lines = [_SPACES.sub(" ", line).strip() for line in strip_tags(_BREAKS.sub("\n", html)).split("\n")]
    kept = [line for at, line in enumerate(lines) if line or (at and lines[at - 1])]
    return "\n".join(kept).strip()


def _tidy(text: str) -> str:
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", _CONTROLS.sub(" ", text)).strip()


def _shown(person: Person) -> str:
    """The person in a header field (RFC 5322 §3.4): a name in quotes or encoded words where it has to be."""
    mailbox = person.mailbox
    plain = str(mailbox) if person.needs_utf8 else f"{address.quote_local(mailbox.local)}@{mailbox.domain_key}"
    if not person.name:
        return plain
    if _PLAIN_PHRASE.fullmatch(person.name) and "=?" not in person.name:
        name = person.name
    elif person.name.isascii() and "=?" not in person.name:
        name = '"' + person.name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    else:
        name = words.encode(person.name)
    return f"{name} <{plain}>"


def _text_part(subtype: str, text: str) -> bytes:
    encoding, encoded = compose.encode_text(text)
    return (
        f"Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode()
        + encoded
    )


def _multipart(subtype: str, parts: Sequence[bytes]) -> bytes:
    # 128 random bits: what the parts hold cannot have the boundary in it (RFC 2046 §5.1.1)
    boundary = "=_" + secrets.token_hex(16)
    out = [f'Content-Type: multipart/{subtype}; boundary="{boundary}"\r\n'.encode()]
    for part in parts:
        out += [f"\r\n--{boundary}\r\n".encode(), part]
    out.append(f"\r\n--{boundary}--\r\n".encode())
    return b"".join(out)


def _attachment(attachment: Attachment) -> bytes:
    if not _TYPE.fullmatch(attachment.content_type):
        raise MessageError(f"{attachment.content_type!r} is no type of a file; write it like application/pdf.")
    main = attachment.content_type.partition("/")[0].lower()
    # RFC 2046 §5.2.1 and §5.1: message and multipart may not be in base64
    kind = "application/octet-stream" if main in ("message", "multipart") else attachment.content_type
    name = _tidy(attachment.filename)[:MAX_FILENAME_CHARS] or "attachment"
    head = (
        f"Content-Type: {kind};\r\n{_parameter('name', name)}\r\n"
        "Content-Transfer-Encoding: base64\r\n"
        f"Content-Disposition: attachment;\r\n{_parameter('filename', name)}\r\n\r\n"
    )
    text = base64.b64encode(attachment.data)
    lines = [text[at : at + _ENCODED_LINE] for at in range(0, len(text), _ENCODED_LINE)]
    return head.encode("ascii") + b"\r\n".join(lines)


def _parameter(key: str, value: str) -> str:
    """A parameter on folded lines: quoted where it is short ASCII, else extended in pieces (RFC 2231 §3 and §4)."""
    if value.isascii() and len(value) <= 60 and "=?" not in value:
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f' {key}="{escaped}"'
    pieces: list[str] = [""]
    for char in value:
        encoded = quote(char, safe="")
        if len(pieces[-1]) + len(encoded) > 50:
            pieces.append("")
        pieces[-1] += encoded
    return ";\r\n".join(
        f" {key}*{n}*={'utf-8' + chr(39) * 2 if n == 0 else ''}{piece}" for n, piece in enumerate(pieces)
    )
