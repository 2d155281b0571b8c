"""Clients that break on what is right, and what is done for them: one table, with the reason beside each.

Those with a client are chosen by the name in its ID. RFC 2971 §3.3 has ID decide nothing; these few are a named
tolerance, since what they take away is only an offer. The others hold for everybody, because the client says nothing by
which it could be known, or because nobody loses by them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quirk:
    """name: for logs and documents. who: the client, in words. says: matches the name in its ID (None: holds for all).
    masked: capabilities that are taken from it. does: what is done. reason: what happens otherwise."""

    name: str
    who: str
    says: re.Pattern[str] | None
    masked: frozenset[str]
    does: str
    reason: str


QUIRKS = (
    Quirk(
        "office-365-uidonly",
        "Microsoft Office 365 (the service behind new Outlook and Outlook on phones)",
        re.compile(r"\s*microsoft office 365\b", re.IGNORECASE),
        frozenset(("UIDONLY",)),
        "UIDONLY is neither offered nor enabled.",
        "It enables UIDONLY (RFC 9586) and then asks for messages by their numbers, which must be refused: no mail"
        " comes in.",
    ),
    Quirk(
        "modseq-never-zero",
        "clients with CONDSTORE",
        None,
        frozenset(),
        "HIGHESTMODSEQ is 1 or more, in SELECT and in STATUS, also where nothing has ever happened.",
        "0 is no modification sequence (RFC 7162 §3.1.2.1, §7): some clients take it for a mailbox without them and"
        " read all flags again at each look, others stop with an error.",
    ),
    Quirk(
        "condstore-beside-qresync",
        "eM Client",
        None,
        frozenset(),
        "SELECT takes CONDSTORE and QRESYNC in one list of parameters, in either order, and so does ENABLE.",
        "It sends both, where QRESYNC alone would do (RFC 7162 §3.2.3); refused, it opens no mailbox.",
    ),
    Quirk(
        "no-exists-after-expunge",
        "Apple Mail",
        None,
        frozenset(),
        "EXISTS is told when messages have come and at no other time: not after EXPUNGE, and not when an EXPUNGE found"
        " nothing to remove.",
        "An EXISTS behind EXPUNGE, which RFC 3501 §7.4.1 allows, makes it look at the mailbox anew and expunge again,"
        " without end.",
    ),
    Quirk(
        "day-of-one-digit",
        "Apple Mail since iOS 14, Outlook on Android, Horde and Nextcloud Mail, older imapflow",
        None,
        frozenset(),
        'APPEND takes the date "3-Feb-2025 18:28:47 +0000" too, without a space or a zero before the day.',
        "They send it so, though the day has two characters (RFC 9051 §9, date-day-fixed): refused, what was sent is"
        " not kept in Sent during the first nine days of each month, and Outlook tries again without end.",
    ),
    Quirk(
        "rfc822-peek",
        "Outlook",
        None,
        frozenset(),
        "FETCH takes RFC822.PEEK and RFC822.TEXT.PEEK, and answers with RFC822 and RFC822.TEXT.",
        "It asks some servers for whole messages by this item of RFC 1730, which was replaced by BODY.PEEK[] in 1996:"
        " refused, it shows no message.",
    ),
    Quirk(
        "all-of-nothing",
        "Android's Email, SMS Backup+ and many programs of their own making",
        None,
        frozenset(),
        "SEARCH, SORT and THREAD of 1:* or * find nothing in an empty mailbox, and say so.",
        "They search 1:* without having looked whether there is a message. BAD, which RFC 9051 §9 suggests, is an error"
        " to them; nearly all servers find nothing.",
    ),
    Quirk(
        "auth-login",
        "Outlook",
        None,
        frozenset(),
        "AUTHENTICATE LOGIN is offered and asks with the two words “Username:” and “Password:”.",
        "Older versions sign in by LOGIN, which no RFC has, before PLAIN, and wait for just these words.",
    ),
)


def of(name: str | None) -> tuple[Quirk, ...]:
    """Those of the client that calls itself so in ID."""
    return tuple([quirk for quirk in QUIRKS if name and quirk.says is not None and quirk.says.match(name)])


def masked(quirks: Iterable[Quirk]) -> frozenset[str]:
    """What is taken from a client with these."""
    return frozenset().union(*(quirk.masked for quirk in quirks))


def page() -> str:
    """The table as Markdown."""
    lines = ["| client | known by | what is done | because |", "|---|---|---|---|"]
    for quirk in QUIRKS:
        known = "holds for all" if quirk.says is None else "the name in its ID"
        lines.append(f"| {quirk.who} | {known} | {quirk.does} | {quirk.reason} |")
    return "\n".join(lines) + "\n"
