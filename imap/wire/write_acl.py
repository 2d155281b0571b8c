"""Responses of ACL (RFC 4314 §3.6, §3.7, §3.8). utf8: as in `writer.mailbox`."""

from __future__ import annotations

from collections.abc import Iterable

from imap.wire.writer import astring, data, mailbox


def acl(name: str, entries: Iterable[tuple[str, str]], utf8: bool = False) -> bytes:
    """entries: identifiers with the letters of their rights."""
    pairs = b"".join([b" %b %b" % (astring(who), astring(letters)) for who, letters in entries])
    return data(b"ACL %b%b" % (mailbox(name, utf8), pairs))


def list_rights(name: str, identifier: str, required: str, optional: Iterable[str], utf8: bool = False) -> bytes:
    """required: rights that the identifier always has. optional: those that it can be given, tied ones together."""
    words = b"".join([b" %b" % astring(letters) for letters in (required, *optional)])
    return data(b"LISTRIGHTS %b %b%b" % (mailbox(name, utf8), astring(identifier), words))


def my_rights(name: str, letters: str, utf8: bool = False) -> bytes:
    return data(b"MYRIGHTS %b %b" % (mailbox(name, utf8), astring(letters)))
