"""A session with a remote server: connect, greeting, EHLO, STARTTLS as the policy wants, sign-in; then messages."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from aiosmtplib.auth import auth_login_encode, auth_plain_encode
from aiosmtplib.esmtp import parse_esmtp_extensions

from runtime.limits import is_loopback
from smtp.outbound.connection import Broken, Connection
from smtp.outbound.replies import Reply, Trouble, clean, trouble_of
from smtp.outbound.routetext import Route
from smtp.outbound.settings import OutboundSettings
from smtp.outbound.tlspolicy import HostPolicy, TlsPolicies, TlsProblem, TlsResult
from smtp.outbound.transport import Phase

RECIPIENTS_MAX = 100
"""Recipients of one transaction: what every server takes (RFC 5321 §4.5.3.1.8)."""
DATA_SECONDS = 120.0
"""RFC 5321 §4.5.3.2.4"""
BLOCK_SECONDS = 180.0
"""RFC 5321 §4.5.3.2.5"""
HANDSHAKE_SECONDS = 60.0
MORE_ADDRESSES_SECONDS = 10.0
"""How long a connection may take to come about where there are other addresses to try."""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds to wait, by phase. The defaults are those of RFC 5321 §4.5.3.2."""

    connect: float = 30.0
    command: float = 300.0
    data: float = DATA_SECONDS
    block: float = BLOCK_SECONDS
    dot: float = 600.0
    handshake: float = HANDSHAKE_SECONDS

    @classmethod
    def of(cls, settings: OutboundSettings) -> Times:
        """The phases without a setting of their own wait no longer than a command does."""
        command = settings.command_timeout
        return cls(
            connect=settings.connect_timeout,
            command=command,
            data=min(DATA_SECONDS, command),
            block=min(BLOCK_SECONDS, command),
            dot=settings.data_timeout,
            handshake=min(HANDSHAKE_SECONDS, command),
        )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a session is with; equal endpoints may share it. host: as in the MX record or the route. policy: what its
    TLS was judged by. route: of a relay, with whom to sign in there. requiretls: for messages that ask for it (RFC
    8689); the server has offered it then."""

    host: str
    address: str
    port: int
    policy: HostPolicy
    route: Route
    requiretls: bool = False

    @property
    def remote(self) -> str:
        """As in ``Outcome``."""
        place = f"[IPv6:{self.address}]" if ":" in self.address else f"[{self.address}]"
        return f"{self.host if not self.host.startswith('[') else place} {place}:{self.port}"


@dataclass(frozen=True, slots=True)
class Handshake:
    """What came of TLS, for the report to the destination. problem None: it went well."""

    problem: TlsProblem | None


class Failed(Exception):
    """No session came about. handshake: what came of TLS, None where it did not come so far. retry_plain: TLS failed,
    and the policy lets the message go without: on a new connection."""

    def __init__(self, trouble: Trouble, *, handshake: Handshake | None = None, retry_plain: bool = False) -> None:
        super().__init__(trouble.text)
        self.trouble = trouble
        self.handshake = handshake
        self.retry_plain = retry_plain


class Session:
    """One that is ready for MAIL. messages: transactions so far. dirty: one is open and needs RSET before the next.
    ending: no
    further message goes over it. opened: when, in loop time. timer: of the pool."""

    __slots__ = (
        "connection",
        "dirty",
        "dsn",
        "eight_bit",
        "ending",
        "endpoint",
        "extensions",
        "handshake",
        "mails_max",
        "mechanisms",
        "messages",
        "opened",
        "pipelining",
        "recipients_max",
        "remote",
        "size_max",
        "timer",
        "tls",
        "utf8",
        "verified",
    )

    def __init__(self, connection: Connection, endpoint: Endpoint) -> None:
        self.connection = connection
        self.endpoint = endpoint
        self.remote = endpoint.remote
        self.tls: str | None = None
        self.verified = ""
        self.handshake: Handshake | None = None
        self.messages = 0
        self.opened = connection.opened
        self.dirty = False
        self.ending = False
        self.timer: asyncio.TimerHandle | None = None
        self.learn({}, ())

    def learn(self, extensions: dict[str, str], mechanisms: Sequence[str]) -> None:
        """Take up what the server's EHLO says."""
        self.extensions = extensions
        self.mechanisms = mechanisms
        self.pipelining = "pipelining" in extensions
        self.eight_bit = "8bitmime" in extensions
        self.utf8 = "smtputf8" in extensions
        self.dsn = "dsn" in extensions
        # RFC 1870 §4: 0 or nothing is no fixed limit.
        self.size_max = _number(extensions.get("size", "")) or None
        limits = dict(word.partition("=")[::2] for word in extensions.get("limits", "").upper().split())
        # RFC 9422 §4
        self.mails_max = _number(limits.get("MAILMAX", "")) or None
        self.recipients_max = min(_number(limits.get("RCPTMAX", "")) or RECIPIENTS_MAX, RECIPIENTS_MAX)

    @property
    def reusable(self) -> bool:
        return not self.ending and self.connection.usable and (self.mails_max is None or self.messages < self.mails_max)

    def trouble(self, phase: Phase, error: Broken) -> Trouble:
        """The connection broke. # RFC 3463 §3.5: X.4.2 bad connection, X.4.1 no answer"""
        return Trouble(phase, "4.4.1" if error.late else "4.4.2", clean(error.text), remote=self.remote)


class Opener:
    """Opens sessions. hostname: what this server calls itself. sources: addresses of ours to connect from, at most one
    of each family."""

    def __init__(self, policies: TlsPolicies, hostname: str, sources: Sequence[str], times: Times) -> None:
        self._policies = policies
        self._hostname = hostname
        self._sources = {(":" in source): (source, 0) for source in sources}
        self._times = times

    async def open(self, endpoint: Endpoint, *, more: bool = False, plain: bool = False) -> Session:
        """A session that is ready for MAIL. more: other addresses can be tried instead. plain: without STARTTLS.
        Raises Failed."""
        session = await self._connect(endpoint, more)
        phase = Phase.TLS
        try:
            if endpoint.route.tls == "implicit":
                # RFC 8314 §3.3
                await self._handshake(session)
            phase = Phase.GREETING
            greeting = await session.connection.reply(self._times.command)
            if greeting.code != 220:
                raise self._refused(session, greeting, phase)
            phase = Phase.EHLO
            await self._hello(session)
            if session.tls is None and not plain:
                phase = Phase.TLS
                if await self._secure(session):
                    phase = Phase.EHLO
                    await self._hello(session)
            if endpoint.requiretls and "requiretls" not in session.extensions:
                # RFC 8689 §4.2.1; the code is that of its §8.
                raise Failed(
                    Trouble(
                        Phase.EHLO, "5.7.30", "REQUIRETLS is asked for, and the server does not offer it",
                        permanent=True, remote=session.remote,
                    ),
                    handshake=session.handshake,
                )  # fmt: skip
            if endpoint.route.user:
                phase = Phase.AUTH
                await self._sign_in(session, endpoint.route)
        except Broken as error:
            session.connection.abort()
            if phase is Phase.TLS and session.handshake is None:
                # A server that falls silent, or says nonsense, at STARTTLS: its TLS is what does not work.
                problem = self._policies.explain(error)
                session.handshake = Handshake(problem)
                raise self._insecure(session, "4.7.5", problem) from None
            raise Failed(session.trouble(phase, error), handshake=session.handshake) from None
        except Failed:
            session.connection.part()
            raise
        except BaseException:
            session.connection.abort()
            raise
        return session

    async def _connect(self, endpoint: Endpoint, more: bool) -> Session:
        loop = asyncio.get_running_loop()
        seconds = min(self._times.connect, MORE_ADDRESSES_SECONDS) if more else self._times.connect
        try:
            async with asyncio.timeout(seconds):
                _, connection = await loop.create_connection(
                    lambda: Connection(loop),
                    endpoint.address,
                    endpoint.port,
                    local_addr=self._sources.get(":" in endpoint.address),
                )
        except TimeoutError:
            text = f"No connection came about within {seconds:g} s"
            raise Failed(Trouble(Phase.CONNECT, "4.4.1", text, remote=endpoint.remote)) from None
        except OSError as error:
            text = clean(f"No connection: {error.strerror or error}")
            raise Failed(Trouble(Phase.CONNECT, "4.4.1", text, remote=endpoint.remote)) from None
        return Session(connection, endpoint)

    async def _hello(self, session: Session) -> None:
        reply = await session.connection.ask(f"EHLO {self._hostname}", self._times.command)
        if reply.code == 250:
            text = "\n".join(line.decode("utf-8", "replace") for line in reply.lines)
            session.learn(*parse_esmtp_extensions(text))
        elif reply.code >= 500:
            # RFC 5321 §3.2: a server that does not know EHLO is greeted with HELO.
            reply = await session.connection.ask(f"HELO {self._hostname}", self._times.command)
            session.learn({}, ())
        if reply.code != 250:
            raise self._refused(session, reply, Phase.EHLO)
        name = reply.lines[0].split(b" ", 1)[0].decode("ascii", "replace").lower()
        if session.endpoint.route.kind == "mx" and "." in name and name == self._hostname.lower():
            text = f"Mail loops back to myself: the server calls itself {name}, which is this server's name"
            raise Failed(Trouble(Phase.EHLO, "5.4.6", text, permanent=True, remote=session.remote))

    async def _secure(self, session: Session) -> bool:
        """Whether the session is under TLS now. Raises Failed where it has to be and is not."""
        required = session.endpoint.policy.required
        if "starttls" not in session.extensions:
            problem = TlsProblem(
                TlsResult.STARTTLS_NOT_SUPPORTED, "TLS is required, and the server does not offer STARTTLS"
            )
            session.handshake = Handshake(problem)
            if required:
                raise self._insecure(session, "4.7.4", problem)
            return False
        reply = await session.connection.ask("STARTTLS", self._times.command)
        if reply.code != 220:
            problem = TlsProblem(
                TlsResult.STARTTLS_NOT_SUPPORTED, clean(f"The server refused STARTTLS: {reply.code} {reply.text}")
            )
            session.handshake = Handshake(problem)
            if required:
                raise self._insecure(session, "4.7.4", problem)
            if reply.code == 421:
                raise self._refused(session, reply, Phase.TLS)
            return False
        await self._handshake(session)
        return True

    async def _handshake(self, session: Session) -> None:
        policy = session.endpoint.policy
        try:
            tls = await session.connection.encrypt(
                self._policies.context(policy), policy.server_name, self._times.handshake
            )
        except (OSError, ValueError, Broken) as error:
            # A context that wants a certificate fails here already; a name that cannot be asked for in a handshake
            # (ValueError) comes from a stranger's MX record.
            session.connection.abort()
            problem = self._policies.explain(error)
            session.handshake = Handshake(problem)
            raise self._insecure(session, "4.7.5", problem) from None
        session.tls = tls.version()
        problem_found = self._policies.check(policy, tls)
        session.handshake = Handshake(problem_found)
        if problem_found is not None:
            if problem_found.fatal:
                raise self._insecure(session, "4.7.5", problem_found)
        else:
            session.verified = policy.proved

    def _insecure(self, session: Session, enhanced: str, problem: TlsProblem) -> Failed:
        # RFC 8461 §5, RFC 7672 §2.2: never delivered otherwise, and tried again: the fault may be the destination's.
        return Failed(
            Trouble(Phase.TLS, enhanced, clean(problem.text), remote=session.remote),
            handshake=session.handshake,
            retry_plain=not session.endpoint.policy.required,
        )

    def _refused(self, session: Session, reply: Reply, phase: Phase) -> Failed:
        if reply.code < 400:
            text = f"The server's answer makes no sense here: {reply.code} {reply.text}"
            trouble = Trouble(phase, "4.5.0", clean(text), remote=session.remote)
        else:
            trouble = trouble_of(reply, phase, session.remote)
        return Failed(trouble, handshake=session.handshake)

    async def _sign_in(self, session: Session, route: Route) -> None:
        """RFC 4954. What fails here is for this server's administrator to mend: mail waits."""
        connection = session.connection
        if session.tls is None and not is_loopback(session.endpoint.address):
            raise _unsigned(session, "The password of the route is not sent without TLS")
        if "plain" in session.mechanisms:
            secret = auth_plain_encode(route.user, route.password).decode()
            reply = await connection.ask(f"AUTH PLAIN {secret}", self._times.command)
        elif "login" in session.mechanisms:
            name, password = auth_login_encode(route.user, route.password)
            reply = await connection.ask("AUTH LOGIN", self._times.command)
            for word in (name, password):
                if reply.code == 334:
                    reply = await connection.ask(word.decode(), self._times.command)
        else:
            raise _unsigned(session, "The server offers neither AUTH PLAIN nor AUTH LOGIN")
        if reply.code != 235:
            enhanced = reply.enhanced if reply.code < 500 else f"4{reply.enhanced[1:]}"
            raise Failed(
                Trouble(Phase.AUTH, enhanced, reply.text, reply.code, remote=session.remote),
                handshake=session.handshake,
            )


def _unsigned(session: Session, text: str) -> Failed:
    return Failed(Trouble(Phase.AUTH, "4.7.0", text, remote=session.remote), handshake=session.handshake)


def _number(text: str) -> int:
    word = (text.split() or [""])[0]
    return int(word) if word.isascii() and word.isdigit() and len(word) <= 20 else 0
