"""Listening sockets: binding them, with errors that a person can act on, and serving a protocol on several at once."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from runtime import proxyheader
from runtime.lifecycle import StartError
from runtime.limits import ConnectionLimit, Networks, plain_address
from runtime.proxyheader import Client
from runtime.tls import Tls, make_self_signed

__all__ = [
    "BindError",
    "Listening",
    "Proxied",
    "Tls",
    "bind",
    "bind_unix",
    "listen",
    "listen_unix",
    "make_self_signed",
    "port_of",
]

UNIX_MODE = 0o660
"""Who may connect to a Unix socket, within the folder that it is in: its owner and group."""
_ATTEMPTS = 20
_NO_FILES_SECONDS = 1.0


class BindError(StartError):
    """An address cannot be listened on, and what to do about it."""


def bind(host: str, port: int, *, what: str) -> list[socket.socket]:
    """Bind (and do not yet listen on) `host`:`port`, for `what` ("SMTP") in errors. Raises BindError.

    The empty host means all addresses: one IPv4 socket and, where the machine has IPv6, one for that alone, so that
    an IPv4 peer is always seen by its plain address. Port 0 lets the system choose, the same for all.
    """
    families = _places(host, what)
    for attempt in range(_ATTEMPTS):
        sockets: list[socket.socket] = []
        chosen = port
        try:
            for family, address in families:
                sockets.append(_bind_one(family, address, chosen))
                chosen = port_of(sockets)
            return sockets
        except OSError as error:
            for opened in sockets:
                opened.close()
            # A port that the system chose for IPv4 can be in use on IPv6: choose again.
            if port == 0 and sockets and error.errno == errno.EADDRINUSE and attempt + 1 < _ATTEMPTS:
                continue
            raise BindError(_sentence(error, host, chosen, what)) from error
    raise BindError(f"{what}: no free port was found.")


def bind_unix(path: Path, *, what: str) -> socket.socket:
    """Bind (and do not yet listen on) a Unix socket, for `what` in errors. One that a process left behind is replaced;
    one that somebody answers at is not. Raises BindError."""
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _left_behind(path):
            path.unlink()
        opened.bind(str(path))
        path.chmod(UNIX_MODE)
        opened.setblocking(False)
    except OSError as error:
        opened.close()
        if error.errno == errno.EADDRINUSE:
            raise BindError(f"{what}: {path} is in use by another program, or is no socket.") from error
        raise BindError(f"{what}: {path} cannot be listened on: {error.strerror or error}.") from error
    return opened


def _left_behind(path: Path) -> bool:
    """Is there a socket that nobody listens on?"""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
    return False


def port_of(sockets: Sequence[socket.socket]) -> int:
    """The port that sockets of `bind` share."""
    name: tuple[str, int] = sockets[0].getsockname()
    return name[1]


@dataclass(frozen=True, slots=True)
class Proxied:
    """A listener behind proxies: each connection comes from one of `networks` and begins with a header of the PROXY
    protocol. `factory` makes the protocol for the client that the header names (None: the proxy itself)."""

    networks: Networks
    factory: Callable[[Client | None], asyncio.BaseProtocol]


class _Closes(Protocol):
    def close(self) -> None: ...


class Listening:
    """A protocol served on some sockets. `port` is theirs."""

    def __init__(self, servers: Sequence[_Closes], port: int) -> None:
        self._servers = servers
        self.port = port

    async def close(self) -> None:
        """Accept no more; connections that are open live on. May be repeated."""
        for server in self._servers:
            server.close()
        # asyncio.Server.wait_closed waits for the connections too, and that is not for here.
        await asyncio.sleep(0)


async def listen(
    factory: Callable[[], asyncio.BaseProtocol],
    sockets: Sequence[socket.socket],
    *,
    tls: ssl.SSLContext | None = None,
    backlog: int = 1024,
    handshake_seconds: float = 15.0,
    handshakes: ConnectionLimit | None = None,
    proxied: Proxied | None = None,
) -> Listening:
    """Serve `factory()` on sockets of `bind`; with `tls` (`Tls.context`) each connection begins with a handshake.

    The protocol hears of a connection when its handshake is done. `handshakes` is for those before that: it is entered
    at accept and left at the handshake's end, and who has too many is closed without a word. With `proxied` the header
    comes before the handshake, its factory is used instead of `factory`, and limits see the client's address.
    """
    if proxied is not None or (tls is not None and handshakes is not None):
        acceptors = [_Acceptor(factory, sock, tls, backlog, handshake_seconds, handshakes, proxied) for sock in sockets]
        return Listening(acceptors, port_of(sockets))
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(
            factory,
            sock=sock,
            ssl=tls,
            backlog=backlog,
            ssl_handshake_timeout=None if tls is None else handshake_seconds,
        )
        for sock in sockets
    ]
    return Listening(servers, port_of(sockets))


async def listen_unix(
    factory: Callable[[], asyncio.BaseProtocol], sock: socket.socket, path: Path, *, backlog: int = 1024
) -> Listening:
    """Serve `factory()` on a socket of `bind_unix`; its path goes when it is closed. Its port is 0."""
    server = await asyncio.get_running_loop().create_unix_server(factory, sock=sock, backlog=backlog)
    return Listening([_UnixServer(server, path)], 0)


class _UnixServer:
    def __init__(self, server: asyncio.Server, path: Path) -> None:
        self._server = server
        self._path = path
        self._closed = False

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._server.close()
            self._path.unlink(missing_ok=True)


class _Acceptor:
    """One listening socket whose connections are counted from accept on; asyncio's own server tells nobody of a
    connection before its handshake is done, and reads no header before it."""

    def __init__(
        self,
        factory: Callable[[], asyncio.BaseProtocol],
        sock: socket.socket,
        tls: ssl.SSLContext | None,
        backlog: int,
        seconds: float,
        limit: ConnectionLimit | None,
        proxied: Proxied | None,
    ) -> None:
        self._factory = factory
        self._sock = sock
        self._tls = tls
        self._seconds = seconds
        self._limit = limit
        self._proxied = proxied
        self._loop = asyncio.get_running_loop()
        self._handshakes: set[asyncio.Task[None]] = set()
        sock.listen(backlog)
        self._accepting = self._loop.create_task(self._accept(), name="accept")
        # Not before the loop has let go of it.
        self._accepting.add_done_callback(lambda _task: sock.close())

    def close(self) -> None:
        """Handshakes in hand go on; their protocols decide."""
        # The loop may keep the socket for another turn; the port is free at once.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._accepting.cancel()

    async def _accept(self) -> None:
        while True:
            try:
                connection, name = await self._loop.sock_accept(self._sock)
            except ConnectionError:
                continue
            except OSError:
                # No file is left: who waits in the backlog is taken when there is one again.
                await asyncio.sleep(_NO_FILES_SECONDS)
                continue
            address = plain_address(str(name[0]))
            if self._proxied is not None:
                begun = self._hand_on(self._proxied, connection, address)
            elif self._enter(address):
                begun = self._shake_hands(self._factory, connection, address)
            else:
                connection.close()
                continue
            handshake = self._loop.create_task(begun, name="handshake")
            self._handshakes.add(handshake)
            handshake.add_done_callback(self._handshakes.discard)

    def _enter(self, address: str) -> bool:
        return self._limit is None or self._limit.try_enter(address)

    async def _hand_on(self, proxied: Proxied, connection: socket.socket, address: str) -> None:
        """Read the header, then go on as with any connection, of the client's address."""
        client: Client | None = None
        # proxy-protocol.txt §2: from known proxies only, and nothing is guessed about what is no header.
        known = address in proxied.networks
        if known:
            try:
                async with asyncio.timeout(self._seconds):
                    client = await _read_header(self._loop, connection)
            except (OSError, TimeoutError, proxyheader.BadHeader):
                known = False
        place = address if client is None else client.address
        if not known or not self._enter(place):
            connection.close()
            return
        await self._shake_hands(lambda: proxied.factory(client), connection, place)

    async def _shake_hands(
        self, factory: Callable[[], asyncio.BaseProtocol], connection: socket.socket, address: str
    ) -> None:
        try:
            # What goes wrong here, TLS or time, is the client's affair.
            with contextlib.suppress(OSError):
                await self._loop.connect_accepted_socket(
                    factory,
                    connection,
                    ssl=self._tls,
                    ssl_handshake_timeout=None if self._tls is None else self._seconds,
                )
        finally:
            if self._limit is not None:
                self._limit.leave(address)


async def _read_header(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> Client | None:
    """The client of the header with which the connection begins; not one octet behind the header is read. Raises
    BadHeader, OSError."""
    first = await _exactly(loop, connection, proxyheader.FIRST)
    if proxyheader.is_v2(first):
        head = first + await _exactly(loop, connection, proxyheader.V2_HEAD - len(first))
        client = proxyheader.read_v2(head, await _exactly(loop, connection, proxyheader.v2_length(head)))
        return _plain(client)
    line = bytearray(first)
    # Octet after octet: how long the line is shows at its end alone, and what follows is for TLS or the protocol.
    while not line.endswith(b"\r\n") and len(line) < proxyheader.V1_MAX:
        line += await _exactly(loop, connection, 1)
    return _plain(proxyheader.read_v1(bytes(line)))


def _plain(client: Client | None) -> Client | None:
    return None if client is None else Client(plain_address(client.address), client.port)


async def _exactly(loop: asyncio.AbstractEventLoop, connection: socket.socket, octets: int) -> bytes:
    got = bytearray()
    while len(got) < octets:
        some = await loop.sock_recv(connection, octets - len(got))
        if not some:
            raise ConnectionResetError("the connection ended within its header")
        got += some
    return bytes(got)


def _places(host: str, what: str) -> list[tuple[socket.AddressFamily, str]]:
    if host == "":
        return [(socket.AF_INET, "0.0.0.0"), *([(socket.AF_INET6, "::")] if _has_ipv6() else [])]
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise BindError(f"{what}: {host!r} is not an address of this machine ({error.strerror}).") from error
    return list(dict.fromkeys((family, str(place[0])) for family, _, _, _, place in found))


def _has_ipv6() -> bool:
    if not socket.has_ipv6:
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _bind_one(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    # The protocol by its number: without it asyncio (unlike uvloop) does not set TCP_NODELAY on what it accepts.
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind((address, port))
        opened.setblocking(False)
        # Bound alone, two programs can hold one port: only listening shows that it is taken.
        opened.listen(1)
    except BaseException:
        opened.close()
        raise
    return opened


def _sentence(error: OSError, host: str, port: int, what: str) -> str:
    place = f"{what}: port {port}" + (f" on {host}" if host else "")
    if error.errno == errno.EADDRINUSE:
        return f"{place} is in use by another program; stop that, or choose another port in the settings."
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"{place} is below 1024 and needs a right that this process (uid {os.geteuid()}) lacks: "
            "grant CAP_NET_BIND_SERVICE, lower net.ipv4.ip_unprivileged_port_start, or choose a higher port."
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{place}: this machine does not have that address."
    return f"{place} cannot be listened on: {error.strerror or error}."
