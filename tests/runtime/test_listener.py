from __future__ import annotations

import asyncio
import socket
import ssl
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest
import uvloop

from runtime.lifecycle import StartError
from runtime.limits import ConnectionLimit
from runtime.listener import BindError, Listening, Tls, bind, listen, make_self_signed, port_of

Eventually = Callable[[Callable[[], object]], Awaitable[None]]


class Greeter(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        out = cast(asyncio.Transport, transport)
        out.write(str(out.get_extra_info("peername")[0]).encode() + b"\n")
        out.close()


async def greeted(host: str, listening: Listening, tls: ssl.SSLContext | None = None) -> tuple[bytes, bytes | None]:
    """What the server said, and the certificate that it showed."""
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(host, listening.port, ssl=tls)
        shown = writer.get_extra_info("ssl_object")
        certificate = None if shown is None else shown.getpeercert(binary_form=True)
        line = await reader.readline()
        writer.close()
        return line, certificate


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def test_all_addresses_and_plain_peers() -> None:
    listening = await listen(Greeter, bind("", 0, what="test"))
    assert (await greeted("127.0.0.1", listening))[0] == b"127.0.0.1\n"
    if len(bind("", 0, what="test")) == 2:
        assert (await greeted("::1", listening))[0] == b"::1\n"
    await listening.close()


def test_a_port_in_use_is_told() -> None:
    held = bind("127.0.0.1", 0, what="first")
    with pytest.raises(BindError, match=rf"SMTP: port {port_of(held)} on 127\.0\.0\.1 is in use"):
        bind("127.0.0.1", port_of(held), what="SMTP")
    for one in held:
        one.close()


def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(BindError, match="does not have that address"):
        bind("192.0.2.1", 0, what="SMTP")


def test_what_is_no_address_is_told() -> None:
    with pytest.raises(BindError, match="is not an address of this machine"):
        bind("no such host.invalid", 0, what="SMTP")


def test_a_privileged_port_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(BindError, match="CAP_NET_BIND_SERVICE"):
        bind("127.0.0.1", 25, what="SMTP")


def test_a_self_signed_certificate_is_made_once(tmp_path: Path) -> None:
    names = ["example.org", "localhost", "127.0.0.1", "::1"]
    cert, key = make_self_signed(tmp_path / "tls", names)
    before = cert.read_bytes(), key.read_bytes()
    assert make_self_signed(tmp_path / "tls", names) == (cert, key)
    assert (cert.read_bytes(), key.read_bytes()) == before
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


async def test_the_self_signed_certificate_is_good_for_its_names(tmp_path: Path) -> None:
    cert, key = make_self_signed(tmp_path, ["example.org", "localhost", "127.0.0.1", "::1"])
    listening = await listen(Greeter, bind("", 0, what="test"), tls=Tls(cert, key).context)
    trust = ssl.create_default_context(cafile=str(cert))
    for host in ("localhost", "127.0.0.1"):
        assert (await greeted(host, listening, trust))[0] == b"127.0.0.1\n"
    await listening.close()


def exchange(tmp_path: Path, name: str) -> tuple[Path, Path]:
    return make_self_signed(tmp_path / name, [name, "localhost"])


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_replaced_files_are_taken_up(tmp_path: Path, loop_factory: object, eventually: Eventually) -> None:
    async def scene() -> None:
        cert, key = exchange(tmp_path, "one.test")
        told: list[str] = []
        tls = Tls(cert, key, every=0.01, on_change=told.append)
        await tls.start()
        listening = await listen(Greeter, bind("127.0.0.1", 0, what="test"), tls=tls.context)
        first = (await greeted("127.0.0.1", listening, trusting()))[1]
        assert first == ssl.PEM_cert_to_DER_cert(cert.read_text())

        new_cert, new_key = exchange(tmp_path, "two.test")
        expected = ssl.PEM_cert_to_DER_cert(new_cert.read_text())
        # Half of the exchange: the pair does not fit, and the old one stays in force.
        new_cert.replace(cert)
        await eventually(lambda: told)
        assert "stays in force" in told[0]
        assert (await greeted("127.0.0.1", listening, trusting()))[1] == first
        new_key.replace(key)
        await eventually(lambda: "was replaced" in told[-1])
        assert (await greeted("127.0.0.1", listening, trusting()))[1] == expected
        await listening.close()
        await tls.stop()

    with asyncio.Runner(loop_factory=loop_factory) as runner:  # type: ignore[arg-type]  # a parametrized factory
        runner.run(scene())


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_handshakes_count_from_accept_on(tmp_path: Path, loop_factory: object, eventually: Eventually) -> None:
    async def scene() -> None:
        limit = ConnectionLimit(2, exempt=())
        listening = await listen(
            Greeter,
            bind("127.0.0.1", 0, what="test"),
            tls=Tls(*exchange(tmp_path, "one.test")).context,
            handshake_seconds=60,
            handshakes=limit,
        )
        impatient = await listen(
            Greeter,
            bind("127.0.0.1", 0, what="test"),
            tls=Tls(*exchange(tmp_path, "one.test")).context,
            handshake_seconds=0.05,
            handshakes=limit,
        )
        # A connection leaves the count when its handshake is done.
        for _ in range(5):
            assert (await greeted("127.0.0.1", listening, trusting()))[0] == b"127.0.0.1\n"
        await eventually(lambda: limit.total == 0)

        silent = [await asyncio.open_connection("127.0.0.1", listening.port) for _ in range(3)]
        await eventually(lambda: limit.total == 2)
        async with asyncio.timeout(30):
            # One too many is closed at once.
            assert await silent[2][0].read() == b""
            assert limit.total == 2
            silent[0][1].write(b"no TLS at all\r\n")
            await silent[0][0].read()
            await eventually(lambda: limit.total == 1)
            # When its time is over, so is a handshake.
            late = await asyncio.open_connection("127.0.0.1", impatient.port)
            assert await late[0].read() == b""
        late[1].close()
        await eventually(lambda: limit.total == 1)
        silent[1][1].close()
        await eventually(lambda: limit.total == 0)
        assert (await greeted("127.0.0.1", listening, trusting()))[0] == b"127.0.0.1\n"
        for _, writer in silent:
            writer.close()
        port = listening.port
        await impatient.close()
        await listening.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        # The port is free again.
        for one in bind("127.0.0.1", port, what="test"):
            one.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:  # type: ignore[arg-type]  # a parametrized factory
        runner.run(scene())


async def test_old_protocol_versions_are_refused(tmp_path: Path) -> None:
    tls = Tls(*exchange(tmp_path, "one.test"))
    listening = await listen(Greeter, bind("127.0.0.1", 0, what="test"), tls=tls.context)
    old = trusting()
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await greeted("127.0.0.1", listening, old)
    await listening.close()


@pytest.mark.parametrize(
    ("cert", "key", "sentence"),
    [
        ("absent.pem", "key.pem", "absent.pem does not exist"),
        ("cert.pem", "absent.pem", "absent.pem does not exist"),
        ("cert.pem", "cert.pem", "cannot be used together"),
    ],
)
def test_unusable_files_are_told(tmp_path: Path, cert: str, key: str, sentence: str) -> None:
    make_self_signed(tmp_path, ["one.test"])
    with pytest.raises(StartError, match=sentence):
        Tls(tmp_path / cert, tmp_path / key)
