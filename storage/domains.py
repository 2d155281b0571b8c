"""By which domain remote recipients go: a message to several domains is several items of the spool."""

from __future__ import annotations

from collections.abc import Sequence

from mail.address import AddressError, domain_key
from storage.model import RemoteRecipient


def domain_of(address: str) -> str:
    """The domain of an address: A-labels in lower case, an address literal in its canonical form. What is no domain is
    told apart as well as it can be, in printable ASCII; "." for an address without one."""
    # RFC 5321 §4.1.2: the last "@" is the one, for the local part may be quoted.
    domain = address.rpartition("@")[2] if "@" in address else ""
    try:
        return domain_key(domain)
    except AddressError:
        return printable(domain.lower()) or "."


def printable(text: str) -> str:
    """The text in ASCII, unlike that of any other: so it can be asked for, also with half a surrogate pair in it."""
    return text.encode("ascii", "backslashreplace").decode()


def by_domain(recipients: Sequence[RemoteRecipient]) -> dict[str, list[RemoteRecipient]]:
    """The recipients of each domain in order, the domains in the order in which they first stand there."""
    found: dict[str, list[RemoteRecipient]] = {}
    for recipient in recipients:
        found.setdefault(domain_of(recipient.address), []).append(recipient)
    return found
