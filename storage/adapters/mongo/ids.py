"""Ids as the port shows them: a letter and the 24 hexadecimal digits of an ObjectId, which rise with the second and
which no two processes make alike."""

from __future__ import annotations

from datetime import UTC, datetime

from bson import ObjectId


def mailbox() -> str:
    return f"M{ObjectId()}"


def email() -> str:
    return f"E{ObjectId()}"


def blob() -> str:
    return f"B{ObjectId()}"


def blob_of(time: float) -> str:
    """Below all that are made from that second on (Unix)."""
    return f"B{ObjectId.from_datetime(datetime.fromtimestamp(time, UTC))}"


def spool() -> str:
    return f"S{ObjectId()}"
