"""When a sign-in may be tried, after how many wrong ones: pure arithmetic over counters.

Each wrong password adds one to up to three counters, and each counter forgets at a steady pace:

- the *pair* (account, place): who guesses at one account from one place. When the account has signed in well from there
  within 30 days, the place is one of its *usual devices*: this counter is more patient, and the only one that is asked
  and charged, so others' guesses never slow the owner there;
- the *account*, charged by all places that are not its usual devices: a guess spread over many places;
- the *place* (an IPv4 address, an IPv6 /64), charged for all accounts together, but not when it is loopback or in a
  trusted network, where one address stands for many people.

An empty counter asks nothing but that at most `parallel` different guesses are in flight, and the fewer the nearer it
comes to `free`. From there on guesses come one at a time, with a pause behind each that doubles from `pause` up to
`longest`; in the long run that is one guess per `forget` seconds. A password that was wrong just before and is sent
again (a phone that still has the old one) is no new guess: it adds `REPEATED` only.
"""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass
from functools import lru_cache

USUAL_SECONDS = 30 * 86400.0
REPEATED = 0.05
# Doublings beyond this do not lengthen a pause, and a level above them would only be forgotten later.
MAX_DOUBLINGS = 16
_PUNCTUAL = 0.001


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of counter; see the module. All times in seconds."""

    free: float
    parallel: int
    pause: float
    longest: float
    forget: float


@dataclass(frozen=True, slots=True)
class Counter:
    """level: guesses not forgotten at the time `at` of the last one (Unix seconds)."""

    level: float
    at: float


@dataclass(frozen=True, slots=True)
class GuessRules:
    """The rule of each kind of counter."""

    usual: Rule = Rule(free=10, parallel=10, pause=1.0, longest=300.0, forget=60.0)
    pair: Rule = Rule(free=5, parallel=5, pause=2.0, longest=900.0, forget=300.0)
    account: Rule = Rule(free=20, parallel=20, pause=1.0, longest=300.0, forget=120.0)
    place: Rule = Rule(free=30, parallel=100, pause=1.0, longest=3600.0, forget=60.0)


@lru_cache(maxsize=4096)
def place(address: str) -> str:
    """What an origin's address is counted as: IPv4 whole, also when mapped into IPv6; IPv6 by its /64; any other text
    (a Unix socket's empty one) as it is, shortened."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        if not parsed.is_loopback:
            return str(ipaddress.ip_network((int(parsed), 64), strict=False))
    return str(parsed)


def level(counter: Counter | None, rule: Rule, now: float) -> float:
    """Guesses that still count. A clock that was set back forgets nothing and adds nothing."""
    if counter is None:
        return 0.0
    return max(0.0, counter.level - max(0.0, now - counter.at) / rule.forget)


def wait(counter: Counter | None, rule: Rule, now: float, in_flight: int) -> float:
    """Seconds until a guess may be tried, 0 for now. in_flight: different guesses on this counter being checked."""
    if counter is not None and counter.level >= rule.free:
        pause = min(rule.longest, rule.pause * math.exp2(min(MAX_DOUBLINGS, counter.level - rule.free)))
        # A clock set back must not keep anyone out for longer than the pause itself.
        remaining = pause - max(0.0, now - counter.at)
        # Who waits as long as was told comes in time, whatever the clock's last digits are.
        if remaining > _PUNCTUAL:
            return remaining
    # The nearer the counter is to its last free guess, the fewer at once; in the end one.
    at_once = rule.parallel * (1.0 - level(counter, rule, now) / rule.free)
    return 1.0 if in_flight >= max(1.0, at_once) else 0.0


def charged(counter: Counter | None, rule: Rule, now: float, weight: float) -> Counter:
    """The counter after one more wrong password of this weight."""
    ceiling = rule.free + MAX_DOUBLINGS
    return Counter(min(ceiling, level(counter, rule, now) + weight), now)


def forgotten_at(counter: Counter, rule: Rule) -> float:
    """When the counter is empty again and need not be kept (Unix seconds)."""
    return counter.at + counter.level * rule.forget
