"""What comes of a step of a SASL exchange: the words between a mechanism and who runs it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, TypeAlias

from identity.model import ScramSalt

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
    """What the client claims: a name and a password, to be checked. The exchange is over."""

    name: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CheckToken:
    """Is the bearer token good, and the name ("" for whosever it is) its account's? Then go on with `checked`."""

    name: str
    token: str = field(repr=False)
    checked: Callable[[bool], Outcome]


@dataclass(frozen=True, slots=True)
class AskSalt:
    """Ask for the salt of the name, and go on with `answered`."""

    name: str
    answered: Callable[[ScramSalt], Outcome]


@dataclass(frozen=True, slots=True)
class CheckProof:
    """Does the proof (RFC 5802 §3: ClientProof) hold for the name and the message? Then go on with `checked` and the
    server's signature."""

    name: str
    auth_message: bytes = field(repr=False)
    proof: bytes = field(repr=False)
    checked: Callable[[bytes], Outcome]


@dataclass(frozen=True, slots=True)
class Done:
    """The exchange is over, and what was checked last holds."""


class Fault(Enum):
    """Why an exchange ended without anybody signed in."""

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


Outcome: TypeAlias = Challenge | Credentials | CheckToken | AskSalt | CheckProof | Done | Failed


class Mechanism(Protocol):
    """One exchange of one mechanism. client_first: the client speaks first, so an initial response makes sense."""

    client_first: bool

    def step(self, response: bytes | None) -> Outcome:
        """What the client said, already decoded; None at the start when there was no initial response."""
        ...


def text(octets: bytes, limit: int) -> str | None:
    """UTF-8 without NUL within the limit, else None. Passwords are compared as sent: RFC 4616 §2 asks SASLprep of
    the comparison, which would let two passwords open one account that was given one."""
    if len(octets) > limit or b"\0" in octets:
        return None
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return None
