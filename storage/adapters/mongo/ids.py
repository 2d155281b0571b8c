"""Ids as the port shows them: a letter and the 24 hexadecimal digits of an ObjectId, which rise with the second and
which no two processes make alike."""

from __future__ import annotations

from bson import ObjectId


def mailbox() -> str:
    return f"M{ObjectId()}"


def email() -> str:
    return f"E{ObjectId()}"


def blob() -> str:
    return f"B{ObjectId()}"


def spool() -> str:
    return f"S{ObjectId()}"
