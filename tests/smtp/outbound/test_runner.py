"""The runner over a real spool: what is sent, tried again, given up and told."""

from __future__ import annotations

import asyncio
import email
import time
from collections.abc import AsyncIterator, Sequence
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

import identity.port
from smtp.outbound.transport import Letter, Outcome, Phase, Result, Status, Unsigned
from storage.limits import CLAIM_TEXT
from storage.model import INLINE_MAX, SYSTEM, Operation, SpoolAction
from storage.port import Unavailable
from tests.smtp.outbound.spooled import DEAD, GREY, MESSAGE, SENT, UNKNOWN, Scripted, Spooled, opened, same

DAY = 86400.0
LEASE = 10.0
"""Seconds: extended in time on a machine that stands still for a moment too."""


@pytest.fixture
async def spooled(tmp_path: Path) -> AsyncIterator[Spooled]:
    async with opened(tmp_path) as made:
        yield made


async def empty(spooled: Spooled) -> bool:
    return await spooled.waiting() == 0


def parsed(octets: bytes) -> Message:
    return email.message_from_bytes(octets)


async def test_a_message_is_sent_once_and_its_trace_says_so(spooled: Spooled) -> None:
    _, trace = await spooled.put("bob@remote.example")
    async with spooled.running():
        await spooled.until(lambda: empty(spooled))
    assert len(spooled.transport.letters) == 1
    assert spooled.transport.texts == [MESSAGE]
    (event,) = await spooled.events(trace, "attempt")
    assert event.account == spooled.account
    assert event.detail["status"] == "sent"
    assert event.detail["attempt"] == 1
    assert event.detail["address"] == "bob@remote.example"
    assert not await spooled.inbox()


async def test_a_message_that_comes_while_the_runner_waits_is_sent_at_once(
    spooled: Spooled, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It is woken: looking again would take longer than `until` waits.
    monkeypatch.setattr("smtp.outbound.runner.POLL_SECONDS", 600.0)
    monkeypatch.setattr("storage.adapters.sqlite.sending.CLAIM_POLL", 600.0)
    async with spooled.running() as runner:
        await asyncio.sleep(0.05)
        await spooled.put("bob@remote.example")
        await spooled.until(lambda: empty(spooled))
        assert runner.figures.sent == 1


async def test_each_domain_of_a_message_is_an_item_of_its_own(spooled: Spooled) -> None:
    await spooled.put("a@one.example", "b@two.example", "c@one.example")
    async with spooled.running():
        await spooled.until(lambda: empty(spooled))
    assert sorted(tuple(r.address for r in letter.recipients) for letter in spooled.transport.letters) == [
        ("a@one.example", "c@one.example"),
        ("b@two.example",),
    ]


async def test_what_is_deferred_is_tried_again_by_the_schedule(spooled: Spooled) -> None:
    spooled.transport.answer("remote.example", GREY, SENT)
    item, trace = await spooled.put("bob@remote.example")
    async with spooled.running(retry=["5m"]):
        await spooled.until(lambda: spooled.events(trace, "attempt"))
        waiting = await spooled.storage.spool_item(item, None)
        (event,) = await spooled.events(trace, "attempt")
        assert waiting.attempts == 1
        assert waiting.last.endswith("451 greylisted")
        assert event.detail["next"] == waiting.next_attempt
        assert 200 < waiting.next_attempt - time.time() < 361
        await spooled.storage.change_spool(Operation("r" * 32, SYSTEM), [item], SpoolAction.RETRY)
        await spooled.until(lambda: empty(spooled))
    assert [event.detail["status"] for event in await spooled.events(trace, "attempt")] == ["deferred", "sent"]


async def test_a_refused_message_goes_back_to_its_sender(spooled: Spooled) -> None:
    spooled.transport.answer("remote.example", UNKNOWN)
    item, trace = await spooled.put("bob@remote.example", recipient={"ORCPT": "rfc822;bob+2Bx@remote.example"})
    async with spooled.running():
        await spooled.until(lambda: empty(spooled))
    (octets,) = await spooled.inbox()
    notice = parsed(octets)
    assert notice["Return-Path"] == "<>"
    assert notice["Auto-Submitted"] == "auto-replied"
    assert notice.get_content_type() == "multipart/report"
    text, status, returned = notice.get_payload()
    assert "no such user" in text.get_payload()
    about = status.get_payload()[1]
    assert about["Action"] == "failed"
    assert about["Status"] == "5.1.1"
    assert about["Final-Recipient"] == "rfc822; bob@remote.example"
    assert about["Original-Recipient"] == "rfc822; bob+x@remote.example"
    assert about["Remote-MTA"] == "dns; mx.remote.example"
    assert returned.get_payload()[0]["Message-ID"] == "<m1@example.org>"
    (told,) = await spooled.events(trace, "dsn")
    assert told.detail["action"] == "failed"
    assert told.detail["item"] == item
    assert await spooled.events(str(told.detail["trace"]), "stored")


async def test_one_refused_of_three_is_told_and_one_deferred_waits(spooled: Spooled) -> None:
    async def script(letter: Letter) -> Result:
        outcomes = {"a": SENT, "b": UNKNOWN, "c": GREY}
        return Result({one.address: outcomes[one.address[0]] for one in letter.recipients}, 0.01)

    spooled.transport.scripts["remote.example"] = script
    item, trace = await spooled.put("a@remote.example", "b@remote.example", "c@remote.example")
    async with spooled.running():
        await spooled.until(lambda: spooled.events(trace, "dsn"))
    waiting = await spooled.storage.spool_item(item, None)
    assert [one.address for one in waiting.recipients] == ["c@remote.example"]
    (octets,) = await spooled.inbox()
    _, status, _ = parsed(octets).get_payload()
    assert [part["Final-Recipient"] for part in status.get_payload()[1:]] == ["rfc822; b@remote.example"]


async def test_never_a_bounce_to_a_null_sender(spooled: Spooled) -> None:
    spooled.transport.answer("remote.example", UNKNOWN)
    _, trace = await spooled.put("bob@remote.example", sender="")
    async with spooled.running():
        await spooled.until(lambda: empty(spooled))
    assert not await spooled.inbox()
    (event,) = await spooled.events(trace, "suppressed")
    assert event.detail["about"] == "bob@remote.example"


async def test_notify_never_and_a_sender_that_is_no_more_are_not_told(spooled: Spooled) -> None:
    spooled.transport.answer("remote.example", UNKNOWN)
    _, never = await spooled.put("bob@remote.example", recipient={"NOTIFY": "NEVER"})
    _, gone = await spooled.put("bob@remote.example", sender="nobody@example.org")
    async with spooled.running():
        await spooled.until(lambda: empty(spooled))
    assert not await spooled.inbox()
    assert len(await spooled.events(never, "suppressed")) == 1
    (event,) = await spooled.events(gone, "suppressed")
    assert "does not exist" in str(event.detail["why"])


async def test_a_remote_sender_is_told_by_mail_that_goes_out(spooled: Spooled) -> None:
    spooled.transport.answer("remote.example", UNKNOWN)
    await spooled.put("bob@remote.example", sender="eve@elsewhere.example")
    async with spooled.running():
        await spooled.until(lambda: empty(spooled))
    notice = spooled.transport.letters[-1]
    assert (notice.sender, notice.domain) == ("", "elsewhere.example")
    assert notice.recipients[0].params == {"NOTIFY": "NEVER"}
    assert parsed(spooled.transport.texts[-1]).get_content_type() == "multipart/report"
    assert not any(name.startswith("X-") for name in notice.params)


async def test_success_is_told_where_it_was_asked_for_and_the_remote_does_not(spooled: Spooled) -> None:
    spooled.transport.answer("dsn.example", SENT, relayed_dsn=True)
    for domain in ("remote.example", "dsn.example"):
        await spooled.put(f"bob@{domain}", recipient={"NOTIFY": "SUCCESS,FAILURE"})
    async with spooled.running():
        await spooled.until(lambda: empty(spooled))
    (octets,) = await spooled.inbox()
    _, status, returned = parsed(octets).get_payload()
    assert status.get_payload()[1]["Action"] == "relayed"
    assert status.get_payload()[1]["Final-Recipient"] == "rfc822; bob@remote.example"
    assert returned.get_content_type() == "text/rfc822-headers"


async def test_what_is_too_old_is_given_up(spooled: Spooled) -> None:
    spooled.transport.answer("remote.example", GREY)
    _, trace = await spooled.put("bob@remote.example", received_at=time.time() - 5.1 * DAY)
    async with spooled.running():
        await spooled.until(lambda: empty(spooled))
    (event,) = await spooled.events(trace, "expired")
    assert event.detail["days"] == pytest.approx(5.1, abs=0.1)
    (octets,) = await spooled.inbox()
    assert "greylisted" in octets.decode()


async def test_a_late_message_is_told_once(spooled: Spooled) -> None:
    spooled.transport.answer("remote.example", GREY)
    item, trace = await spooled.put("bob@remote.example", received_at=time.time() - 5 * 3600)
    async with spooled.running():
        for number in (1, 2):
            await spooled.until(lambda number=number: _events(spooled, trace, number))
            await spooled.storage.change_spool(Operation(f"{number:032}", SYSTEM), [item], SpoolAction.RETRY)
    (octets,) = await spooled.inbox()
    _, status, _ = parsed(octets).get_payload()
    assert status.get_payload()[1]["Action"] == "delayed"
    assert status.get_payload()[1]["Will-Retry-Until"]
    assert (await spooled.storage.spool_item(item, None)).told_at is not None


async def _events(spooled: Spooled, trace: str, number: int) -> bool:
    return len(await spooled.events(trace, "attempt")) >= number


async def test_a_transport_with_a_bug_defers_and_the_runner_goes_on(spooled: Spooled) -> None:
    async def broken(letter: Letter) -> Result:
        raise KeyError("of the transport")

    spooled.transport.scripts["broken.example"] = broken
    item, trace = await spooled.put("bob@broken.example")
    async with spooled.running():
        await spooled.until(lambda: spooled.events(trace, "attempt"))
        await spooled.put("bob@remote.example")
        await spooled.until(lambda: _count(spooled, 1))
    waiting = await spooled.storage.spool_item(item, None)
    assert waiting.attempts == 1
    assert "error of its own" in waiting.last


async def _count(spooled: Spooled, number: int) -> bool:
    return await spooled.waiting() == number


async def test_mail_for_a_destination_that_is_down_waits_without_being_tried(spooled: Spooled) -> None:
    spooled.transport.answer("dead.example", DEAD, destination_down=True)
    traces = [(await spooled.put("bob@dead.example"))[1] for _ in range(30)]
    async with spooled.running() as runner:
        await spooled.until(lambda: _all_attempted(spooled, traces))
        # Those who begin before it is known are the only ones.
        assert len(spooled.transport.letters) <= 4
        assert runner.figures.deferred == 30
    items = await spooled.storage.spool(None)
    assert {item.attempts for item in items} == {1}
    assert all(item.next_attempt > time.time() + 200 for item in items)
    assert all("Connection refused" in item.last for item in items)


async def _all_attempted(spooled: Spooled, traces: list[str]) -> bool:
    return all([await spooled.events(trace, "attempt") for trace in traces])


@pytest.mark.slow
async def test_dead_and_slow_destinations_are_in_nobodys_way(spooled: Spooled) -> None:
    stuck = asyncio.Event()

    async def hanging(letter: Letter) -> Result:
        await stuck.wait()
        return same(letter, DEAD, destination_down=True)

    for number in range(20):
        spooled.transport.scripts[f"dead{number}.example"] = hanging
        for _ in range(10):
            await spooled.put(f"bob@dead{number}.example")
    for number in range(200):
        await spooled.put(f"bob@live{number % 20}.example")
    async with spooled.running(concurrency=40):
        await spooled.until(lambda: _count(spooled, 200))
        assert max(count for domain, count in spooled.transport.most.items() if domain.startswith("dead")) <= 2
        stuck.set()


async def test_concurrency_of_a_destination_is_bounded_and_grows(spooled: Spooled) -> None:
    async def slowly(letter: Letter) -> Result:
        await asyncio.sleep(0.02)
        return same(letter, SENT)

    spooled.transport.scripts["remote.example"] = slowly
    for _ in range(100):
        await spooled.put("bob@remote.example")
    async with spooled.running(per_destination=7):
        await spooled.until(lambda: empty(spooled))
    assert spooled.transport.most["remote.example"] == 7


async def test_rate_of_a_destination(spooled: Spooled) -> None:
    times: list[float] = []

    async def timed(letter: Letter) -> Result:
        times.append(time.monotonic())
        return same(letter, SENT)

    spooled.transport.scripts["remote.example"] = timed
    for _ in range(6):
        await spooled.put("bob@remote.example")
    async with spooled.running(rate=600):
        await spooled.until(lambda: empty(spooled))
    assert times[-1] - times[0] > 0.45


async def test_storage_that_is_away_loses_nothing(spooled: Spooled) -> None:
    class Away:
        """Storage that cannot answer now and then."""

        def __init__(self) -> None:
            self.failures = {"claim": 2, "settle": 3, "spool_read": 1}

        def __getattr__(self, name: str) -> Any:
            if self.failures.get(name, 0) > 0:
                self.failures[name] -= 1

                async def away(*_: Any) -> Any:
                    raise Unavailable("away")

                return away
            return getattr(spooled.storage, name)

    # Too long to come with their claims: they are read when their turn comes.
    long = MESSAGE + b"x" * CLAIM_TEXT + b"\r\n"
    items = [(await spooled.put("bob@remote.example", content=long))[0] for _ in range(3)]
    storage = Away()
    async with spooled.running(storage=storage):
        # What could not be read is back in the spool for a while.
        await spooled.until(lambda: _count(spooled, 1))
        (item,) = await spooled.storage.spool(None)
        assert item.id in items

        async def back() -> bool:
            waiting = await spooled.storage.spool_item(item.id, None)
            return (waiting.attempts, waiting.claims, waiting.leased_until) == (0, 0, 0.0)

        await spooled.until(back)
        await spooled.storage.change_spool(Operation("r" * 32, SYSTEM), [item.id], SpoolAction.RETRY)
        await spooled.until(lambda: empty(spooled))
    assert not any(storage.failures.values())


@pytest.mark.parametrize("size", [10, 2 * CLAIM_TEXT])
async def test_each_message_gets_its_own_signature_also_where_it_cannot_be_made_ahead(
    spooled: Spooled, size: int
) -> None:
    class Signs:
        """It fails the first time."""

        failed = False

        async def sign_all(self, letters: Sequence[Unsigned]) -> list[bytes]:
            if not self.failed:
                self.failed = True
                raise identity.port.Unavailable("away")
            return [b"X-Signed: " + one.letter.item.encode() + b"\r\n" for one in letters]

    for _ in range(30):
        await spooled.put("bob@remote.example", content=MESSAGE + b"x" * size)
    runner = spooled.runner()
    runner._ahead.signer = Signs()
    await runner.start()
    await spooled.until(lambda: _count(spooled, 1 if size > CLAIM_TEXT else 0))
    assert len(spooled.transport.letters) == (29 if size > CLAIM_TEXT else 30)
    assert all(letter.head == b"X-Signed: " + letter.item.encode() + b"\r\n" for letter in spooled.transport.letters)


async def test_a_killed_attempt_is_told_as_unsettled(spooled: Spooled) -> None:
    _, trace = await spooled.put("bob@remote.example")
    # A runner that took it and was killed.
    (claimed,) = await spooled.storage.claim(1, 1, 0.05)
    assert claimed.item.claims == 1
    async with spooled.running():
        await spooled.until(lambda: empty(spooled))
    (event,) = await spooled.events(trace, "unsettled")
    assert event.detail["attempt"] == 1


async def test_a_drain_waits_for_attempts_and_gives_back_the_rest(spooled: Spooled) -> None:
    going, done = asyncio.Event(), asyncio.Event()

    async def slowly(letter: Letter) -> Result:
        going.set()
        await done.wait()
        return same(letter, SENT)

    spooled.transport.scripts["remote.example"] = slowly
    for _ in range(10):
        await spooled.put("bob@remote.example")
    runner = spooled.runner()
    await runner.start()
    await going.wait()
    draining = asyncio.create_task(runner.drain())
    await asyncio.sleep(0.05)
    assert not draining.done()
    done.set()
    await draining
    await runner.stop()
    begun = len(spooled.transport.letters)
    left = await spooled.storage.spool(None)
    assert len(left) == 10 - begun
    assert {(item.attempts, item.claims, item.leased_until) for item in left} == {(0, 0, 0.0)}
    assert spooled.transport.closed


async def test_an_attempt_that_outlasts_the_drain_is_settled_as_doubtful(spooled: Spooled) -> None:
    async def forever(letter: Letter) -> Result:
        await asyncio.Event().wait()
        raise AssertionError

    spooled.transport.scripts["remote.example"] = forever
    item, trace = await spooled.put("bob@remote.example")
    runner = spooled.runner(drain_seconds=0.1)
    await runner.start()
    await spooled.until(_has(spooled.transport))
    await runner.drain()
    await runner.stop()
    (event,) = await spooled.events(trace, "attempt")
    assert event.detail["doubtful"] is True
    waiting = await spooled.storage.spool_item(item, None)
    assert (waiting.attempts, waiting.claims, waiting.leased_until) == (1, 1, 0.0)


def _has(transport: Scripted) -> Any:
    async def has() -> bool:
        return bool(transport.letters)

    return has


@pytest.mark.slow
async def test_leases_are_extended_while_an_attempt_lasts(spooled: Spooled) -> None:
    async def slowly(letter: Letter) -> Result:
        await asyncio.sleep(LEASE + 1.0)
        return same(letter, SENT)

    spooled.transport.scripts["remote.example"] = slowly
    await spooled.put("bob@remote.example")
    async with spooled.running(lease=LEASE, drain_seconds=60), spooled.running(lease=LEASE, drain_seconds=60):
        await spooled.until(lambda: empty(spooled))
    assert len(spooled.transport.letters) == 1


async def test_what_is_held_by_its_sender_is_not_sent_before(spooled: Spooled) -> None:
    until = time.time() + 3600
    item, trace = await spooled.put("bob@remote.example", params={"HOLDUNTIL": str(int(until))})

    async def put_off() -> bool:
        return (await spooled.storage.spool_item(item, None)).next_attempt >= int(until)

    async with spooled.running():
        await spooled.until(put_off)
    assert not spooled.transport.letters
    assert not await spooled.events(trace, "attempt")


async def test_switched_off_nothing_is_claimed(spooled: Spooled) -> None:
    item, _ = await spooled.put("bob@remote.example")
    async with spooled.running(enabled=False) as runner:
        await asyncio.sleep(0.2)
        assert (await spooled.storage.spool_item(item, None)).claims == 0
        runner.apply(runner._settings.model_copy(update={"enabled": True}))
        await spooled.until(lambda: empty(spooled))


async def test_switched_off_what_has_not_begun_goes_back(spooled: Spooled) -> None:
    done = asyncio.Event()

    async def slowly(letter: Letter) -> Result:
        await done.wait()
        return same(letter, SENT)

    spooled.transport.scripts["remote.example"] = slowly
    for _ in range(5):
        await spooled.put("bob@remote.example")

    async def in_hand() -> bool:
        return any(item.claims for item in await spooled.storage.spool(None)) and bool(spooled.transport.letters)

    async def back() -> bool:
        return sum(item.claims for item in await spooled.storage.spool(None)) == 1

    async with spooled.running() as runner:
        await spooled.until(in_hand)
        runner.apply(runner._settings.model_copy(update={"enabled": False}))
        await spooled.until(back)
        done.set()
        await spooled.until(lambda: _count(spooled, 4))
    assert len(spooled.transport.letters) == 1


async def test_routes_name_the_destination(spooled: Spooled) -> None:
    item, _ = await spooled.put("bob@remote.example")
    await spooled.storage.change_spool(
        Operation("r" * 32, SYSTEM), [item], SpoolAction.ROUTE, "smtp://relay.example:25"
    )
    async with spooled.running():
        await spooled.until(lambda: empty(spooled))
    assert spooled.transport.letters[0].route == "smtp://relay.example:25"


async def test_a_long_message_is_read_in_pieces(spooled: Spooled) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield MESSAGE
        for _ in range(12):
            yield b"x" * 998 * 100 + b"\r\n"

    blob = await spooled.storage.stage(pieces())
    assert blob.size > 4 * INLINE_MAX
    await spooled.put("bob@remote.example", content=blob)  # type: ignore[arg-type]
    async with spooled.running():
        await spooled.until(lambda: empty(spooled))
    assert len(spooled.transport.texts[0]) == blob.size


async def test_many_go_quickly(spooled: Spooled) -> None:
    """Not a benchmark: it shows that nothing waits where it need not."""
    for number in range(500):
        await spooled.put(f"bob@d{number % 10}.example")
    begun = time.monotonic()
    async with spooled.running():
        await spooled.until(lambda: empty(spooled))
    assert time.monotonic() - begun < 60
    assert len(spooled.transport.letters) == 500


async def test_more_than_twenty_recipients_of_one_outcome_are_one_event(spooled: Spooled) -> None:
    _, trace = await spooled.put(*(f"u{number}@remote.example" for number in range(30)))
    async with spooled.running():
        await spooled.until(lambda: empty(spooled))
    (event,) = await spooled.events(trace, "attempt")
    assert event.detail["addresses"] == 30


def test_outcomes_of_the_runner_itself_are_kept_apart() -> None:
    assert Outcome(Status.DEFERRED, Phase.ROUTE, "4.3.0", "x") != GREY
