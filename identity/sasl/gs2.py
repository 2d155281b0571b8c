"""The header by which mechanisms of the GS2 family begin (RFC 5801 §4): channel binding flag and authorization
identity."""

from __future__ import annotations

import re
from dataclasses import dataclass

from identity.sasl.outcomes import MAX_NAME_OCTETS, text

# RFC 5801 §4, RFC 5802 §7: cb-name is letters, digits, "." and "-".
_HEADER = re.compile(rb"(?:([ny])|p=([A-Za-z0-9.-]{1,64})),(?:a=([^,\0]+))?,")
_ESCAPE = re.compile(rb"=(2C|3D)?")


@dataclass(frozen=True, slots=True)
class Header:
    """octets: as it was sent. flag: "n" (the client knows no channel binding), "y" (it knows, and believes that the
    server does not), "p" (it is used, of the type `binding`). authzid: "" where there is none."""

    octets: bytes
    flag: str
    binding: str
    authzid: str


def split(message: bytes) -> tuple[Header, bytes] | None:
    """(the header, the rest of the message); None for what has no header."""
    found = _HEADER.match(message)
    if found is None:
        return None
    flag, binding, authzid = found.groups()
    name = "" if authzid is None else saslname(authzid)
    if name is None:
        return None
    header = Header(found[0], "p" if flag is None else flag.decode(), (binding or b"").decode(), name)
    return header, message[found.end() :]


def saslname(octets: bytes) -> str | None:
    """A name with "," and "=" written as =2C and =3D (RFC 5801 §4); None for what is none."""
    if not octets or b"," in octets or any(not found[1] for found in _ESCAPE.finditer(octets)):
        return None
    return text(octets.replace(b"=2C", b",").replace(b"=3D", b"="), MAX_NAME_OCTETS)
