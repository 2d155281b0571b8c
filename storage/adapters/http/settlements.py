"""Outcomes of attempts on their way in calls of bounded size."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence

import structlog

from runtime.portcall import BadCall
from runtime.portclient import PortBug
from storage.adapters.http import deliveries
from storage.limits import ACCEPT_BATCH
from storage.model import Settlement
from storage.port import Refused, Unavailable

Outcome = Refused | Unavailable | None
Send = Callable[[Sequence[Settlement]], Awaitable[Sequence[Outcome]]]
log = structlog.get_logger("storage")


async def settle(send: Send, settlements: Sequence[Settlement]) -> list[Outcome]:
    """As the port says. send: does one call, and may raise Unavailable."""
    outcomes: list[Outcome] = []
    for batch in _calls(settlements):
        try:
            outcomes += await _sent(send, batch)
        except Unavailable as unavailable:
            outcomes += [unavailable] * len(batch)
        except (BadCall, PortBug):
            if len(settlements) == 1:
                raise
            # One of them is at fault, and each by itself harms no other. What the call may have done already is not
            # done again: each has its operation id.
            outcomes += [await _alone(send, one) for one in batch]
    return outcomes


async def _sent(send: Send, batch: Sequence[Settlement]) -> Sequence[Outcome]:
    outcomes = await send(batch)
    if len(outcomes) != len(batch):
        raise PortBug(f"{len(outcomes)} outcomes of {len(batch)} attempts")
    return outcomes


async def _alone(send: Send, settlement: Settlement) -> Outcome:
    try:
        return (await _sent(send, [settlement]))[0]
    except Unavailable as unavailable:
        return unavailable
    except (BadCall, PortBug) as error:
        log.error("an attempt could not be settled", item=settlement.item, exc_info=error)
        return Unavailable("internal error")


def _calls(settlements: Sequence[Settlement]) -> Iterator[list[Settlement]]:
    batch: list[Settlement] = []
    size = 0
    for one in settlements:
        octets = _octets(one)
        if batch and (len(batch) == ACCEPT_BATCH or size + octets > deliveries.CALL_OCTETS):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += octets
    if batch:
        yield batch


def _octets(settlement: Settlement) -> int:
    """About as many as it takes in a call."""
    finished = sum(deliveries.RECIPIENT_OCTETS + len(address) for address in settlement.finished)
    told = sum(deliveries.RECIPIENT_OCTETS + len(str(dict(event.detail))) for event in settlement.op.events)
    return finished + told + (0 if settlement.report is None else deliveries.octets(settlement.report))
