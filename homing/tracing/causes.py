"""Why a server refused or put off a message, out of its reply: codes of RFC 3463 and RFC 5248, and words that say more.

Pure. Servers use the codes loosely (7.1 stands for anything), so what their words say plainly goes before the codes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Cause(Enum):
    """What lies behind a reply, as far as advice differs."""

    GREYLISTED = "greylisted"
    NO_SUCH_USER = "no such user"
    BAD_ADDRESS = "bad address"
    DISABLED = "mailbox disabled"
    MAILBOX_FULL = "mailbox full"
    TOO_BIG = "too big"
    BLOCKLISTED = "blocklisted"
    SPAM = "taken for spam"
    UNPROVED = "sender not proved"
    POLICY = "policy"
    RELAY = "relaying denied"
    TOO_FAST = "too much at a time"
    TLS = "TLS"
    NO_SUCH_DOMAIN = "no such domain"
    NO_MAIL_DOMAIN = "domain takes no mail"
    DNS = "DNS"
    UNREACHABLE = "unreachable"
    LOOP = "loop"
    TROUBLE = "trouble over there"
    SIGN_IN = "sign-in"
    NOT_YOURS = "sender address not yours"
    BAD_SENDER = "sender address"
    UTF8 = "SMTPUTF8"
    CONTENT = "content"
    TOO_MANY = "too many recipients"
    BROKEN_OFF = "broken off"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Words:
    """A cause in words. why: goes on after "because". do: what to do next, whole sentences; admin: what else an
    administrator of this server can do."""

    why: str
    do: str
    admin: str = ""


@dataclass(frozen=True, slots=True)
class Replied:
    """An SMTP reply taken apart. code: None where the text has none."""

    code: int | None
    enhanced: str
    text: str

    @property
    def for_now(self) -> bool:
        return self.enhanced[:1] == "4" if self.code is None else 400 <= self.code < 500


_REPLY: Final = re.compile(r"\s*([2-5]\d\d)[ -]?\s*([245]\.\d{1,3}\.\d{1,3})?\s*(.*)", re.DOTALL)
_ENHANCED: Final = re.compile(r"\b[245]\.(\d{1,3})\.(\d{1,3})\b")


def replied(text: str) -> Replied:
    """A reply as events hold it: "550 5.1.1 No such user here"."""
    found = _REPLY.fullmatch(text)
    if found is None:
        return Replied(None, "", text.strip())
    return Replied(int(found[1]), found[2] or "", found[3].strip())


def _said(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


# In order: the first that is found is it.
_WORDS: Final = (
    (_said(r"gr[ae]y.?list", r"try again in \d+ (?:sec|min)", r"postgrey"), Cause.GREYLISTED),
    (
        _said(
            r"block.?list", r"black.?list", r"deny.?list", r"\brbl\b", r"dnsbl", r"spamhaus", r"spamcop", r"barracuda"
        ),
        Cause.BLOCKLISTED,
    ),
    (_said(r"\bspf\b", r"\bdkim\b", r"\bdmarc\b", r"unauthenticated (?:mail|email)"), Cause.UNPROVED),
    (_said(r"\bspam\b", r"unsolicited", r"\bvirus\b", r"malware", r"phish"), Cause.SPAM),
    (
        _said(r"over ?quota", r"quota exceeded", r"mailbox (?:is )?full", r"over (?:its|the) quota", r"inbox is full"),
        Cause.MAILBOX_FULL,
    ),
    (
        _said(
            r"user (?:is )?unknown",
            r"unknown (?:user|recipient|mailbox)",
            r"no such (?:user|mailbox|recipient|address)",
            r"(?:mailbox|account|recipient|user|address)[^.]{0,40} (?:does not exist|doesn't exist|not found)",
            r"recipient address rejected: undeliverable",
            r"invalid (?:recipient|mailbox)",
        ),
        Cause.NO_SUCH_USER,
    ),
    (
        _said(
            r"relay(?:ing)? (?:access )?(?:denied|not (?:allowed|permitted))",
            r"unable to relay",
            r"not permitted to relay",
        ),
        Cause.RELAY,
    ),
    (
        _said(
            r"rate.?limit", r"too many (?:messages|connections|emails)", r"too fast", r"throttl", r"\blimit exceeded\b"
        ),
        Cause.TOO_FAST,
    ),
    (_said(r"starttls", r"\btls\b", r"certificate", r"encryption (?:required|needed)"), Cause.TLS),
    (_said(r"too (?:big|large)", r"size (?:limit )?exceed", r"exceeds (?:the )?(?:fixed )?maximum"), Cause.TOO_BIG),
    (_said(r"mail loop", r"too many hops", r"loops? back"), Cause.LOOP),
    (
        _said(r"account (?:is |has been )?(?:disabled|suspended|inactive)", r"mailbox (?:is )?(?:disabled|inactive)"),
        Cause.DISABLED,
    ),
)

# RFC 3463 §3 and the registry of RFC 5248, without the class.
_CODES: Final = {
    (1, 1): Cause.NO_SUCH_USER,
    (1, 2): Cause.NO_SUCH_DOMAIN,
    (1, 3): Cause.BAD_ADDRESS,
    (1, 4): Cause.BAD_ADDRESS,
    (1, 6): Cause.NO_SUCH_USER,
    (1, 7): Cause.BAD_SENDER,
    (1, 8): Cause.BAD_SENDER,
    # RFC 7505 §4.1, §4.2
    (1, 10): Cause.NO_MAIL_DOMAIN,
    (2, 1): Cause.DISABLED,
    (2, 2): Cause.MAILBOX_FULL,
    (2, 3): Cause.TOO_BIG,
    (3, 1): Cause.TROUBLE,
    (3, 2): Cause.TROUBLE,
    (3, 4): Cause.TOO_BIG,
    (4, 1): Cause.UNREACHABLE,
    (4, 2): Cause.UNREACHABLE,
    (4, 3): Cause.DNS,
    (4, 4): Cause.DNS,
    (4, 5): Cause.TROUBLE,
    (4, 6): Cause.LOOP,
    (5, 3): Cause.TOO_MANY,
    (6, 7): Cause.UTF8,
    (7, 1): Cause.POLICY,
    (7, 4): Cause.TLS,
    (7, 5): Cause.TLS,
    (7, 8): Cause.SIGN_IN,
    (7, 9): Cause.SIGN_IN,
    (7, 10): Cause.TLS,
    (7, 11): Cause.TLS,
    (7, 13): Cause.SIGN_IN,
    (7, 27): Cause.BAD_SENDER,
    (7, 28): Cause.TOO_FAST,
    # RFC 8689 §4.1
    (7, 30): Cause.TLS,
    **{(7, n): Cause.UNPROVED for n in (20, 21, 22, 23, 24, 25, 26)},
}
_SUBJECTS: Final = {3: Cause.TROUBLE, 4: Cause.UNREACHABLE, 6: Cause.CONTENT, 7: Cause.POLICY}
_PHASES: Final = {
    "route": Cause.DNS,
    "connect": Cause.UNREACHABLE,
    "greeting": Cause.UNREACHABLE,
    "tls": Cause.TLS,
    "auth": Cause.SIGN_IN,
}


def cause_of(enhanced: str, text: str, *, phase: str = "", code: int | None = None) -> Cause:
    """The cause behind a reply of another server. phase: how far the attempt came (``smtp.outbound.transport``)."""
    found = _ENHANCED.fullmatch(enhanced) or _ENHANCED.search(text)
    known = _CODES.get((int(found[1]), int(found[2]))) if found is not None else None
    if code is None and phase in _PHASES:
        # Nobody over there said anything: these are words of ours.
        return known or _PHASES[phase]
    for pattern, cause in _WORDS:
        if pattern.search(text):
            return cause
    if known is not None and not (known is Cause.POLICY and enhanced[:1] == "4"):
        return known
    if enhanced[:1] == "4" and found is not None and found[1] == "7":
        # A policy that is for now is that of meeting a sender for the first time, or too often.
        return Cause.GREYLISTED if phase == "rcpt" else Cause.TOO_FAST
    if found is not None and int(found[1]) in _SUBJECTS:
        return _SUBJECTS[int(found[1])]
    if phase in _PHASES:
        return _PHASES[phase]
    if code is not None and 400 <= code < 500:
        return Cause.TROUBLE
    return Cause.OTHER


_OURS: Final = {
    "NOT_YOURS": _said(r"does not belong to the signed-in account"),
    "BROKEN_OFF": _said(r"given up by the client"),
    # Of rates; "try again in a minute" is what greylisting says elsewhere.
    "TOO_FAST": _said(r"are allowed, try again in", r"^too many connections"),
    "SIGN_IN": _said(r"credentials of this session no longer hold"),
    "TROUBLE": _said(r"temporary authentication failure", r"tls is not available"),
    "TLS": _said(r"starttls command first"),
}
_OUR_CODES: Final = {
    "5.5.3": Cause.TOO_MANY,
    "4.5.3": Cause.TOO_MANY,
    "5.7.0": Cause.SIGN_IN,
    "4.7.0": Cause.TOO_FAST,
    "4.3.1": Cause.TROUBLE,
    "4.3.0": Cause.TROUBLE,
    "4.3.2": Cause.TROUBLE,
    "4.4.2": Cause.BROKEN_OFF,
}


def our_cause(reply: Replied) -> Cause:
    """The cause behind a reply of this server, whose words are known (``smtp.wire.replies``)."""
    for name, pattern in _OURS.items():
        if pattern.search(reply.text):
            return Cause[name]
    if reply.enhanced in _OUR_CODES:
        return _OUR_CODES[reply.enhanced]
    return cause_of(reply.enhanced, reply.text, code=reply.code)
