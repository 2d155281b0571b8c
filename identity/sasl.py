"""SASL on the server's side: from a client's lines to a name and a password.

Pure state machines. A door gives `start` or `step` what the client sent and does what comes back: send a `Challenge`
(base64, on a "334 " or "+ " line), hand `Credentials` to identity, or answer `Failed`. A mechanism that needs to ask
something between two steps (a bearer token, a SCRAM key) returns `Check`, and is stepped again with the answer.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, TypeAlias

# RFC 4954 §4: a client's line holds at most 12,288 octets of base64.
MAX_LINE = 12288
MAX_NAME_OCTETS = 1024
MAX_PASSWORD_OCTETS = 1024


@dataclass(frozen=True, slots=True)
class Challenge:
    """Send these octets (not yet in base64) and wait for the client's answer."""

    octets: bytes

    @property
    def encoded(self) -> bytes:
        return base64.b64encode(self.octets)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the client claims, to be checked. kind: "password", or "bearer" for a token in `secret`."""

    name: str
    secret: str = field(repr=False)
    kind: str = "password"


class Fault(Enum):
    """Why an exchange ended without credentials."""

    CANCELLED = "cancelled by the client"
    NOT_BASE64 = "not base64"
    MALFORMED = "malformed message"
    TOO_LONG = "line too long"
    NOT_PERMITTED = "acting for another is not permitted"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Failed:
    """The exchange is over. CANCELLED, NOT_BASE64, MALFORMED and TOO_LONG are errors of syntax (501, BAD);
    NOT_PERMITTED and REFUSED are answered like a wrong password (535, NO)."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class Check:
    """Ask identity (the caller knows how by `kind`) about `value`, then call `checked` with the answer: the next
    outcome. For mechanisms that have more to say before or after the check."""

    kind: str
    value: str = field(repr=False)
    checked: Callable[[object], Outcome]


Outcome: TypeAlias = Challenge | Credentials | Failed | Check


class Mechanism(Protocol):
    """One exchange of one mechanism. client_first: the client speaks first, so an initial response makes sense."""

    client_first: bool

    def step(self, response: bytes | None) -> Outcome:
        """What the client said, already decoded; None at the start when there was no initial response."""
        ...


class Plain:
    """PLAIN: one message of three parts, authzid NUL authcid NUL passwd."""

    client_first = True

    def step(self, response: bytes | None) -> Outcome:
        if response is None:
            # RFC 4422 §5: without an initial response the server sends an empty challenge.
            return Challenge(b"")
        # RFC 4616 §2
        parts = response.split(b"\0")
        if len(parts) != 3:
            return Failed(Fault.MALFORMED)
        authzid, authcid, passwd = (_text(part, limit) for part, limit in zip(parts, _PLAIN_LIMITS, strict=True))
        if authzid is None or not authcid or not passwd:
            return Failed(Fault.MALFORMED)
        # Nobody acts for another here: an authorization identity must be the name itself, or absent.
        if authzid and authzid != authcid:
            return Failed(Fault.NOT_PERMITTED)
        return Credentials(authcid, passwd)


_PLAIN_LIMITS = (MAX_NAME_OCTETS, MAX_NAME_OCTETS, MAX_PASSWORD_OCTETS)


class Login:
    """LOGIN (draft-murchison-sasl-login): name and password, each asked for."""

    # Tolerance: the draft has the server speak first, but clients send the name as an initial response.
    client_first = True

    def __init__(self) -> None:
        self._name: str | None = None

    def step(self, response: bytes | None) -> Outcome:
        if response is None:
            return Challenge(b"Username:")
        if self._name is None:
            self._name = _text(response, MAX_NAME_OCTETS)
            return Failed(Fault.MALFORMED) if not self._name else Challenge(b"Password:")
        password = _text(response, MAX_PASSWORD_OCTETS)
        return Failed(Fault.MALFORMED) if not password else Credentials(self._name, password)


def mechanism(name: str) -> Mechanism | None:
    """A new exchange of the mechanism of this name (any case); None when it is not offered."""
    match name.upper():
        case "PLAIN":
            return Plain()
        case "LOGIN":
            return Login()
        case _:
            return None


MECHANISMS = ("PLAIN", "LOGIN")


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


def _text(octets: bytes, limit: int) -> str | None:
    """UTF-8 without NUL within the limit, else None. Passwords are compared as sent: RFC 4616 §2 asks SASLprep of
    the comparison, which would let two passwords open one account that was given one."""
    if len(octets) > limit or b"\0" in octets:
        return None
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return None
