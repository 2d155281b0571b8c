"""Which listeners there are, as the settings say, and what the connections of one have in common."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from runtime.limits import ConnectionLimit, Networks, is_loopback
from smtp.session import Rules
from smtp.settings import ListenerSettings, SmtpSettings
from smtp.wire import replies
from smtp.wire.replies import Reply


@dataclass(frozen=True, slots=True)
class Listener:
    """One listener. host: None for the one of all. port: None for a Unix socket, whose path is ``socket``; 0 lets the
    system choose. networks: who may connect, None for everybody. proxy: a header of the PROXY protocol comes first.
    connections, per_address: bounds of its own, None for none."""

    rules: Rules
    port: int | None
    host: str | None = None
    socket: str | None = None
    networks: tuple[str, ...] | None = None
    proxy: bool = False
    connections: int | None = None
    per_address: int | None = None

    @property
    def name(self) -> str:
        return self.rules.name

    @property
    def security(self) -> str:
        """For people: how a connection is secured and who may use it."""
        said = ["TLS"] if self.rules.tls else ["STARTTLS"] if self.rules.starttls else ["no TLS"]
        if self.rules.auth == "required":
            said.append("sign-in required")
        elif self.rules.auth == "off" and self.rules.kind != "lmtp":
            said.append("no sign-in")
        if self.networks is not None and self.socket is None:
            said.append("from " + ", ".join(self.networks))
        if self.proxy:
            said.append("PROXY protocol")
        return ", ".join(said)


def listeners(settings: SmtpSettings, *, tls: bool) -> tuple[Listener, ...]:
    """Those of the simple form that are switched on, then the tables; a table with the name of one of those replaces
    it. tls: there is a certificate; without one those with TLS from the first octet are left out, and no other
    offers STARTTLS."""
    tables = {table.name: _of_table(table, settings) for table in settings.listeners}
    made = {one.name: one for one in _simple(settings)} | tables
    return tuple(one for one in made.values() if tls or not one.rules.tls)


def _simple(settings: SmtpSettings) -> Iterable[Listener]:
    behind = settings.proxy_listeners
    rows: tuple[tuple[Rules, int | None], ...] = (
        (Rules("smtp"), settings.port),
        (Rules("submission", kind="submission", auth="required"), settings.submission_port),
        (Rules("submissions", kind="submission", tls=True, auth="required"), settings.submissions_port),
    )
    for rules, port in rows:
        if port is not None:
            yield Listener(rules, port, proxy=rules.name in behind)
    if settings.lmtp_port is not None:
        networks = settings.lmtp_networks
        yield Listener(
            Rules("lmtp", kind="lmtp", auth="off"), settings.lmtp_port, networks=networks, proxy="lmtp" in behind
        )
    if settings.lmtp_socket is not None:
        rules = Rules("lmtp-socket", kind="lmtp", starttls=False, auth="off")
        yield Listener(rules, None, socket=settings.lmtp_socket)


def _of_table(table: ListenerSettings, settings: SmtpSettings) -> Listener:
    submission = table.kind in ("submission", "submissions")
    security = table.tls or ("tls" if table.kind == "submissions" else "starttls")
    auth: Literal["off", "offered", "required"] = "offered"
    if table.kind == "lmtp":
        auth = "off"
    elif submission:
        auth = "required"
    rules = Rules(
        table.name,
        kind="lmtp" if table.kind == "lmtp" else "submission" if submission else "smtp",
        tls=security == "tls",
        starttls=security == "starttls",
        auth=table.sign_in or auth,
        size_max=table.size_max,
        recipients_max=table.recipients_max,
    )
    networks = table.networks
    if networks is None and table.kind == "lmtp" and table.socket is None:
        networks = settings.lmtp_networks
    return Listener(
        rules,
        table.port,
        host=table.host,
        socket=table.socket,
        networks=networks,
        proxy=table.proxy,
        connections=table.connections,
        per_address=table.per_address,
    )


class Entrance:
    """One listener while it runs: who may come in, and how many."""

    def __init__(self, listener: Listener, hostname: str, exempt: Iterable[str]) -> None:
        self.listener = listener
        self.rules = listener.rules
        self.greeting = replies.greeting(hostname, "LMTP" if listener.rules.kind == "lmtp" else "ESMTP")
        self._networks = None if listener.networks is None else Networks(listener.networks)
        most = listener.per_address
        self._limit = None if most is None else ConnectionLimit(most, exempt=exempt)
        self._open = 0

    def enter(self, address: str, *, told: bool = False) -> Reply | None:
        """None and one more is counted (pair with ``leave``), or the reply to send away with. address: "" for the peer
        of a Unix socket, whom the socket's folder has let in. told: by a proxy."""
        # Loopback that is told is the proxy's machine, or one more proxy there that stands for anybody.
        vague = told and is_loopback(address)
        if self._networks is not None and address and (vague or address not in self._networks):
            return replies.NOT_FROM_HERE
        if self.listener.connections is not None and self._open >= self.listener.connections:
            return replies.SERVER_FULL
        if self._limit is not None and not self._limit.try_enter(address):
            return replies.TOO_MANY_CONNECTIONS
        self._open += 1
        return None

    def leave(self, address: str) -> None:
        self._open -= 1
        if self._limit is not None:
            self._limit.leave(address)
