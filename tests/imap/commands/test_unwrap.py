"""Messages that imaplib wraps inside of their literal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imap.commands.unwrap import unwrapped
from imap.session import House
from tests.imap.fakes import Client


async def _cut(raw: bytes, cuts: list[int]) -> AsyncIterator[bytes]:
    places = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    for low, high in pairwise(places):
        yield raw[low:high]


async def _all(raw: bytes, cuts: list[int]) -> bytes:
    return b"".join([chunk async for chunk in unwrapped(_cut(raw, cuts))])


CUTS = st.lists(st.integers(0, 60), max_size=8)


@given(st.binary(max_size=40), CUTS)
def test_wrapped(raw: bytes, cuts: list[int]) -> None:
    assert asyncio.run(_all(b"UTF8 (" + raw + b")", cuts)) == raw


@given(st.one_of(st.binary(max_size=40), st.sampled_from([b"UTF8", b"UTF8 ", b"UTF8  (x)", b"U", b""])), CUTS)
def test_not_wrapped(raw: bytes, cuts: list[int]) -> None:
    if not raw.startswith(b"UTF8 ("):
        assert asyncio.run(_all(raw, cuts)) == raw


@pytest.mark.parametrize("size", [10, 3 * 256 * 1024], ids=["small", "large"])
async def test_only_for_those_who_have_enabled_utf8(any_house: House, size: int) -> None:
    client = await Client(any_house).signed_in()
    message = "Subject: é\r\n\r\n".encode() + b"x" * size
    literal = b"UTF8 (" + message + b")"
    assert "OK" in await client("a APPEND INBOX", literal)
    await client("e ENABLE UTF8=ACCEPT")
    assert "OK" in await client("a APPEND INBOX", literal)
    assert "OK" in await client("a APPEND INBOX", message)
    await client("s SELECT INBOX")
    said = await client("f FETCH 1:3 RFC822.SIZE")
    sizes = [len(literal), len(message), len(message)]
    assert said == "".join(f"* {n} FETCH (RFC822.SIZE {one})\n" for n, one in enumerate(sizes, 1)) + "f OK Fetched\n"
