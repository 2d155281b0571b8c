"""Deflated octets give the same events as plain ones, and no stream takes more memory than its reader wants."""

from __future__ import annotations

import asyncio
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imap.deflate import PIECE, Deflater, Inflater, Intake
from imap.wire.framer import CommandLine, Event, Fatal, Refusal
from imap.wire.limits import BEFORE_SIGN_IN, SIGNED_IN
from runtime.tls import Tls, make_self_signed
from tests.hurry import THOROUGH, examples
from tests.imap.fakes import FakeStorage
from tests.transcripts.imap.test_transcripts import serving
from tests.transcripts.play import DEADLINE, Deflated, Inflated

MIB = 1024 * 1024


def deflated(octets: bytes) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return stream.compress(octets) + stream.flush(zlib.Z_SYNC_FLUSH)


def events(intake: Intake) -> list[Event]:
    found: list[Event] = []
    while (event := intake.next_event()) is not None or intake.pending:
        if event is not None:
            found.append(event)
        if isinstance(event, Fatal):
            break
    return found


@settings(max_examples=examples(40), deadline=None)
@given(pieces=st.lists(st.binary(max_size=300) | st.integers(1, 200_000).map(bytes), max_size=6), data=st.data())
def test_what_was_deflated_comes_back(pieces: list[bytes], data: st.DataObject) -> None:
    sender = Deflater()
    wire = b""
    for piece in pieces:
        wire += sender.deflate(piece)
        if data.draw(st.booleans()):
            # a new beginning in the same stream
            sender.rest()
    assert zlib.decompressobj(-15).decompress(wire) == b"".join(pieces)
    inflater = Inflater()
    back = b""
    at = 0
    while at < len(wire):
        size = data.draw(st.integers(1, len(wire)))
        inflater.feed(wire[at : at + size])
        at += size
        while inflater.pending:
            octets = inflater.take()
            assert len(octets) <= PIECE
            back += octets
    assert back == b"".join(pieces)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_commands_come_as_they_would_plain(size: int) -> None:
    wire = deflated(b"".join(b"a%d NOOP\r\n" % n for n in range(2000)))
    intake = Intake(BEFORE_SIGN_IN)
    intake.feed(b"x COMPRESS DEFLATE\r\n" + wire[:5])
    assert intake.next_event() == CommandLine(b"x COMPRESS DEFLATE")
    # a client that did not wait
    intake.inflate()
    found: list[Event] = []
    for at in range(5, len(wire), size):
        intake.feed(wire[at : at + size])
        found += events(intake)
    assert found == [CommandLine(b"a%d NOOP" % n) for n in range(2000)]


def test_a_bomb_is_a_line_over_the_limit() -> None:
    bomb = deflated(b"a NOOP " + bytes((300 if THOROUGH else 50) * MIB))
    assert len(bomb) < MIB
    intake = Intake(SIGNED_IN)
    intake.inflate()
    tracemalloc.start()
    try:
        intake.feed(bomb)
        found = events(intake)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [type(event) for event in found] == [Fatal]
    assert peak < 3 * MIB


def test_a_line_over_the_limit_that_ends_is_refused() -> None:
    intake = Intake(SIGNED_IN)
    intake.inflate()
    intake.feed(deflated(b"a NOOP " + b" " * SIGNED_IN.line + b"\r\nb NOOP\r\n"))
    refused, after = events(intake)
    assert isinstance(refused, Refusal)
    assert after == CommandLine(b"b NOOP")


@pytest.mark.parametrize("wire", [b"a NOOP\r\n", b"\xff" * 9, zlib.compressobj(9, zlib.DEFLATED, -15).flush()])
def test_what_is_no_stream_ends_the_connection(wire: bytes) -> None:
    intake = Intake(BEFORE_SIGN_IN)
    intake.inflate()
    intake.feed(wire)
    assert isinstance(events(intake)[-1], Fatal)


def test_what_came_before_the_end_of_the_stream_is_heard() -> None:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    intake = Intake(SIGNED_IN)
    intake.inflate()
    intake.feed(stream.compress(b"a NOOP\r\nb LOGOUT\r\n") + stream.flush(zlib.Z_FINISH))
    *heard, end = events(intake)
    assert heard == [CommandLine(b"a NOOP"), CommandLine(b"b LOGOUT")]
    assert isinstance(end, Fatal)


async def test_over_a_connection(tmp_path: Path) -> None:
    context = Tls(*make_self_signed(tmp_path, ["localhost"]))
    # The deadline is for a server that never answers.
    async with (
        asyncio.timeout(60),
        serving(FakeStorage(), context) as service,  # type: ignore[arg-type]  # the fake has what the door asks
    ):
        plain_reader, plain_writer = await asyncio.open_connection("127.0.0.1", service.ports["imap"])
        plain_writer.write(b"a LOGIN alice secret\r\nb COMPRESS DEFLATE\r\n")
        await plain_reader.readuntil(b"b OK Compressed from here\r\n")
        reader, writer = Inflated(plain_reader), Deflated(plain_writer)
        body = b"Subject: x\r\n\r\n" + b"0123456789abcde\n" * 65536 * 2
        writer.write(b"c APPEND INBOX {%d+}\r\n" % len(body) + body + b"\r\nd SELECT INBOX\r\n")
        assert (await reader.readline()).startswith(b"c OK [APPENDUID")
        while not (said := await reader.readline()).startswith(b"d OK"):
            assert said
        writer.write(b"e FETCH 1 BODY.PEEK[]\r\n")
        while not (said := await reader.readline()).startswith(b"e OK Fetched"):
            assert said
        # a line that would not end
        writer.write(b"f NOOP " + bytes(4 * MIB))
        assert (await reader.readline()).startswith(b"* BYE ")
        plain_writer.close()


async def test_a_line_cut_where_it_fills_what_may_wait(start: Any, until: Any) -> None:
    world = await start()
    client = await world.client()
    assert await client.ask(b"a LOGIN u p\r\n") == b"a OK done\r\n"
    (connection,) = world.connections.open
    connection.compress(b"b OK Compressed from here\r\n")
    await client.line()
    reader, writer = Inflated(client.reader), Deflated(client.writer)
    writer.write(b"c NOOP ".ljust(SIGNED_IN.line))
    await until(lambda: len(connection._framer) == SIGNED_IN.line)
    writer.write(b"\r\nd NOOP\r\n")
    assert (await asyncio.wait_for(reader.readline(), DEADLINE)).startswith(b"c BAD ")
    assert await asyncio.wait_for(reader.readline(), DEADLINE) == b"d OK done\r\n"
