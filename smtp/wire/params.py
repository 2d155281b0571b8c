"""The grammar of MAIL, RCPT and VRFY arguments: RFC 5321 §4.1.1.2, §4.1.1.3, §4.1.2, with RFC 6531 §3.3.

Everything here is linear in the argument's length; what cannot be read raises ``BadArgument`` with the reply to give.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from smtp.wire import dsn, hold, replies
from smtp.wire.ehlo import MAIL_PARAMETERS, RCPT_PARAMETERS, Kind
from smtp.wire.replies import Reply

T = TypeVar("T")

PATH_MAX = 320
"""Octets of an address. Tolerance: RFC 5321 §4.5.3.1.3 says 256 with the brackets, and 64 for the local part; lists
with long return addresses pass both."""
DOMAIN_MAX = 255

# RFC 5321 §4.1.2, RFC 6531 §3.3. Tolerance: dots at the ends and in rows, as some carriers have given them out.
_DOT_STRING = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\-\u0080-\U0010ffff]+")
_QUOTED_STRING = re.compile(r'"(?:[ !#-\[\]-~\u0080-\U0010ffff]|\\[ -~])*"')
# Tolerance: underscores in domains, which DNS has although RFC 5321 has not.
_LABEL = r"[A-Za-z0-9_\u0080-\U0010ffff](?:[A-Za-z0-9_\-\u0080-\U0010ffff]{0,62})"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_LITERAL = re.compile(r"\[[!-Z^-~]+\]")
# RFC 5321 §4.1.1.2, appendix C: @one,@two:
_SOURCE_ROUTE = re.compile(rf"@{_LABEL}(?:\.{_LABEL})*(?:,@{_LABEL}(?:\.{_LABEL})*)*:")
_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-]*")
_VALUE = re.compile(r"[!-<>-~\u0080-\U0010ffff]+")
# RFC 3461 §4
_AUTH_VALUE = re.compile(r"<>|(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")
_PLAIN_LOCAL = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\U0010ffff]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\U0010ffff]+)*"
)
_UNQUOTE = re.compile(r"\\(.)")


class BadArgument(Exception):
    """The argument cannot be read; ``reply`` says so to the client."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


@dataclass(frozen=True, slots=True)
class MailArgument:
    """What MAIL said.

    address: "" for the null reverse-path. size: octets announced, or None. body: "7BIT" or "8BITMIME", or None when
    not said. ret: "FULL" or "HDRS", envid: xtext as it was given (RFC 3461). requiretls: RFC 8689. hold_for: seconds,
    hold_until: Unix time; one of them at most (RFC 4865).
    """

    address: str
    size: int | None = None
    body: str | None = None
    smtputf8: bool = False
    ret: str | None = None
    envid: str | None = None
    requiretls: bool = False
    hold_for: int | None = None
    hold_until: int | None = None


@dataclass(frozen=True, slots=True)
class RcptArgument:
    """What RCPT said. address: "postmaster" alone (in any case) is the one without a domain. notify: "NEVER" or a list
    of events in capitals; orcpt: as it was given (RFC 3461)."""

    address: str
    notify: str | None = None
    orcpt: str | None = None


def mail(argument: str, *, extended: bool, kind: Kind = "smtp") -> MailArgument:
    """Read the argument of MAIL. extended: EHLO came before, so parameters are allowed. kind: of the listener."""
    rest = _after_keyword(argument, "FROM:", replies.MAIL_SYNTAX)
    if rest.startswith("<>"):
        address, rest = "", rest[2:]
    else:
        address, rest = _path(rest, replies.BAD_SENDER)
    if not rest and address.isascii():
        return MailArgument(address)
    given = _parameters(rest, MAIL_PARAMETERS[kind], extended, replies.MAIL_SYNTAX)
    smtputf8 = "SMTPUTF8" in given
    # RFC 6531 §3.4: the parameter has no value.
    if smtputf8 and given["SMTPUTF8"] is not None:
        raise BadArgument(replies.BAD_PARAMETER)
    # RFC 4954 §5: the value is "<>" or xtext; who the first submitter was is taken from nobody.
    if "AUTH" in given and not _AUTH_VALUE.fullmatch(given["AUTH"] or ""):
        raise BadArgument(replies.BAD_PARAMETER)
    if not smtputf8 and not address.isascii():
        raise BadArgument(replies.SENDER_NEEDS_SMTPUTF8)
    # RFC 8689 §2: the parameter has no value.
    if given.get("REQUIRETLS") is not None:
        raise BadArgument(replies.BAD_PARAMETER)
    # RFC 4865 §4: one of the two.
    if "HOLDFOR" in given and "HOLDUNTIL" in given:
        raise BadArgument(replies.BAD_PARAMETER)
    return MailArgument(
        address,
        _size(given),
        _body(given),
        smtputf8,
        ret=_read(given, "RET", dsn.ret),
        envid=_read(given, "ENVID", dsn.envid),
        requiretls="REQUIRETLS" in given,
        hold_for=_read(given, "HOLDFOR", hold.seconds),
        hold_until=_read(given, "HOLDUNTIL", hold.moment),
    )


def rcpt(argument: str, *, extended: bool, smtputf8: bool, kind: Kind = "smtp") -> RcptArgument:
    """Read the argument of RCPT. smtputf8: MAIL had that parameter."""
    rest = _after_keyword(argument, "TO:", replies.RCPT_SYNTAX)
    # RFC 5321 §4.5.1: postmaster needs no domain.
    if rest[:12].lower() == "<postmaster>":
        address, rest = "postmaster", rest[12:]
    else:
        address, rest = _path(rest, replies.BAD_RECIPIENT)
    if not smtputf8 and not address.isascii():
        raise BadArgument(replies.RECIPIENT_NEEDS_SMTPUTF8)
    if not rest:
        return RcptArgument(address)
    given = _parameters(rest, RCPT_PARAMETERS[kind], extended, replies.RCPT_SYNTAX)
    return RcptArgument(
        address,
        notify=_read(given, "NOTIFY", dsn.notify),
        orcpt=_read(given, "ORCPT", lambda value: dsn.orcpt(value, smtputf8=smtputf8)),
    )


def is_host(name: str) -> bool:
    """May it stand after EHLO or HELO? Tolerance: any visible ASCII, for what many clients call themselves."""
    return 0 < len(name) <= DOMAIN_MAX and all("!" <= character <= "~" for character in name)


def _after_keyword(argument: str, keyword: str, syntax: Reply) -> str:
    if argument[: len(keyword)].upper() != keyword:
        raise BadArgument(syntax)
    # Tolerance: a space after the colon, which RFC 5321 §3.3 forbids and many clients send.
    return argument[len(keyword) :].lstrip(" \t")


def _path(text: str, syntax: Reply) -> tuple[str, str]:
    """(address, what follows the path)."""
    # Tolerance: an address without angle brackets.
    bracket = text.startswith("<")
    at = 1 if bracket else 0
    if bracket and text.startswith("@", at):
        route = _SOURCE_ROUTE.match(text, at)
        if route is None:
            raise BadArgument(syntax)
        # RFC 5321 §4.1.1.3: source routes are accepted and ignored.
        at = route.end()
    local = (_QUOTED_STRING if text.startswith('"', at) else _DOT_STRING).match(text, at)
    if local is None or not text.startswith("@", local.end()):
        raise BadArgument(syntax)
    at = local.end() + 1
    domain = (_LITERAL if text.startswith("[", at) else _DOMAIN).match(text, at)
    if domain is None:
        raise BadArgument(syntax)
    end = domain.end()
    if bracket:
        if not text.startswith(">", end):
            raise BadArgument(syntax)
        end += 1
    address = f"{_canonical(local.group())}@{domain.group()}"
    if len(address.encode()) > PATH_MAX or len(domain.group().encode()) > DOMAIN_MAX:
        raise BadArgument(syntax)
    return address, text[end:]


def _canonical(local: str) -> str:
    """A quoted local part without its quotes where they are not needed: both forms name the same mailbox
    (RFC 5321 §4.1.2)."""
    if not local.startswith('"'):
        return local
    plain = _UNQUOTE.sub(r"\1", local[1:-1])
    return plain if _PLAIN_LOCAL.fullmatch(plain) else local


def _parameters(text: str, known: frozenset[str], extended: bool, syntax: Reply) -> dict[str, str | None]:
    if not text:
        return {}
    if text[0] not in " \t":
        raise BadArgument(syntax)
    given: dict[str, str | None] = {}
    for word in text.split():
        keyword, equals, value = word.partition("=")
        if not _KEYWORD.fullmatch(keyword) or (equals and not _VALUE.fullmatch(value)):
            raise BadArgument(syntax)
        keyword = keyword.upper()
        # RFC 5321 §4.1.1.11
        if not extended or keyword not in known:
            raise BadArgument(replies.UNKNOWN_PARAMETER)
        if keyword in given:
            raise BadArgument(replies.BAD_PARAMETER)
        given[keyword] = value if equals else None
    return given


def _read(given: dict[str, str | None], keyword: str, read: Callable[[str | None], T | None]) -> T | None:
    """The value of a parameter, or None where it was not given."""
    if keyword not in given:
        return None
    value = read(given[keyword])
    if value is None:
        raise BadArgument(replies.BAD_PARAMETER)
    return value


def _size(given: dict[str, str | None]) -> int | None:
    if "SIZE" not in given:
        return None
    value = given["SIZE"]
    # RFC 1870 §3: at most 20 digits.
    if value is None or len(value) > 20 or not (value.isascii() and value.isdigit()):
        raise BadArgument(replies.BAD_PARAMETER)
    return int(value)


def _body(given: dict[str, str | None]) -> str | None:
    if "BODY" not in given:
        return None
    value = (given["BODY"] or "").upper()
    # RFC 6152 §3; BINARYMIME is not offered.
    if value not in ("7BIT", "8BITMIME"):
        raise BadArgument(replies.BAD_PARAMETER)
    return value
