"""The parameters of FUTURERELEASE (RFC 4865 §4): HOLDFOR, seconds, and HOLDUNTIL, a date and time."""

from __future__ import annotations

import re
from datetime import UTC, datetime

# RFC 4865 §4: one to nine digits.
_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)
# RFC 3339 §5.6 date-time; no fraction is needed to hold mail, and one is let pass.
_DATE_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:[Zz]|[+\-][0-9]{2}:[0-9]{2})",
    re.ASCII,
)


def seconds(value: str | None) -> int | None:
    """The seconds of HOLDFOR, at least 1; None where it cannot be read."""
    if value is None or not _SECONDS.fullmatch(value):
        return None
    return int(value) or None


def moment(value: str | None) -> int | None:
    """The Unix time of HOLDUNTIL, a part of a second rounded up; None where it cannot be read."""
    if value is None or not _DATE_TIME.fullmatch(value):
        return None
    try:
        said = datetime.fromisoformat(value.upper())
    except ValueError:
        return None
    try:
        whole = int(said.timestamp())
    except (OverflowError, ValueError):
        return None
    return whole + (1 if said.microsecond else 0)


def date_time(moment: float) -> str:
    """A Unix time as EHLO and HOLDUNTIL have it, in UTC."""
    return datetime.fromtimestamp(int(moment), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
