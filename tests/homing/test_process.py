"""The life of a process, and whether it begins again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from homing import process
from runtime.closing import SIGNALS
from runtime.log import RecentLines


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """What a life leaves ignored, the tests' own process heeds again."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [None, signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_what_was_to_begin_again(number: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = asyncio.Event()
    monkeypatch.setattr(process, "_tell_ready", lambda *_: ready.set())
    running = process.Running(RecentLines(), tuple)
    begun: list[str] = []
    closing = SimpleNamespace(begin=lambda: begun.append("closing"), asked=False)
    this = SimpleNamespace(settings=SimpleNamespace(admin=SimpleNamespace(drain_seconds=30.0)), closing=closing)
    serving = asyncio.create_task(running.run(this, []))  # type: ignore[arg-type]  # all that it needs
    async with asyncio.timeout(60):
        await ready.wait()
        if number is not None:
            os.kill(os.getpid(), number)
        running.again()
        assert await serving is (number is None)
    assert begun == ["closing"]


async def test_a_signal_while_closing_is_for_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    ready = asyncio.Event()
    monkeypatch.setattr(process, "_tell_ready", lambda *_: ready.set())
    running = process.Running(RecentLines(), tuple)
    closing = SimpleNamespace(begin=lambda: None, asked=True)
    this = SimpleNamespace(settings=SimpleNamespace(admin=SimpleNamespace(drain_seconds=30.0)), closing=closing)
    async with asyncio.timeout(60):
        serving = asyncio.create_task(running.run(this, []))  # type: ignore[arg-type]  # all that it needs
        await ready.wait()
        running.again()
        assert await serving is False
