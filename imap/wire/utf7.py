"""Modified UTF-7 for mailbox names (RFC 3501 §5.1.3), one spelling for each name and nothing else."""

from __future__ import annotations

import binascii
import re

from imap.wire.errors import BadSyntax

_PLAIN = re.compile(rb"[\x20-\x25\x27-\x7e]*")
_SHIFT = re.compile(rb"&([A-Za-z0-9+,]*)-")
_UNSENT = re.compile(r"[^\x20-\x7e]+|&")


def decode(octets: bytes) -> str:
    """To Unicode. BadSyntax (NO [CANNOT]) for what is not modified UTF-7, and for a spelling that RFC 3501 §5.1.3
    forbids: octets above 126, controls, printable US-ASCII in base64, broken surrogates, needless shifts."""
    if _PLAIN.fullmatch(octets):
        return octets.decode("ascii")
    try:
        name = _decode(octets)
    except (ValueError, binascii.Error):
        name = ""
    # the encoder writes the one permitted spelling, so that two names on the wire are never one mailbox
    if not name or encode(name) != octets:
        raise BadSyntax("Mailbox name is not in modified UTF-7", condition="NO", code="CANNOT")
    return name


def _decode(octets: bytes) -> str:
    out: list[str] = []
    at = 0
    while at < len(octets):
        plain = _PLAIN.match(octets, at)
        if plain is not None and plain.end() > at:
            out.append(plain[0].decode("ascii"))
            at = plain.end()
            continue
        shift = _SHIFT.match(octets, at)
        if shift is None:
            raise ValueError("octet outside of modified UTF-7")
        base64 = shift[1].replace(b",", b"/")
        padded = base64 + b"=" * (-len(base64) % 4)
        out.append(binascii.a2b_base64(padded).decode("utf-16-be") if base64 else "&")
        at = shift.end()
    return "".join(out)


def encode(name: str) -> bytes:
    """To octets. A lone surrogate (which no decoded name has) raises UnicodeEncodeError."""
    return _UNSENT.sub(_shift, name).encode("ascii")


def _shift(match: re.Match[str]) -> str:
    text = match[0]
    if text == "&":
        return "&-"
    base64 = binascii.b2a_base64(text.encode("utf-16-be"), newline=False)
    return "&" + base64.rstrip(b"=").replace(b"/", b",").decode("ascii") + "-"
