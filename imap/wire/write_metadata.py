"""The METADATA response (RFC 5464 §4.4), as octets."""

from __future__ import annotations

from collections.abc import Iterable

from imap.wire import writer


def values(mailbox: str, entries: Iterable[tuple[str, bytes | None]], utf8: bool = False) -> bytes:
    """RFC 5464 §4.4.1: entries with their values. utf8: as in `writer.mailbox`."""
    pairs = b" ".join([writer.astring(entry) + b" " + _value(value) for entry, value in entries])
    return b"* METADATA %b (%b)\r\n" % (writer.mailbox(mailbox, utf8), pairs)


def names(mailbox: str, entries: Iterable[str], utf8: bool = False) -> bytes:
    """RFC 5464 §4.4.2: entries that have changed, of which the client may ask the values."""
    return b"* METADATA %b %b\r\n" % (writer.mailbox(mailbox, utf8), b" ".join(map(writer.astring, entries)))


def _value(value: bytes | None) -> bytes:
    if value is not None and b"\0" in value:
        # RFC 5464 §5: value = nstring / literal8
        return b"~" + writer.literal(value)
    return writer.nstring(value)
