from __future__ import annotations

import asyncio
import time

import pytest

from runtime.clock import Clock, ManualClock, SystemClock
from runtime.metrics import LoopLag, Metrics


def test_a_manual_clock_moves_when_told() -> None:
    clock: Clock = ManualClock(now=100)
    assert isinstance(clock, ManualClock)
    clock.advance(5)
    assert (clock.now(), clock.monotonic()) == (105, 5)
    with pytest.raises(ValueError, match="forward"):
        clock.advance(-1)


def test_the_system_clock() -> None:
    clock: Clock = SystemClock()
    assert abs(clock.now() - time.time()) < 5
    assert clock.monotonic() <= clock.monotonic()


def test_figures_are_rendered() -> None:
    metrics = Metrics("homing")
    metrics.counter("mails", "Mails.", ["door"]).labels("smtp").inc(2)
    metrics.gauge("depth", "Depth.", read=lambda: 7)
    metrics.histogram("wait_seconds", "Wait.", buckets=(1, 2)).observe(1.5)
    text = metrics.render().decode()
    assert 'homing_mails_total{door="smtp"} 2.0' in text
    assert "homing_depth 7.0" in text
    assert 'homing_wait_seconds_bucket{le="2.0"} 1.0' in text


def test_figures_of_one_service_among_others() -> None:
    metrics = Metrics("homing", "imap")
    metrics.counter("mails", "Mails.", ["door"]).labels("x").inc()
    metrics.gauge("depth", "Depth.", read=lambda: 7)
    metrics.histogram("wait_seconds", "Wait.", buckets=(1, 2)).observe(1.5)
    samples = [line for line in metrics.render().decode().splitlines() if not line.startswith("#")]
    assert len(samples) > 6
    assert all('service="imap"' in line for line in samples)
    assert 'homing_mails_total{door="x",service="imap"} 1.0' in samples


async def test_a_blocked_loop_is_measured() -> None:
    lag = LoopLag(Metrics("homing"), every=0.01)
    await lag.start()
    await asyncio.sleep(0.02)
    time.sleep(0.1)  # noqa: ASYNC251 - the loop is blocked on purpose
    await asyncio.sleep(0.02)
    assert lag.worst > 0.05
    await lag.drain()
    await lag.stop()
