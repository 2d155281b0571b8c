"""What a connection may take, in numbers: seconds and octets."""

from __future__ import annotations

from dataclasses import dataclass

from imap.wire.limits import BEFORE_SIGN_IN, KIB, SIGNED_IN, WireLimits


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """For each connection. Times are seconds, sizes octets.

    `before`, `after`: the framer's limits before and after sign-in. `sign_in`: from connect to sign-in, whatever is
    sent meanwhile. `idle`: without a whole command, a line or a literal's octets, and for how long a client may leave
    an answer unread. `handshake`: TLS. `linger`: for the last octets to be read once we have closed, or for the
    command in hand to get on once it is the last. `drop`: for a client that floods to notice its BYE, and for one that
    has been silent that long, with nothing left to read, to close TLS in its turn. `backlog`: octets held behind the
    running command before reading stops. `unread`: octets of answers held before `drain` waits.
    """

    before: WireLimits = BEFORE_SIGN_IN
    after: WireLimits = SIGNED_IN
    sign_in: float = 60.0
    # RFC 3501 §5.4: the inactivity timer is at least 30 minutes.
    idle: float = 30 * 60.0
    handshake: float = 30.0
    linger: float = 20.0
    drop: float = 3.0
    backlog: int = 128 * KIB
    unread: int = 256 * KIB
