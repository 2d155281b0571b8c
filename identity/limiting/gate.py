"""What the doors of one process ask before they let somebody go on: from memory alone, never a store.

Rates are counted here at once (`tallies`) and added to the shared counts in batches, within FLUSH_SECONDS; a key that
was not known here is asked for within FRESH_SECONDS. Bans are looked for every REFRESH_SECONDS. So:

- all processes together let through, beyond a rate, at most what they let through in FLUSH_SECONDS (of a key that is
  new to a process, FRESH_SECONDS), and no process by itself more than the rate;
- a process that is killed loses the counts of its last FLUSH_SECONDS;
- a ban holds in the process that made it at once, and in all others within REFRESH_SECONDS.

While identity is away the process goes on with what it knows, and adds its counts later.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from collections import Counter as Multiset
from collections import OrderedDict
from collections.abc import Coroutine, Sequence
from dataclasses import fields
from typing import Any, Final

import structlog

from identity.guesspolicy import place
from identity.limiting import bans
from identity.limiting.bans import BanTable
from identity.limiting.rates import Rate
from identity.limiting.rules import BanRules, Offence, RateRules
from identity.limiting.tallies import Limit, Over, Tallies
from identity.limits import CHARGES_AT_ONCE
from identity.model import Ban, BannedBy, NewBan
from identity.port import Identity, Refused, Unavailable
from runtime.clock import Clock
from runtime.limits import LOOPBACK, Networks
from runtime.metrics import Metrics

DOORS: Final = ("smtp", "imap")
FLUSH_SECONDS: Final = 1.0
FRESH_SECONDS: Final = 0.1
REFRESH_SECONDS: Final = 2.0
LOOKS_BETWEEN_FULL_ONES: Final = 30
"""A process that died while it made a ban has told nobody: now and then all bans are read, changed or not."""
START_SECONDS: Final = 3.0
"""How long the start waits for the bans; then they are taken up when they can be had."""
SPARED_SECONDS: Final = 60.0
SPARED_MAX: Final = 10_000
SEEN_MAX: Final = 20_000
"""Offences that are remembered, so that the same one again is none."""
FORGIVEN: Final = 5
"""Recipients that there are not, for each message that was taken from the same address: a large provider has a few
customers who guess, and many who do not."""
FORGIVEN_MAX: Final = 200
TOLD_SECONDS: Final = 60.0
"""One ban, or one limit of one sender, is told to the trace this often at most."""

log = structlog.get_logger("limits")


class Gate:
    """See the module. A runtime.lifecycle.Service: `start` before the doors, `stop` behind them.

    rates, rules: may be changed while running. trusted: networks that, like loopback, no rule bans and no rate per
    address holds back.
    """

    def __init__(
        self,
        identity: Identity,
        rates: RateRules,
        rules: BanRules,
        *,
        trusted: Sequence[str],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.rates = rates
        self.rules = rules
        self._identity = identity
        self._exempt = Networks((*LOOPBACK, *trusted))
        self._clock = clock
        self._tallies = Tallies()
        self._fresh = asyncio.Event()
        self._bans = BanTable()
        self._revision = ""
        self._hits: Multiset[str] = Multiset()
        self._spared: OrderedDict[str, tuple[float, bool]] = OrderedDict()
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._credit: OrderedDict[str, int] = OrderedDict()
        self._told: OrderedDict[str, float] = OrderedDict()
        # Names and passwords are remembered as what nobody can turn back.
        self._secret = secrets.token_bytes(32)
        self._banning: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._works: set[asyncio.Task[None]] = set()
        self._limited = metrics.counter("limited", "Refused for a rate that is used up", ["by"])
        self._banned = metrics.counter("banned", "Connections and commands refused for a ban", ["door"])
        self._made = metrics.counter("bans_made", "Bans that rules of this process have made", ["offence"])
        # What has not happened yet is 0, and not absent.
        for one in fields(RateRules):
            self._limited.labels(one.name)
        for door in DOORS:
            self._banned.labels(door)
        for offence in Offence:
            self._made.labels(offence.name.lower())
        metrics.gauge("bans", "Bans that this process knows of", read=lambda: len(self._bans))
        metrics.gauge("rate_keys", "Addresses, accounts and senders whose rates are known here", read=self._keys)

    # -- the life of a process

    async def start(self) -> None:
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._refresh("")
        except (Unavailable, TimeoutError) as error:
            log.warning("beginning without the bans: they are taken up when they can be had", reason=str(error))
        self._tasks = [
            asyncio.create_task(self._count_forever(), name="rates"),
            asyncio.create_task(self._look_forever(), name="bans"),
        ]

    async def drain(self) -> None:
        return None

    async def stop(self) -> None:
        """Add what was counted last, if that can be done now."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._works, return_exceptions=True)
        self._tasks.clear()
        with contextlib.suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                await self._flush()
                await self._tell_hits()

    # -- rates

    def exempt(self, address: str) -> bool:
        """Is it loopback (or the empty one of a Unix socket), or in a trusted network?"""
        return address == "" or address in self._exempt

    def charge(self, limits: Sequence[Limit], amount: int = 1) -> Over | None:
        """Count one more on all of these, or on none and say what is in the way."""
        if not limits:
            return None
        over = self._tallies.charge(limits, self._clock.now(), amount)
        if self._tallies.fresh:
            self._fresh.set()
        if over is not None:
            self._limited.labels(over.limit.by).inc()
        return over

    def connect(self, door: str, address: str) -> Over | None:
        """One more connection of the address to a door."""
        rate = self.rates.connections
        if rate is None or self.exempt(address):
            return None
        return self.charge([Limit("connections", f"{door} {place(address)}", rate)])

    def worth_telling(self, what: str) -> bool:
        """True once in TOLD_SECONDS for the same: what goes on refusing fills no log."""
        now = self._clock.monotonic()
        if now < self._told.get(what, 0.0):
            return False
        _put(self._told, what, now + TOLD_SECONDS, SEEN_MAX)
        return True

    # -- bans

    def ban_of(self, address: str) -> Ban | None:
        """The ban that is in force for an address. One that a rule made does not hold for loopback and trusted
        networks, whenever they came to be trusted."""
        ban = self._bans.find(address, self._clock.now())
        if ban is not None and ban.by is BannedBy.RULE and self.exempt(address):
            return None
        return ban

    async def spared(self, address: str) -> bool:
        """Has an account signed in well from there within 30 days? It is then let in to sign in, whatever ban there
        is; and where nobody can be asked too."""
        where, now = place(address), self._clock.monotonic()
        until, known = self._spared.get(where, (0.0, False))
        if now < until:
            return known
        try:
            known = await self._identity.signed_in_from(address)
        except Unavailable:
            return True
        _put(self._spared, where, (now + SPARED_SECONDS, known), SPARED_MAX)
        return known

    def refused(self, ban: Ban, door: str) -> None:
        """A connection or a command of somebody banned was refused."""
        self._hits[ban.id] += 1
        self._banned.labels(door).inc()

    def took_mail(self, address: str) -> None:
        """A message was taken from there, of somebody who has not signed in: that pays for FORGIVEN recipients that
        there are not."""
        if not self.exempt(address) and (target := bans.rule_target(address)):
            credit = min(self._credit.get(target, 0) + FORGIVEN, FORGIVEN_MAX)
            _put(self._credit, target, credit, SEEN_MAX)

    def failed_sign_in(self, address: str, name: str, secret: str, *, checked: bool) -> None:
        """A name and secret were refused. secret: "" where it was not sent, but proved anew each time: then nothing
        tells the same one again, and it counts whenever it was looked at. checked: it was, and not put off."""
        if secret:
            self.offend(Offence.SIGN_IN, address, name, secret)
        elif checked:
            self.offend(Offence.SIGN_IN, address)

    def offend(self, offence: Offence, address: str, *what: str) -> None:
        """The address has done this. what: by which the same offence is known again, so that it counts once; without
        it each one counts."""
        rate = self.rules.offences.get(offence)
        target = bans.rule_target(address)
        if rate is None or not target or self.exempt(address) or target in self._banning:
            return
        if what and self._seen_before(offence, target, what):
            return
        if offence is Offence.UNKNOWN_RECIPIENT and (credit := self._credit.get(target, 0)):
            self._credit[target] = credit - 1
            return
        limit = Limit(f"offence {offence.name.lower()}", target, rate)
        over = self._tallies.charge([limit], self._clock.now())
        if self._tallies.fresh:
            self._fresh.set()
        if over is not None:
            self._banning.add(target)
            self._work(self._ban(offence, target, rate))

    def _seen_before(self, offence: Offence, target: str, what: Sequence[str]) -> bool:
        digest = hashlib.blake2b(
            "\0".join((offence.name, target, *what)).encode("utf-8", "replace"), key=self._secret, digest_size=16
        ).digest()
        if digest in self._seen:
            self._seen.move_to_end(digest)
            return True
        _put(self._seen, digest, None, SEEN_MAX)
        return False

    async def _ban(self, offence: Offence, target: str, rate: Rate) -> None:
        reason = f"{offence.value}: more than {rate.amount} in {span(rate.window)}"
        try:
            ban = await self._identity.ban(
                NewBan(target, reason, BannedBy.RULE, self.rules.first, max(self.rules.first, self.rules.longest))
            )
        except (Refused, Unavailable) as error:
            # The next offence tries again.
            log.warning("not banned", target=target, offence=offence.value, reason=str(error))
        else:
            self._bans.add(ban)
            self._made.labels(offence.name.lower()).inc()
            log.warning("banned", target=ban.target, cause=ban.reason, until=ban.until, times=ban.times)
        finally:
            self._banning.discard(target)

    # -- in the background

    def _work(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="ban")
        self._works.add(task)
        task.add_done_callback(self._works.discard)

    async def _count_forever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(FLUSH_SECONDS):
                    await self._fresh.wait()
                    # More that are new may come in the same moment.
                    await asyncio.sleep(FRESH_SECONDS)
            except TimeoutError:
                pass
            self._fresh.clear()
            try:
                await self._flush()
            except Unavailable as error:
                if self.worth_telling("counts wait"):
                    log.warning("counts wait", reason=str(error))
                await asyncio.sleep(FLUSH_SECONDS)
            except Exception:
                log.exception("counting failed")
                await asyncio.sleep(FLUSH_SECONDS)

    async def _flush(self) -> None:
        while charges := self._tallies.take():
            try:
                counts = await self._identity.charge(charges)
            except BaseException as error:
                self._tallies.put_back(charges, self._clock.now())
                if isinstance(error, Refused):
                    raise AssertionError("the tallies make no charge that is refused") from error
                raise
            self._tallies.told(charges, counts)

    async def _look_forever(self) -> None:
        looks = 0
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            looks += 1
            try:
                await self._tell_hits()
                await self._refresh("" if looks % LOOKS_BETWEEN_FULL_ONES == 0 else self._revision)
            except Unavailable as error:
                if self.worth_telling("bans cannot be read"):
                    log.warning("bans cannot be read now: those known hold", reason=str(error))
            except Exception:
                log.exception("looking for bans failed")

    async def _refresh(self, revision: str) -> None:
        news = await self._identity.bans_since(revision)
        if news.bans is not None:
            self._bans = BanTable(news.bans)
        self._revision = news.revision

    async def _tell_hits(self) -> None:
        while self._hits:
            some = dict(self._hits.most_common(CHARGES_AT_ONCE))
            self._hits.subtract(some)
            self._hits = +self._hits
            try:
                await self._identity.hit_bans(some)
            except BaseException:
                self._hits.update(some)
                raise

    def _keys(self) -> float:
        return float(len(self._tallies))


def _put(known: OrderedDict[Any, Any], key: object, value: object, most: int) -> None:
    known[key] = value
    known.move_to_end(key)
    if len(known) > most:
        known.popitem(last=False)


def span(seconds: int) -> str:
    """A window in words: "an hour", "10 minutes"."""
    for length, name in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds % length == 0:
            number = seconds // length
            return f"{'an' if name == 'hour' else 'a'} {name}" if number == 1 else f"{number} {name}s"
    raise AssertionError("a window is whole seconds")
