"""Encoded words in header text: decoding and encoding (RFC 2047)."""

from __future__ import annotations

import base64
import binascii
import re

from mail import charsets

WORD_MAX = 75
"""The longest encoded word that `encode` makes (RFC 2047 §2)."""

# Tolerance: white space inside the encoded text, which many senders leave there.
_WORD = re.compile(rb"=\?([!#$%&'*+\-0-9A-Z^_`a-z{|}~.]{1,64}+)\?([BbQq])\?([^?\r\n]*+)\?=")
_BETWEEN = re.compile(rb"[ \t\r\n]*+")
_NOT_BASE64 = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"))
_WHITE = re.compile(r"[ \t\r\n]+")
_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")


def unbase64(data: bytes) -> bytes:
    """Base64 decoded as far as it goes: foreign bytes are skipped, missing padding is supplied."""
    clean = data.translate(None, _NOT_BASE64)
    rest = len(clean) % 4
    if rest == 1:
        clean = clean[:-1]
    elif rest:
        clean += b"=" * (4 - rest)
    return binascii.a2b_base64(clean)


def decode(value: bytes) -> str:
    """The text of an unfolded header value: encoded words decoded, all else read as UTF-8 (or as charsets.decode does).

    White space between two encoded words is dropped (RFC 2047 §6.2); neighbours of one charset and encoding are joined
    before the charset is applied, because senders split characters. What is no proper word stays as it is written.
    """
    if b"=?" not in value:
        return value.decode("ascii") if value.isascii() else charsets.decode(value, "")
    out: list[str] = []
    pending = bytearray()
    pending_charset = ""
    pos = 0
    for match in _WORD.finditer(value):
        start = match.start()
        charset = match[1].decode("latin-1").lower()
        adjacent = bool(pending_charset) and _BETWEEN.fullmatch(value, pos, start) is not None
        if not adjacent:
            if pending_charset:
                out.append(charsets.decode(bytes(pending), pending_charset))
            out.append(charsets.decode(value[pos:start], ""))
            pending.clear()
        elif charset != pending_charset:
            out.append(charsets.decode(bytes(pending), pending_charset))
            pending.clear()
        pending_charset = charset
        if match[2] in b"Bb":
            pending += unbase64(match[3])
        else:
            pending += binascii.a2b_qp(match[3], header=True)
        pos = match.end()
    if pending_charset:
        out.append(charsets.decode(bytes(pending), pending_charset))
    out.append(charsets.decode(value[pos:], ""))
    return "".join(out)


def line(value: bytes) -> str:
    """`decode` made one tidy line: runs of white space are one space, none at the ends."""
    return _WHITE.sub(" ", decode(value)).strip()


def encode(text: str) -> str:
    """Header text as ASCII: unchanged when it is printable ASCII without `=?`, else encoded words one space apart.

    Words are UTF-8 (RFC 2047 §2), each at most WORD_MAX long and each whole characters (§5).
    """
    if text.isascii() and text.isprintable() and "=?" not in text:
        return text
    raw = text.encode("utf-8", "replace")
    q_length = sum(1 if byte in _SAFE or byte == 0x20 else 3 for byte in raw)
    return _encode_q(text) if q_length <= (len(raw) + 2) // 3 * 4 else _encode_b(text)


def _encode_q(text: str) -> str:
    words: list[str] = []
    current: list[str] = []
    used = 0
    for char in text:
        shown = "".join(
            "_" if byte == 0x20 else chr(byte) if byte in _SAFE else f"={byte:02X}"
            for byte in char.encode("utf-8", "replace")
        )
        if used + len(shown) > WORD_MAX - len("=?utf-8?q??="):
            words.append("".join(current))
            current, used = [], 0
        current.append(shown)
        used += len(shown)
    words.append("".join(current))
    return " ".join(f"=?utf-8?q?{word}?=" for word in words)


def _encode_b(text: str) -> str:
    room = (WORD_MAX - len("=?utf-8?b??=")) // 4 * 3
    words: list[bytes] = []
    current = bytearray()
    for char in text:
        raw = char.encode("utf-8", "replace")
        if len(current) + len(raw) > room:
            words.append(bytes(current))
            current.clear()
        current += raw
    words.append(bytes(current))
    return " ".join(f"=?utf-8?b?{base64.b64encode(word).decode('ascii')}?=" for word in words)
