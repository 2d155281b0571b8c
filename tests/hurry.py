"""What takes time in each of thousands of tests and tells nothing: set once for all of them, by tests/conftest.py."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
import typer.testing
import uvicorn.server
import uvloop

TICK = 0.005
"""Seconds."""
THOROUGH = bool(os.environ.get("CI") or os.environ.get("HOMING_TEST_THOROUGH"))
"""Is every variant tried that .ci/run tries, or what somebody waits for?"""


def examples(count: int) -> int:
    """How many examples a property is tried on: `count` in .ci/run, a quarter where somebody waits for the end."""
    return count if THOROUGH else max(count // 4, 5)


def loops() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The event loops to try what has sockets on: that of the server, and in .ci/run asyncio's own as well."""
    both = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
    return both if THOROUGH else {"uvloop": both["uvloop"]}


def hurry() -> None:
    """Have the libraries take less of it, in this process and in those that it starts."""
    # One authority, whose key nobody has, in place of the system's: each TLS context takes 20 ms to read those.
    os.environ["SSL_CERT_FILE"] = str(Path(__file__).with_name("authority.pem"))
    # uvicorn looks each 100 ms whether it is to end, and waits as long again before it does.
    uvicorn.server.asyncio = _Asyncio()  # type: ignore[assignment]
    # And typer reads the signatures of all commands for each that is run.
    typer.testing._get_command = functools.cache(typer.testing._get_command)  # type: ignore[attr-defined]
    # The trace of an error takes rich half a second to paint.
    *before, _ = structlog.get_config()["processors"]
    shown = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*before, shown])


class _Asyncio:
    """The module, as uvicorn's server sees it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    @staticmethod
    async def sleep(seconds: float) -> None:
        await asyncio.sleep(min(seconds, TICK))
