"""BINARY[…] and BINARY.SIZE[…]: parts without their transfer encoding (RFC 3516 §4.2, RFC 9051 §6.4.5).

The encoding of what is no leaf (a multipart, an enclosed message, the whole message) is none by RFC 2045 §6.4, so that
its octets are given as they are.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import NamedTuple

from imap.commands.sections import Place
from imap.wire import writer
from imap.wire.forms import Binary, BinarySize
from mail import parts, transfer
from mail.transfer import Decoder
from storage.model import Row, Want

WANT = Want.SIZE | Want.PREFIX | Want.CONTENT | Want.PARTS
"""What a row must bring."""


class UnknownEncoding(Exception):
    """A part's transfer encoding is none that is known (RFC 3516 §4.3)."""


class Found(NamedTuple):
    """One part: where its octets are, and those of its header (None where it is no leaf), and their encoding."""

    place: Place
    header: Place | None
    encoding: int

    def decoder(self, header: bytes) -> Decoder:
        """A new one. header: the part's, b"" where it has none here."""
        made = transfer.decoder(self.encoding, text=self.header is not None and transfer.is_text(header))
        assert made is not None, "`find` looked"
        return made


def find(path: tuple[int, ...], row: Row) -> Found | None:
    """None where the message has no such part. Raises UnknownEncoding."""
    prefix = row.prefix or b""
    if not path:
        return Found(Place(prefix, 0, (row.size or 0) - len(prefix)), None, parts.SEVENBIT)
    table = parts.decode(row.parts or b"")
    index = parts.find(table, path)
    if index is None:
        return None
    part = table[index]
    place = Place(b"", part.body_start, part.body_end)
    if part.kind != parts.LEAF:
        return Found(place, None, parts.SEVENBIT)
    if transfer.decoder(part.encoding) is None:
        raise UnknownEncoding
    return Found(place, Place(b"", part.header_start, part.body_start), part.encoding)


def at_hand(item: Binary | BinarySize, row: Row) -> bytes | None:
    """The item with its label; None where the message must be read for it. Raises UnknownEncoding."""
    found = find(item.path, row)
    if found is None:
        return absent(item)
    content = row.content
    if content is None:
        return None
    header = b"" if found.header is None else content[found.header.start : found.header.end]
    pieces = _pieces(found.place.head + content[found.place.start : found.place.end], found.decoder(header))
    octets = b"".join(_cut(pieces, item.partial if isinstance(item, Binary) else None))
    if isinstance(item, BinarySize):
        return size_of(item, len(octets))
    return writer.literal8_head(item.label, len(octets), b"\0" in octets) + octets


def absent(item: Binary | BinarySize) -> bytes:
    """What is told of a part that there is not."""
    return item.label + b" NIL" if isinstance(item, Binary) else size_of(item, 0)


def size_of(item: BinarySize, size: int) -> bytes:
    """The item with its label."""
    return b"%b %d" % (item.label, size)


async def measured(octets: AsyncIterable[bytes]) -> tuple[int, bool]:
    """How many, and whether there is NUL among them."""
    size, binary = 0, False
    async for piece in octets:
        size += len(piece)
        binary = binary or b"\0" in piece
    return size, binary


async def decoded(
    encoded: AsyncIterator[bytes], decoder: Decoder, partial: tuple[int, int] | None
) -> AsyncIterator[bytes]:
    """The part's octets, or the window of them that the partial names (RFC 3516 §4.2), in pieces."""
    left = _Window(partial)
    async for octets in encoded:
        if shown := left.show(decoder.feed(octets)):
            yield shown
        if left.over:
            return
    if shown := left.show(decoder.end()):
        yield shown


def _pieces(encoded: bytes, decoder: Decoder) -> Iterator[bytes]:
    yield decoder.feed(encoded)
    yield decoder.end()


def _cut(pieces: Iterable[bytes], partial: tuple[int, int] | None) -> Iterator[bytes]:
    left = _Window(partial)
    for piece in pieces:
        yield left.show(piece)


class _Window:
    """What of a stream is between the partial's ends."""

    def __init__(self, partial: tuple[int, int] | None) -> None:
        self._skip = 0 if partial is None else partial[0]
        self._count = None if partial is None else partial[1]

    @property
    def over(self) -> bool:
        return self._count == 0

    def show(self, octets: bytes) -> bytes:
        skipped = min(self._skip, len(octets))
        self._skip -= skipped
        if self._count is None:
            return octets[skipped:] if skipped else octets
        shown = octets[skipped : skipped + self._count]
        self._count -= len(shown)
        return shown
