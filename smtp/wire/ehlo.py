"""The EHLO table: each extension is a row that says where it is offered and what it brings.

A later extension (CHUNKING, DSN, REQUIRETLS, FUTURERELEASE, LIMITS) is one more row, and its parameters are checked
by one more branch in ``params``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from smtp.wire.replies import Reply


@dataclass(frozen=True, slots=True)
class Facts:
    """What the offer depends on. size_max: octets of a message. tls: is the connection encrypted. starttls: could it
    be. mechanisms: SASL mechanisms that this connection may use now, () for none."""

    size_max: int
    tls: bool
    starttls: bool
    mechanisms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Extension:
    """One row. arguments: what stands after the keyword, or None where it is not offered. mail, rcpt: parameters that
    it adds to MAIL and RCPT. mail_octets, rcpt_octets: by how much it lengthens those commands."""

    keyword: str
    arguments: Callable[[Facts], str | None]
    mail: frozenset[str] = frozenset()
    rcpt: frozenset[str] = frozenset()
    mail_octets: int = 0
    rcpt_octets: int = 0


def _always(_facts: Facts) -> str:
    return ""


def _size(facts: Facts) -> str:
    return str(facts.size_max)


def _starttls(facts: Facts) -> str | None:
    return "" if facts.starttls and not facts.tls else None


def _auth(facts: Facts) -> str | None:
    return " ".join(facts.mechanisms) or None


EXTENSIONS: tuple[Extension, ...] = (
    # RFC 2920 §3.1
    Extension("PIPELINING", _always),
    # RFC 1870 §3: 26 octets for " SIZE=" and a number of 20 digits.
    Extension("SIZE", _size, mail=frozenset({"SIZE"}), mail_octets=26),
    # RFC 6152 §2
    Extension("8BITMIME", _always, mail=frozenset({"BODY"}), mail_octets=17),
    # RFC 6531 §3.1: 10 octets more for MAIL.
    Extension("SMTPUTF8", _always, mail=frozenset({"SMTPUTF8"}), mail_octets=10),
    # RFC 2034 §3
    Extension("ENHANCEDSTATUSCODES", _always),
    # RFC 3207 §4: not offered once TLS is there.
    Extension("STARTTLS", _starttls),
    # RFC 4954 §3: AUTH= lengthens MAIL by 500 octets. The parameter is known wherever the extension is.
    Extension("AUTH", _auth, mail=frozenset({"AUTH"}), mail_octets=500),
    Extension("HELP", _always),
)

COMMAND_LINE_MAX = 512
"""Octets of a command line with its CRLF (RFC 5321 §4.5.3.1.4)."""
# RFC 5321 §4.1.1.5: extensions lengthen MAIL and RCPT by a fixed sum, whatever a client sends.
MAIL_LINE_MAX = COMMAND_LINE_MAX + sum(row.mail_octets for row in EXTENSIONS)
RCPT_LINE_MAX = COMMAND_LINE_MAX + sum(row.rcpt_octets for row in EXTENSIONS)
# RFC 4954 §4: a line of the authentication exchange has at most 12288 octets.
AUTH_LINE_MAX = 12288
MAIL_PARAMETERS = frozenset().union(*(row.mail for row in EXTENSIONS))
RCPT_PARAMETERS = frozenset().union(*(row.rcpt for row in EXTENSIONS))


@lru_cache(maxsize=64)
def answer(hostname: str, facts: Facts, rows: tuple[Extension, ...] = EXTENSIONS) -> Reply:
    """The reply to EHLO (RFC 5321 §4.1.1.1): the same for all connections with the same facts."""
    lines = [f"{hostname} greets you"]
    for row in rows:
        arguments = row.arguments(facts)
        if arguments is not None:
            lines.append(f"{row.keyword} {arguments}" if arguments else row.keyword)
    return Reply(250, "", "\n".join(lines))
