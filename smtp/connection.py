"""A connection's life around its commands: who is let in, how it ends, and how a reply reaches the client."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import cast

from runtime.limits import plain_address
from runtime.proxyheader import Client
from runtime.tls import channel_binding
from smtp.handler import Handler
from smtp.listeners import Entrance
from smtp.policy.connections import Connections
from smtp.session import Session, TlsFacts, Transaction
from smtp.stream import Gone, Overlong, Stream
from smtp.textstream import Chunks, TextStream
from smtp.wire import replies
from smtp.wire.replies import Reply


@dataclass(slots=True)
class Door:
    """What all connections share. tls: None where there is no certificate. open: every connection that lives; empty:
    set while there is none."""

    handler: Handler
    connections: Connections
    tls: ssl.SSLContext | None
    open: set[Connection] = field(default_factory=set)
    empty: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.empty.set()

    def enter(self, connection: Connection) -> None:
        self.open.add(connection)
        self.empty.clear()

    def leave(self, connection: Connection) -> None:
        self.open.discard(connection)
        if not self.open:
            self.empty.set()


class Answer(Exception):
    """Ends a command with a reply from inside of it."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class Connection(TextStream):
    """One connection; a subclass has its commands. client: whom a proxy spoke for, None where the peer of the socket is
    the client."""

    def __init__(self, door: Door, entrance: Entrance, client: Client | None = None) -> None:
        TextStream.__init__(self, door.handler.settings)
        self._door = door
        self._entrance = entrance
        self._rules = entrance.rules
        self._client = client
        self._farewell: Reply | None = None
        self._at_once = False
        self._hurried = False
        self._in_text = False
        self._counted = False
        self.peer_session: Session | None = None
        self.transaction = Transaction()
        # A text of which some chunks have come.
        self._chunks: Chunks | None = None
        self._handler_coroutine: asyncio.Task[None] | None = None

    @abstractmethod
    async def _handle_client(self) -> None:
        """Greet, and run what the client says to its end."""

    # -- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._attach(cast(asyncio.Transport, transport))
        name = transport.get_extra_info("peername")
        if name is None:
            # It is gone already; without an address nobody is let in.
            self.abort()
            return
        # A Unix socket's peer has no address.
        peer, port = (plain_address(name[0]), name[1]) if isinstance(name, tuple) else ("", 0)
        over_tcp = bool(peer)
        if self._client is not None:
            peer, port = self._client.address, self._client.port
        if over_tcp:
            # A reply of several packets would lose 40 ms; uvloop does this, asyncio for some sockets only.
            with contextlib.suppress(OSError):
                transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        refusal = self._enter(peer)
        proxied = self._entrance.listener.proxy
        session = Session(peer, port, self._rules, self._door.handler.now(), proxied=proxied)
        self._door.handler.connected(session, refusal)
        if refusal is not None:
            self._write(refusal.wire)
            self._close()
            return
        self._counted = True
        self.peer_session = session
        if self._rules.tls:
            self.peer_session.tls = tls_facts(transport)
        self._door.enter(self)
        self._set_deadline(self._settings.command_timeout)
        self._handler_coroutine = self.loop.create_task(self._handle_client())

    def _enter(self, peer: str) -> Reply | None:
        """Room in all, then on this listener."""
        refusal = self._door.connections.enter(peer)
        if refusal is None and (refusal := self._entrance.enter(peer, told=self._client is not None)) is not None:
            self._door.connections.leave(peer)
        return refusal

    def eof_received(self) -> bool:
        stays = Stream.eof_received(self)
        # TLS has no half that could stay open.
        return stays and self.peer_session is not None and self.peer_session.tls is None

    def connection_lost(self, error: Exception | None) -> None:
        Stream.connection_lost(self, error)
        self._door.leave(self)
        if self._counted and self.peer_session is not None:
            self._counted = False
            self._door.connections.leave(self.peer_session.peer)
            self._entrance.leave(self.peer_session.peer)
        if self._handler_coroutine is not None:
            self._handler_coroutine.cancel()

    # -- from outside: ending connections

    def retire(self, reply: Reply) -> None:
        """End the connection with this reply once no transaction is open: at once where none is."""
        self._farewell = self._farewell or reply
        if self._waiting and self.transaction.mail is None:
            self._say_farewell()

    def hurry(self) -> None:
        """Of a connection that retires: wait for its open transaction no longer, unless its text is coming in. Before
        the text nothing is lost that a client would not send again."""
        self._hurried = True
        if self._waiting and not (self._in_text or self._chunks is not None):
            self._say_farewell()

    def end(self, reply: Reply) -> None:
        """End the connection now; a message that is being committed is still answered first."""
        self._farewell = self._farewell or reply
        self._at_once = True
        if self._waiting:
            self._say_farewell()

    def _late(self) -> None:
        self._farewell = replies.TIMED_OUT
        self._say_farewell()

    def _say_farewell(self) -> None:
        if self._farewell is not None:
            self._output.append(self._farewell.wire)
        self._close()

    # -- input and output

    async def _more(self) -> None:
        if self._at_once and self._farewell is not None:
            self._output.append(self._farewell.wire)
            raise Gone
        await Stream._more(self)

    async def _ask(self, challenge: bytes) -> bytes:
        """Send a 334 and return the client's line (RFC 4954 §4)."""
        self._output.append(replies.challenge(challenge).wire)
        self._set_deadline(self._settings.command_timeout)
        while True:
            try:
                line = self._line()
            except Overlong:
                raise Answer(replies.AUTH_LINE_TOO_LONG) from None
            if line is not None:
                return line
            await self._more()

    def _reply(self, reply: Reply) -> None:
        """Answer a command; the octets leave with ``_flush``. Too many refusals end the connection."""
        session = self._session
        if reply.code >= 500:
            session.errors += 1
            if session.errors > self._settings.errors_max:
                reply = replies.TOO_MANY_ERRORS
                self._door.handler.limits.abuse(session)
        self._output.append(reply.wire)
        if reply.closes:
            raise Gone

    @property
    def _may_go(self) -> bool:
        """May a connection that retires end before its next command?"""
        if self._at_once or self.transaction.mail is None:
            return True
        return self._hurried and self._chunks is None

    @property
    def _session(self) -> Session:
        assert self.peer_session is not None
        return self.peer_session


def tls_facts(transport: asyncio.BaseTransport) -> TlsFacts:
    """Of a transport that is under TLS."""
    connection = transport.get_extra_info("ssl_object")
    cipher = (connection.cipher() or ("unknown",))[0]
    return TlsFacts(connection.version() or "TLS", cipher, channel_binding(connection))
