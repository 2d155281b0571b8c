"""Letters for transports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from smtp.outbound.transport import Letter, Outcome, Result
from storage.model import RemoteRecipient

TEXT = b"Subject: hello\r\nFrom: a@here.example\r\n\r\n.dot\r\n..two\r\nend\r\n"


def letter(
    *recipients: str | RemoteRecipient,
    text: bytes = TEXT,
    sender: str = "a@here.example",
    domain: str = "d.example",
    route: str | None = None,
    head: bytes = b"",
    **params: str,
) -> Letter:
    async def read(start: int, end: int) -> bytes:
        await asyncio.sleep(0)
        return text[start:end]

    everyone = recipients or (f"x@{domain}",)
    return Letter(
        "item",
        "trace",
        sender,
        domain,
        tuple(RemoteRecipient(one) if isinstance(one, str) else one for one in everyone),
        len(text),
        read,
        head,
        route,
        params,
    )


def only(result: Result) -> Outcome:
    (outcome,) = result.outcomes.values()
    return outcome


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for it, while the loop runs; AssertionError after so many seconds."""
    end = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < end, f"not within {seconds} s"
        await asyncio.sleep(0.01)
