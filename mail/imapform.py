"""ENVELOPE, BODY and BODYSTRUCTURE as bytes for the wire (RFC 3501 §7.4.2).

All three are whole parenthesised values, ready behind their names in a FETCH response. Strings are the raw header text,
unfolded, RFC 2047 words still encoded; they are quoted where that is allowed and literals where they hold 8-bit bytes.
What broken fields become follows Dovecot, so that clients see the same from both.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from mail.addresslist import Entry
from mail.headers import Headers
from mail.params import Pairs
from mail.structure import Part

_PLAIN = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\x21\x23-\x5b\x5d-\x7f]*+")
_EIGHT_BIT = re.compile(rb"[\r\n\x80-\xff]")
_ESCAPED = re.compile(rb'(["\\])')
# Printable words with one space between two: what is shown between quotes as it is.
_TIDY = re.compile(rb"[\x21\x23-\x5b\x5d-\x7e]++(?: [\x21\x23-\x5b\x5d-\x7e][\x21\x23-\x5b\x5d-\x7e]*+)*+")
_WHITE = re.compile(rb"[ \t\r\n]+")

_EMPTY_BODY = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0)'
_EMPTY_BODYSTRUCTURE = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)'


def string(value: bytes) -> bytes:
    """A string: quoted, or a literal when it holds CR, LF or 8-bit bytes (RFC 3501 §4.3).

    Tolerance: a NUL may be in neither form; it becomes %x80.
    """
    if _PLAIN.fullmatch(value):
        return b'"' + value + b'"'
    value = value.replace(b"\0", b"\x80")
    if _EIGHT_BIT.search(value):
        return b"{%d}\r\n%b" % (len(value), value)
    return b'"' + _ESCAPED.sub(rb"\\\1", value) + b'"'


def nstring(value: bytes | None) -> bytes:
    """`string`, or NIL for None."""
    return b"NIL" if value is None else string(value)


def _phrase(value: bytes | None) -> bytes:
    # text for people: runs of white space are one space, none at the ends
    if value is None:
        return b"NIL"
    if _TIDY.fullmatch(value):
        return b'"%b"' % value
    return string(_WHITE.sub(b" ", value).strip(b" "))


def _address(entry: Entry) -> bytes:
    name, route, mailbox, host, _ = entry
    # three at one look, most often
    if name and route is None and mailbox and host and _TIDY.fullmatch(b"%b %b %b" % (name, mailbox, host)):
        return b'("%b" NIL "%b" "%b")' % (name, mailbox, host)
    return b"(%b %b %b %b)" % (_phrase(name), nstring(route), nstring(mailbox), nstring(host))


def _addresses(fields: Headers, name: bytes) -> bytes:
    shown = [_address(entry) for entries in fields.addresses(name) for entry in entries]
    if not shown:
        return b"NIL"
    # RFC 3501 §7.4.2: a group begins with its name as the mailbox and a NIL host and ends with four NILs
    return b"(" + b"".join(shown) + b")"


def envelope(fields: Headers) -> bytes:
    """The ENVELOPE of a message from its header fields (`Part.fields`).

    Addresses of a field that occurs more than once are joined; of texts the last counts.
    """
    author = _addresses(fields, b"FROM")
    # RFC 3501 §7.4.2: an absent or empty Sender or Reply-To is the From
    sender = _addresses(fields, b"SENDER")
    reply_to = _addresses(fields, b"REPLY-TO")
    return b"(%b %b %b %b %b %b %b %b %b %b)" % (
        nstring(fields.last(b"DATE")),
        _phrase(fields.last(b"SUBJECT")),
        author,
        author if sender == b"NIL" else sender,
        author if reply_to == b"NIL" else reply_to,
        _addresses(fields, b"TO"),
        _addresses(fields, b"CC"),
        _addresses(fields, b"BCC"),
        nstring(fields.last(b"IN-REPLY-TO")),
        nstring(fields.last(b"MESSAGE-ID")),
    )


class Structures(NamedTuple):
    """The BODY of a part and its BODYSTRUCTURE: its structure without extension data, and with all of it."""

    body: bytes
    bodystructure: bytes


def structures(part: Part) -> Structures:
    """Both forms of a part's structure."""
    body: list[bytes] = []
    extended: list[bytes] = []
    _write(part, body, extended)
    return Structures(b"".join(body), b"".join(extended))


def _params(pairs: Pairs, default_charset: bool = False) -> bytes:
    shown = [b"%b %b" % (string(name), string(value)) for name, value in pairs]
    # RFC 2046 §4.1.2: text without a charset is us-ascii
    if default_charset and not any(name.lower() == b"charset" for name, _ in pairs):
        shown.append(b'"charset" "us-ascii"')
    return b"(" + b" ".join(shown) + b")" if shown else b"NIL"


def _tail(part: Part) -> bytes:
    if part.disposition is None and not part.language and part.location is None:
        return b" NIL NIL NIL"
    disposition = (
        b"NIL"
        if part.disposition is None
        else b"(%b %b)" % (string(part.disposition), _params(part.disposition_params))
    )
    language = b"(" + b" ".join(map(string, part.language)) + b")" if part.language else b"NIL"
    return b" %b %b %b" % (disposition, language, nstring(part.location))


def _write(part: Part, body: list[bytes], extended: list[bytes]) -> None:
    # recursion is as deep as the parser's max_depth
    if part.is_multipart:
        body.append(b"(")
        extended.append(b"(")
        for child in part.children:
            _write(child, body, extended)
        if not part.children:
            # RFC 3501 §9: body-type-mpart has at least one body
            body.append(_EMPTY_BODY)
            extended.append(_EMPTY_BODYSTRUCTURE)
        subtype = string(part.media[1])
        body.append(b" %b)" % subtype)
        extended.append(b" %b %b%b)" % (subtype, _params(part.params), _tail(part)))
        return
    is_text, is_message = part.type == "text", part.is_message
    shown = b"(%b %b %b %b %b %b %d" % (
        b'"message"' if is_message else string(part.media[0]),
        string(part.subtype.encode("ascii") if is_message else part.media[1]),
        _params(part.params, default_charset=is_text),
        nstring(part.content_id),
        nstring(part.description),
        b'"7bit"' if part.encoding is None else string(part.encoding),
        part.body_end - part.body_start,
    )
    if is_message:
        inner = part.children[0]
        assert inner.fields is not None
        shown = b"%b %b " % (shown, envelope(inner.fields))
        body.append(shown)
        extended.append(shown)
        _write(inner, body, extended)
        shown = b""
    if is_text or is_message:
        shown = b"%b %d" % (shown, part.lines)
    body.append(shown + b")")
    extended.append(b"%b %b%b)" % (shown, nstring(part.md5), _tail(part)))
