"""A connection that is refused leaves a trace, and a flood of them does not fill the log."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from identity.port import Reason, Refused
from runtime.clock import ManualClock
from smtp.journal import Journal
from smtp.policy import turnedaway
from smtp.policy.limits import Limited
from smtp.policy.turnedaway import TOLD_SECONDS, TurnedAway
from smtp.session import Rules, Session
from smtp.wire import replies
from storage.model import Event


class Noted(Journal):
    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, events: Iterable[Event]) -> None:
        self.events += events


def session(peer: str) -> Session:
    return Session(peer, 25, Rules("smtp"), 1.0)


def test_each_address_is_told_of_once_in_a_while() -> None:
    clock, journal = ManualClock(), Noted()
    turned = TurnedAway(journal, clock)
    for peer in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
        turned.note(session(peer), replies.TOO_MANY_CONNECTIONS)
    assert [event.kind for event in journal.events] == ["connect", "refused"] * 2
    assert len({event.trace for event in journal.events}) == 2
    assert journal.events[0].detail["peer"] == "192.0.2.1"
    assert journal.events[1].detail["reply"] == str(replies.TOO_MANY_CONNECTIONS)
    clock.advance(TOLD_SECONDS)
    turned.note(session("192.0.2.1"), replies.SERVER_FULL)
    assert len(journal.events) == 6


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turnedaway, "TOLD_MAX", 2)
    journal = Noted()
    turned = TurnedAway(journal, ManualClock())
    for n in range(5):
        turned.note(session(f"192.0.2.{n}"), replies.SERVER_FULL)
    assert len(turned._told) <= 2
    assert len(journal.events) == 10


async def test_who_is_put_off_again_and_again_is_told_of_once(start, until, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither reply ends the connection, so that a client could fill the log with its trying on."""
    over = Limited(451, "4.7.1", "Too many", False, "limited", {"by": "address", "limit": "1/1h", "reply": "451"})

    async def slow(*_args: object) -> None:
        raise Refused(Reason.SLOW_DOWN, retry_after=9.0)

    async with start(auth_failures_max=1000) as running:
        monkeypatch.setattr(running.service.handler.limits, "mail", lambda *_args: over)
        monkeypatch.setattr(running.identity, "authenticate", slow)
        client = await running.connect()
        await client.hello()
        for _ in range(20):
            assert (await client.say("MAIL FROM:<a@remote.example>")).startswith("451 4.7.1")
            assert (await client.sign_in()).startswith("454 4.7.0")
        await until(lambda: "refused" in [event.kind for event in running.storage.recorded])
    kinds = [event.kind for event in running.storage.recorded]
    assert kinds.count("refused") == kinds.count("limited") == kinds.count("mail") == kinds.count("auth") == 1
