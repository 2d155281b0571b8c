"""Messages in hand made ready before their turn: their texts as they came with the claims, and their signatures."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from runtime.clock import Clock
from smtp.outbound import letters
from smtp.outbound.hands import Hand
from smtp.outbound.letters import Signs
from storage.port import Storage

SIGN_MAX = 8
"""Messages that one thread signs in one go."""

log = structlog.get_logger("outbound")


class Ahead:
    """signer: None where nothing is signed."""

    def __init__(self, storage: Storage, signer: Signs | None, clock: Clock) -> None:
        self.signer = signer
        self._storage = storage
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    def text(self, hand: Hand) -> letters.Text:
        """The message."""
        # Where the lease may have run out storage has to say whether the message is still there to be sent.
        fresh = not hand.lost and hand.fresh_until > self._clock.monotonic()
        return letters.Text(self._storage, hand.item.id, hand.item.size, hand.claimed.text if fresh else None)

    def begin(self, hands: Sequence[Hand]) -> None:
        """Have those signed whose texts are there."""
        hands = [hand for hand in hands if hand.claimed.text is not None]
        if self.signer is None or not hands:
            return
        loop = asyncio.get_running_loop()
        for hand in hands:
            hand.head = loop.create_future()
        # Side by side: most of it is OpenSSL's, which lets other threads run.
        for some in (hands[::2], hands[1::2]):
            task = asyncio.create_task(self._sign(some), name="outbound signatures")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def head(self, hand: Hand, read: letters.Read) -> bytes:
        """The signatures of a message whose turn has come. Raises identity's and storage's errors."""
        made = None if hand.head is None else await hand.head
        if made is None:
            (made,) = await letters.signatures([(hand.item, read)], self.signer)
        return made

    async def stop(self) -> None:
        """Begin no more; who still wants a signature makes it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _sign(self, hands: Sequence[Hand]) -> None:
        try:
            for start in range(0, len(hands), SIGN_MAX):
                some = hands[start : start + SIGN_MAX]
                heads = await letters.signatures([(hand.item, self.text(hand).read) for hand in some], self.signer)
                for hand, head in zip(some, heads, strict=True):
                    _give(hand, head)
        except Exception as error:
            # The attempt tries it again, and tells what came of that.
            log.debug("signing ahead", reason=str(error))
        finally:
            for hand in hands:
                _give(hand, None)


def _give(hand: Hand, head: bytes | None) -> None:
    """To who waits for it, unless he has it or has gone."""
    if hand.head is not None and not hand.head.done():
        hand.head.set_result(head)
