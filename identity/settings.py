"""What identity is told by whoever composes it: typed, with the defaults that suit a small server."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from identity.dkim import DkimRules
from identity.guesspolicy import GuessRules


@dataclass(frozen=True, slots=True)
class PasswordSettings:
    """Cost of argon2id, and the threads that pay it. memory_kib, iterations, lanes: m, t, p of RFC 9106 §3.1.

    The default (19 MiB, 2 passes, 1 lane) takes about 20 ms of one core. waiting: checks that may wait for a thread;
    one more is answered with Unavailable.
    """

    memory_kib: int = 19456
    iterations: int = 2
    lanes: int = 1
    threads: int = max(1, min(4, os.cpu_count() or 1))
    waiting: int = 256


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """default_domain: of names without one, "" for none. trusted_networks: where guesses are never counted per address
    (loopback always is such). Seconds: how long an access token, a refresh token and a remembered check are good.
    scram: keys for SCRAM-SHA-256 are made and asked; scram_iterations: of PBKDF2, for all of them."""

    default_domain: str = ""
    trusted_networks: tuple[str, ...] = ()
    passwords: PasswordSettings = field(default_factory=PasswordSettings)
    guesses: GuessRules = field(default_factory=GuessRules)
    dkim: DkimRules = field(default_factory=DkimRules)
    access_seconds: float = 3600.0
    refresh_seconds: float = 30 * 86400.0
    checked_seconds: float = 60.0
    scram: bool = False
    scram_iterations: int = 10_000
