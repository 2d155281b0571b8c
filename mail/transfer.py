"""Transfer encodings undone piece by piece (RFC 2045 §6): octets in, octets out, held only while not yet clear.

Each decoder gives the same octets however its input is cut (quoted-printable: as long as its lines are at most
LINE_MAX), in time linear in it. Any input has an answer.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from typing import Protocol

from mail import headers, params, parts
from mail.words import unbase64

LINE_MAX = 256 * 1024
"""Octets of a line of quoted-printable that are held until it ends."""

_NOT_BASE64 = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="))
# white space at a line's end, each run looked at once
_TRAILING = re.compile(rb"(?<![ \t])[ \t]++(?=\r?\n|\Z)")
_BARE_LF = re.compile(rb"(?<!\r)\n")


class Decoder(Protocol):
    """One body on its way."""

    def feed(self, octets: bytes) -> bytes:
        """More of the encoded body; what is clear by now."""

    def end(self) -> bytes:
        """The encoded body ends here; the rest."""


class Plain:
    """7bit, 8bit and binary: the octets as they are (RFC 2045 §6.2)."""

    def feed(self, octets: bytes) -> bytes:
        return octets

    def end(self) -> bytes:
        return b""


class Base64:
    """RFC 2045 §6.8. Tolerance: what is not of the alphabet is passed over, all behind the padding too."""

    def __init__(self) -> None:
        self._rest = b""
        self._ended = False

    def feed(self, octets: bytes) -> bytes:
        if self._ended:
            return b""
        clean = self._rest + octets.translate(None, _NOT_BASE64)
        padding = clean.find(b"=")
        if padding >= 0:
            self._ended = True
            clean = clean[:padding]
        whole = len(clean) // 4 * 4
        self._rest = clean[whole:]
        return binascii.a2b_base64(clean[:whole])

    def end(self) -> bytes:
        return unbase64(self._rest)


class QuotedPrintable:
    """RFC 2045 §6.7. Tolerance: ``=`` that is followed by neither two hexadecimal digits nor a line end stays."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, octets: bytes) -> bytes:
        held = self._rest + octets
        whole = held.rfind(b"\n", len(self._rest)) + 1
        if not whole and len(held) > LINE_MAX:
            # what may yet turn out to be the beginning of =XX or of white space at the line's end is kept
            whole = len(held.rstrip(b" \t\r"))
            escape = held.rfind(b"=", max(0, whole - 2), whole)
            whole = escape if escape > 0 else whole or len(held)
        self._rest = held[whole:]
        return _unquoted(held[:whole])

    def end(self) -> bytes:
        return _unquoted(self._rest)


def _unquoted(lines: bytes) -> bytes:
    # RFC 2045 §6.7: white space at the end of an encoded line was added on the way
    return binascii.a2b_qp(_TRAILING.sub(b"", lines))


class LineEnds:
    """What another decoder gives, with CRLF for each bare LF: text on the wire (RFC 9051 §7.5.2)."""

    def __init__(self, inner: Decoder) -> None:
        self._inner = inner
        self._after_cr = False

    def feed(self, octets: bytes) -> bytes:
        return self._ended(self._inner.feed(octets))

    def end(self) -> bytes:
        return self._ended(self._inner.end())

    def _ended(self, octets: bytes) -> bytes:
        if not octets:
            return b""
        after_cr, self._after_cr = self._after_cr, octets.endswith(b"\r")
        if b"\n" not in octets:
            return octets
        if after_cr and octets.startswith(b"\n"):
            return b"\n" + _BARE_LF.sub(b"\r\n", octets[1:])
        return _BARE_LF.sub(b"\r\n", octets)


_DECODERS: dict[int, Callable[[], Decoder]] = {
    parts.SEVENBIT: Plain,
    parts.EIGHTBIT: Plain,
    parts.BINARY: Plain,
    parts.QUOTED_PRINTABLE: QuotedPrintable,
    parts.BASE64: Base64,
}


def decoder(encoding: int, *, text: bool = False) -> Decoder | None:
    """For a number of `mail.parts`; None for an encoding that is not known. text: lines end with CRLF."""
    make = _DECODERS.get(encoding)
    if make is None:
        return None
    return LineEnds(make()) if text else make()


def is_text(header: bytes) -> bool:
    """Whether a leaf with this header is text (RFC 2045 §5.2), as `mail.structure` has it."""
    content_type = headers.parse(header).first(b"CONTENT-TYPE")
    if content_type is None:
        return True
    main, sub, _ = params.media_type(content_type)
    if not main or not sub:
        return main.lower() != b"multipart"
    return main.lower() == b"text"
