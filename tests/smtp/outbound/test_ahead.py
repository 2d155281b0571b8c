"""What is made ready before a message's turn: its text is believed while the lease surely runs."""

from __future__ import annotations

import pytest

from runtime.clock import ManualClock
from smtp.outbound import hands as in_hand
from smtp.outbound.ahead import Ahead
from smtp.outbound.hands import Hands
from storage.model import Claimed, SpoolItem
from storage.port import Reason, Refused

LEASE = 60.0


class Gone:
    """Storage in which the item is no more: another process has sent it."""

    async def spool_read(self, item: str, start: int, end: int) -> bytes:
        raise Refused(Reason.NO_SUCH_ITEM)


def claimed(name: str, text: bytes | None = b"text") -> Claimed:
    return Claimed(SpoolItem(name, "t", None, "", "d.example", (), 4, 0.0, 0.0), "lease", text)


async def test_storage_is_asked_where_the_lease_may_have_run_out() -> None:
    clock = ManualClock()
    ahead = Ahead(Gone(), None, clock)  # type: ignore[arg-type]  # one call of the port
    hands = Hands(Gone(), LEASE)  # type: ignore[arg-type]  # none
    one, other = hands.take(claimed("one"), clock.monotonic()), hands.take(claimed("other"), clock.monotonic())
    assert one is not None
    assert other is not None
    other.lost = True
    assert await ahead.text(one).read(0, 4) == b"text"
    assert await ahead.text(one).read(1, 3) == b"ex"
    with pytest.raises(Refused):
        await ahead.text(other).read(0, 4)
    clock.advance(LEASE + 1.0)
    with pytest.raises(Refused):
        await ahead.text(one).read(0, 4)


def test_texts_in_hand_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_hand, "TEXTS_MAX", 10)
    hands = Hands(Gone(), LEASE)  # type: ignore[arg-type]  # none
    taken = [hands.take(claimed(name), 0.0) for name in "abc"]
    assert [hand is not None and hand.claimed.text for hand in taken] == [b"text", b"text", None]
    for hand in taken:
        assert hand is not None
        hands.drop(hand)
        hands.drop(hand)
    again = [hands.take(claimed(name), 0.0) for name in "abc"]
    assert [hand is not None and hand.claimed.text for hand in again] == [b"text", b"text", None]
