"""A message as Python's imaplib sends it once UTF8=ACCEPT is enabled: with the data item inside the literal."""

from __future__ import annotations

from collections.abc import AsyncIterator

OPENING = b"UTF8 ("
CLOSING = b")"


async def unwrapped(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks of a literal, none larger than before, less ``UTF8 (`` and ``)`` where it begins with that, as no
    header does.

    Tolerance: the wrapping belongs around a literal8 (RFC 6855 §4); imaplib puts it inside of a literal.
    """
    before = chunk = b""
    async for chunk in chunks:
        begun = before + chunk[: len(OPENING)]
        if begun.startswith(OPENING) or not OPENING.startswith(begun):
            break
        before, chunk = begun, b""
    if not (before + chunk).startswith(OPENING):
        for octets in (before, chunk):
            if octets:
                yield octets
        async for chunk in chunks:
            yield chunk
        return
    chunk = (before + chunk)[len(OPENING) :]
    # the octet that was last so far
    last = chunk[-1:]
    if len(chunk) > 1:
        yield chunk[:-1]
    async for chunk in chunks:
        if octets := last + chunk[:-1]:
            yield octets
        last = chunk[-1:]
    if last and last != CLOSING:
        yield last
