"""A process that closes comes to its end: by itself, by another signal, or because the time is over."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest

from runtime.closing import EXIT_UNCLOSED

PROGRAM = """
import asyncio, os, signal, sys, threading, time, {loop}
from runtime.closing import Closing
from runtime.lifecycle import Lifecycle

def hang_in_a_thread():
    threading.Event().wait()

class Part:
    async def start(self): pass
    async def drain(self): pass
    async def stop(self):
        {stop}

async def never():
    await asyncio.Event().wait()

async def main():
    closing = Closing(seconds={seconds}, late={late})
    life = Lifecycle(
        [Part()], on_ready=lambda: os.kill(os.getpid(), signal.SIGTERM), on_trouble=print, on_closing=closing.begin
    )
    await life.run()
    print("stopped", flush=True)
    {close}
    print("closed", closing.asked, flush=True)

with asyncio.Runner(loop_factory={loop}.new_event_loop) as runner:
    runner.run(main())
print("over", flush=True)
"""


def run(
    *, loop: str = "asyncio", stop: str = "pass", close: str = "pass", seconds: float = 600.0, late: float = 0.0
) -> tuple[int, str, str]:
    """Exit status, output and what was told of a process that hangs in these places."""
    program = PROGRAM.format(loop=loop, stop=stop, close=close, seconds=seconds, late=late)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_another_signal_ends_what_hangs(loop: str, number: signal.Signals) -> None:
    status, out, told = run(loop=loop, close=f"os.kill(os.getpid(), {int(number)}); await never()")
    assert (status, out) == (EXIT_UNCLOSED, "stopped\n"), told
    head, _, rest = told.partition("\n")
    assert head == f"homing: {number.name} while closing; ended at once, with this still open:"
    assert re.search(
        r"  task Task-1: asyncio/locks\.py:\d+ Event\.wait, from <string>:\d+ never, from .*main\n", rest
    ), told


def test_what_hangs_in_threads_and_tasks_is_named() -> None:
    close = 'threading.Thread(target=hang_in_a_thread, name="writer").start(); await never()'
    status, _, told = run(close=close, seconds=0.2)
    assert status == EXIT_UNCLOSED
    assert told.startswith("homing: not closed after 0.2 s; ended at once, with this still open:\n")
    (writer,) = [line for line in told.splitlines() if line.startswith("  thread writer: ")]
    assert re.search(r"/threading\.py:\d+ Event\.wait, from .*:\d+ hang_in_a_thread$", writer), told
    assert "thread closing" not in told


def test_a_stop_that_heeds_no_cancelling_is_ended() -> None:
    """And one that keeps the loop, and a thread that the interpreter waits for at its end."""
    for hangs in ("time.sleep(600)", "threading.Thread(target=hang_in_a_thread, name='writer').start()"):
        status, out, told = run(stop=hangs, seconds=0.2)
        assert (status, "over" in out) == (EXIT_UNCLOSED, "Thread" in hangs), told
        assert "thread MainThread: " in told


def test_idle_threads_of_a_pool_hang_nowhere() -> None:
    close = "await asyncio.to_thread(time.sleep, 0); await never()"
    status, _, told = run(close=close, seconds=0.2)
    assert (status, "thread asyncio_0" in told) == (EXIT_UNCLOSED, False), told


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_late_signal_changes_nothing_where_it_closes_well(loop: str) -> None:
    """It was meant for the work in hand: the status is that of a good end."""
    close = "[os.kill(os.getpid(), number) for number in (signal.SIGTERM, signal.SIGINT)]"
    assert run(loop=loop, close=close, late=600.0) == (0, "stopped\nclosed True\nover\n", "")


def test_who_reads_nothing_of_it_does_not_keep_it() -> None:
    """Standard error is a pipe that is full."""
    close = "os.set_blocking(2, False)\n    try:\n        while True: os.write(2, bytes(65536))\n"
    close += "    except BlockingIOError: os.set_blocking(2, True)\n    await never()"
    program = PROGRAM.format(loop="asyncio", stop="pass", close=close, seconds=0.2, late=0.0)
    with subprocess.Popen(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        try:
            assert process.wait(120) == EXIT_UNCLOSED
        finally:
            process.kill()
