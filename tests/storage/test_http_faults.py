"""The storage port over HTTP while answers are lost, the keeper restarts, and many deliver at once."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime import portclient
from runtime.clock import ManualClock
from runtime.portcall import BadCall
from storage.adapters.http import adapter
from storage.adapters.http.adapter import open_http
from storage.adapters.http.deliveries import CALL_OCTETS, Deliveries
from storage.adapters.http.settlements import settle
from storage.adapters.sqlite.adapter import SqliteStorage
from storage.connect import connect
from storage.limits import ACCEPT_BATCH
from storage.model import (
    ALL_UIDS,
    INLINE_MAX,
    SYSTEM,
    Accepted,
    Delivery,
    Event,
    FlagMode,
    LocalRecipient,
    NewMessage,
    Operation,
    RemoteRecipient,
    Settlement,
    SpoolAction,
    StagedBlob,
    Want,
)
from storage.port import Reason, Refused, Storage, Unavailable
from storage.port_api import port_app
from tests.cutting import CuttingProxy
from tests.reading import rows_of
from tests.served import TOKEN, Keeper

CUTS: Sequence[Any] = ("before", "head", "body")


def op(id: str, actor: str = "ann") -> Operation:
    return Operation(id, actor, (Event(f"trace-{id}", 5.0, "called"),))


def message(text: str, size: int = 0) -> bytes:
    head = f"From: e@example.net\r\nSubject: {text}\r\n\r\n{text}\r\n".encode()
    return head + b"x" * max(0, size - len(head))


def delivery(id: str, content: bytes | StagedBlob | None = None, remote: tuple[str, ...] = ()) -> Delivery:
    local = (LocalRecipient("ann", "ann@example.org", b"Return-Path: <>\r\n"),)
    far = tuple(RemoteRecipient(address) for address in remote)
    return Delivery(op(id, SYSTEM), content or message(id), "e@example.net", 7.0, f"trace-{id}", local, far)


async def pieces(content: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def sqlite(folder: Path) -> SqliteStorage:
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240  # of a test
    store = SqliteStorage(folder, clock=ManualClock())
    await store.open(index=False)
    return store


async def every_write(store: Storage) -> list[Any]:
    """Each writing call of the port that carries an operation, and what came of it."""
    found: list[Any] = [await store.open_account(op("1", SYSTEM), "ann"), await store.open_account(op("2"), "ann")]
    inbox = (await store.mailbox("ann", "INBOX")).ref
    found += await store.accept([delivery("3"), delivery("4", remote=("x@far.example", "y@far.example"))])
    found += await store.accept([delivery("5", message("big", INLINE_MAX))])
    found.append(await store.append(op("6"), inbox, [NewMessage(message("a"), 8, ("k",)), NewMessage(b"b")], None))
    found.append(await store.create_mailbox(op("7"), "ann", "Work/Plans", "\\Flagged"))
    found.append(await store.subscribe(op("8"), "ann", "Elsewhere", True))
    found.append(await store.rename_mailbox(op("9"), "ann", "Work", "Play"))
    found.append(await store.store_flags(op("10"), inbox, ((1, 3),), FlagMode.ADD, 4, ("k2",)))
    found.append(await store.copy(op("11"), inbox, ((1, 2),), "Sent", None))
    found.append(await store.move(op("12"), inbox, ((2, 2),), "Play/Plans"))
    found.append(await store.expunge(op("13"), inbox, ALL_UIDS))
    found.append(await store.delete_mailbox(op("14"), "ann", "Junk"))
    found.append(await store.open_mailbox(op("15"), inbox, True))
    await store.open_account(op("16", SYSTEM), "bob")
    found.append(await store.purge_account(op("17", SYSTEM), "bob"))
    for refused in (
        store.create_mailbox(op("18"), "ann", "Play"),
        store.copy(op("19"), inbox, ((1, 1),), "Nowhere", None),
        store.copy(op("20"), inbox, ((1, 1),), "Sent", 1),
    ):
        with pytest.raises(Refused) as refusal:
            await refused
        found.append((refusal.value.reason, refusal.value.text))
    return found


async def all_that_is(store: Storage) -> list[Any]:
    """What can be seen of the store."""
    boxes = await store.list_mailboxes("ann")
    found: list[Any] = [boxes, await store.usage("ann"), await store.spool(None), await store.watch({"ann": 0}, 0)]
    for box in boxes.mailboxes:
        found.append(await rows_of(store, box.ref, ALL_UIDS, Want(1023)))
        found.append(await store.changes(box.ref, 0))
    found += [await store.trace(f"trace-{number}", None) for number in range(1, 21)]
    found.append(await store.stats())
    return found


@pytest.mark.parametrize("cuts", [["before"], ["head"], ["body"], ["before", "body", "head"]])
async def test_lost_answers_double_nothing(tmp_path: Path, cuts: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portclient, "PAUSE_FIRST", 0.002)
    plain, behind = await sqlite(tmp_path / "plain"), await sqlite(tmp_path / "behind")
    async with Keeper(port_app(behind, TOKEN)) as keeper, CuttingProxy(keeper.rest.port) as proxy:
        client = _Cutting(open_http(proxy.url, TOKEN), proxy, cuts)
        # Each of the calls loses its first answers.
        assert await every_write(client) == await every_write(plain)
        assert proxy.done == client.calls * len(cuts)
        assert client.calls >= 20
        assert await all_that_is(client) == await all_that_is(plain)
        await client.close()
    await plain.close()
    await behind.close()


class _Cutting:
    """The port, with a cut ordered before every call."""

    def __init__(self, store: Storage, proxy: CuttingProxy, cuts: list[Any]) -> None:
        self._store = store
        self._proxy = proxy
        self._cuts = cuts
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*args: Any) -> Any:
            assert not self._proxy.cuts
            if name != "close":
                self._proxy.cuts.extend(self._cuts)
                self.calls += 1
            return await method(*args)

        return call


@pytest.mark.parametrize("cuts", [["before"], ["head"], ["body"], ["before", "body", "head"]])
async def test_what_came_of_an_attempt_is_told_once(
    tmp_path: Path, cuts: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portclient, "PAUSE_FIRST", 0.002)
    behind = await sqlite(tmp_path)
    await behind.open_account(op("1", SYSTEM), "ann")
    await behind.accept([delivery("2", remote=("x@far.example", "y@far.example", "z@near.example"))])
    first, second = await behind.claim(9, 9, 60.0)
    async with Keeper(port_app(behind, TOKEN)) as keeper, CuttingProxy(keeper.rest.port) as proxy:
        client = _Cutting(open_http(proxy.url, TOKEN), proxy, cuts)
        dsn = delivery("dsn")
        some = Settlement(op("3", SYSTEM), first.item.id, first.lease, ("x@far.example",), 5.0, report=dsn)
        gone = Settlement(op("4", SYSTEM), second.item.id, second.lease, ("z@near.example",))
        wrong = Settlement(op("5", SYSTEM), first.item.id, "another")
        outcomes = await client.settle([some, gone, wrong])
        assert [outcome if outcome is None else outcome.reason for outcome in outcomes] == [
            None,
            None,
            Reason.NO_SUCH_ITEM,
        ]
        (item,) = await client.spool(None)
        assert (item.attempts, [to.address for to in item.recipients]) == (1, ["y@far.example"])
        assert (await client.mailbox("ann", "INBOX")).messages == 2
        assert await client.change_spool(op("6", SYSTEM), [item.id], SpoolAction.ROUTE, "mx") == (item.id,)
        for trace, events in (("trace-3", 1), ("trace-4", 1), ("trace-5", 0), ("trace-6", 1), ("trace-dsn", 2)):
            assert len(await behind.trace(trace, None)) == events
        # Of a claim whose answer is lost nobody knows, and so the items come again when it has ended.
        assert await client.claim(9, 9, 60.0) == ()
        behind._clock.advance(60)  # type: ignore[attr-defined]
        (again,) = await behind.claim(9, 9, 60.0)
        assert again.item.id == item.id
        leases = {again.item.id: again.lease}
        assert await client.extend(leases, 90.0) == {item.id}
        assert await client.change_spool(op("7", SYSTEM), [item.id], SpoolAction.DROP) == ()
        behind._clock.advance(90)  # type: ignore[attr-defined]
        assert await client.change_spool(op("8", SYSTEM), [item.id], SpoolAction.DROP) == (item.id,)
        assert await client.spool(None) == ()
        await client.close()
    await behind.close()


async def test_attempts_are_settled_in_calls_of_bounded_size() -> None:
    calls: list[int] = []

    async def send(batch: Sequence[Settlement]) -> list[Refused | Unavailable | None]:
        calls.append(len(batch))
        if len(calls) == 2:
            raise Unavailable("away")
        if any(one.item == "bad" for one in batch):
            raise BadCall("settle: it does not fit")
        return [Refused(Reason.NO_SUCH_ITEM) if one.item == "gone" else None for one in batch]

    def one(n: int, item: str = "x", size: int = 0) -> Settlement:
        report = delivery(f"r{n}", message("dsn", size)) if size else None
        return Settlement(op(str(n), SYSTEM), item, "lease", report=report)

    outcomes = await settle(
        send, [*(one(n) for n in range(ACCEPT_BATCH)), *(one(n, size=INLINE_MAX) for n in range(17))]
    )
    assert calls[0] == ACCEPT_BATCH
    assert sum(calls) == ACCEPT_BATCH + 17
    assert len(calls) == 3
    assert [isinstance(outcome, Unavailable) for outcome in outcomes].count(True) == calls[1]
    outcomes = await settle(send, [one(1), one(2, "bad"), one(3, "gone")])
    assert outcomes[0] is None
    assert isinstance(outcomes[1], Unavailable)
    assert isinstance(outcomes[2], Refused)
    with pytest.raises(BadCall):
        await settle(send, [one(1, "bad")])
    assert await settle(send, []) == []


async def test_what_has_no_operation_is_sent_once(tmp_path: Path) -> None:
    behind = await sqlite(tmp_path)
    await behind.open_account(op("1", SYSTEM), "ann")
    async with Keeper(port_app(behind, TOKEN)) as keeper, CuttingProxy(keeper.rest.port) as proxy:
        store = open_http(proxy.url, TOKEN)
        for cut in CUTS:
            proxy.cuts.append(cut)
            with pytest.raises(Unavailable, match="not known whether it was done"):
                await store.record([Event("t", 1.0, cut)])
            proxy.cuts.append(cut)
            with pytest.raises(Unavailable):
                await store.stage(pieces(message("long", 1_000_000)))
        assert [event.kind for event in await store.trace("t", None)] == list(CUTS)
        # What was staged in vain is swept.
        assert (await store.sweep(-1.0)).staged + (await store.sweep(-1.0)).blobs == 3
        await store.close()
    await behind.close()


async def test_deliveries_outlast_a_restart_of_the_keeper(tmp_path: Path) -> None:
    behind = await sqlite(tmp_path)
    await behind.open_account(op("1", SYSTEM), "ann")
    async with Keeper(port_app(behind, TOKEN)) as keeper:
        port = keeper.rest.port
        store = open_http(keeper.url, TOKEN, timeout=60)
        sending = [asyncio.create_task(store.accept([delivery(f"d{n}")])) for n in range(50)]
        while (await behind.mailbox("ann", "INBOX")).messages == 0:  # noqa: ASYNC110  # nothing tells it
            await asyncio.sleep(0)
        # Its connections are cut, some with an answer on its way.
        await keeper.rest.stop()
    more = [asyncio.create_task(store.accept([delivery(f"e{n}")])) for n in range(50)]
    await asyncio.sleep(0.2)
    assert not any(task.done() for task in more)
    await behind.close()
    behind = await sqlite(tmp_path)
    async with Keeper(port_app(behind, TOKEN), port):
        outcomes = [(await task)[0] for task in (*sending, *more)]
        assert all(isinstance(outcome, Accepted) for outcome in outcomes)
        inbox = await store.mailbox("ann", "INBOX")
        assert sorted(one.stored[0].uid for one in outcomes if isinstance(one, Accepted)) == list(range(1, 101))
        assert (inbox.messages, inbox.uidnext) == (100, 101)
        await store.close()
    await behind.close()


async def test_watch_tells_of_a_delivery_through_another_client_at_once(tmp_path: Path) -> None:
    behind = await sqlite(tmp_path)
    await behind.open_account(op("1", SYSTEM), "ann")
    loop = asyncio.get_running_loop()
    async with Keeper(port_app(behind, TOKEN)) as keeper:
        door, reader = open_http(keeper.url, TOKEN), open_http(keeper.url, TOKEN)
        seen = (await reader.watch({"ann": 0}, 0))["ann"]
        delays = []
        for number in range(20):
            watching = asyncio.create_task(reader.watch({"ann": seen, "unknown": 0}, 30))
            await asyncio.sleep(0.01)
            await door.accept([delivery(f"w{number}")])
            start = loop.time()
            news = await watching
            delays.append(loop.time() - start)
            assert set(news) == {"ann"}
            assert news["ann"] > seen
            seen = news["ann"]
        # Woken: else each would be told at the end of its thirty seconds.
        assert sorted(delays)[10] < 10
        await door.close()
        await reader.close()
    await behind.close()


async def test_fifty_megabytes_are_staged_in_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the way but the describing, which the store does on its own."""
    received = 0

    async def stage(chunks: AsyncIterator[bytes]) -> StagedBlob:
        nonlocal received
        async for chunk in chunks:
            received += len(chunk)
        return StagedBlob("B1", received, b"")

    behind = await sqlite(tmp_path)
    monkeypatch.setattr(behind, "stage", stage)
    async with Keeper(port_app(behind, TOKEN)) as keeper:
        store = open_http(keeper.url, TOKEN)
        await store.stats()
        piece = b"x" * INLINE_MAX

        async def long() -> AsyncIterator[bytes]:
            for _ in range(200):
                yield piece

        tracemalloc.start()
        try:
            assert (await store.stage(long())).size == received == 200 * INLINE_MAX
            assert tracemalloc.get_traced_memory()[1] < 6 * 1024 * 1024
        finally:
            tracemalloc.stop()
        await store.close()
    await behind.close()


async def test_an_append_without_an_answer_keeps_those_of_other_sequences_from_nothing(tmp_path: Path) -> None:
    behind = await sqlite(tmp_path)
    await behind.open_account(op("1", SYSTEM), "ann")
    inbox = (await behind.mailbox("ann", "INBOX")).ref
    stalled, go_on = asyncio.Event(), asyncio.Event()
    append = behind.append

    async def stalling(op: Operation, **others: Any) -> Any:
        if op.id == "stalled":
            stalled.set()
            await go_on.wait()
        return await append(op, **others)

    behind.append = stalling  # type: ignore[method-assign]
    async with Keeper(port_app(behind, TOKEN)) as keeper:
        store = open_http(keeper.url, TOKEN)

        def begun(id: str, sequence: str) -> asyncio.Task[Any]:
            ours = replace(op(id), sequence=sequence)
            return asyncio.create_task(store.append(ours, inbox, [NewMessage(message(id))], None))

        first = begun("stalled", "one")
        async with asyncio.timeout(20):
            await stalled.wait()
        second, others = begun("2", "one"), [begun("3", "two"), begun("4", "two"), begun("5", "")]
        try:
            async with asyncio.timeout(20):
                await asyncio.gather(*others)
            assert not second.done()
        finally:
            go_on.set()
        assert [(await one).uids for one in (first, second)] == [(4,), (5,)]
        assert others[0].result().uids < others[1].result().uids
        await store.close()
    await behind.close()


async def test_a_long_append_is_staged_beyond_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "APPEND_OCTETS", 500_000)
    behind = await sqlite(tmp_path)
    await behind.open_account(op("1", SYSTEM), "ann")
    inbox = (await behind.mailbox("ann", "INBOX")).ref
    async with Keeper(port_app(behind, TOKEN)) as keeper:
        store = open_http(keeper.url, TOKEN)
        bodies = [message(str(n), 200_000) for n in range(6)]
        appended = await store.append(op("2"), inbox, [NewMessage(body, n) for n, body in enumerate(bodies)], None)
        assert appended.uids == (1, 2, 3, 4, 5, 6)
        got = []
        while page := await rows_of(store, inbox, ((len(got) + 1, 99),), Want.CONTENT):
            got += [(row.content, row.entry.flags) for row in page]
        assert got == [(body, n) for n, body in enumerate(bodies)]
        with pytest.raises(Refused) as refused:
            await store.append(op("3"), inbox, [NewMessage(b"x" * (INLINE_MAX + 1))], None)
        assert refused.value.reason is Reason.TOO_BIG
        assert keeper.app.figures()["calls"] == 4 + 1 + 2
        await store.close()
    await behind.close()


# -- many deliveries, few calls


class Calls:
    """What the gathered deliveries are sent to."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()
        self.wrong: dict[str, Exception] = {}

    async def __call__(self, deliveries: Sequence[Delivery]) -> list[Accepted | Refused | Unavailable]:
        self.batches.append([one.op.id for one in deliveries])
        await self.gate.wait()
        for one in deliveries:
            if one.op.id in self.wrong:
                raise self.wrong[one.op.id]
        return [Accepted((), (one.op.id,)) for one in deliveries]


async def turns() -> None:
    """Let the others run until they wait for something else."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_callers_of_one_moment_share_a_call() -> None:
    calls = Calls()
    deliveries = Deliveries(calls)
    first = [asyncio.create_task(deliveries.accept([delivery(f"{n}")])) for n in range(100)]
    both = asyncio.create_task(deliveries.accept([delivery("x"), delivery("y")]))
    await turns()
    assert [len(batch) for batch in calls.batches] == [ACCEPT_BATCH, 102 - ACCEPT_BATCH]
    calls.gate.set()
    assert [(await task)[0].spooled for task in first] == [(str(n),) for n in range(100)]  # type: ignore[union-attr]
    assert [one.spooled for one in await both] == [("x",), ("y",)]  # type: ignore[union-attr]
    assert await deliveries.accept([]) == []


async def test_calls_are_bounded_in_octets_and_number() -> None:
    calls = Calls()
    deliveries = Deliveries(calls)
    size = CALL_OCTETS // 4
    tasks = [asyncio.create_task(deliveries.accept([delivery(f"{n}", bytes(size))])) for n in range(40)]
    await turns()
    assert [len(batch) for batch in calls.batches] == [3, 3, 3, 3]
    calls.gate.set()
    await asyncio.gather(*tasks)
    assert sum(map(len, calls.batches)) == 40
    assert max(map(len, calls.batches)) == 3


async def test_who_is_cancelled_before_its_call_delivers_nothing() -> None:
    calls = Calls()
    deliveries = Deliveries(calls)
    under_way = [asyncio.create_task(deliveries.accept([delivery(f"{n}", bytes(CALL_OCTETS))])) for n in range(4)]
    await turns()
    waiting = [asyncio.create_task(deliveries.accept([delivery(name)])) for name in ("stays", "goes")]
    await turns()
    waiting[1].cancel()
    under_way[0].cancel()
    await turns()
    calls.gate.set()
    assert isinstance((await waiting[0])[0], Accepted)
    await asyncio.gather(*under_way[1:])
    assert calls.batches == [["0"], ["1"], ["2"], ["3"], ["stays"]]


async def test_one_that_is_at_fault_disturbs_no_other() -> None:
    calls = Calls()
    calls.gate.set()
    calls.wrong = {"bad": BadCall("no"), "away": Unavailable("later")}
    deliveries = Deliveries(calls)
    tasks = [asyncio.create_task(deliveries.accept([delivery(name)])) for name in ("good", "bad", "fine")]
    several = asyncio.create_task(deliveries.accept([delivery("good2"), delivery("bad")]))
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in outcomes] == [list, BadCall, list]
    assert [type(one) for one in await several] == [Accepted, Unavailable]
    assert [type(one) for one in await deliveries.accept([delivery("good"), delivery("away")])] == [Unavailable] * 2


async def test_a_bug_behind_a_batch_is_found_one_by_one(tmp_path: Path) -> None:
    behind = await sqlite(tmp_path)
    await behind.open_account(op("1", SYSTEM), "ann")
    async with Keeper(port_app(behind, TOKEN)) as keeper:
        store = open_http(keeper.url, TOKEN)
        unpackable = replace(delivery("2"), trace=object())
        unreadable = replace(delivery("3"), trace=7)
        found = await store.accept([delivery("4"), unpackable, unreadable, delivery("5")])
        assert [type(one) for one in found] == [Accepted, Unavailable, Unavailable, Accepted]
        assert (await store.mailbox("ann", "INBOX")).messages == 2
        await store.close()
    await behind.close()


async def test_a_url_of_http_is_this_adapter(tmp_path: Path) -> None:
    behind = await sqlite(tmp_path)
    async with Keeper(port_app(behind, TOKEN)) as keeper:
        store = await connect(keeper.url, token=TOKEN, pool=3, timeout=60)
        assert (await store.stats()).accounts == 0
        await store.close()
        # The store behind is not ours to close.
        assert (await behind.stats()).accounts == 0
        with pytest.raises(ValueError, match="service token"):
            await connect(keeper.url)
    await behind.close()
