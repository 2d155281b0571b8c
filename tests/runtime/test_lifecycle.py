from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator

import pytest

from runtime.closing import SIGNALS
from runtime.lifecycle import Lifecycle, StartError, heed_again

Eventually = Callable[[Callable[[], object]], Awaitable[None]]


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """What a life leaves ignored, the tests' own process heeds again."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Part:
    def __init__(self, name: str, story: list[str], *, hangs: bool = False, fails: str = "") -> None:
        self.name = name
        self.story = story
        self.hangs = hangs
        self.fails = fails

    async def _do(self, what: str) -> None:
        if what == self.fails:
            raise StartError(f"{self.name} cannot {what}", exit_code=3)
        self.story.append(f"{what} {self.name}")

    async def start(self) -> None:
        await self._do("start")

    async def drain(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        await self._do("drain")

    async def stop(self) -> None:
        await self._do("stop")


def life(parts: list[Part], story: list[str], seconds: float = 30.0) -> Lifecycle:
    return Lifecycle(
        parts,
        on_ready=lambda: story.append("ready"),
        on_trouble=lambda where, error: story.append(f"{where}: {error}"),
        drain_seconds=seconds,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_start_ready_drain_and_stop_in_reverse(number: int, eventually: Eventually) -> None:
    story: list[str] = []
    running = asyncio.create_task(life([Part("a", story), Part("b", story)], story).run())
    await eventually(lambda: "ready" in story)
    os.kill(os.getpid(), number)
    await asyncio.wait_for(running, 60)
    assert story == ["start a", "start b", "ready", "drain a", "drain b", "stop b", "stop a"]


async def test_a_failed_start_stops_what_had_started() -> None:
    story: list[str] = []
    parts = [Part("a", story), Part("b", story, fails="start"), Part("c", story)]
    with pytest.raises(StartError, match="b cannot start") as caught:
        await life(parts, story).run()
    assert caught.value.exit_code == 3
    assert story == ["start a", "stop a"]


async def test_the_drain_has_a_deadline(eventually: Eventually) -> None:
    story: list[str] = []
    running_life = life([Part("a", story, hangs=True), Part("b", story)], story, seconds=0.05)
    running = asyncio.create_task(running_life.run())
    await eventually(lambda: "ready" in story)
    running_life.end()
    await asyncio.wait_for(running, 60)
    assert story == ["start a", "start b", "ready", "drain b", "stop b", "stop a"]


async def test_a_second_signal_ends_the_drain(eventually: Eventually) -> None:
    story: list[str] = []
    running_life = life([Part("a", story, hangs=True), Part("b", story)], story)
    running = asyncio.create_task(running_life.run())
    await eventually(lambda: "ready" in story)
    os.kill(os.getpid(), signal.SIGTERM)
    await eventually(lambda: "drain b" in story)
    assert running_life.draining
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, 60)
    assert story[-2:] == ["stop b", "stop a"]


async def test_trouble_at_the_end_is_told_and_disturbs_nobody(eventually: Eventually) -> None:
    story: list[str] = []
    running_life = life([Part("a", story, fails="stop"), Part("b", story, fails="drain")], story)
    running = asyncio.create_task(running_life.run())
    await eventually(lambda: "ready" in story)
    running_life.end()
    await running
    assert "draining Part: b cannot drain" in story
    assert "stopping Part: a cannot stop" in story
    assert "stop b" in story


async def test_a_signal_while_starting_ends_the_start() -> None:
    story: list[str] = []
    parts = [Part("a", story), Part("b", story)]
    running_life = life(parts, story)
    running_life.end()
    await asyncio.wait_for(running_life.run(), 5)
    assert story == []


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_signal_behind_the_end_changes_nothing(loop: str) -> None:
    """What is closed after the last stop is closed whole, and the exit status is that of a good end."""
    program = f"""
import asyncio, os, signal, {loop}
from runtime.lifecycle import Lifecycle

def told():
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(os.getpid(), number)

async def main():
    life = Lifecycle([], on_ready=lambda: os.kill(os.getpid(), signal.SIGTERM), on_trouble=print)
    await life.run()
    told()
    print("closed", life.asked_by_signal, flush=True)

with asyncio.Runner(loop_factory={loop}.new_event_loop) as runner:
    runner.run(main())
told()
print("over", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("closed True\nover\n", 0), done.stderr


def test_who_goes_on_heeds_them_again() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    heed_again()
    assert {signal.getsignal(number) for number in SIGNALS} == {signal.SIG_DFL}
