"""A connection over real sockets, under both event loops, in plain text and TLS."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
from dataclasses import replace
from typing import Any

import pytest

from imap.limits import ConnectionLimits
from imap.wire.limits import BEFORE_SIGN_IN, SIGNED_IN

SMALL = replace(SIGNED_IN, message=1 << 20)
LIMITS = ConnectionLimits(after=SMALL)


@pytest.mark.parametrize("tls", [False, True])
async def test_commands_in_order(start: Any, tls: bool) -> None:
    world = await start()
    client = await world.client(tls=tls)
    client.send(b"".join(b"t%d NOOP\r\n" % n for n in range(1000)))
    for n in range(1000):
        assert await client.line() == b"t%d OK done\r\n" % n
    assert await client.ask(b"a LOGIN {1}\r\n") == b"+ OK\r\n"
    assert await client.ask(b"u {1+}\r\np\r\n") == b"a OK done\r\n"
    assert (await client.ask(b"b FROB\r\n")).startswith(b"b BAD ")
    assert (await client.ask(b"\r\n")).startswith(b"* BAD ")
    client.send(b"z LOGOUT\r\nzz NOOP\r\n")
    assert await client.rest() == b"* BYE bye\r\nz OK done\r\n"


async def test_the_peer(start: Any) -> None:
    world = await start()
    plain, secure = await world.client(), await world.client(tls=True)
    one, two = (talk.out.peer for talk in world.talks)
    assert (one.address, one.port) == plain.writer.get_extra_info("sockname")
    assert (one.local_address, one.local_port, one.tls) == ("127.0.0.1", world.port, None)
    assert two.local_port == world.tls_port
    assert two.tls.version == "TLSv1.3"
    assert two.tls.cipher == secure.writer.get_extra_info("cipher")[0]
    assert [talk.out.can_start_tls for talk in world.talks] == [True, False]


async def test_no_task_and_no_buffer_while_idle(start: Any, until: Any) -> None:
    world = await start()
    client = await world.client()
    await client.ask(b"a NOOP\r\n")
    (connection,) = world.connections.open
    await until(lambda: connection._task is None)
    assert connection._framer.at_rest


async def test_one_octet_at_a_time(start: Any) -> None:
    world = await start()
    client = await world.client()
    for octet in b"a LOGIN {1+}\r\nu p\r\nb APPEND x {3+}\r\nabc\r\n":
        client.send(bytes((octet,)))
        await asyncio.sleep(0)
    assert await client.line() == b"a OK done\r\n"
    assert (await client.line()).startswith(b"b OK 3 ")


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("sign", [b"", b"+"])
async def test_append_is_streamed(start: Any, tls: bool, sign: bytes) -> None:
    world = await start(LIMITS)
    client = await world.client(tls=tls)
    await client.ask(b"l LOGIN u p\r\n")
    message = bytes(range(256)) * 4096
    client.send(b"a APPEND x (\\Seen) {%d%b}\r\n" % (len(message), sign))
    if not sign:
        assert await client.line() == b"+ OK\r\n"
    client.send(message + b"\r\nb NOOP\r\n")
    digest = hashlib.sha256(message).hexdigest().encode()
    assert await client.line() == b"a OK %d %b\r\n" % (len(message), digest)
    assert await client.line() == b"b OK done\r\n"


async def test_append_refused_or_left_in_the_middle(start: Any) -> None:
    world = await start(LIMITS)
    client = await world.client()
    await client.ask(b"l LOGIN u p\r\n")
    assert await client.ask(b"a APPEND refused {100}\r\n") == b"a OK refused\r\n"
    client.send(b"b APPEND refused {18+}\r\n" + b"n NOOP\r\n" * 2 + b"xx\r\nc NOOP\r\n")
    assert [await client.line() for _ in range(2)] == [b"b OK refused\r\n", b"c OK done\r\n"]
    client.send(b"d APPEND half {500000+}\r\n" + b"n NOOP\r\n" * 62500 + b"\r\ne NOOP\r\n")
    assert [await client.line() for _ in range(2)] == [b"d OK half\r\n", b"e OK done\r\n"]
    client.send(b"f APPEND x {2+}\r\nab (more)\r\ng APPEND x {2+}\r\nab {3+}\r\nabc\r\nh NOOP\r\n")
    answers = [await client.line() for _ in range(3)]
    assert answers == [b"f OK 2 then  (more)\r\n", b"g OK 2 then  {3+}\r\n", b"h OK done\r\n"]
    assert (await client.ask(b"i APPEND\r\n")).startswith(b"i BAD ")
    assert (await client.ask(b"j APPEND ( {5}\r\n")).startswith(b"j BAD ")


async def test_literals_over_the_limit(start: Any) -> None:
    # RFC 7888 §4
    world = await start(LIMITS)
    client = await world.client()
    too_much = BEFORE_SIGN_IN.message + 1
    assert (await client.ask(b"a LOGIN u {%d}\r\n" % too_much)).startswith(b"a NO [TOOBIG] ")
    client.send(b"b APPEND x {%d+}\r\n%b\r\n" % (too_much, b"x" * too_much))
    assert (await client.line()).startswith(b"b NO [TOOBIG] ")
    await client.ask(b"l LOGIN u p\r\n")
    assert (await client.ask(b"c APPEND x {%d}\r\n" % (SMALL.message + 1))).startswith(b"c NO [TOOBIG] ")
    client.send(b"d APPEND x {%d+}\r\n" % (SMALL.message + 1))
    assert (await client.rest()).startswith(b"* BYE [TOOBIG] ")


async def test_lines_over_the_limit(start: Any) -> None:
    world = await start(LIMITS)
    client = await world.client()
    client.send(b"a NOOP " + b"x" * BEFORE_SIGN_IN.line + b"\r\nb NOOP\r\n")
    assert (await client.line()).startswith(b"a BAD ")
    assert await client.line() == b"b OK done\r\n"
    client.send(b"x" * (BEFORE_SIGN_IN.discard + 2))
    assert (await client.rest()).startswith(b"* BYE ")


async def test_a_long_pipeline_lets_others_have_their_turn(start: Any) -> None:
    world = await start()
    client = await world.client()
    client.send(b"a NOOP\r\n" * 20_000 + b"z LOGOUT\r\n")
    ended = asyncio.ensure_future(client.rest())
    longest = 0
    while not ended.done():
        before = world.ran
        await asyncio.sleep(0)
        longest = max(longest, world.ran - before)
    assert world.ran == 20_001
    assert longest <= 64


@pytest.mark.parametrize("tls", [False, True])
async def test_a_client_that_floods_still_hears_its_bye(start: Any, tls: bool) -> None:
    world = await start()
    client = await world.client(tls=tls)
    await client.ask(b"l LOGIN u p\r\n")
    if tls:
        client.send(b"d APPEND x {90000000+}\r\n" + b"x" * 10_000_000)
    else:
        # deaf until all is sent: a reset in the meantime would have thrown the BYE away
        client.writer.transport.pause_reading()
        client.writer.transport.set_write_buffer_limits(0)
        client.send(b"d APPEND x {90000000+}\r\n" + b"x" * 10_000_000)
        await asyncio.wait_for(client.writer.drain(), 60)
        client.writer.transport.resume_reading()
    assert (await client.line()).startswith(b"* BYE [TOOBIG] ")
    assert world.bugs == []


async def test_the_backlog_is_bounded(start: Any, until: Any) -> None:
    world = await start()
    client = await world.client()
    tag, count = b"b" * 64, 20_000
    client.send(b"a CHECK\r\n" + (tag + b" NOOP\r\n") * count)
    (connection,) = world.connections.open
    await until(lambda: connection._reading_paused)
    assert len(connection._framer) < 4 * LIMITS.backlog
    world.gate.set()
    assert await client.line() == b"a OK done\r\n"
    for _ in range(count):
        assert await client.reader.readline() == tag + b" OK done\r\n"


async def test_a_slow_append_holds_its_client_back(start: Any, until: Any) -> None:
    world = await start(LIMITS)
    client = await world.client()
    await client.ask(b"l LOGIN u p\r\n")
    client.send(b"a APPEND slow {1048576+}\r\n" + b"x" * 1048576 + b"\r\n")
    (connection,) = world.connections.open
    await until(lambda: connection._reading_paused)
    assert len(connection._framer) < 4 * LIMITS.backlog
    world.gate.set()
    assert (await client.line()).startswith(b"a OK 1048576 ")


@pytest.mark.parametrize("tls", [False, True])
async def test_a_slow_reader_costs_no_memory(start: Any, until: Any, tls: bool) -> None:
    world = await start()
    world.pieces = 1000
    client = await world.client(tls=tls)
    client.writer.transport.pause_reading()
    client.send(b"a EXPUNGE\r\n")
    (connection,) = world.connections.open
    await until(lambda: connection._drainer is not None)
    before = world.written
    other = await world.client()
    assert await other.ask(b"o NOOP\r\n") == b"o OK done\r\n"
    assert world.written == before < 900
    client.writer.transport.resume_reading()
    async with asyncio.timeout(60):
        received = await received_until_done(client)
    assert received == 1000 * 65536


@pytest.mark.parametrize("tls", [False, True])
async def test_news_between_commands_wait_for_a_slow_reader(start: Any, until: Any, tls: bool) -> None:
    world = await start()
    world.pieces = 400
    client = await world.client(tls=tls)
    (talk,) = world.talks
    talk.out.listen(True)
    client.writer.transport.pause_reading()
    talk.out.notify()
    (connection,) = world.connections.open
    await until(lambda: connection._drainer is not None)
    before = world.written
    # neither further news nor a command begins meanwhile
    talk.out.notify()
    client.send(b"a NOOP\r\n")
    other = await world.client()
    assert await other.ask(b"o NOOP\r\n") == b"o OK done\r\n"
    assert world.written == before < 350
    assert connection._transport.get_write_buffer_size() < 2 * LIMITS.unread
    client.writer.transport.resume_reading()
    async with asyncio.timeout(60):
        assert await received_until_done(client) >= 400 * 65536


async def received_until_done(client: Any) -> int:
    received = 0
    while True:
        line = await client.line()
        if line == b"a OK done\r\n":
            return received
        received += len(line)


async def test_a_pipeline_whose_answers_are_not_read(start: Any, until: Any) -> None:
    world = await start()
    client = await world.client()
    client.writer.transport.pause_reading()
    (connection,) = world.connections.open
    # Else the system's buffers take the answers to a hundred thousand commands.
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    sent = 0
    async with asyncio.timeout(30):
        while connection._drainer is None:
            client.send(b"f FROB" + b"x" * 40 + b"\r\n")
            sent += 1
            if sent % 1000 == 0:
                await asyncio.sleep(0)
    assert connection._transport.get_write_buffer_size() < 2 * LIMITS.unread
    client.writer.transport.abort()


async def test_continuation(start: Any) -> None:
    world = await start()
    client = await world.client()
    assert await client.ask(b"a AUTHENTICATE PLAIN\r\n") == b"+ c2F5\r\n"
    assert await client.ask(b"words {5}\r\n") == b"a OK heard words {5}\r\n"
    client.send(b"b AUTHENTICATE PLAIN\r\nearly\r\nc NOOP\r\n")
    assert [await client.line() for _ in range(3)] == [b"+ c2F5\r\n", b"b OK heard early\r\n", b"c OK done\r\n"]


@pytest.mark.parametrize("tls", [False, True])
async def test_idle_wakes_at_once(start: Any, tls: bool) -> None:
    world = await start()
    client = await world.client(tls=tls)
    (talk,) = world.talks
    talk.out.notify()  # news before IDLE is told when IDLE begins
    assert await client.ask(b"a IDLE\r\n") == b"+ idling\r\n"
    assert await client.line() == b"* news\r\n"
    client.send(b"DO")
    await asyncio.sleep(0)
    talk.out.notify()
    talk.out.notify()
    assert await client.line() == b"* news\r\n"
    assert await client.ask(b"NE\r\n") == b"a OK DONE\r\n"
    client.send(b"b IDLE\r\nDONE\r\nc NOOP\r\n")
    assert [await client.line() for _ in range(3)] == [b"+ idling\r\n", b"b OK DONE\r\n", b"c OK done\r\n"]


async def test_start_tls_forgets_what_came_behind_it(start: Any) -> None:
    # RFC 3501 §6.2.1
    world = await start()
    client = await world.client()
    assert await client.ask(b"a STARTTLS\r\nb NOOP\r\nc LOGIN {5}\r\n") == b"a OK begin\r\n"
    await client.start_tls(world.trust)
    assert await client.ask(b"d NOOP\r\n") == b"d OK done\r\n"
    (talk,) = world.talks
    assert talk.out.peer.tls.version == "TLSv1.3"
    assert not talk.out.can_start_tls
    world.pieces = 40
    client.send(b"e EXPUNGE\r\n")
    assert len([await client.line() for _ in range(40)]) == 40
    assert await client.line() == b"e OK done\r\n"
    client.send(b"f LOGOUT\r\n")
    assert await client.rest() == b"* BYE bye\r\nf OK done\r\n"


async def test_start_tls_with_garbage_or_nobody(start: Any, until: Any) -> None:
    world = await start(replace(LIMITS, handshake=0.2))
    for octets in (b"not tls at all, not at all\r\n", b""):
        client = await world.client()
        assert await client.ask(b"a STARTTLS\r\n") == b"a OK begin\r\n"
        client.send(octets)
        assert b"OK" not in await client.rest()
    client = await world.client()
    await client.ask(b"a STARTTLS\r\n")
    client.writer.transport.abort()
    await until(lambda: not world.connections.open)
    assert world.bugs == []


async def test_a_client_that_says_its_last_first(start: Any, until: Any) -> None:
    world = await start()
    client = await world.client()
    client.send(b"a CHECK\r\nb NOOP\r\nc NOO")
    client.writer.write_eof()
    (connection,) = world.connections.open
    await until(lambda: connection._eof)
    world.gate.set()
    assert await client.rest() == b"a OK done\r\nb OK done\r\n"


@pytest.mark.parametrize(
    "octets", [b"", b"a NO", b"a IDLE\r\n", b"a AUTHENTICATE PLAIN\r\n", b"a APPEND x {9+}\r\nabc", b"a CHECK\r\n"]
)
@pytest.mark.parametrize("rude", [True, False])
async def test_a_client_gone_at_any_moment(start: Any, until: Any, octets: bytes, rude: bool) -> None:
    world = await start()
    client = await world.client()
    client.send(octets)
    (connection,) = world.connections.open
    if octets.endswith(b"\n"):
        await until(lambda: world.running == 1)
    if rude:
        client.writer.transport.abort()
    else:
        client.writer.close()
    if b"CHECK" in octets:
        await until(lambda: connection._eof or connection._lost)
        world.gate.set()
    await until(lambda: not world.connections.open)
    assert world.talks[0].gone == 1
    assert world.bugs == []


async def test_the_time_to_sign_in(start: Any) -> None:
    world = await start(replace(LIMITS, sign_in=0.1))
    client = await world.client()
    async with asyncio.timeout(60):
        while b"BYE" not in (line := await client.ask(b"a NOOP\r\n")):
            assert line == b"a OK done\r\n"
            await asyncio.sleep(0.01)
    assert world.bugs == []


async def test_times(start: Any, until: Any) -> None:
    world = await start(replace(LIMITS, idle=0.3, linger=0.1))
    signed_in, idling, sending, deaf = [await world.client() for _ in range(4)]
    world.pieces = 1000
    deaf.writer.transport.pause_reading()
    # In one piece with the sign-in: nothing comes in between, however slow this machine is.
    for one, then in (
        (signed_in, b""),
        (idling, b"i IDLE\r\n"),
        (sending, b"a APPEND x {900+}\r\nabc"),
        (deaf, b"e EXPUNGE\r\n"),
    ):
        one.send(b"l LOGIN u p\r\n" + then)
    assert (await signed_in.rest()).startswith(b"l OK done\r\n* BYE ")
    assert (await idling.rest()).startswith(b"l OK done\r\n+ idling\r\n* BYE ")
    assert await sending.rest() == b"l OK done\r\n"
    await until(lambda: not world.connections.open)
    assert world.bugs == []


async def test_one_that_sleeps_under_tls_does_not_hold_up_the_end(start: Any, until: Any) -> None:
    world = await start(replace(LIMITS, drop=0.02, linger=120.0))

    def connect() -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", world.tls_port), 10)
        return world.trust.wrap_socket(plain, server_hostname="localhost")

    # Nobody reads from this socket meanwhile, so nothing answers the end of TLS.
    with await asyncio.to_thread(connect) as client:
        await asyncio.to_thread(client.recv, 1000)
        (connection,) = world.connections.open
        await until(lambda: asyncio.get_running_loop().time() - connection._active > 0.02)
        await asyncio.wait_for(world.connections.end(within=120), 60)
        assert not world.connections.open
        assert await asyncio.to_thread(client.recv, 1000) == b"* BYE Server is shutting down\r\n"
    assert world.bugs == []


async def test_a_command_at_work_is_not_idle(start: Any) -> None:
    world = await start(replace(LIMITS, idle=0.05, linger=0.05))
    client = await world.client()
    client.send(b"l LOGIN u p\r\na CHECK\r\n")
    await asyncio.sleep(0.3)
    world.gate.set()
    assert await client.line() == b"l OK done\r\n"
    assert await client.line() == b"a OK done\r\n"


async def test_bye_waits_for_the_command_in_hand(start: Any, until: Any) -> None:
    world = await start()
    quiet, idling, busy = [await world.client() for _ in range(3)]
    await idling.ask(b"i IDLE\r\n")
    busy.send(b"c CHECK\r\nd NOOP\r\n")
    await until(lambda: world.running == 2)
    ending = asyncio.ensure_future(world.connections.end(within=60))
    assert await quiet.rest() == b"* BYE Server is shutting down\r\n"
    assert await idling.rest() == b"* BYE Server is shutting down\r\n"
    assert not ending.done()
    late = await world.client()
    assert await late.rest() == b""
    world.gate.set()
    assert await busy.rest() == b"c OK done\r\n* BYE Server is shutting down\r\n"
    await ending
    assert not world.connections.open


async def test_the_end_does_not_wait_for_ever(start: Any, until: Any) -> None:
    world = await start()
    client = await world.client()
    await client.ask(b"l LOGIN u p\r\n")
    client.send(b"a APPEND x {900+}\r\nabc")
    await until(lambda: world.running == 1)
    await asyncio.wait_for(world.connections.end(within=0.1), 60)
    assert await client.rest() == b""


async def test_a_bug_ends_the_connection_and_is_told(start: Any) -> None:
    world = await start()
    client = await world.client()
    client.send(b"a LOGIN broken p\r\n")
    assert await client.rest() == b"* BYE [SERVERBUG] Internal error, sorry\r\n"
    assert world.bugs == ["a bug"]


async def test_connections_per_address(start: Any, until: Any) -> None:
    world = await start(admission=2)
    first, second = await world.client(), await world.client()
    third = await world.client()
    assert await third.rest() == b""
    assert len(world.talks) == 2
    first.writer.close()
    await until(lambda: len(world.connections.open) == 1)
    fourth = await world.client()
    assert await fourth.ask(b"a NOOP\r\n") == b"a OK done\r\n"
    assert await second.ask(b"a NOOP\r\n") == b"a OK done\r\n"


async def test_old_tls_is_refused_without_noise(start: Any, until: Any) -> None:
    world = await start()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", world.tls_port, ssl=ssl.create_default_context())
    assert world.talks == [] or world.talks[0].gone <= 1
