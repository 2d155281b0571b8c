"""Finding traces: by whom and what the message was, for administrators and for the accounts themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from storage.model import INLINE_MAX, SYSTEM, Delivery, Event, LocalRecipient, Operation, RemoteRecipient, TraceFound

LETTER = b"Message-ID: <One.Two@example.net>\r\nFrom: Eve <eve@example.net>\r\nSubject: hello\r\n\r\nhello\r\n"


async def _ids(bench: Any, text: str, account: str | None = None, **how: Any) -> list[str]:
    return [found.trace for found in await bench.store.find_traces(text, account, **how)]


def _delivery(bench: Any, trace: str, *accounts: str, remote: tuple[str, ...] = (), **how: Any) -> Delivery:
    delivery = bench.delivery(*accounts, content=how.pop("content", LETTER), remote=remote, **how)
    return replace(delivery, trace=trace)


async def _accept(bench: Any, *args: Any, **how: Any) -> None:
    (outcome,) = await bench.store.accept([_delivery(bench, *args, **how)])
    assert not isinstance(outcome, Exception), outcome


@pytest.mark.parametrize(
    "text",
    [
        "<One.Two@example.net>",
        "One.Two@example.net",
        " one.two@EXAMPLE.net ",
        "eve@example.net",
        "EVE@example.NET",
        "ann@example.org",
        "Bob@Example.org",
        "zoe@example.com",
        "t-1",
    ],
)
async def test_a_message_is_found_by_what_is_known_of_it(bench: Any, text: str) -> None:
    await _accept(bench, "t-1", "ann", "bob", remote=("Zoe@example.com",))
    assert await _ids(bench, text) == ["t-1"]


async def test_what_was_not_said_finds_nothing(bench: Any) -> None:
    await _accept(bench, "t-1", "ann")
    for text in ("hello", "one.two", "example.net", "eve", "t-2", "<>", "nobody@example.org"):
        found = await _ids(bench, text)
        assert found == (["t-1"] if text == "<>" else []), text


async def test_a_trace_id_is_known_as_a_uuid_too(bench: Any) -> None:
    await bench.store.record([Event("0123456789abcdef0123456789abcdef", bench.clock.now(), "refused")])
    assert await _ids(bench, "01234567-89AB-cdef-0123-456789abcdef") == ["0123456789abcdef0123456789abcdef"]


async def test_what_is_told_of_a_trace(bench: Any) -> None:
    now = bench.clock.now()
    early = Event("t-1", now - 3, "rcpt", "ann", {"address": "ann@example.org", "reply": "250"})
    connect = Event("t-1", now - 5, "connect", None, {"peer": "192.0.2.1"})
    delivery = _delivery(bench, "t-1", "ann", "bob")
    await bench.store.accept([replace(delivery, op=replace(delivery.op, events=(connect, early)))])
    assert await bench.store.find_traces("eve@example.net", None) == (TraceFound("t-1", now - 5, now, 4),)
    assert await bench.store.find_traces("eve@example.net", "ann") == (TraceFound("t-1", now - 3, now, 2),)


async def test_an_account_finds_by_what_it_is_shown_alone(bench: Any) -> None:
    await _accept(bench, "t-1", "ann", "bob")
    assert await _ids(bench, "eve@example.net", "ann") == ["t-1"]
    assert await _ids(bench, "one.two@example.net", "bob") == ["t-1"]
    # Ann is not to learn who else has it.
    assert await _ids(bench, "bob@example.org", "ann") == []
    assert await _ids(bench, "eve@example.net", "cid") == []
    assert await _ids(bench, "t-1", "ann") == ["t-1"]
    assert await _ids(bench, "t-1", "cid") == []


async def test_no_text_finds_all_that_is_shown(bench: Any) -> None:
    await _accept(bench, "t-1", "ann")
    bench.clock.advance(1)
    await _accept(bench, "t-2", "bob")
    bench.clock.advance(1)
    await bench.store.record([Event("t-3", bench.clock.now(), "refused", None, {"reply": "550"})])
    assert await _ids(bench, "") == ["t-3", "t-2", "t-1"]
    assert await _ids(bench, " ", "ann") == ["t-1"]
    assert await _ids(bench, "", "cid") == []


async def test_the_latest_come_first_and_no_more_than_were_asked_for(bench: Any) -> None:
    for n in range(5):
        await _accept(bench, f"t-{n}", "ann")
        bench.clock.advance(10)
    assert await _ids(bench, "ann@example.org", limit=3) == ["t-4", "t-3", "t-2"]
    assert await _ids(bench, "ann@example.org", "ann", limit=2) == ["t-4", "t-3"]
    assert await _ids(bench, "ann@example.org", since=bench.clock.now() - 15) == ["t-4"]
    assert await _ids(bench, "ann@example.org", limit=0) == ["t-4"]
    # What happens to an old message makes it a late one.
    await bench.store.record([Event("t-0", bench.clock.now(), "attempt", "ann", {"address": "ann@example.org"})])
    assert (await _ids(bench, "ann@example.org"))[0] == "t-0"


async def test_among_many_of_others_an_account_finds_its_own(bench: Any) -> None:
    events = [
        Event(f"t-{n:03}", bench.clock.now() + n, "stored", f"account-{n}", {"sender": "list@example.net"})
        for n in range(300)
    ]
    await bench.store.record(events)
    assert await _ids(bench, "list@example.net", "account-7") == ["t-007"]
    assert await _ids(bench, "", "account-8") == ["t-008"]
    assert len(await _ids(bench, "list@example.net", limit=300)) == 300


async def test_a_refused_attempt_is_found_by_its_peer(bench: Any) -> None:
    now = bench.clock.now()
    peer = {"peer": "192.0.2.7", "listener": "smtp"}
    await bench.store.record(
        [Event("t-1", now, "connect", None, peer), Event("t-1", now, "auth", None, {"name": "ann@example.org"})]
    )
    delivery = _delivery(bench, "t-2", "ann")
    await bench.store.accept(
        [replace(delivery, op=replace(delivery.op, events=(Event("t-2", now, "connect", None, peer),)))]
    )
    assert await _ids(bench, "192.0.2.7") == ["t-1"]
    assert await _ids(bench, "ann@example.org") == ["t-1", "t-2"]
    assert await _ids(bench, "192.0.2.7", "ann") == []


async def test_a_staged_message_is_found_by_its_message_id(bench: Any) -> None:
    content = LETTER + b"x\r\n" * INLINE_MAX
    for n, accounts in enumerate((("ann",), ("ann", "bob"))):
        staged = await bench.store.stage(bench.chunks(content))
        await _accept(bench, f"t-{n}", *accounts, content=staged)
    assert sorted(await _ids(bench, "<one.two@example.net>")) == ["t-0", "t-1"]


async def test_the_log_says_of_the_message_what_it_is(bench: Any) -> None:
    await _accept(bench, "t-1", "ann", remote=("zoe@example.com",), actor="ann")
    stored, spooled = await bench.store.trace("t-1", "ann")
    for event in (stored, spooled):
        assert event.detail["sender"] == "eve@example.net"
        assert event.detail["message_id"] == "One.Two@example.net"
    await _accept(bench, "t-2", "ann", content=b"Subject: none\r\n\r\n")
    (stored,) = await bench.store.trace("t-2", "ann")
    assert "message_id" not in stored.detail


async def test_a_repeat_does_not_say_it_twice(bench: Any) -> None:
    delivery = _delivery(bench, "t-1", "ann", "bob", remote=("zoe@example.com",))
    await bench.store.accept([delivery])
    await bench.store.accept([delivery])
    (found,) = await bench.store.find_traces("one.two@example.net", None)
    assert found.events == 3


async def test_half_a_surrogate_pair_is_a_text_too(bench: Any) -> None:
    odd = "ann\udc80@example.org"
    await bench.store.accept(
        [
            Delivery(
                Operation("op-1", SYSTEM),
                LETTER,
                odd,
                bench.clock.now(),
                "t-1",
                (LocalRecipient("ann", "ann@example.org"), LocalRecipient("bob", "bob@example.org")),
                (RemoteRecipient("zoe@example.com"),),
            )
        ]
    )
    assert await _ids(bench, odd) == ["t-1"]


async def test_old_events_are_found_no_more(bench: Any) -> None:
    await _accept(bench, "t-1", "ann")
    bench.clock.advance(31 * 86400)
    await _accept(bench, "t-2", "ann")
    assert (await bench.store.sweep()).events == 1
    for text in ("eve@example.net", "one.two@example.net", "ann@example.org", ""):
        assert await _ids(bench, text) == ["t-2"]
    assert await _ids(bench, "t-1") == []


async def test_so_many_recipients_have_a_bounded_number_of_keys(bench: Any, bound: Callable[[str, int], None]) -> None:
    bound("KEYS_MAX", 10)
    now = bench.clock.now()
    await bench.store.record(
        [Event("t-1", now, "rcpt", None, {"address": f"ann{n}@example.org"}) for n in range(50)]
        + [Event("t-2", now, "rcpt", None, {"address": "ann49@example.org"})]
    )
    assert await _ids(bench, "ann0@example.org") == ["t-1"]
    assert await _ids(bench, "ann49@example.org") == ["t-2"]
