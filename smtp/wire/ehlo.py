"""The EHLO table: each extension is a row that says where it is offered, what it brings and who does it.

``docs/smtp.md`` shows this table; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from smtp.wire.replies import Reply

Kind = Literal["smtp", "submission", "lmtp"]
"""What a listener speaks: mail from other servers, mail from the accounts' own programs (RFC 6409), LMTP (RFC 2033)."""
EVERYWHERE: frozenset[Kind] = frozenset({"smtp", "submission", "lmtp"})


@dataclass(frozen=True, slots=True)
class Facts:
    """What the offer depends on.

    kind: of the listener. size_max: octets of a message. recipients_max: of one message. mails_max: transactions of
    one connection. tls: is the connection encrypted. starttls: could it be. mechanisms: SASL mechanisms that this
    connection may use now, () for none. hold_max: seconds that a message may be held, 0 for not offered; hold_until:
    the latest moment, as RFC 3339 writes it.
    """

    kind: Kind
    size_max: int
    recipients_max: int
    mails_max: int
    tls: bool
    starttls: bool
    mechanisms: tuple[str, ...]
    hold_max: int = 0
    hold_until: str = ""


@dataclass(frozen=True, slots=True)
class Extension:
    """One row.

    arguments: what stands after the keyword, or None where it is not offered. where: the same in words. by: the module
    that does what it promises. mail, rcpt: parameters that it adds to MAIL and RCPT, on listeners of the kinds.
    mail_octets, rcpt_octets: by how much it lengthens those commands. commands: those that it adds.
    """

    keyword: str
    arguments: Callable[[Facts], str | None]
    where: str
    by: str
    mail: frozenset[str] = frozenset()
    rcpt: frozenset[str] = frozenset()
    mail_octets: int = 0
    rcpt_octets: int = 0
    commands: tuple[str, ...] = ()
    kinds: frozenset[Kind] = EVERYWHERE


def _always(_facts: Facts) -> str:
    return ""


def _size(facts: Facts) -> str:
    return str(facts.size_max)


def _starttls(facts: Facts) -> str | None:
    return "" if facts.starttls and not facts.tls else None


def _auth(facts: Facts) -> str | None:
    return " ".join(facts.mechanisms) or None


def _under_tls(facts: Facts) -> str | None:
    return "" if facts.tls else None


def _future_release(facts: Facts) -> str | None:
    return f"{facts.hold_max} {facts.hold_until}" if facts.kind == "submission" and facts.hold_max else None


def _limits(facts: Facts) -> str:
    return f"MAILMAX={facts.mails_max} RCPTMAX={facts.recipients_max}"


EXTENSIONS: tuple[Extension, ...] = (
    # RFC 2920 §3.1
    Extension("PIPELINING", _always, "everywhere", "smtp.stream"),
    # RFC 1870 §3: 26 octets for " SIZE=" and a number of 20 digits.
    Extension("SIZE", _size, "everywhere", "smtp.handler", mail=frozenset({"SIZE"}), mail_octets=26),
    # RFC 6152 §2
    Extension("8BITMIME", _always, "everywhere", "smtp.wire.params", mail=frozenset({"BODY"}), mail_octets=17),
    # RFC 6531 §3.1: 10 octets more for MAIL.
    Extension("SMTPUTF8", _always, "everywhere", "smtp.wire.params", mail=frozenset({"SMTPUTF8"}), mail_octets=10),
    # RFC 2034 §3
    Extension("ENHANCEDSTATUSCODES", _always, "everywhere", "smtp.wire.replies"),
    # RFC 3207 §4: not offered once TLS is there.
    Extension(
        "STARTTLS",
        _starttls,
        "without TLS, on listeners whose TLS is `starttls`",
        "smtp.server",
        commands=("STARTTLS",),
    ),
    # RFC 4954 §3: AUTH= lengthens MAIL by 500 octets. The parameter is known wherever the extension is.
    Extension(
        "AUTH",
        _auth,
        "under TLS, or where `signin.plaintext` allows it, on listeners whose sign-in is not `off`",
        "smtp.handler",
        mail=frozenset({"AUTH"}),
        mail_octets=500,
        commands=("AUTH",),
    ),
    # RFC 3030 §2; BINARYMIME is not offered.
    Extension("CHUNKING", _always, "everywhere", "smtp.server", commands=("BDAT",)),
    # RFC 3461 §4: " RET=FULL ENVID=" and 100 characters; " NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=" and 500 characters.
    Extension(
        "DSN",
        _always,
        "everywhere",
        "smtp.wire.dsn",
        mail=frozenset({"RET", "ENVID"}),
        rcpt=frozenset({"NOTIFY", "ORCPT"}),
        mail_octets=116,
        rcpt_octets=536,
    ),
    # RFC 8689 §2: offered under TLS alone.
    Extension(
        "REQUIRETLS",
        _under_tls,
        "under TLS",
        "smtp.handler",
        mail=frozenset({"REQUIRETLS"}),
        mail_octets=11,
    ),
    # RFC 4865 §4: " HOLDUNTIL=" and a date and time.
    Extension(
        "FUTURERELEASE",
        _future_release,
        "for submission, where `smtp.hold_max` is not 0",
        "smtp.wire.hold",
        mail=frozenset({"HOLDFOR", "HOLDUNTIL"}),
        mail_octets=46,
        kinds=frozenset({"submission"}),
    ),
    # RFC 9422 §3
    Extension("LIMITS", _limits, "everywhere", "smtp.handler"),
    Extension("HELP", _always, "everywhere", "smtp.server", commands=("HELP",)),
)

COMMAND_LINE_MAX = 512
"""Octets of a command line with its CRLF (RFC 5321 §4.5.3.1.4)."""
# RFC 5321 §4.1.1.5: extensions lengthen MAIL and RCPT by a fixed sum, whatever a client sends.
MAIL_LINE_MAX = COMMAND_LINE_MAX + sum(row.mail_octets for row in EXTENSIONS)
RCPT_LINE_MAX = COMMAND_LINE_MAX + sum(row.rcpt_octets for row in EXTENSIONS)
# RFC 4954 §4: a line of the authentication exchange has at most 12288 octets.
AUTH_LINE_MAX = 12288


def _of(kind: Kind, parameters: Callable[[Extension], frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*(parameters(row) for row in EXTENSIONS if kind in row.kinds))


MAIL_PARAMETERS: dict[Kind, frozenset[str]] = {kind: _of(kind, lambda row: row.mail) for kind in EVERYWHERE}
RCPT_PARAMETERS: dict[Kind, frozenset[str]] = {kind: _of(kind, lambda row: row.rcpt) for kind in EVERYWHERE}


@lru_cache(maxsize=64)
def answer(hostname: str, facts: Facts, rows: tuple[Extension, ...] = EXTENSIONS) -> Reply:
    """The reply to EHLO (RFC 5321 §4.1.1.1): the same for all connections with the same facts."""
    lines = [f"{hostname} greets you"]
    for row in rows:
        arguments = row.arguments(facts)
        if arguments is not None:
            lines.append(f"{row.keyword} {arguments}" if arguments else row.keyword)
    return Reply(250, "", "\n".join(lines))
