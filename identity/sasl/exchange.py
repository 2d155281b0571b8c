"""An exchange from its first line to whoever has signed in: which mechanisms there are, and the base64 around them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from identity.model import Origin, Principal
from identity.port import Identity, Refused
from identity.sasl.bearer import OAuthBearer, XOAuth2
from identity.sasl.outcomes import (
    MAX_LINE,
    AskSalt,
    Challenge,
    CheckProof,
    CheckToken,
    Credentials,
    Done,
    Failed,
    Fault,
    Mechanism,
    Outcome,
)
from identity.sasl.passwords import Login, Plain
from identity.sasl.scram import Scram

MECHANISMS = ("PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2")
"""Those of every server, where a connection may sign in at all."""

Ask = Callable[[bytes], Awaitable[bytes]]
"""Send a challenge (base64) and return the client's line, without its CRLF."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What a connection's offer depends on. scram: SCRAM is offered now. binding: the connection's tls-unique, b""
    without TLS and with a version of TLS for which it is not right."""

    scram: bool = False
    binding: bytes = field(default=b"", repr=False)


def mechanisms(ground: Ground) -> tuple[str, ...]:
    """The names of what is offered."""
    if not ground.scram:
        return MECHANISMS
    return (*MECHANISMS, "SCRAM-SHA-256", *(("SCRAM-SHA-256-PLUS",) if ground.binding else ()))


def mechanism(name: str, ground: Ground) -> Mechanism | None:
    """A new exchange of the mechanism of this name (any case); None when it is not offered."""
    wanted = name.upper()
    if wanted not in mechanisms(ground):
        return None
    match wanted:
        case "PLAIN":
            return Plain()
        case "LOGIN":
            return Login()
        case "OAUTHBEARER":
            return OAuthBearer()
        case "XOAUTH2":
            return XOAuth2()
        case _:
            return Scram(plus=wanted.endswith("-PLUS"), binding=ground.binding)


class Exchange:
    """A mechanism behind the base64 lines that SMTP and IMAP carry it in."""

    def __init__(self, mechanism: Mechanism) -> None:
        self._mechanism = mechanism

    def start(self, initial: bytes | None) -> Outcome:
        """Begin with the initial response as the command line has it, in base64 ("=" stands for an empty one);
        None when there was none."""
        if initial is None:
            return self._mechanism.step(None)
        if not self._mechanism.client_first:
            return Failed(Fault.MALFORMED)
        # RFC 4954 §4 (and RFC 4959 §3 for IMAP)
        return self._mechanism.step(b"") if initial == b"=" else self._decoded(initial)

    def step(self, line: bytes) -> Outcome:
        """Go on with a line of the client, without its CRLF."""
        # RFC 4954 §4: a single "*" cancels.
        if line == b"*":
            return Failed(Fault.CANCELLED)
        return self._decoded(line)

    def _decoded(self, line: bytes) -> Outcome:
        if len(line) > MAX_LINE:
            return Failed(Fault.TOO_LONG)
        try:
            # RFC 4648 §3.3: characters outside the alphabet are refused.
            response = base64.b64decode(line, validate=True)
        except (binascii.Error, ValueError):
            return Failed(Fault.NOT_BASE64)
        return self._mechanism.step(response)


class Ended(Exception):
    """The exchange ended without anybody signed in, and identity has refused nothing."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.value)
        self.fault = fault


class Conversation:
    """An exchange with a client, and with identity about what the client says.

    name, secret: what the client has claimed last ("" before that, and for a secret that is never sent). By these the
    same claim made again is known.
    """

    def __init__(self, exchange: Exchange, identity: Identity, origin: Origin, ask: Ask) -> None:
        self.name = ""
        self.secret = ""
        self._exchange = exchange
        self._identity = identity
        self._origin = origin
        self._ask = ask

    async def run(self, outcome: Outcome) -> Principal:
        """On from the first outcome, to the end. Raises Ended, and what identity raises."""
        principal: Principal | None = None
        refused: Refused | None = None
        while True:
            match outcome:
                case Challenge():
                    outcome = self._exchange.step(await self._ask(outcome.encoded))
                case Credentials(name, secret):
                    self.name, self.secret = name, secret
                    return await self._identity.authenticate(name, secret, self._origin)
                case CheckToken(name, token):
                    self.name, self.secret = name, token
                    try:
                        principal = await self._identity.authenticate_token(name, token, self._origin)
                    except Refused as error:
                        # RFC 7628 §3.2.2: the client is told by a challenge first.
                        refused = error
                    outcome = outcome.checked(refused is None)
                case AskSalt(name):
                    self.name = name
                    outcome = outcome.answered(await self._identity.scram_start(name, self._origin))
                case CheckProof(name, message, proof):
                    signed = await self._identity.scram_finish(name, message, proof, self._origin)
                    principal = signed.principal
                    outcome = outcome.checked(signed.signature)
                case Failed(fault):
                    raise refused or Ended(fault)
                case Done():
                    if principal is None:
                        raise AssertionError("a mechanism ended well that has checked nothing")
                    return principal
