"""Making messages and trace fields: the few that a mail server writes itself (RFC 5322, RFC 2045, RFC 5321 §4.4)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence

from mail import address, dates, words

LINE_MAX = 998
"""RFC 5322 §2.1.1, in bytes without the line end."""

_FOLD_AT = 78
_LINE_END = re.compile(r"\r\n|\r|\n")
_UNSAFE = re.compile(r"[\x00-\x20\x7f-\x9f()<>;\\\"]+")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")
NOT_IN_A_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""What a subject that somebody hands in must not have: control characters, and all that some reader takes for the end
of a line, which could add a header field."""
_TOKEN_MAX = 255


def message(
    *, sender: str, recipients: Sequence[str], subject: str, body: str, date: int, message_id: str, offset: int = 0
) -> bytes:
    """A text message with CRLF line ends, 7-bit throughout unless an address is not ASCII.

    sender and recipients are bare addresses, date is Unix seconds (offset: the zone to write it in, seconds
    east), message_id comes without angle brackets (see `new_message_id`). Line ends in the body may be of any kind.
    AddressError for an address that is none; control characters in the subject become spaces: nothing adds a field.
    """
    to = ", ".join(str(address.parse_mailbox(one)) for one in recipients)
    encoding, encoded = encode_text(body)
    head = [
        field("From", str(address.parse_mailbox(sender))),
        field("To", to) if to else "To: undisclosed-recipients:;\r\n",
        field("Subject", words.encode(_CONTROLS.sub(" ", subject).strip())),
        f"Date: {dates.format_header(date, offset)}\r\n",
        f"Message-ID: <{_token(message_id)}>\r\n",
        "MIME-Version: 1.0\r\n",
        "Content-Type: text/plain; charset=utf-8\r\n",
        f"Content-Transfer-Encoding: {encoding}\r\n",
        "\r\n",
    ]
    return "".join(head).encode("utf-8", "replace") + encoded


def new_message_id(unique: str, domain: str) -> str:
    """A message id from something that no other message has and a domain of ours (RFC 5322 §3.6.4)."""
    return f"{_token(unique)}@{_token(domain)}"


def encode_text(body: str) -> tuple[str, bytes]:
    """A text's transfer encoding and its bytes in it: UTF-8, CRLF line ends from any kind, a line end at the end.

    The lightest encoding that any server can carry (RFC 2045 §6): 7bit, quoted-printable or base64.
    """
    text = "\r\n".join(_LINE_END.split(body))
    if text and not text.endswith("\r\n"):
        text += "\r\n"
    raw = text.encode("utf-8", "replace")
    if raw.isascii() and b"\0" not in raw and all(len(line) <= LINE_MAX for line in raw.split(b"\r\n")):
        return "7bit", raw
    quoted = binascii.b2a_qp(raw, istext=True)
    if len(quoted) <= len(raw) * 4 // 3:
        return "quoted-printable", quoted
    encoded = base64.b64encode(raw)
    return "base64", b"".join(encoded[at : at + 76] + b"\r\n" for at in range(0, len(encoded), 76))


def field(name: str, value: str) -> str:
    """One field, folded at spaces where its lines would be longer than 78 (RFC 5322 §2.2.3). No line ends in value."""
    lines: list[str] = []
    line = name + ":"
    for word in value.split(" "):
        if len(line) + 1 + len(word) > _FOLD_AT and line.strip() and not line.endswith(":"):
            lines.append(line)
            line = ""
        line += " " + word
    lines.append(line)
    return "\r\n".join(lines) + "\r\n"


def _token(text: str, most: int = _TOKEN_MAX) -> str:
    return _UNSAFE.sub("", text)[:most]


def received(
    *,
    helo: str,
    client: str,
    by: str,
    protocol: str,
    id: str,
    date: int,
    offset: int = 0,
    client_name: str | None = None,
    tls: str | None = None,
    recipient: str | None = None,
) -> bytes:
    """Our trace field, folded (RFC 5321 §4.4).

    client is the peer's IP address ("" for a local source), client_name what DNS calls it, protocol a word of the
    registry like ESMTPSA (RFC 3848), tls the version and cipher. Whatever the peer said is stripped of everything that
    could end the field or open a comment, and cut to 255 characters.
    """
    literal = f"IPv6:{client}" if ":" in client else client
    peer = " ".join(part for part in (_token(client_name or ""), f"[{_token(literal)}]" if client else "") if part)
    lines = [
        f"Received: from {_token(helo) or 'unknown'}" + (f" ({peer})" if peer else ""),
        f"\tby {_token(by)} with {_token(protocol)}" + (f" ({_CONTROLS.sub(' ', tls)[:100]})" if tls else ""),
        f"\tid {_token(id)}" + (f" for <{_token(recipient, 320)}>" if recipient else "") + ";",
        f"\t{dates.format_header(date, offset)}",
    ]
    return ("\r\n".join(lines) + "\r\n").encode("utf-8", "replace")


def return_path(reverse_path: str) -> bytes:
    """The Return-Path of a final delivery; "" for the null path (RFC 5321 §4.4)."""
    return f"Return-Path: <{_CONTROLS.sub('', reverse_path)}>\r\n".encode("utf-8", "replace")


def delivered_to(mailbox: str) -> bytes:
    """The Delivered-To that stops delivery loops between mailboxes (RFC 9228)."""
    return f"Delivered-To: {_CONTROLS.sub('', mailbox)}\r\n".encode("utf-8", "replace")
