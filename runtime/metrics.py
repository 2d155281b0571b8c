"""Figures for whoever watches the server: one registry per process, made by the composition root and handed on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# When a figure began is when the process did: process_start_time_seconds says it once.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no annotation there


class _Labelled(CollectorRegistry):
    """A registry all of whose figures have one label more."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def collect(self) -> Iterator[Metric]:
        for metric in super().collect():
            metric.samples = [
                sample._replace(labels={"service": self._service, **sample.labels}) for sample in metric.samples
            ]
            yield metric


class _Counted(Collector):
    """Counters that somebody else counts: read whenever somebody looks."""

    def __init__(self, name: str, description: str, label: str, read: Mapping[str, Callable[[], float]]) -> None:
        self._name = name
        self._description = description
        self._label = label
        self._read = read

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(self._name, self._description, labels=[self._label] if self._label else [])
        for value, read in self._read.items():
            family.add_metric([value] if self._label else [], read())
        yield family


class Metrics:
    """Makes the figures of one process. A name may be made once only; prometheus's naming rules apply.

    `service`: a label of every figure, "" for a process that is the only one.
    """

    def __init__(self, prefix: str, service: str = "") -> None:
        self.registry = _Labelled(service) if service else CollectorRegistry()
        self._prefix = prefix
        # process_cpu_seconds_total, process_resident_memory_bytes, process_open_fds, …: named alike by all programs.
        ProcessCollector(registry=self.registry)

    def counter(self, name: str, description: str, labels: Sequence[str] = ()) -> Counter:
        """A figure that only grows. `.inc()`, or `.labels(...).inc()`."""
        return Counter(f"{self._prefix}_{name}", description, labels, registry=self.registry)

    def counted(self, name: str, description: str, read: Callable[[], float]) -> None:
        """A figure that only grows, and that is kept elsewhere: asked for whenever somebody looks."""
        self.registry.register(_Counted(f"{self._prefix}_{name}", description, "", {"": read}))

    def counted_by(self, name: str, description: str, label: str, read: Mapping[str, Callable[[], float]]) -> None:
        """Several of these under one name, each by the value of the label."""
        self.registry.register(_Counted(f"{self._prefix}_{name}", description, label, read))

    def gauge(
        self, name: str, description: str, labels: Sequence[str] = (), *, read: Callable[[], float] | None = None
    ) -> Gauge:
        """A figure that goes up and down; with `read` it is asked for whenever somebody looks."""
        gauge = Gauge(f"{self._prefix}_{name}", description, labels, registry=self.registry)
        if read is not None:
            gauge.set_function(read)
        return gauge

    def histogram(
        self, name: str, description: str, labels: Sequence[str] = (), *, buckets: Sequence[float]
    ) -> Histogram:
        """How often a measured value (seconds, bytes) fell where."""
        return Histogram(f"{self._prefix}_{name}", description, labels, registry=self.registry, buckets=tuple(buckets))

    def render(self) -> bytes:
        """All figures in prometheus's text form (`CONTENT_TYPE`)."""
        return generate_latest(self.registry)


class LoopLag:
    """Measures how late the event loop comes to a timer: the time for which everybody waited."""

    def __init__(self, metrics: Metrics, *, every: float = 0.25) -> None:
        self._every = every
        self._lag = metrics.histogram(
            "loop_lag_seconds", "How late the event loop was", buckets=(0.001, 0.005, 0.02, 0.05, 0.1, 0.5, 1)
        )
        self._task: asyncio.Task[None] | None = None
        self.worst = 0.0

    async def start(self) -> None:
        self._task = asyncio.create_task(self._measure(), name="loop lag")

    async def drain(self) -> None:
        return None

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _measure(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._every
            await asyncio.sleep(self._every)
            late = max(0.0, loop.time() - due)
            self.worst = max(self.worst, late)
            self._lag.observe(late)
