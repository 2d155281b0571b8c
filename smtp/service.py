"""The SMTP service: its listeners, and the life of everything behind them."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from pathlib import Path

import structlog

from identity.limiting.gate import Gate
from identity.model import Changes
from identity.port import Identity
from identity.port import Unavailable as IdentityUnavailable
from runtime.clock import Clock
from runtime.limits import Budget, ConnectionLimit, Networks
from runtime.listener import Listening, Proxied, bind, bind_unix, listen, listen_unix
from runtime.metrics import Metrics
from runtime.proxyheader import Client
from smtp.connection import Door
from smtp.figures import Figures
from smtp.handler import Handler
from smtp.intake import Streams
from smtp.journal import Journal
from smtp.listeners import Entrance, listeners
from smtp.policy.connections import Connections
from smtp.policy.limits import Limits
from smtp.reception import Reception
from smtp.server import SMTP
from smtp.settings import LiveSettings, SmtpSettings
from smtp.wire import replies
from storage.port import Storage

WATCH_SECONDS = 30.0
RETRY_SECONDS = 1.0
LAST_REPLY_SECONDS = 1.0
TRANSACTION_SECONDS = 3.0

log = structlog.get_logger("smtp")


class SmtpService:
    """Serves SMTP. ``start``, ``drain``, ``stop`` as runtime.lifecycle.Service has them.

    host: address to listen on, "" for all. hostname: what the server calls itself. domain: where mail for plain
    ``postmaster`` goes. tls: None switches STARTTLS and the listeners with TLS from the first octet off. ports: after
    ``start``, the port of each listener by name ("smtp", "submission", "submissions", "lmtp", and those of tables),
    0 for a Unix socket. entrances: the listeners, whether they listen or not.
    """

    def __init__(
        self,
        settings: SmtpSettings,
        *,
        host: str,
        hostname: str,
        domain: str,
        identity: Identity,
        storage: Storage,
        tls: ssl.SSLContext | None,
        clock: Clock,
        metrics: Metrics,
        gate: Gate | None = None,
    ) -> None:
        self._settings = settings
        self._host = host
        self._identity = identity
        self._tls = tls
        self.figures = Figures()
        self.figures.show(metrics)
        self.reception = Reception(
            storage, clock, max_workers=settings.max_workers, timeout=settings.timeout, queue_max=settings.queue_max
        )
        self._streams = Streams(settings.pool_size, settings.timeout)
        self._budget = Budget(settings.memory_max)
        self._journal = Journal(storage)
        limits = Limits(gate, self._journal, clock)
        self._connections = Connections(
            total=settings.connections_max,
            per_address=settings.connections_per_address,
            exempt=settings.exempt_networks,
            limits=limits,
        )
        self._connections.enabled = settings.enabled
        self._handshakes = ConnectionLimit(settings.connections_per_address, exempt=settings.exempt_networks)
        self.handler = Handler(
            settings,
            hostname=hostname,
            domain=domain,
            identity=identity,
            storage=storage,
            reception=self.reception,
            streams=self._streams,
            budget=self._budget,
            journal=self._journal,
            figures=self.figures,
            clock=clock,
            limits=limits,
        )
        self._door = Door(self.handler, self._connections, tls)
        self.entrances = tuple(
            Entrance(one, hostname, settings.exempt_networks) for one in listeners(settings, tls=tls is not None)
        )
        self._proxies = Networks(settings.proxy_networks)
        self._listening: list[Listening] = []
        self._watcher: asyncio.Task[None] | None = None
        self._restarting = asyncio.Lock()
        self._draining = False
        self._started = False
        self.ports: dict[str, int] = {}
        metrics.gauge("smtp_connections_open", "SMTP connections that are open", read=lambda: len(self._door.open))
        metrics.gauge(
            "smtp_emails_in_queue",
            "messages received and not yet stored",
            read=lambda: self.reception.emails_in_queue,
        )

    # -- the life of a process

    async def start(self) -> None:
        """Listen. Raises BindError."""
        await self._journal.start()
        await self._listen()
        self._started = True
        self._watcher = asyncio.create_task(self._watch(), name="smtp identity changes")

    async def drain(self) -> None:
        """No new connections; idle ones end with 421, and so do those that have begun a transaction and not its text
        within TRANSACTION_SECONDS; return when all texts have been answered."""
        self._connections.closing = self._draining = True
        await self._close_listeners()
        for connection in tuple(self._door.open):
            connection.retire(replies.SHUTTING_DOWN)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TRANSACTION_SECONDS):
                await self._door.empty.wait()
        for connection in tuple(self._door.open):
            connection.hurry()
        await self._door.empty.wait()
        await self.reception.drain()

    async def stop(self) -> None:
        self._connections.closing = self._draining = True
        await self._close_listeners()
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        for connection in tuple(self._door.open):
            connection.end(replies.SHUTTING_DOWN)
        await self.reception.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_REPLY_SECONDS):
                await self._door.empty.wait()
        for connection in tuple(self._door.open):
            connection.abort()
        await self._journal.stop()

    @property
    def running(self) -> bool:
        """Do listeners take new connections?"""
        return bool(self._listening) and self._connections.enabled

    @property
    def complete(self) -> bool:
        """Do all listeners listen that were asked for? None may be."""
        return self._started and len(self._listening) == len(self.entrances)

    async def restart(self) -> None:
        """Close the listeners and open them again on the same ports. Idle connections end with 421, others when
        their transaction has ended; none is lost in the middle of DATA. Raises BindError."""
        async with self._restarting:
            if self._draining:
                return
            await self._close_listeners()
            for connection in tuple(self._door.open):
                connection.retire(replies.SHUTTING_DOWN)
            await self._listen()

    # -- changes while running

    def live(self) -> LiveSettings:
        """What is in force."""
        return LiveSettings(
            max_workers=self.reception.max_workers,
            pool_size=self._streams.limit,
            timeout=self.reception.timeout,
            enabled=self._connections.enabled,
        )

    def apply(self, changed: LiveSettings) -> None:
        """Put in force what is given; the rest stays."""
        if changed.max_workers is not None:
            self.reception.max_workers = changed.max_workers
        if changed.pool_size is not None:
            self._streams.limit = changed.pool_size
        if changed.timeout is not None:
            self.reception.timeout = self._streams.timeout = changed.timeout
        if changed.enabled is not None:
            self._connections.enabled = changed.enabled

    # -- listeners

    async def _listen(self) -> None:
        for entrance in self.entrances:
            listening = await self._listen_at(entrance)
            self._listening.append(listening)
            self.ports[entrance.rules.name] = listening.port

    async def _listen_at(self, entrance: Entrance) -> Listening:
        one, name = entrance.listener, entrance.rules.name
        if one.socket is not None:
            path = Path(one.socket)
            return await listen_unix(self._factory(entrance), bind_unix(path, what=name.upper()), path)
        # A port that the system chose stays the same over a restart.
        port = self.ports.get(name, one.port or 0)
        sockets = bind(self._host if one.host is None else one.host, port, what=name.upper())
        return await listen(
            self._factory(entrance),
            sockets,
            tls=self._tls if entrance.rules.tls else None,
            handshakes=self._handshakes,
            proxied=Proxied(self._proxies, self._factory_for_client(entrance)) if one.proxy else None,
        )

    def _factory(self, entrance: Entrance) -> Callable[[], SMTP]:
        return lambda: SMTP(self._door, entrance)

    def _factory_for_client(self, entrance: Entrance) -> Callable[[Client | None], SMTP]:
        return lambda client: SMTP(self._door, entrance, client)

    async def _close_listeners(self) -> None:
        closing, self._listening = self._listening, []
        for listening in closing:
            await listening.close()

    # -- credentials that no longer hold

    async def _watch(self) -> None:
        seq: int | None = None
        while True:
            try:
                if seq is None:
                    seq = (await self._identity.changes_since(0, 0)).seq
                news = await self._identity.changes_since(seq, WATCH_SECONDS)
                await self._sign_out(news)
                seq = news.seq
            except IdentityUnavailable:
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                log.exception("watching for changes of identity")
                await asyncio.sleep(RETRY_SECONDS)

    async def _sign_out(self, news: Changes) -> None:
        """End the connections whose sign-in no longer holds."""
        revoked: dict[str, list[tuple[str, ...]]] = {}
        for change in news.changes:
            revoked.setdefault(change.account, []).append(change.revoked)
        for connection in tuple(self._door.open):
            principal = connection.peer_session.principal if connection.peer_session is not None else None
            if principal is None:
                continue
            named = revoked.get(principal.account, [])
            over = any(not credentials or principal.credential in credentials for credentials in named)
            if not over and news.reset:
                with contextlib.suppress(IdentityUnavailable):
                    over = not await self._identity.still_valid(principal)
            if over:
                connection.end(replies.SIGNED_OUT)
