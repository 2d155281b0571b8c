"""The text of DNS records that mail needs: what a domain publishes, made and taken apart. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

STRING_MAX: Final = 255
"""Octets of one character-string of a TXT record. # RFC 1035 §3.3"""

_ID: Final = re.compile(r"[A-Za-z0-9]{1,32}")


def txt_strings(text: str) -> tuple[str, ...]:
    """The text (ASCII) as the character-strings of one TXT record, at most STRING_MAX octets each; who reads it joins
    them with nothing between. # RFC 6376 §3.6.2.2, RFC 8461 §3.1"""
    return tuple(text[start : start + STRING_MAX] for start in range(0, max(1, len(text)), STRING_MAX))


def zone_line(name: str, kind: str, data: str, ttl: int = 3600) -> str:
    """One line of a zone file, the name with its final dot. data: in the form of a zone file. # RFC 1035 §5.1"""
    return f"{name.rstrip('.')}. {ttl} IN {kind} {data}"


def txt_line(name: str, text: str, ttl: int = 3600) -> str:
    """A TXT record as one line of a zone file, in as many strings as it takes."""
    quoted = " ".join('"' + one.replace("\\", "\\\\").replace('"', '\\"') + '"' for one in txt_strings(text))
    return zone_line(name, "TXT", quoted, ttl)


def dkim_name(selector: str, domain: str) -> str:
    """Where the record of a key is. # RFC 6376 §3.6.2.1"""
    return f"{selector}._domainkey.{domain}"


def dkim_text(algorithm: str, public_key: str) -> str:
    """A key's record. algorithm: "rsa" or "ed25519". public_key: base64. # RFC 6376 §3.6.1, RFC 8463 §4.2"""
    return f"v=DKIM1; k={algorithm}; p={public_key}"


def tags(text: str) -> Mapping[str, str]:
    """The tags of a record such as "v=DKIM1; k=rsa; p=…": each name with its value, blanks at their ends left out; of a
    name that stands twice the first. What is no tag is passed over. # RFC 6376 §3.2"""
    found: dict[str, str] = {}
    for part in text.split(";"):
        name, equals, value = part.partition("=")
        if equals and name.strip():
            found.setdefault(name.strip(), value.strip())
    return found


def same_dkim_key(text: str, public_key: str) -> bool:
    """Does a record that was found hold this key? Blanks in it do not count. # RFC 6376 §3.6.1"""
    found = tags(text)
    return found.get("v", "DKIM1") == "DKIM1" and re.sub(r"\s", "", found.get("p", "")) == public_key


def sts_name(domain: str) -> str:
    """Where a domain says that it has an MTA-STS policy. # RFC 8461 §3.1"""
    return f"_mta-sts.{domain}"


def sts_host(domain: str) -> str:
    """The host that has the policy. # RFC 8461 §3.2"""
    return f"mta-sts.{domain}"


def sts_text(id: str) -> str:
    """The record of a policy; id: 1 to 32 letters and digits, another one with each change. Raises ValueError."""
    if _ID.fullmatch(id) is None:
        raise ValueError("an MTA-STS id has 1 to 32 letters and digits")
    return f"v=STSv1; id={id};"


def sts_id(texts: Sequence[str]) -> str | None:
    """The id in the TXT records of ``sts_name``; None where there is no policy. # RFC 8461 §3.1"""
    found = [text for text in texts if re.match(r"v=STSv1[ \t]*(;|$)", text)]
    # RFC 8461 §3.1: with more than one the domain is as one without.
    if len(found) != 1:
        return None
    id = tags(found[0]).get("id", "")
    return id if _ID.fullmatch(id) is not None else None


def tlsrpt_name(domain: str) -> str:
    """Where a domain says who gets reports about its TLS. # RFC 8460 §3"""
    return f"_smtp._tls.{domain}"


def tlsrpt_text(*places: str) -> str:
    """The record; places: mailto: or https: URIs."""
    return f"v=TLSRPTv1; rua={','.join(places)}"


def tlsrpt_places(texts: Sequence[str]) -> tuple[str, ...]:
    """The URIs (mailto:, https:) that want reports, () for none. # RFC 8460 §3"""
    found = [text for text in texts if re.match(r"v=TLSRPTv1[ \t]*(;|$)", text)]
    if len(found) != 1:
        return ()
    # RFC 8460 §3: a comma or an exclamation mark in a URI is percent-encoded.
    places = [place.strip() for place in tags(found[0]).get("rua", "").split(",")]
    return tuple(place for place in places if re.match(r"(mailto:[^\s@]+@[^\s@]+|https://[^\s/]+.*)$", place, re.I))
