"""Mail that a server sends on through a provider's account: the transport of a route ``connector:NAME``.

The connectors are synchronous, so each message goes over in a thread of its own; the loop is never kept waiting. A
message of up to SHORT_MAX octets is read before a server is spoken to, a longer one in blocks as they are sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from connectors import failures, handover
from connectors.exceptions import AuthenticationError, ConfigurationError, ConnectionError
from connectors.handover import Broken, Line, Parcel, Said, Stage
from connectors.smtp_connector.base import BaseSMTPConnector
from smtp.outbound.transport import TEXT_MAX, Letter, Outcome, Phase, Result, Status

SHORT_MAX = 256 * 1024
"""Octets of a message that are held in memory while it is sent."""
BLOCK = 128 * 1024
"""Octets of a longer one that are read and sent at a time."""
CONNECTIONS = 3
"""Connections at the same time: what Microsoft 365 allows an account, the strictest of the well-known providers."""
IDLE_SECONDS = 30.0
"""How long a connection that has nothing to do is kept."""
LIFE_SECONDS = 600.0
"""How long it is used for new messages."""
MESSAGES_MAX = 100
"""Messages over one connection."""
DOT_SECONDS = 600.0
"""RFC 5321 §4.5.3.2.6: for the reply to a whole message."""

_USUAL = {421: "4.3.2", 450: "4.2.0", 451: "4.3.0", 452: "4.3.1", 454: "4.7.0", 530: "5.7.0", 552: "5.3.4"}
_LIMITS = ("5.4.5", "5.1.90")
"""Enhanced codes by which providers say with a 5xx that the account may send no more *today*: Gmail's, which RFC 3463
§3.5 has for congestion, and Microsoft's."""
_SIGNED_OUT = (530, 538)
"""RFC 4954 §6: the server wants to be signed in to, which this connection was."""

Sender = Literal["keep", "account"]
T = TypeVar("T")


class _CutShort(Exception):
    """The message ended before its size."""


@dataclass(slots=True, eq=False)
class _Session:
    """A connection that is kept. began, used: monotonic seconds."""

    line: Line
    began: float
    used: float = 0.0
    messages: int = 0

    def fresh(self, now: float) -> bool:
        """Whether another message may go over it."""
        return (
            not self.line.ended
            and now - self.used < IDLE_SECONDS
            and now - self.began < LIFE_SECONDS
            and self.messages < MESSAGES_MAX
        )


@dataclass(slots=True, eq=False)
class _Attempt:
    """One call of ``send``. own: the account is told as sender, in place of the message's. line: what its thread uses
    now. given_up: nobody waits for it any more. tls, dsn, reused: of the connection that was used last. down: the
    account's other mail would fare the same. unopened: why there was no connection."""

    parcel: Parcel
    own: bool
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    line: Line | None = None
    given_up: bool = False
    tls: str | None = None
    dsn: bool = False
    reused: bool = False
    down: bool = False
    unopened: Exception | None = None

    def decide(self, outcome: Outcome) -> None:
        """For all that have none."""
        self.outcomes.update((one, outcome) for one in self.parcel.recipients if one not in self.outcomes)


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt. unopened: the ConnectionError, AuthenticationError or ConfigurationError by which there was no
    connection to send over, else None."""

    result: Result
    unopened: Exception | None = None


class Relay:
    """A ``Transport`` through one provider's account. name: as routes call it. config: as for ``BaseSMTPConnector``.

    sender: "keep" says the message's own sender to the provider; "account" the account's address, for providers that
    take no other. The null sender of notices is always kept (RFC 5321 §4.5.5), and the message is never changed.
    connections: at the same time; further messages wait. dot_seconds: for the reply to a whole message; each other step
    has the configuration's time-out. Raises ConfigurationError.
    """

    def __init__(
        self,
        name: str,
        config: Mapping[str, Any],
        *,
        sender: Sender = "keep",
        connections: int = CONNECTIONS,
        dot_seconds: float = DOT_SECONDS,
    ) -> None:
        kind = BaseSMTPConnector.get_connector_by_provider(str(config.get("provider") or "basic"))
        made = kind(config)
        # What would fail at the first message otherwise.
        failures.context(made.server.host, verify=made.server.verify, ca_file=made.server.ca_file)
        self.name = name
        self._make: Callable[[], BaseSMTPConnector] = lambda: kind(config)
        self._server = made.server
        self._own = made.address if sender == "account" else None
        self._dot_seconds = dot_seconds
        self._slots = asyncio.Semaphore(connections)
        self._lock = threading.Lock()
        self._idle: list[_Session] = []
        self._timer: asyncio.TimerHandle | None = None

    async def send(self, letter: Letter) -> Result:
        """As ``Transport.send``."""
        return (await self.attempt(letter)).result

    async def sign_in(self) -> None:
        """Connect, sign in and end, without a message. ConnectionError, AuthenticationError, ConfigurationError."""
        await self._slots.acquire()
        connector = self._make()

        def work() -> None:
            connector.connect()
            connector.quit_smtp()

        await self._threaded(work, self._slots.release)

    async def attempt(self, letter: Letter) -> Tried:
        """As ``send``, and why there was no connection."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        await self._slots.acquire()
        try:
            own = self._own is not None and letter.sender not in ("", self._own)
            attempt = _Attempt(await self._parcel(letter, own), own)
        except _CutShort:
            self._slots.release()
            cut = Result(dict.fromkeys((one.address for one in letter.recipients), _CUT_SHORT), loop.time() - began)
            return Tried(cut)
        except BaseException:
            self._slots.release()
            raise
        done = self._threaded(lambda: self._run(attempt), self._ended)
        try:
            while not done.done():
                line = attempt.line
                rest = 1.0 if line is None else max(0.05, line.overdue - time.monotonic())
                await asyncio.wait([done], timeout=min(rest, 5.0))
                if line is not None and line is attempt.line and line.overdue < time.monotonic():
                    line.cut()
            done.result()
        except asyncio.CancelledError:
            attempt.given_up = True
            done.cancel()
            if attempt.line is not None:
                attempt.line.cut()
            raise
        verified = "web-pki" if attempt.tls and self._server.verify else ""
        result = Result(
            attempt.outcomes,
            loop.time() - began,
            attempt.tls,
            verified,
            attempt.dsn,
            destination_down=attempt.down,
            reused=attempt.reused,
        )
        return Tried(result, attempt.unopened)

    async def close(self) -> None:
        """As ``Transport.close``."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        with self._lock:
            idle, self._idle = self._idle, []
        if idle:
            await self._threaded(lambda: _close(idle), lambda: None)

    # -- on the loop

    async def _parcel(self, letter: Letter, own: bool) -> Parcel:
        """own: as in _Attempt. Raises storage's errors, and _CutShort."""
        loop = asyncio.get_running_loop()
        if letter.size <= SHORT_MAX:
            text = await letter.read(0, letter.size)
            if len(text) != letter.size:
                raise _CutShort
            text = letter.head + text
            return self._wrapped(letter, own, lambda: iter((text,)))

        async def read(start: int, end: int) -> bytes:
            return await letter.read(start, end)

        def blocks() -> Iterator[bytes]:
            if letter.head:
                yield letter.head
            for start in range(0, letter.size, BLOCK):
                end = min(start + BLOCK, letter.size)
                block = asyncio.run_coroutine_threadsafe(read(start, end), loop).result()
                if len(block) != end - start:
                    raise _CutShort
                yield block

        return self._wrapped(letter, own, blocks)

    def _wrapped(self, letter: Letter, own: bool, blocks: Callable[[], Iterator[bytes]]) -> Parcel:
        size = len(letter.head) + letter.size
        if own and self._own is not None:
            # Notices would go to the account, not to who has asked for them (RFC 3461 §4): nobody asks for any.
            params = {name: value for name, value in letter.params.items() if name not in ("RET", "ENVID")}
            return Parcel(self._own, {one.address: {} for one in letter.recipients}, size, blocks, params)
        recipients = {one.address: one.params for one in letter.recipients}
        return Parcel(letter.sender, recipients, size, blocks, letter.params)

    def _ended(self) -> None:
        """A thread has: its connection may be kept."""
        self._slots.release()
        if self._timer is None and self._idle:
            self._timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = time.monotonic()
        with self._lock:
            old = [one for one in self._idle if not one.fresh(now)]
            self._idle = [one for one in self._idle if one not in old]
            wait = min((one.used + IDLE_SECONDS - now for one in self._idle), default=None)
        if old:
            self._threaded(lambda: _close(old), lambda: None)
        if wait is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.1, wait), self._expire)

    def _threaded(self, work: Callable[[], T], then: Callable[[], None]) -> asyncio.Future[T]:
        """Done in a thread that does not keep the process from ending; then: on the loop, whoever still waits."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def tell(finish: Callable[[], None]) -> None:
            def ended() -> None:
                then()
                if not done.done():
                    finish()

            # The loop may be gone, and with it all who would want to know.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(ended)

        def run() -> None:
            try:
                value = work()
            except BaseException as error:
                failed = error
                tell(lambda: done.set_exception(failed))
            else:
                tell(lambda: done.set_result(value))

        threading.Thread(target=run, name=f"relay {self.name}", daemon=True).start()
        return done

    # -- in the thread

    def _run(self, attempt: _Attempt) -> None:
        while True:
            session = self._taken()
            attempt.reused = session is not None
            if session is None and (session := self._opened(attempt)) is None:
                return
            line = attempt.line = session.line
            if attempt.given_up:
                line.close(quietly=True)
                return
            attempt.tls = line.tls
            attempt.dsn = line.offers("dsn") and not attempt.own
            if not self._over(attempt, line):
                continue
            attempt.line = None
            session.messages += 1
            session.used = time.monotonic()
            if line.ended:
                line.close()
            else:
                with self._lock:
                    self._idle.append(session)
            return

    def _over(self, attempt: _Attempt, line: Line) -> bool:
        """Send it. False where the connection, open from before, turned out to be of no use: another is taken."""
        said: dict[str, Said] = {}
        last: Said | None = None
        parcel = attempt.parcel
        if "REQUIRETLS" in parcel.params and not (line.tls and self._server.verify):
            # RFC 8689 §4.2.1
            text = f"REQUIRETLS is asked for, and the connector {self.name} does not verify its server"
            attempt.decide(Outcome(Status.FAILED, Phase.TLS, "5.7.30", text, remote=line.remote))
            return True
        try:
            handover.hand_over(line, parcel, said)
        except Broken as error:
            last = error.said
        except BaseException as error:
            line.close(quietly=True)
            if not isinstance(error, _CutShort) and not (said and isinstance(error, Exception)):
                raise
            # Some may have their verdict: they would get the message again if it were lost with the error.
            attempt.outcomes.update((one, _outcome(each, line.remote)) for one, each in said.items())
            attempt.decide(_CUT_SHORT)
            return True
        signed_out = any(one.stage is Stage.MAIL and one.code in _SIGNED_OUT for one in said.values())
        if attempt.reused and ((last is not None and last.stage is Stage.MAIL and not said) or signed_out):
            line.close()
            attempt.line = None
            return False
        attempt.outcomes.update((one, _outcome(each, line.remote)) for one, each in said.items())
        if last is not None:
            attempt.decide(_outcome(last, line.remote))
            attempt.down = last.code == 421 and not any(one.taken for one in said.values())
        if signed_out:
            line.ended = True
        attempt.down |= signed_out or any(one.enhanced in _LIMITS for one in said.values())
        return True

    def _taken(self) -> _Session | None:
        """One that is open, the one used last first."""
        now = time.monotonic()
        with self._lock:
            for place in range(len(self._idle) - 1, -1, -1):
                if self._idle[place].fresh(now):
                    return self._idle.pop(place)
        return None

    def _opened(self, attempt: _Attempt) -> _Session | None:
        """A new one; None where there can be none, which the recipients are told then."""
        connector = self._make()
        try:
            connector.connect()
            server = self._server
            line = Line(connector.smtp, server.host, server.port, timeout=server.timeout, dot_timeout=self._dot_seconds)
        except (AuthenticationError, ConnectionError, ConfigurationError) as error:
            attempt.unopened = error
            attempt.decide(self._unopened(error))
            attempt.down = True
            return None
        now = time.monotonic()
        return _Session(line, now, now)

    def _unopened(self, error: Exception) -> Outcome:
        """What became of a connection that did not come to be signed in. It waits: the account may be put right."""
        cause = error.__cause__
        where = f"{self._server.host}:{self._server.port}"
        phase, enhanced, remote = Phase.CONNECT, "4.4.1", ""
        if isinstance(error, AuthenticationError):
            phase, enhanced, remote = Phase.AUTH, "4.7.8", where
        elif isinstance(error, ConfigurationError):
            phase, enhanced = Phase.ROUTE, "4.3.5"
        elif isinstance(cause, ssl.SSLError):
            phase, enhanced, remote = Phase.TLS, "4.7.5", where
        elif isinstance(cause, smtplib.SMTPResponseException):
            phase, enhanced, remote = Phase.GREETING, "4.3.2", where
        what = "cannot sign in" if phase is Phase.AUTH else "cannot be used now"
        text = failures.said(f"The connector {self.name} {what}: {error}", most=TEXT_MAX)
        return Outcome(Status.DEFERRED, phase, enhanced, text, remote=remote)


_CUT_SHORT = Outcome(Status.DEFERRED, Phase.TEXT, "4.3.0", "The message was cut short while it was read")


def _close(sessions: list[_Session]) -> None:
    for one in sessions:
        one.line.close()


def _outcome(said: Said, remote: str) -> Outcome:
    """What a recipient's verdict means."""
    phase = Phase(said.stage.value)
    if said.code is None:
        status = Status.FAILED if said.never else Status.DEFERRED
        return Outcome(status, phase, said.enhanced or "4.0.0", said.text, remote=remote, doubtful=said.doubtful)
    enhanced = said.enhanced or _USUAL.get(said.code, f"{said.code // 100}.0.0")
    status = Status.SENT if said.taken else Status.FAILED if said.code >= 500 else Status.DEFERRED
    if said.code in _SIGNED_OUT or enhanced in _LIMITS:
        # About the account, not about the message: it is not the sender who can help.
        status, enhanced = Status.DEFERRED, f"4.{enhanced.partition('.')[2]}"
    return Outcome(status, phase, enhanced, said.text, said.code, remote, said.doubtful)
