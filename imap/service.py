"""The IMAP service: its listeners, and the life of everything behind them."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from dataclasses import dataclass, replace

from identity.limiting.gate import Gate
from identity.port import Identity
from identity.scram_offer import ScramOffer
from imap.commands import table
from imap.connection import Connections
from imap.figures import Figures
from imap.hub import Hub
from imap.limits import ConnectionLimits
from imap.readings import Readings
from imap.session import House, Limits, PlainSignIn, Session
from imap.signins import SignIns
from imap.wire.limits import BEFORE_SIGN_IN, SIGNED_IN
from runtime.clock import Clock
from runtime.lifecycle import DRAIN_SECONDS
from runtime.limits import LOOPBACK, ConnectionLimit, Networks
from runtime.listener import Listening, Proxied, bind, listen
from runtime.metrics import Metrics
from storage.port import Storage

MIB = 1024 * 1024
STOP_SECONDS = 1.0
"""How long `stop` waits for the last words to be sent."""


@dataclass(frozen=True, slots=True)
class ImapSettings:
    """What the composition root's settings say of IMAP.

    host: "" for all addresses. port (STARTTLS) and tls_port (TLS from the first octet): None is off, 0 lets the system
    choose. plain_sign_in: "never", "loopback" or "always". scram: SCRAM-SHA-256 is offered where all have keys for it.
    message_max: octets of one message in APPEND. message_limit: messages that one command works on, or
    None.
    connections_max: of all addresses together; connections_per_address: but for exempt_networks. sessions_per_account:
    signed in at once. idle_seconds: of silence, at least 1,800 (RFC 3501 §5.4). version: told in ID, "" for none.
    proxied: listeners ("imap", "imaps") whose connections come from proxies in proxy_networks. record_reads: it is
    recorded in a message's trace that it was read. administrator: a URI by which the server's administrator is reached,
    which is told who asks (RFC 5464 §6.2.1).
    """

    host: str = ""
    port: int | None = 2143
    tls_port: int | None = 2993
    plain_sign_in: str = "loopback"
    scram: bool = False
    message_max: int = 50 * MIB
    message_limit: int | None = None
    connections_max: int = 5000
    connections_per_address: int = 100
    exempt_networks: tuple[str, ...] = LOOPBACK
    sessions_per_account: int = 100
    idle_seconds: float = 1860.0
    name: str = "Homing"
    version: str = ""
    proxied: tuple[str, ...] = ()
    proxy_networks: tuple[str, ...] = ()
    record_reads: bool = False
    administrator: str | None = None


@dataclass(frozen=True, slots=True)
class ImapStats:
    """active_connections: open; active_sessions: of those, signed in."""

    active_connections: int
    active_sessions: int


class Admission(ConnectionLimit):
    """The limit per address, one for all of them together, from which nobody is exempt, and how fast they may come."""

    def __init__(
        self, per_address: int, total: int, *, exempt: Iterable[str], gate: Gate | None, figures: Figures
    ) -> None:
        super().__init__(per_address, exempt=exempt)
        self._most = total
        self._gate = gate
        self._figures = figures

    def try_enter(self, address: str) -> bool:
        entered = self.total < self._most and self._fast_enough(address) and super().try_enter(address)
        self._figures.connections_refused += not entered
        return entered

    def _fast_enough(self, address: str) -> bool:
        return self._gate is None or self._gate.connect("imap", address) is None


class ImapService:
    """Serves IMAP. `start`, `drain`, `stop` as runtime.lifecycle.Service has them.

    tls: None switches STARTTLS and the TLS listener off. gate: None bans nobody. ports: after `start`, the port of each
    listener by name ("imap", "imaps").
    """

    def __init__(
        self,
        settings: ImapSettings,
        *,
        identity: Identity,
        storage: Storage,
        tls: ssl.SSLContext | None,
        clock: Clock,
        metrics: Metrics | None = None,
        gate: Gate | None = None,
    ) -> None:
        self._settings = settings
        self._tls = tls
        self._hub = Hub(storage)
        self._sign_ins = SignIns(identity, settings.sessions_per_account)
        self._readings = Readings(storage) if settings.record_reads else None
        house = House(
            identity,
            storage,
            self._hub,
            self._sign_ins,
            clock,
            table(),
            Limits(message=settings.message_max, messages=settings.message_limit),
            PlainSignIn(settings.plain_sign_in),
            settings.name,
            settings.version,
            gate,
            self._readings,
            scram=ScramOffer(identity, clock, settings.scram),
            administrator=settings.administrator,
        )
        self._connections = Connections(
            lambda out: Session(house, out),
            tls=tls,
            limits=ConnectionLimits(
                before=BEFORE_SIGN_IN,
                after=replace(SIGNED_IN, message=settings.message_max),
                idle=settings.idle_seconds,
            ),
            admission=Admission(
                settings.connections_per_address,
                settings.connections_max,
                exempt=settings.exempt_networks,
                gate=gate,
                figures=house.figures,
            ),
        )
        self._handshakes = ConnectionLimit(settings.connections_per_address, exempt=settings.exempt_networks)
        self._proxied = Proxied(Networks(settings.proxy_networks), self._connections.proxied)
        self._listening: list[Listening] = []
        self.ports: dict[str, int] = {}
        if metrics is not None:
            house.figures.show(metrics)
            metrics.gauge("imap_connections_open", "IMAP connections that are open", read=self._open)
            metrics.gauge(
                "imap_sessions_open", "IMAP sessions that are signed in", read=lambda: self._sign_ins.sessions
            )

    async def start(self) -> None:
        """Listen. Raises BindError."""
        wanted: list[tuple[str, int | None, ssl.SSLContext | None]] = [("imap", self._settings.port, None)]
        if self._tls is not None:
            wanted.append(("imaps", self._settings.tls_port, self._tls))
        bound = [
            (key, bind(self._settings.host, port, what=key.upper()), tls)
            for key, port, tls in wanted
            if port is not None
        ]
        await self._hub.start()
        if self._readings is not None:
            await self._readings.start()
        await self._sign_ins.start()
        for key, sockets, tls in bound:
            listening = await listen(
                self._connections.protocol,
                sockets,
                tls=tls,
                handshakes=self._handshakes,
                proxied=self._proxied if key in self._settings.proxied else None,
            )
            self._listening.append(listening)
            self.ports[key] = listening.port

    async def drain(self) -> None:
        """No new connections; each one finishes its command and is told BYE."""
        await self._close_listeners()
        await self._connections.end(within=DRAIN_SECONDS)

    async def stop(self) -> None:
        """Let go of everything."""
        await self._close_listeners()
        await self._connections.end(within=STOP_SECONDS)
        if self._readings is not None:
            await self._readings.stop()
        await self._sign_ins.stop()
        await self._hub.stop()

    @property
    def stats(self) -> ImapStats:
        """As they are now."""
        return ImapStats(len(self._connections.open), self._sign_ins.sessions)

    def _open(self) -> float:
        return len(self._connections.open)

    async def _close_listeners(self) -> None:
        for listening in self._listening:
            await listening.close()
        self._listening.clear()
