"""Mail addresses of SMTP: mailboxes and paths (RFC 5321 §4.1.2), internationalised (RFC 6531 §3.3)."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from dataclasses import dataclass

import idna

LOCAL_MAX = 64
"""RFC 5321 §4.5.3.1.1, in octets."""

DOMAIN_MAX = 255
"""RFC 5321 §4.5.3.1.2, in octets."""

MAILBOX_MAX = 254
"""A path has at most 256 octets with its angle brackets (RFC 5321 §4.5.3.1.3)."""

_ATEXT = r"!#$%&'*+\-/0-9=?A-Z^_`a-z{|}~\u0080-\U0010ffff"
_DOT_STRING = re.compile(rf"[{_ATEXT}]++(?:\.[{_ATEXT}][{_ATEXT}]*+)*+")
_QUOTED_STRING = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e\u0080-\U0010ffff]|\\[\x20-\x7e])*+)"')
_QUOTED_PAIR = re.compile(r"\\(.)")
# Tolerance: an underscore, which no host name has but some mail domains do
_LDH_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
)
_SOURCE_ROUTE = re.compile(r"@[^\s,:<>]+(?:,@[^\s,:<>]+)*:")


class AddressError(ValueError):
    """Not an address; the text says why, in words for the person who wrote it."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An address: local is the local part itself, unquoted, in NFC; domain as written, domain_key as compared.

    Local parts are told apart exactly; whether two that differ in case are one mailbox is for who owns the domain
    to say (RFC 5321 §2.4). The domain is "" for the bare Postmaster of RFC 5321 §4.1.1.3 alone.
    """

    local: str
    domain: str
    domain_key: str

    def __str__(self) -> str:
        return f"{quote_local(self.local)}@{self.domain}" if self.domain else quote_local(self.local)

    @property
    def key(self) -> str:
        """The address with its domain as compared: equal for two spellings of one address."""
        return f"{quote_local(self.local)}@{self.domain_key}" if self.domain else quote_local(self.local)

    @property
    def is_ascii(self) -> bool:
        """Whether a server without SMTPUTF8 can take it, with domain_key for its domain."""
        return self.local.isascii()

    @property
    def is_literal(self) -> bool:
        """Whether the domain is an address literal, like [192.0.2.1]."""
        return self.domain.startswith("[")


def domain_key(domain: str) -> str:
    """The form in which domains are compared and stored: A-labels in lower case (RFC 5890, UTS #46).

    Address literals are checked and written in their canonical form. AddressError when it is no domain.
    """
    if domain.startswith("["):
        return _literal_key(domain)
    name = domain
    if not name.isascii():
        if len(name) > DOMAIN_MAX:
            raise AddressError("the domain is too long")
        try:
            name = idna.encode(name, uts46=True, transitional=False).decode("ascii")
        except (idna.IDNAError, UnicodeError) as error:
            raise AddressError(f"not a domain name: {error}") from None
    if len(name) > DOMAIN_MAX:
        raise AddressError("the domain is too long")
    if not _LDH_DOMAIN.fullmatch(name):
        raise AddressError("not a domain name")
    return name.lower()


def _literal_key(domain: str) -> str:
    # RFC 5321 §4.1.3
    if not domain.endswith("]") or len(domain) > 64:
        raise AddressError("not an address literal")
    inside = domain[1:-1]
    try:
        if inside[:5].lower() == "ipv6:":
            if "%" in inside:
                raise AddressError("not an address literal")
            return f"[IPv6:{ipaddress.IPv6Address(inside[5:])}]"
        return f"[{ipaddress.IPv4Address(inside)}]"
    except ValueError:
        raise AddressError("not an address literal") from None


def display_domain(key: str) -> str:
    """A domain key for people: A-labels as the U-labels they stand for, where they stand for any."""
    if "xn--" not in key:
        return key
    try:
        return idna.decode(key)
    except (idna.IDNAError, UnicodeError):
        return key


def quote_local(local: str) -> str:
    """A local part as it is written in an address: quoted where it has to be (RFC 5321 §4.1.2)."""
    if _DOT_STRING.fullmatch(local):
        return local
    return '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'


def parse_mailbox(text: str, *, allow_utf8: bool = True) -> Mailbox:
    """The mailbox that a text like user@example.org names (RFC 5321 §4.1.2 Mailbox, RFC 6531 §3.3).

    AddressError when it is none, is too long, or is not ASCII and allow_utf8 is false.
    """
    if len(text) > 4 * MAILBOX_MAX:
        raise AddressError("the address is too long")
    if not text.isascii():
        if not allow_utf8:
            raise AddressError("an address that is not ASCII needs SMTPUTF8")
        text = unicodedata.normalize("NFC", text)
        if any(0xD800 <= ord(char) <= 0xDFFF for char in text):
            raise AddressError("the address is not valid UTF-8")
    if text.startswith('"'):
        match = _QUOTED_STRING.match(text)
        if match is None:
            raise AddressError("the quoted local part has no end")
        local = _QUOTED_PAIR.sub(r"\1", match[1])
        rest = text[match.end() :]
    else:
        local, at, domain = text.rpartition("@")
        if not _DOT_STRING.fullmatch(local):
            raise AddressError("the local part is empty or has characters that need quotes" if at else "no @ in it")
        rest = at + domain
    if not rest.startswith("@"):
        raise AddressError("no @ behind the local part")
    domain = rest[1:].removesuffix(".")
    if not local:
        raise AddressError("the local part is empty")
    if len(quote_local(local).encode()) > LOCAL_MAX:
        raise AddressError(f"the local part is longer than {LOCAL_MAX} bytes")
    key = domain_key(domain)
    if len(quote_local(local).encode()) + 1 + max(len(domain.encode()), len(key)) > MAILBOX_MAX:
        raise AddressError(f"the address is longer than {MAILBOX_MAX} bytes")
    return Mailbox(local, domain, key)


def parse_path(text: str, *, allow_utf8: bool = True, allow_postmaster: bool = False) -> Mailbox | None:
    """The mailbox of a path like <user@example.org>; None for the null path <> (RFC 5321 §4.1.2 Path).

    Tolerance: a source route is dropped (RFC 5321 §4.1.1.3), white space inside the brackets and missing brackets
    are overlooked. allow_postmaster takes <Postmaster> without a domain. AddressError when it is no path.
    """
    inside = text.strip(" \t")
    if inside.startswith("<"):
        if not inside.endswith(">"):
            raise AddressError("the path has no closing bracket")
        inside = inside[1:-1].strip(" \t")
        if not inside:
            return None
    route = _SOURCE_ROUTE.match(inside)
    if route:
        inside = inside[route.end() :]
    if allow_postmaster and inside.lower() == "postmaster":
        return Mailbox(inside, "", "")
    return parse_mailbox(inside, allow_utf8=allow_utf8)


def split_subaddress(local: str, separator: str = "+") -> tuple[str, str | None]:
    """The user and the detail of a local part like user+detail (RFC 5233 §1); detail is None without a separator.

    An empty separator, or one at the very beginning, separates nothing.
    """
    if not separator:
        return local, None
    user, found, detail = local.partition(separator)
    return (user, detail) if found and user else (local, None)
