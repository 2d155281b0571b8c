"""One APPEND sent behind the other: what storage has not yet answered keeps nobody from the next (RFC 3501 §5.5)."""

from __future__ import annotations

import asyncio
import re
import uuid
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from imap import later
from imap.service import ImapService, ImapSettings
from runtime.clock import SystemClock
from storage.connect import connect
from storage.model import Operation
from tests.imap.fakes import FakeIdentity, until
from tests.imap.session.test_sockets import Line


@pytest.fixture
async def store(tmp_path: Any) -> AsyncIterator[Any]:
    store = await connect(f"sqlite://{tmp_path}")
    yield store
    await store.close()


@pytest.fixture
async def service(store: Any, who: FakeIdentity) -> AsyncIterator[ImapService]:
    settings = ImapSettings(host="127.0.0.1", port=0, version="1")
    service = ImapService(settings, identity=who, storage=store, tls=None, clock=SystemClock())  # type: ignore[arg-type]  # the fake has what the door asks
    await service.start()
    yield service
    await service.stop()


def message(number: int, size: int = 0) -> bytes:
    head = b"Subject: %d\r\n\r\n" % number
    return head + b"x" * max(0, size - len(head))


def command(tag: str, octets: bytes, mailbox: str = "INBOX", plus: bool = True) -> bytes:
    return f"{tag} APPEND {mailbox} {{{len(octets)}{'+' if plus else ''}}}\r\n".encode() + octets + b"\r\n"


async def tagged(client: Line, count: int) -> list[bytes]:
    """The next tagged lines."""
    found: list[bytes] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            line = await client.reader.readline()
            assert line, found
            if not line.startswith((b"*", b"+")):
                found.append(line)
    return found


async def subjects(service: ImapService, mailbox: bytes = b"INBOX") -> list[int]:
    other = await Line.signed_in(service)
    await other.say(b"s SELECT " + mailbox)
    said = await other.say(b"f FETCH 1:* (BODY.PEEK[HEADER.FIELDS (SUBJECT)])", b"f ")
    other.writer.close()
    return [int(number) for number in re.findall(rb"Subject: (\d+)", said)]


async def test_the_answers_come_in_order(service: ImapService) -> None:
    client = await Line.signed_in(service)
    await client.say(b"s SELECT INBOX")
    # the long ones are described on a thread, or staged
    sizes = [300_000 if n % 20 == 7 else 60_000 if n % 5 == 3 else 100 for n in range(3 * later.COMMANDS)]
    sent = b"".join(command(f"a{n}", message(n, size)) for n, size in enumerate(sizes))
    client.writer.write(sent + b"z NOOP\r\n")
    answers = await tagged(client, len(sizes) + 1)
    for n, line in enumerate(answers[:-1]):
        assert re.match(rb"a%d OK \[APPENDUID \d+ %d\]" % (n, n + 1), line), line
    assert answers[-1].startswith(b"z OK")
    assert await subjects(service) == list(range(len(sizes)))


@pytest.mark.parametrize("waits", [True, False])
async def test_one_that_is_asked_for_is_answered_behind_those_before_it(service: ImapService, waits: bool) -> None:
    client = await Line.signed_in(service)
    sent = b"".join(command(f"a{n}", message(n, 60_000)) for n in range(3))
    last = message(3)
    client.writer.write(sent + b"a3 APPEND INBOX {%d}\r\n" % len(last))
    said = await client.until(b"+ ") if waits else b""
    client.writer.write(last + b"\r\n" + command("a4", message(4)))
    said += await client.until(b"a4 ")
    assert re.findall(rb"a(\d) OK \[APPENDUID", said) == [b"0", b"1", b"2", b"3", b"4"]
    assert await subjects(service) == [0, 1, 2, 3, 4]


async def test_own_messages_are_told_once_in_rising_numbers(service: ImapService) -> None:
    """Perhaps before the answer to the command that brought them, as if they were another's (RFC 9051 §6.3.12)."""
    client, other = await Line.signed_in(service), await Line.signed_in(service)
    await client.say(b"s SELECT INBOX")
    for line in (client, other):
        line.writer.write(b"".join(command(f"a{n}", message(n, 40_000 * (n % 2))) for n in range(100)))
    client.writer.write(b"z NOOP\r\n")
    await tagged(other, 100)
    said = await client.until(b"z OK") + await client.say(b"n NOOP")
    told = [int(number) for number in re.findall(rb"\* (\d+) EXISTS", said)]
    assert told == sorted(set(told))
    assert told[-1] == 200
    assert await client.say(b"m NOOP") == b"m OK Done\r\n"


async def test_what_is_refused_is_told_in_its_place(service: ImapService) -> None:
    client = await Line.signed_in(service)
    client.writer.write(
        command("a", message(0))
        + command("b", message(1) + b"\0")
        + command("c", message(2))
        + command("d", message(3), "Missing")
        + command("e", message(4))
        + b"f APPEND INBOX (\\Seen {3+}\r\nabc\r\n"
        + command("g", message(5))
        + b"h NOSUCH\r\n"
        + command("i", message(6))
    )
    answers = await tagged(client, 9)
    assert [b" ".join(line.split()[:2]) for line in answers] == [
        b"a OK", b"b NO", b"c OK", b"d NO", b"e OK", b"f BAD", b"g OK", b"h BAD", b"i OK",
    ]  # fmt: skip
    assert b"[UNKNOWN-CTE]" in answers[1]
    assert b"[TRYCREATE]" in answers[3]
    assert await subjects(service) == [0, 2, 4, 5, 6]


async def test_an_answer_does_not_wait_for_octets_of_the_next(service: ImapService) -> None:
    client = await Line.signed_in(service)
    second = command("b", message(1, 1000))
    client.writer.write(command("a", message(0)) + second[:200])
    assert (await tagged(client, 1))[0].startswith(b"a OK")
    client.writer.write(second[200:] + b"c APPEND IN")
    assert (await tagged(client, 1))[0].startswith(b"b OK")
    client.writer.write(b"BOX {2}\r\n")
    assert await client.until(b"+")
    client.writer.write(b"x\r\n\r\n")
    assert (await tagged(client, 1))[0].startswith(b"c OK")


async def test_a_literal_that_waits_for_its_go_ahead_may_come_behind_others(service: ImapService) -> None:
    client = await Line.signed_in(service)
    head, octets = command("b", message(1), plus=False).split(b"\r\n", 1)
    client.writer.write(command("a", message(0)) + head + b"\r\n")
    said = await client.until(b"+")
    if b"a OK" not in said:
        assert (await tagged(client, 1))[0].startswith(b"a OK")
    client.writer.write(octets)
    assert (await tagged(client, 1))[0].startswith(b"b OK")


async def test_more_than_may_be_open_are_taken_all_the_same(
    service: ImapService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(later, "OCTETS", later.COMMAND_OCTETS + 500_000)
    client = await Line.signed_in(service)
    client.writer.write(b"".join(command(f"a{n}", message(n, 200_000)) for n in range(12)))
    assert all(b" OK " in line for line in await tagged(client, 12))
    assert await subjects(service) == list(range(12))


async def test_what_is_held_keeps_to_its_bound(
    service: ImapService, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = most = 0
    append = store.append

    async def slowly(op: Operation, ref: Any, messages: Any, *others: Any) -> Any:
        nonlocal held, most
        octets = sum(len(one.content) for one in messages if isinstance(one.content, bytes))
        held += octets
        most = max(most, held)
        # all that would join it has come by then
        await asyncio.sleep(0.2)
        held -= octets
        return await append(op, ref, messages, *others)

    monkeypatch.setattr(store, "append", slowly)
    client = await Line.signed_in(service)
    await client.say(b"c COMPRESS DEFLATE")
    # few octets that become many, so that all are here before the first is answered
    size = later.COMMAND_OCTETS // 8 - 1000
    parts = b" ".join(b"{%d+}\r\n" % size + message(n, size) for n in range(8))
    packer, unpacker = zlib.compressobj(wbits=-15), zlib.decompressobj(wbits=-15)
    sent = b"".join(b"a%d APPEND INBOX " % n + parts + b"\r\n" for n in range(4))
    client.writer.write(packer.compress(sent) + packer.flush(zlib.Z_SYNC_FLUSH))
    heard = b""
    async with asyncio.timeout(60):
        while heard.count(b" OK [APPENDUID ") < 4:
            heard += unpacker.decompress(await client.reader.read(65536))
    assert later.COMMAND_OCTETS < most <= later.OCTETS
    assert held == 0


async def test_a_client_that_goes_leaves_whole_messages_in_order(service: ImapService) -> None:
    for _ in range(5):
        client = await Line.signed_in(service)
        client.writer.write(b"".join(command(f"a{n}", message(n, 5_000)) for n in range(30)))
        await client.writer.drain()
        client.writer.transport.abort()
    await until(lambda: service.stats.active_connections == 0)
    found = await subjects(service)
    rounds: list[list[int]] = []
    for number in found:
        if number == 0:
            rounds.append([])
        rounds[-1].append(number)
    assert all(numbers == list(range(len(numbers))) for numbers in rounds)
    other = await Line.signed_in(service)
    assert b"MESSAGES %d" % len(found) in await other.say(b"t STATUS INBOX (MESSAGES)", b"t ")


async def test_the_mailbox_of_the_name_is_the_one_that_has_it_now(service: ImapService, store: Any) -> None:
    client = await Line.signed_in(service)
    await client.say(b"c CREATE Box")
    client.writer.write(command("a", message(0), "Box") + command("b", message(1), "Box"))
    await tagged(client, 2)

    def op() -> Operation:
        return Operation(uuid.uuid4().hex, "alice")

    await store.rename_mailbox(op(), "alice", "Box", "Old")
    client.writer.write(command("d", message(2), "Box"))
    assert b"NO [TRYCREATE]" in (await tagged(client, 1))[0]
    await store.create_mailbox(op(), "alice", "Box")
    client.writer.write(command("e", message(3), "Box") + command("f", message(4), "Box"))
    assert all(b" OK " in line for line in await tagged(client, 2))
    await store.delete_mailbox(op(), "alice", "Box")
    made = await store.create_mailbox(op(), "alice", "Box")
    client.writer.write(command("g", message(5), "Box"))
    assert b"g OK [APPENDUID %d 1]" % made.uidvalidity in (await tagged(client, 1))[0]
    assert await subjects(service, b"Old") == [0, 1]
    assert await subjects(service, b"Box") == [5]


async def test_a_message_may_be_put_together_of_the_one_before(service: ImapService) -> None:
    client = await Line.signed_in(service)
    for n, size in enumerate((100, 60_000)):
        url = f'b APPEND INBOX CATENATE (URL "/INBOX/;UID={2 * n + 1}")\r\n'.encode()
        client.writer.write(command("a", message(n, size)) + url)
        assert [line[:4] for line in await tagged(client, 2)] == [b"a OK", b"b OK"]
    assert await subjects(service) == [0, 0, 1, 1]


async def test_a_mailbox_that_was_made_anew_gets_them_in_order(service: ImapService, store: Any) -> None:
    client = await Line.signed_in(service)
    await client.say(b"c CREATE Box")
    for _ in range(10):
        client.writer.write(command("a", message(0), "Box"))
        await tagged(client, 1)
        await store.delete_mailbox(Operation(uuid.uuid4().hex, "alice"), "alice", "Box")
        await store.create_mailbox(Operation(uuid.uuid4().hex, "alice"), "alice", "Box")
        client.writer.write(b"".join(command(f"b{n}", message(n), "Box") for n in range(20)))
        for n, line in enumerate(await tagged(client, 20)):
            assert re.match(rb"b%d OK \[APPENDUID \d+ %d\]" % (n, n + 1), line), line


async def test_none_of_them_is_fetched_to_who_has_sent_them(
    service: ImapService, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 5465 §5.2: also where they have all been stored when the first is answered."""
    client = await Line.signed_in(service)
    await client.say(b"s SELECT INBOX")
    await client.say(b"n NOTIFY SET (selected (MessageNew (UID) MessageExpunge))")
    append, stored, all_stored = store.append, [], asyncio.Event()

    async def together(*given: Any) -> Any:
        stored.append(done := await append(*given))
        if len(stored) == 3:
            all_stored.set()
        await all_stored.wait()
        return done

    monkeypatch.setattr(store, "append", together)
    said = await client.say(b"".join(command(f"a{n}", message(n)) for n in range(3)) + b"z NOOP", b"z ")
    assert b"* 3 EXISTS" in said
    assert b" FETCH " not in said, said
