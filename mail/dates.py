"""Dates: of header fields (RFC 5322 §3.3, §4.3) and of IMAP (RFC 3501 §9 date-time, date)."""

from __future__ import annotations

import re
from datetime import date
from typing import NamedTuple

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTH = {name.lower().encode(): number for number, name in enumerate(_MONTHS, 1)}
_EPOCH = date(1970, 1, 1).toordinal()
_LAST_SECOND = (date.max.toordinal() - _EPOCH + 1) * 86400 - 1
_FIRST_SECOND = (date.min.toordinal() - _EPOCH) * 86400

# RFC 5322 §4.3: obs-zone; every other name means -0000
_ZONES = {b"edt": -4, b"est": -5, b"cdt": -5, b"cst": -6, b"mdt": -6, b"mst": -7, b"pdt": -7, b"pst": -8}
# Tolerance: a full month or day name, dashes as in IMAP dates, no seconds, fractions of a second
_HEADER_DATE = re.compile(
    rb"\s*+(?:[A-Za-z]{2,9}+\.?\s*+,?\s*+)?(\d{1,2})[\s\-]{1,9}([A-Za-z]{3})[A-Za-z]{0,6}\.?[\s\-]{1,9}(\d{2,4})"
    rb"[\s,]{1,9}(\d{1,2})\s{0,9}:\s{0,9}(\d{1,2})(?:\s{0,9}:\s{0,9}(\d{1,2}))?(?:\.\d{1,9})?\s{0,9}"
    rb"(?:([+\-])(\d{2}):?(\d{2})|([A-Za-z]{1,5}))?"
)
_DATE_TIME = re.compile(rb"([ 0-3]?\d)-([A-Za-z]{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+\-])(\d\d)(\d\d)")
_DATE = re.compile(rb"(\d{1,2})-([A-Za-z]{3})-(\d{4})")

VALUE_MAX = 1_000
"""How much of a Date value is looked at, in bytes."""


class Moment(NamedTuple):
    """A point in time: Unix seconds, and the zone it was written in, as seconds east of UTC."""

    seconds: int
    offset: int

    @property
    def day(self) -> int:
        """The calendar day as written, in days since 1970-01-01: what SENTON and ON compare (RFC 3501 §6.4.4)."""
        return (self.seconds + self.offset) // 86400


def _moment(year: int, month: int, day: int, hour: int, minute: int, second: int, offset: int) -> Moment | None:
    # a leap second is the second before it
    if not (hour < 24 and minute < 60 and second <= 60 and abs(offset) < 86400):
        return None
    try:
        days = date(year, month, day).toordinal() - _EPOCH
    except ValueError:
        return None
    return Moment(days * 86400 + hour * 3600 + minute * 60 + min(second, 59) - offset, offset)


def _without_comments(value: bytes) -> bytes:
    kept = bytearray()
    level = 0
    for byte in value:
        if byte == 0x28:
            level += 1
        elif byte == 0x29 and level:
            level -= 1
            kept.append(0x20)
        elif not level:
            kept.append(byte)
    return bytes(kept)


def parse(value: bytes) -> Moment | None:
    """The moment that a Date field's value names (RFC 5322 §3.3, §4.3), None when it names none."""
    value = value[:VALUE_MAX]
    if b"(" in value:
        value = _without_comments(value)
    match = _HEADER_DATE.match(value)
    if match is None:
        return None
    day, name, digits, hour, minute, second, sign, hours, minutes, zone = match.groups()
    month = _MONTH.get(name.lower())
    if month is None:
        return None
    year = int(digits)
    if len(digits) < 4:
        # RFC 5322 §4.3: two digits up to 49 are 20xx; all other short years count from 1900
        year += 2000 if len(digits) == 2 and year < 50 else 1900
    offset = 0
    if sign:
        offset = int(hours) * 3600 + int(minutes) * 60
        offset = -offset if sign == b"-" else offset
    elif zone:
        offset = _ZONES.get(zone.lower(), 0) * 3600
    return _moment(year, month, int(day), int(hour), int(minute), int(second or 0), offset)


def parse_date_time(value: bytes) -> Moment | None:
    """An IMAP date-time without its quotes, as in APPEND (RFC 3501 §9); None when it is none."""
    match = _DATE_TIME.fullmatch(value)
    month = _MONTH.get(match[2].lower()) if match else None
    if match is None or month is None or int(match[9]) > 59:
        return None
    offset = (int(match[8]) * 3600 + int(match[9]) * 60) * (-1 if match[7] == b"-" else 1)
    return _moment(int(match[3]), month, int(match[1]), int(match[4]), int(match[5]), int(match[6]), offset)


def parse_date(value: bytes) -> int | None:
    """An IMAP date (RFC 3501 §9) without quotes, in days since 1970-01-01; None when it is none."""
    match = _DATE.fullmatch(value)
    month = _MONTH.get(match[2].lower()) if match else None
    if match is None or month is None:
        return None
    try:
        return date(int(match[3]), month, int(match[1])).toordinal() - _EPOCH
    except ValueError:
        return None


def _fields(seconds: int, offset: int) -> tuple[date, int, int, int, str]:
    # seconds outside the years 1 to 9999 become the nearest second inside
    local = min(max(seconds + offset, _FIRST_SECOND), _LAST_SECOND)
    days, rest = divmod(local, 86400)
    zone = abs(offset) // 60
    sign = "-" if offset < 0 else "+"
    return (
        date.fromordinal(days + _EPOCH),
        rest // 3600,
        rest // 60 % 60,
        rest % 60,
        f"{sign}{zone // 60:02d}{zone % 60:02d}",
    )


def format_date_time(seconds: int, offset: int = 0) -> str:
    """An IMAP date-time without its quotes, 26 characters, as INTERNALDATE has it (RFC 3501 §9)."""
    day, hour, minute, second, zone = _fields(seconds, offset)
    return f"{day.day:2d}-{_MONTHS[day.month - 1]}-{day.year:04d} {hour:02d}:{minute:02d}:{second:02d} {zone}"


def format_header(seconds: int, offset: int = 0) -> str:
    """A date-time for a Date or Received field (RFC 5322 §3.3)."""
    day, hour, minute, second, zone = _fields(seconds, offset)
    name = _DAYS[day.weekday()]
    return f"{name}, {day.day:02d} {_MONTHS[day.month - 1]} {day.year:04d} {hour:02d}:{minute:02d}:{second:02d} {zone}"
