"""Names as identity compares them: addresses and domains, and the key of each.

Pure. An address is a Mailbox of RFC 5321 §4.1.2 with the UTF-8 of RFC 6531 §3.3. Its key is the local part without its
quotes, caseless and NFC, "@", and the domain as A-labels in lower case: two addresses with one key are one address.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import idna

# RFC 5321 §4.5.3.1.1
MAX_LOCAL_OCTETS = 64
# RFC 5321 §4.5.3.1.2; a name longer than 253 octets has no form in the DNS (RFC 1035 §2.3.4).
MAX_DOMAIN_OCTETS = 253
# Six octets for each octet of a domain is more than any U-label form of 253 A-label octets takes.
MAX_ADDRESS_CHARACTERS = MAX_LOCAL_OCTETS * 2 + 2 + 1 + MAX_DOMAIN_OCTETS * 2

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+"
_DOT_STRING = re.compile(rf"{_ATEXT}(?:\.{_ATEXT})*")
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~\u0080-\U0010ffff]|\\[ -~])*)"')
_QUOTED_PAIR = re.compile(r"\\([ -~])")
_LITERAL = re.compile(r"\[[0-9A-Za-z:.-]{1,200}\]")


class BadName(ValueError):
    """Not an address, or not a domain. The text says why."""


@dataclass(frozen=True, slots=True)
class Name:
    """One address taken apart. local: unquoted, as written. domain: its key."""

    local: str
    domain: str
    local_key: str

    @property
    def key(self) -> str:
        """What the address is compared by."""
        return f"{self.local_key}@{self.domain}"


def domain_key(domain: str) -> str:
    """The domain as A-labels in lower case. Raises BadName; an address literal is none of our domains."""
    if not domain or len(domain) > MAX_DOMAIN_OCTETS:
        raise BadName("a domain has 1 to 253 octets")
    if domain.endswith("."):
        raise BadName("a domain is written without a dot at its end")
    if domain.isascii():
        key = domain.lower()
    else:
        # RFC 6531 §3.2: a U-label is looked up as its A-label.
        try:
            key = idna.encode(domain, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError) as error:
            raise BadName(f"not a domain name: {error}") from None
    if len(key) > MAX_DOMAIN_OCTETS or _DOMAIN.fullmatch(key) is None:
        raise BadName("not a domain name")
    return key


def local_key(local: str) -> str:
    """An unquoted local part as it is compared: caseless (canonical caseless matching of Unicode, D145), then NFC."""
    if local.isascii():
        return local.lower()
    folded = unicodedata.normalize("NFD", unicodedata.normalize("NFD", local).casefold()).casefold()
    return unicodedata.normalize("NFC", folded)


def parse_local(text: str) -> str:
    """A local part as written (a dot-string or a quoted string), without its quotes. Raises BadName."""
    # RFC 5321 §4.1.2
    if len(text) > 2 * MAX_LOCAL_OCTETS + 2:
        raise BadName("a local part has at most 64 octets")
    if _DOT_STRING.fullmatch(text) is not None:
        local = text
    elif (quoted := _QUOTED.fullmatch(text)) is not None and quoted[1]:
        local = _QUOTED_PAIR.sub(r"\1", quoted[1])
    else:
        raise BadName("not a valid local part")
    try:
        octets = len(local.encode("utf-8"))
    except UnicodeEncodeError:
        raise BadName("not a valid local part") from None
    if octets > MAX_LOCAL_OCTETS:
        raise BadName("a local part has at most 64 octets")
    return local


def parse(address: str) -> Name:
    """Take "local@domain" apart. Raises BadName. The domain may be an address literal, kept as it is."""
    if len(address) > MAX_ADDRESS_CHARACTERS:
        raise BadName("the address is too long")
    text, at, domain = address.rpartition("@")
    if not at:
        raise BadName("an address has a local part, an @ and a domain")
    local = parse_local(text)
    # RFC 5321 §4.1.3
    key = domain.lower() if _LITERAL.fullmatch(domain) is not None else domain_key(domain)
    return Name(local, key, local_key(local))


def without_detail(name: Name, separator: str) -> tuple[Name, str] | None:
    """The name before the separator, and the detail behind it; None when there is no detail or nothing before it."""
    # RFC 5233 §1: "+" is the usual separator.
    if not separator:
        return None
    base, found, detail = name.local.partition(separator)
    if not found or not base:
        return None
    return Name(base, name.domain, local_key(base)), detail
