"""The parameters of DSN (RFC 3461 §4): RET and ENVID of MAIL, NOTIFY and ORCPT of RCPT, and the encoding xtext."""

from __future__ import annotations

import re

ENVID_MAX = 100
"""Characters of an envelope id, encoded (RFC 3461 §4.4)."""
ORCPT_MAX = 500
"""Characters of an original recipient with its type, encoded (RFC 3461 §4.2)."""
NEVER = "NEVER"
SUCCESS = "SUCCESS"
_EVENTS = frozenset({SUCCESS, "FAILURE", "DELAY"})

# RFC 3461 §4
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_HEXCHAR = re.compile(r"\+([0-9A-F]{2})")
# RFC 3461 §4.2: the type is an atom.
_TYPE = re.compile(r"[A-Za-z0-9!#$%&'*+/?^_`{|}~\-]+")
# RFC 6533 §3: beside xtext's characters \x{HEX}, and with SMTPUTF8 the characters themselves.
_UTF8_ADDRESS = re.compile(r"(?:[!-*,-<>-\[\]-~\u0080-\U0010ffff]|\\x\{[0-9A-F]{2,6}\}|\+[0-9A-F]{2})+")


def xtext(text: str) -> str:
    """Encode ASCII text. ValueError for what is not ASCII."""
    if not text.isascii():
        raise ValueError("xtext is for ASCII")
    return "".join(c if "!" <= c <= "~" and c not in "+=" else f"+{ord(c):02X}" for c in text)


def from_xtext(value: str) -> str | None:
    """The text that is encoded, or None where the value is not xtext."""
    if not _XTEXT.fullmatch(value):
        return None
    return _HEXCHAR.sub(lambda found: chr(int(found[1], 16)), value)


def ret(value: str | None) -> str | None:
    """ "FULL" or "HDRS" (RFC 3461 §4.3); None for anything else."""
    said = (value or "").upper()
    return said if said in ("FULL", "HDRS") else None


def envid(value: str | None) -> str | None:
    """The envelope id as it was given, or None where it is none: xtext of printable ASCII (RFC 3461 §4.4)."""
    if not value or len(value) > ENVID_MAX:
        return None
    plain = from_xtext(value)
    return value if plain and all(" " <= c <= "~" or c == "\t" for c in plain) else None


def notify(value: str | None) -> str | None:
    """ "NEVER", or events in capitals with commas, each once (RFC 3461 §4.1); None for anything else."""
    said = (value or "").upper()
    words = said.split(",")
    # NEVER stands alone.
    if said == NEVER or (set(words) <= _EVENTS and len(set(words)) == len(words)):
        return said
    return None


def orcpt(value: str | None, *, smtputf8: bool) -> str | None:
    """The original recipient as it was given ("rfc822;xtext"), or None where it is none (RFC 3461 §4.2)."""
    if not value or len(value) > ORCPT_MAX:
        return None
    kind, semicolon, address = value.partition(";")
    if not semicolon or not address or not _TYPE.fullmatch(kind):
        return None
    if kind.lower() == "utf-8":
        fits = _UTF8_ADDRESS.fullmatch(address) is not None and (smtputf8 or address.isascii())
        return value if fits else None
    plain = from_xtext(address)
    return value if plain and all(" " <= c <= "~" or c == "\t" for c in plain) else None


def original(address: str) -> str:
    """The ORCPT of an address for which none was given (RFC 3461 §5.2.1 (c), RFC 6533 §3)."""
    if address.isascii():
        return f"rfc822;{xtext(address)}"
    encoded = "".join(c if "!" <= c <= "~" and c not in "\\+=" else f"\\x{{{ord(c):02X}}}" for c in address)
    return f"utf-8;{encoded}"


def without_success(said: str | None) -> str | None:
    """What goes on to several addresses that one leads to: success is told here and once (RFC 3461 §5.2.7.3)."""
    if said is None or SUCCESS not in said.split(","):
        return said
    return ",".join(word for word in said.split(",") if word != SUCCESS) or NEVER
