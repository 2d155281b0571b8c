"""Held mail for our own accounts, when it is released."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mail.dsn import Action
from runtime.clock import SystemClock
from smtp.outbound.local import DELIVERED, LocalFirst
from smtp.outbound.schedule import Schedule
from smtp.outbound.transport import Letter, Outcome, Phase, Result, Status
from smtp.outbound.verdicts import judge
from storage.model import INLINE_MAX, RemoteRecipient, SpoolItem
from storage.port import Unavailable
from tests.smtp.fakes import FakeIdentity, FakeStorage

FAR = Outcome(Status.SENT, Phase.TEXT, "2.0.0", "far")


class Beyond:
    def __init__(self) -> None:
        self.sent: list[Letter] = []
        self.closed = False

    async def send(self, letter: Letter) -> Result:
        self.sent.append(letter)
        return Result({one.address: FAR for one in letter.recipients}, 0.0)

    async def close(self) -> None:
        self.closed = True


def letter(text: bytes, *addresses: str, hold: bool = True, route: str | None = None) -> Letter:
    async def read(start: int, end: int) -> bytes:
        assert end - start <= INLINE_MAX
        return text[start:end]

    return Letter(
        item="S1",
        trace="t" * 32,
        sender="alice@example.org",
        domain="example.org",
        recipients=tuple(RemoteRecipient(address, {"NOTIFY": "NEVER"}) for address in addresses),
        size=len(text),
        read=read,
        head=b"DKIM-Signature: x\r\n",
        route=route,
        params={"HOLDUNTIL": "1", "RET": "HDRS"} if hold else {},
    )


@pytest.fixture
def made() -> tuple[LocalFirst, Beyond, FakeIdentity, FakeStorage]:
    beyond, identity, storage = Beyond(), FakeIdentity(), FakeStorage()
    return LocalFirst(beyond, identity, storage, SystemClock()), beyond, identity, storage  # type: ignore[arg-type]


def codes(result: Result) -> Sequence[tuple[str, Status, str]]:
    return [(address, one.status, one.enhanced) for address, one in result.outcomes.items()]


@pytest.mark.parametrize("size", [10, INLINE_MAX, 700_000])
async def test_delivered_here(made, size: int) -> None:
    transport, beyond, identity, storage = made
    identity.aliases = {"both@example.org": ("bob@example.org", "far@b.example")}
    identity.quotas = {"root@example.org": 5}
    text = b"x" * size
    asked = ("Bob@Example.org", "both@example.org", "nobody@example.org", "root@example.org")
    result = await transport.send(letter(text, *asked))
    assert {address: code for address, _, code in codes(result)} == {
        "Bob@Example.org": "2.1.5",
        "both@example.org": "2.1.5",
        "nobody@example.org": "5.1.1",
        "root@example.org": "4.2.2",
    }
    ((delivery, blob),) = storage.delivered
    assert blob == b"DKIM-Signature: x\r\n" + text
    assert [(one.account, one.prefix) for one in delivery.local] == [
        ("Abob", b"Return-Path: <alice@example.org>\r\nDelivered-To: Bob@Example.org\r\n")
    ]
    assert [(one.address, dict(one.params)) for one in delivery.remote] == [("far@b.example", {"NOTIFY": "NEVER"})]
    assert (delivery.params, delivery.trace) == ({"RET": "HDRS"}, "t" * 32)
    assert beyond.sent == []


async def test_what_is_not_ours_or_not_held_goes_beyond(made) -> None:
    transport, beyond, _, storage = made
    for one in (
        letter(b"a", "x@b.example"),
        letter(b"a", "bob@example.org", hold=False),
        letter(b"a", "bob@example.org", route="smtp://127.0.0.1:1"),
    ):
        assert set((await transport.send(one)).outcomes.values()) == {FAR}
    assert len(beyond.sent) == 3
    assert storage.delivered == []
    await transport.close()
    assert beyond.closed


async def test_the_same_again_is_the_same_operation(made) -> None:
    transport, _, _, storage = made
    for addresses in (("bob@example.org", "alice@example.org"), ("alice@example.org", "bob@example.org")):
        await transport.send(letter(b"a", *addresses))
    await transport.send(letter(b"a", "bob@example.org"))
    first, second, third = (delivery.op.id for delivery, _ in storage.delivered)
    assert first == second != third


def test_who_asked_is_told_that_it_was_delivered_here() -> None:
    recipient = RemoteRecipient("bob@example.org", {"NOTIFY": "SUCCESS"})
    item = SpoolItem("S1", "t", None, "a@b.example", "example.org", (recipient,), 1, 0.0, 0.0)
    verdict = judge(item, Result({recipient.address: DELIVERED}, 0.1), Schedule((60.0,), 600.0, 0.0), 1.0, 0.5)
    assert [one.action for one in verdict.about] == [Action.DELIVERED]


async def test_storage_away(made) -> None:
    transport, _, _, storage = made
    storage.trouble = Unavailable("away")
    with pytest.raises(Unavailable):
        await transport.send(letter(b"a", "bob@example.org"))
