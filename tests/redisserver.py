"""A real Redis for tests: the one that HOMING_TEST_REDIS names, or the redis-server on PATH, started once."""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import redis

from tests.live import free_ports

VARIABLE = "HOMING_TEST_REDIS"
START_SECONDS = 60.0
PATIENT = "socket_timeout=60&socket_connect_timeout=60"
"""Options of the URL, in seconds: a Redis that waits for a busy disk is slow, and not away."""
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


def skip() -> str | None:
    """Why tests against Redis cannot run here, or None when they can."""
    if os.environ.get(VARIABLE) or shutil.which("redis-server"):
        return None
    return f"{VARIABLE} is not set, and redis-server is not on PATH"


def redis_url() -> str:
    """The URL of a Redis that keeps what it accepts; skips the test where there is none."""
    if why := skip():
        pytest.skip(why)
    return os.environ.get(VARIABLE) or _started().url


class Server:
    """A redis-server on a loopback port with a folder of its own. options: of its next start."""

    def __init__(self, *options: str) -> None:
        if not shutil.which("redis-server"):
            pytest.skip(f"redis-server is not on PATH ({VARIABLE} is of no use here)")
        self._folder = tempfile.TemporaryDirectory(prefix="redis-")
        self.options = options
        (self._port,) = free_ports(1)
        self.url = f"redis://127.0.0.1:{self._port}/0?{PATIENT}"
        self.start()

    def start(self) -> None:
        """Again, after it was killed: with what is in its folder."""
        with (Path(self._folder.name) / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["redis-server", "--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--dir",
                 self._folder.name, *self.options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        with redis.Redis.from_url(self.url) as client:
            while True:
                try:
                    client.ping()
                except redis.RedisError:
                    assert time.monotonic() < deadline, "redis-server did not start"
                    time.sleep(0.02)
                else:
                    return

    def kill(self) -> None:
        """As by a power cut of the process: kill -9."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.kill()
        self._folder.cleanup()

    async def start_in_thread(self) -> None:
        """As ``start``, without keeping the loop waiting."""
        await asyncio.to_thread(self.start)


@functools.cache
def _started() -> Server:
    server = Server(*DURABLE)
    atexit.register(server.close)
    return server
