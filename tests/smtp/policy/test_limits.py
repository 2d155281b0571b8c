"""Rates and bans as SMTP tells them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from identity.limiting.gate import FORGIVEN, FORGIVEN_MAX, Gate
from identity.limiting.rates import Rate
from identity.limiting.rules import BanRules, Offence, RateRules
from identity.model import Ban, BannedBy, BanNews, NewBan, Principal, RateCharge, RateCount, Role
from runtime.clock import ManualClock
from runtime.metrics import Metrics
from smtp.policy.limits import Limits
from smtp.session import Rules, Session, Transaction
from storage.model import Event

STRANGER = "203.0.113.7"
ANN = Principal("Aann", "ann@example.org", Role.USER, None, "password", 1)


class Identity:
    """The part that a gate asks."""

    def __init__(self) -> None:
        self.list: list[Ban] = []
        self.made: list[NewBan] = []
        self.known: set[str] = set()

    async def charge(self, charges: Sequence[RateCharge]) -> tuple[RateCount, ...]:
        return tuple(RateCount(0, one.amount) for one in charges)

    async def bans_since(self, revision: str) -> BanNews:
        return BanNews(str(len(self.list)), tuple(self.list))

    async def ban(self, new: NewBan) -> Ban:
        self.made.append(new)
        return Ban("id", new.target, new.reason, 0.0, None, new.by)

    async def hit_bans(self, hits: Mapping[str, int]) -> None:
        return None

    async def signed_in_from(self, address: str) -> bool:
        return address in self.known


class Journal:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, events: Sequence[Event]) -> None:
        self.events += events


class Scene:
    def __init__(self, rates: RateRules, rules: BanRules | None = None) -> None:
        self.clock = ManualClock()
        self.identity, self.journal = Identity(), Journal()
        anyone: Any = self.identity
        self.gate = Gate(
            anyone,
            rates,
            rules or BanRules(),
            trusted=("198.51.100.0/24",),
            clock=self.clock,
            metrics=Metrics("homing"),
        )
        book: Any = self.journal
        self.limits = Limits(self.gate, book, self.clock)

    def session(self, peer: str = STRANGER, principal: Principal | None = None, kind: str = "smtp") -> Session:
        rules = Rules(kind, kind=kind)  # type: ignore[arg-type]  # one of them
        return Session(peer, 4711, rules, self.clock.now(), principal=principal)

    async def ban(self, until: float | None = None, by: BannedBy = BannedBy.ADMINISTRATOR) -> None:
        self.identity.list.append(Ban("b", STRANGER, "secret reason", 0.0, until, by))
        await self.gate._refresh("")


def mails(scene: Scene, session: Session, tries: int, sender: str = "a@remote.example") -> int:
    return sum(scene.limits.mail(session, sender) is None for _ in range(tries))


@pytest.mark.parametrize(
    ("rates", "through"),
    [
        (RateRules(), 20),
        (RateRules(address=Rate(5, 60)), 5),
        (RateRules(network=Rate(4, 60)), 4),
        (RateRules(sender=Rate(3, 60)), 3),
        (RateRules(address=Rate(5, 60), sender=Rate(7, 60)), 5),
        (RateRules(account=Rate(1, 60)), 20),
    ],
)
def test_messages_of_a_stranger(rates: RateRules, through: int) -> None:
    scene = Scene(rates)
    assert mails(scene, scene.session(), 20) == through


def test_each_counts_by_itself() -> None:
    scene = Scene(RateRules(address=Rate(2, 60), network=Rate(5, 60)))
    assert mails(scene, scene.session("203.0.113.7"), 9) == 2
    assert mails(scene, scene.session("203.0.113.8"), 9) == 2
    # the network's fifth
    assert mails(scene, scene.session("203.0.113.9"), 9) == 1
    assert mails(scene, scene.session("203.0.114.9"), 9) == 2
    # IPv6: one /64, and one /48
    assert mails(scene, scene.session("2001:db8:1:1::1"), 1) == 1
    assert mails(scene, scene.session("2001:db8:1:1:ffff::1"), 9) == 1
    assert mails(scene, scene.session("2001:db8:1:2::1"), 9) == 2
    assert mails(scene, scene.session("2001:db8:1:3::1"), 9) == 1
    assert mails(scene, scene.session("2001:db8:2:3::1"), 9) == 2


def test_the_sender_counts_in_a_network_and_the_null_sender_never() -> None:
    scene = Scene(RateRules(sender=Rate(3, 60)))
    assert mails(scene, scene.session("203.0.113.7"), 2, "News@remote.example") == 2
    assert mails(scene, scene.session("203.0.113.8"), 9, "news@REMOTE.example") == 1
    # Who forges an address holds back nobody elsewhere who writes in its name.
    assert mails(scene, scene.session("203.0.114.7"), 9, "news@remote.example") == 3
    assert mails(scene, scene.session(), 50, "") == 50
    assert mails(scene, scene.session(), 9, "x" * 400 + "@remote.example") == 3
    assert mails(scene, scene.session(), 9, "x" * 401 + "@remote.example") == 3


def test_who_forges_a_users_address_does_not_hold_the_user_back() -> None:
    scene = Scene(RateRules(sender=Rate(3, 60)))
    assert mails(scene, scene.session(), 9, "ann@example.org") == 3
    assert mails(scene, scene.session("203.0.115.7", ANN), 2, "ann@example.org") == 2
    # Of those who signed in, from everywhere together.
    assert mails(scene, scene.session("203.0.116.7", ANN), 9, "Ann@example.org") == 1


def test_who_signed_in_counts_as_the_account_from_everywhere() -> None:
    scene = Scene(RateRules(address=Rate(2, 60), account=Rate(4, 60), account_recipients=Rate(6, 60)))
    assert mails(scene, scene.session("203.0.113.7", ANN), 3) == 3
    assert mails(scene, scene.session("127.0.0.1", ANN), 9) == 1
    session = scene.session("203.0.113.9", ANN)
    assert sum(scene.limits.rcpt(session) is None for _ in range(20)) == 6
    assert mails(scene, scene.session("203.0.113.7"), 9) == 2


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "", "198.51.100.7"])
def test_loopback_and_trusted_networks_are_exempt(peer: str) -> None:
    one = Rate(1, 60)
    scene = Scene(RateRules(one, one, one, one, one, one, one))
    assert mails(scene, scene.session(peer), 9) == 9
    session = scene.session(peer)
    assert all(scene.limits.rcpt(session) is None for _ in range(9))
    assert all(scene.limits.connect(peer) is None for _ in range(9))


def test_lmtp_is_for_our_own_servers() -> None:
    one = Rate(1, 60)
    scene = Scene(RateRules(one, one, one, one, one, one, one))
    session = scene.session(kind="lmtp")
    assert mails(scene, session, 9) == 9
    assert all(scene.limits.rcpt(session) is None for _ in range(9))


def test_replies_say_what_is_allowed_and_when_to_come_again() -> None:
    scene = Scene(RateRules(connections=Rate(1, 60), address=Rate(1, 3600), recipients=Rate(2, 86400)))
    session = scene.session()
    scene.clock.advance(-scene.clock.now() % 86400)
    assert scene.limits.connect(STRANGER) is None
    refused = scene.limits.connect(STRANGER)
    assert refused is not None
    assert (refused.code, refused.closes) == (421, True)
    assert "1 in a minute are allowed, try again in 2 minutes" in refused.text
    assert mails(scene, session, 1) == 1
    refused = scene.limits.mail(session, "a@remote.example")
    assert refused is not None
    assert refused.wire == (
        b"451 4.7.1 Too many messages from your address: 1 in an hour are allowed, try again in 2 hours\r\n"
    )
    scene.limits.rcpt(session)
    scene.limits.rcpt(session)
    refused = scene.limits.rcpt(session)
    assert refused is not None
    assert str(refused).startswith("450 4.7.1 Too many recipients from your address: 2 in a day are allowed")
    transaction = Transaction(trace="t")
    scene.limits.explain(session, transaction, refused)
    (event,) = transaction.events
    assert (event.kind, event.trace) == ("limited", "t")
    assert event.detail == {"by": "recipients", "limit": "2/1d", "reply": str(refused)}


async def test_who_is_banned_is_turned_away_and_the_trace_says_so_now_and_then() -> None:
    scene = Scene(RateRules())
    session = scene.session()
    assert await scene.limits.admit(session) is None
    await scene.ban()
    for _ in range(3):
        reply = await scene.limits.admit(session)
        assert reply is not None
        assert (reply.code, reply.enhanced, reply.closes) == (554, "5.7.1", True)
        assert "secret" not in reply.text
    kinds = [event.kind for event in scene.journal.events]
    assert kinds == ["connect", "banned"]
    assert scene.journal.events[1].detail == {"peer": STRANGER, "reason": "secret reason", "until": None}
    assert await scene.limits.admit(scene.session("203.0.113.8")) is None


async def test_a_ban_that_ends_tells_when() -> None:
    scene = Scene(RateRules())
    await scene.ban(scene.clock.now() + 3600, BannedBy.RULE)
    reply = await scene.limits.admit(scene.session())
    assert reply is not None
    assert str(reply) == (
        "421 4.7.1 Connections from your address are refused until 2023-11-14 23:13 UTC (secret reason)"
    )
    scene.clock.advance(3601)
    assert await scene.limits.admit(scene.session()) is None


async def test_where_an_account_signed_in_well_lately_sign_in_goes_on_and_nothing_else() -> None:
    scene = Scene(RateRules())
    await scene.ban()
    scene.identity.known.add(STRANGER)
    session = scene.session()
    assert await scene.limits.admit(session) is None
    reply = scene.limits.mail(session, "a@remote.example")
    assert reply is not None
    assert (reply.code, reply.closes) == (554, True)
    session.principal = ANN
    assert scene.limits.mail(session, "ann@example.org") is None


async def test_offences() -> None:
    rules = BanRules({Offence.SIGN_IN: Rate(2, 60), Offence.UNKNOWN_RECIPIENT: Rate(3, 60), Offence.ABUSE: Rate(1, 60)})
    scene = Scene(RateRules(), rules)
    session = scene.session()
    for n in range(3):
        scene.limits.failed_sign_in(session, "ann", f"guess {n}", checked=n > 0)
    await asyncio.sleep(0)
    await asyncio.gather(*scene.gate._works)
    assert [one.target for one in scene.identity.made] == [STRANGER]
    assert scene.gate.ban_of(STRANGER) is not None
    other = scene.session("203.0.113.8")
    for n in range(9):
        scene.limits.unknown_recipient(other, f"Name{n % 3}@example.org")
    assert len(scene.identity.made) == 1
    scene.limits.unknown_recipient(other, "fourth@example.org")
    third = scene.session("2001:db8::9")
    scene.limits.abuse(third)
    scene.limits.abuse(third)
    signed_in = scene.session("203.0.113.10", ANN)
    for n in range(9):
        scene.limits.abuse(signed_in)
        scene.limits.unknown_recipient(signed_in, f"{n}@example.org")
    await asyncio.gather(*scene.gate._works)
    assert [one.target for one in scene.identity.made[1:]] == ["203.0.113.8", "2001:db8::/64"]
    assert all(one.by is BannedBy.RULE for one in scene.identity.made)


async def test_guesses_whose_secret_is_never_sent_lead_to_a_ban_too() -> None:
    scene = Scene(RateRules(), BanRules({Offence.SIGN_IN: Rate(5, 60)}))
    session = scene.session()
    for _ in range(50):
        # Put off by the guess counters: nothing was tried.
        scene.limits.failed_sign_in(session, "ann", "", checked=False)
    for _ in range(5):
        scene.limits.failed_sign_in(session, "ann", "", checked=True)
    assert not scene.gate._works
    scene.limits.failed_sign_in(session, "ann", "", checked=True)
    await asyncio.gather(*scene.gate._works)
    assert [one.target for one in scene.identity.made] == [STRANGER]


async def test_where_mail_comes_from_is_not_banned_for_a_few_who_guess_there() -> None:
    scene = Scene(RateRules(), BanRules({Offence.UNKNOWN_RECIPIENT: Rate(3, 60)}))
    provider, guesser = scene.session("2001:db8:0:1::7"), scene.session("203.0.113.8")
    for n in range(20):
        scene.limits.took_mail(scene.session(f"2001:db8:0:1::{n}"))
        for address in range(FORGIVEN):
            scene.limits.unknown_recipient(provider, f"{n}.{address}@example.org")
    assert not scene.gate._works
    for n in range(4):
        scene.limits.unknown_recipient(guesser, f"{n}@example.org")
    await asyncio.gather(*scene.gate._works)
    assert [one.target for one in scene.identity.made] == ["203.0.113.8"]
    # A store of it is not without end, and is used up.
    for _ in range(1000):
        scene.limits.took_mail(provider)
    for n in range(FORGIVEN_MAX + 4):
        scene.limits.unknown_recipient(provider, f"more{n}@example.org")
    await asyncio.gather(*scene.gate._works)
    assert [one.target for one in scene.identity.made[1:]] == ["2001:db8:0:1::/64"]


async def test_without_a_gate_nothing_is_limited() -> None:
    clock = ManualClock()
    journal: Any = Journal()
    limits = Limits(None, journal, clock)
    session = Session(STRANGER, 1, Rules("smtp"), clock.now())
    assert limits.connect(STRANGER) is None
    assert await limits.admit(session) is None
    assert limits.mail(session, "a@remote.example") is None
    assert limits.rcpt(session) is None
    limits.failed_sign_in(session, "a", "b", checked=True)
    limits.took_mail(session)
    limits.unknown_recipient(session, "a@example.org")
    limits.abuse(session)
