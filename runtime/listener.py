"""Listening sockets: binding them, with errors that a person can act on, and serving a protocol on several at once."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Protocol

from runtime.lifecycle import StartError
from runtime.limits import ConnectionLimit, plain_address
from runtime.tls import Tls, make_self_signed

__all__ = ["BindError", "Listening", "Tls", "bind", "listen", "make_self_signed", "port_of"]

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


def port_of(sockets: Sequence[socket.socket]) -> int:
    """The port that sockets of `bind` share."""
    name: tuple[str, int] = sockets[0].getsockname()
    return name[1]


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
) -> Listening:
    """Serve `factory()` on sockets of `bind`; with `tls` (`Tls.context`) each connection begins with a handshake.

    The protocol hears of a connection when its handshake is done. `handshakes` is for those before that: it is entered
    at accept and left at the handshake's end, and who has too many is closed without a word.
    """
    if tls is not None and handshakes is not None:
        acceptors = [_Acceptor(factory, sock, tls, backlog, handshake_seconds, handshakes) for sock in sockets]
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


class _Acceptor:
    """One listening socket whose connections are counted from accept on; asyncio's own server tells nobody of a
    connection before its handshake is done."""

    def __init__(
        self,
        factory: Callable[[], asyncio.BaseProtocol],
        sock: socket.socket,
        tls: ssl.SSLContext,
        backlog: int,
        seconds: float,
        limit: ConnectionLimit,
    ) -> None:
        self._factory = factory
        self._sock = sock
        self._tls = tls
        self._seconds = seconds
        self._limit = limit
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
            if not self._limit.try_enter(address):
                connection.close()
                continue
            handshake = self._loop.create_task(self._shake_hands(connection, address), name="handshake")
            self._handshakes.add(handshake)
            handshake.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, connection: socket.socket, address: str) -> None:
        try:
            # What goes wrong here, TLS or time, is the client's affair.
            with contextlib.suppress(OSError):
                await self._loop.connect_accepted_socket(
                    self._factory, connection, ssl=self._tls, ssl_handshake_timeout=self._seconds
                )
        finally:
            self._limit.leave(address)


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
