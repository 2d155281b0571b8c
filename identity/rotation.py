"""Rotations of DKIM keys going on by themselves, hour by hour."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from identity.dkim import DkimRules, Published, advance, due
from identity.port import Identity, Refused, Unavailable
from runtime.clock import Clock

EVERY_SECONDS = 3600.0

log = structlog.get_logger("dkim")


async def rotate_forever(
    identity: Identity,
    rules: DkimRules,
    clock: Clock,
    *,
    published: Published | None,
    turn: Callable[[], Awaitable[bool]],
    every: float = EVERY_SECONDS,
) -> None:
    """Make the steps that are due, of all domains, hour by hour."""
    while True:
        try:
            await rotate_once(identity, rules, clock, published, turn=turn)
        except Unavailable as error:
            log.warning("rotations of DKIM keys wait", reason=str(error))
        except Exception:
            log.exception("rotating DKIM keys failed")
        await asyncio.sleep(every)


async def rotate_once(
    identity: Identity,
    rules: DkimRules,
    clock: Clock,
    published: Published | None,
    *,
    turn: Callable[[], Awaitable[bool]],
) -> None:
    """Make the steps that are due now, where it is this process's turn; without any nobody asks whose it is. A domain
    whose steps cannot be made keeps none of the others waiting."""
    ours = False
    for domain in await identity.domains():
        try:
            if not due(await identity.dkim_keys(domain.name), clock.now(), rules):
                continue
            ours = ours or await turn()
            if not ours:
                return
            steps = await advance(identity, domain.name, clock.now(), rules, published)
        except Unavailable:
            raise
        except Refused as error:
            # It was removed meanwhile.
            log.info("no rotation", domain=domain.name, reason=str(error))
            continue
        except Exception as error:
            log.info("a rotation waits", domain=domain.name, reason=str(error) or type(error).__name__)
            continue
        for step in steps:
            state = "forgotten" if step.state is None else step.state.value
            log.info("a DKIM key went on", domain=domain.name, selector=step.key.selector, state=state)
