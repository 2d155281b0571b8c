"""What the server says it can do: what is implemented, where the connection stands (RFC 3501 §6.1.1, §7.2.1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

BASE = "IMAP4rev1"

FEATURES = (
    # RFC 9051 §7.2.2, Appendix A
    "IMAP4rev2",
    # RFC 7888 §5
    "LITERAL+",
    # RFC 3348 §4
    "CHILDREN",
    # RFC 6154 §2
    "SPECIAL-USE",
    # RFC 4731 §3.1
    "ESEARCH",
    # RFC 5182 §2
    "SEARCHRES",
    # RFC 5032 §2
    "WITHIN",
    # RFC 9394 §3
    "PARTIAL",
    # RFC 8514 §3
    "SAVEDATE",
    # RFC 5255 §4
    "I18NLEVEL=1",
    # RFC 5957 §4
    "SORT=DISPLAY",
    # RFC 5267 §3.1
    "ESORT",
    # RFC 5256 §3
    "THREAD=ORDEREDSUBJECT",
    "THREAD=REFERENCES",
    # RFC 7162 §3.1, §3.2
    "CONDSTORE",
    "QRESYNC",
    # RFC 5819 §2
    "LIST-STATUS",
    # RFC 9590 §3
    "LIST-METADATA",
    # RFC 8438 §3
    "STATUS=SIZE",
    # RFC 4314 §5.1.1
    "RIGHTS=texk",
    # RFC 8440 §3
    "LIST-MYRIGHTS",
    # RFC 8474 §4, §5
    "OBJECTID",
    # RFC 8970 §3
    "PREVIEW",
    # RFC 6855 §3
    "UTF8=ACCEPT",
    # RFC 3516 §4.1
    "BINARY",
    # RFC 4469 §2
    "CATENATE",
    # RFC 9208 §3.1; messages are not limited in number
    "QUOTA=RES-STORAGE",
    # RFC 6203 §3
    "SEARCH=FUZZY",
    # RFC 9585 §3
    "INPROGRESS",
    # RFC 9586 §3.1
    "UIDONLY",
)
"""Extensions that are part of other commands; those that bring a command of their own are named in the table."""

AFTER_SIGN_IN = frozenset(("COMPRESS=DEFLATE",))
"""What is allowed and named only then."""

ENABLEABLE: frozenset[str] = frozenset(("CONDSTORE", "QRESYNC", "IMAP4REV2", "UTF8=ACCEPT", "UIDONLY"))
"""Extensions that wait for ENABLE (RFC 5161 §3.1), in capitals."""
SPELLED = {"IMAP4REV2": "IMAP4rev2"}
"""Those of them that are not told in capitals."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the list depends on. mechanisms: of SASL, that are allowed on this connection as it is; () where signing in
    is not."""

    signed_in: bool
    can_start_tls: bool
    mechanisms: tuple[str, ...]


def capabilities(standing: Standing, of_commands: Iterable[str]) -> tuple[str, ...]:
    """The names in a stable order; `of_commands`: those that the command table brings."""
    names = [BASE, *FEATURES, *sorted(set(of_commands) - (frozenset() if standing.signed_in else AFTER_SIGN_IN))]
    if not standing.signed_in:
        # RFC 4959 §3
        names.append("SASL-IR")
        if standing.can_start_tls:
            # RFC 3501 §6.2.1
            names.append("STARTTLS")
        names.extend(f"AUTH={mechanism}" for mechanism in standing.mechanisms)
        if not standing.mechanisms:
            # RFC 3501 §6.2.3
            names.append("LOGINDISABLED")
    return tuple(names)
