"""Ports, clock and disk: values in, findings out; and the looks at this machine that give the values."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from homing.doctor import machine, probe
from homing.doctor.finding import State
from homing.doctor.machinechecks import (
    GIB,
    MIB,
    ClockState,
    DiskState,
    Reply,
    check_clock,
    check_disk,
    check_mx_port,
    check_port,
    check_way_out,
)
from tests.homing.doctor.made import HOST, setup
from tests.smtp.outbound import pki

GOOD, SHUT = Reply("127.0.0.1:25", "220 hello"), Reply("192.0.2.25:25", trouble="no answer within 5 s")


def test_ports() -> None:
    assert check_port("SMTP", GOOD, None).state is State.OK
    assert check_port("SMTP", SHUT, GOOD).state is State.BAD
    told = check_port("SMTP", GOOD, SHUT)
    assert (told.state, told.found) == (State.WARN, "127.0.0.1:25: 220 hello; 192.0.2.25:25: no answer within 5 s")
    assert check_port("SMTP", None, None).state is State.SKIPPED


def test_the_port_of_mx() -> None:
    for reply, state in (
        (Reply("a", f"220 {HOST} ESMTP"), State.OK),
        (Reply("a", "220 other.example ESMTP"), State.WARN),
        (Reply("a", "SSH-2.0-x"), State.BAD),
        (SHUT, State.WARN),
        (None, State.SKIPPED),
    ):
        assert check_mx_port(setup(), 25, reply).state is state


def test_the_way_out() -> None:
    assert check_way_out("", 25, None, "").state is State.SKIPPED
    assert check_way_out("b.example", 25, None, "").state is State.SKIPPED
    assert check_way_out("b.example", 25, GOOD, "").state is State.OK
    assert check_way_out("b.example", 25, SHUT, "").state is State.BAD
    assert check_way_out("b.example", 25, SHUT, "relay.example").state is State.SKIPPED


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (ClockState(None), State.SKIPPED),
        (ClockState(False), State.WARN),
        (ClockState(True, 0.01), State.OK),
        (ClockState(True, 5), State.WARN),
        (ClockState(True, 500), State.BAD),
    ],
)
def test_clock(found: ClockState, state: State) -> None:
    assert check_clock(found).state is state


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (DiskState(500 * GIB, 1000 * GIB), State.OK),
        (DiskState(3 * GIB, 1000 * GIB), State.OK),
        (DiskState(GIB, 1000 * GIB), State.WARN),
        (DiskState(100 * MIB, 1000 * GIB), State.BAD),
        (DiskState(800 * MIB, 4 * GIB), State.OK),
        (DiskState(10 * MIB, 4 * GIB), State.BAD),
        (DiskState(500 * GIB, 1000 * GIB, 10, 1000), State.WARN),
        (DiskState(500 * GIB, 1000 * GIB, 0, 0), State.OK),
    ],
)
def test_disk(found: DiskState, state: State) -> None:
    assert check_disk("data", found).state is state


def test_this_machine(tmp_path: Path) -> None:
    assert machine.disk_state(tmp_path / "not" / "there").size > 0
    assert machine.clock_state().error >= 0
    assert all(machine.is_public(one) for one in machine.own_addresses())


def test_certificate_files(tmp_path: Path) -> None:
    above = pki.authority()
    made = pki.server("mx.ours.example", "*.ours.example", by=above)
    chain, _ = made.files(tmp_path)
    roots = tmp_path / "roots.pem"
    roots.write_bytes(above.pem)
    assert machine.read_certificate(chain, HOST, roots, own=False).untrusted == ""
    roots.write_bytes(pki.authority().pem)
    stranger = machine.read_certificate(chain, HOST, roots, own=False)
    assert "not trusted" in stranger.untrusted
    assert stranger.chain == (made.der, above.der)
    # One that has expired is told by its dates, and is still its authority's.
    roots.write_bytes(above.pem)
    old, _ = pki.server(HOST, by=above, days=-1).files(tmp_path)
    assert machine.read_certificate(old, HOST, roots, own=False).untrusted == ""
    (tmp_path / "none.pem").write_text("nothing")
    with pytest.raises(ValueError, match="no certificate"):
        machine.read_certificate(tmp_path / "none.pem", HOST, roots, own=False)


async def served(said: bytes, context: ssl.SSLContext | None = None) -> asyncio.Server:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await reader.read(100)
        writer.close()

    return await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)


async def test_trying_a_port(tmp_path: Path) -> None:
    async with await served(b"220 mx.ours.example ESMTP\r\n") as plain:
        port = plain.sockets[0].getsockname()[1]
        assert (await probe.ask("127.0.0.1", port)).said == "220 mx.ours.example ESMTP"
        assert (await probe.ask("127.0.0.1", port, greets=False)).said == "answers"
        assert (await probe.ask("127.0.0.1", port, tls=True)).trouble
        # The first address that answers counts.
        reply = await probe.ask_any(["127.0.0.9", "127.0.0.1"], port)
        assert reply is not None
        assert reply.said.startswith("220")
    shut = await probe.ask("127.0.0.1", port)
    assert shut.trouble == "refused: nothing listens there"
    assert await probe.ask_any([], port) is None
    async with await served(b"* OK ready\r\n", pki.server(HOST).server(tmp_path)) as secure:
        port = secure.sockets[0].getsockname()[1]
        assert (await probe.ask("127.0.0.1", port, tls=True)).said == "* OK ready"
    async with await served(b"") as silent:
        port = silent.sockets[0].getsockname()[1]
        assert (await probe.ask("127.0.0.1", port, seconds=0.2)).trouble == "no answer within 0.2 s"
    async with await served(b"x" * 5000) as endless:
        port = endless.sockets[0].getsockname()[1]
        assert (await probe.ask("127.0.0.1", port)).trouble
