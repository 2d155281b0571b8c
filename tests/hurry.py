"""What takes time in each of thousands of tests and tells nothing: set once for all of them, by tests/conftest.py."""

from __future__ import annotations

import asyncio
import functools
import importlib
import io
import os
import sqlite3
import ssl
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pydantic
import rich.console
import structlog
import typer.main
import typer.testing
import uvicorn.server
import uvloop

import runtime.sqlite
from runtime.sqlite import Migration, migrate

TICK = 0.005
POLL = 0.1
"""Seconds."""
MEMORY = Path("/dev/shm")
UTF8 = ((0, 0xD7FF), (0xE000, 0x10FFFF))
"""The first and last of each stretch of characters that it has (RFC 3629 §3)."""
ROOM = 4 << 30
"""Octets: of what a run leaves, and as much again."""
WAITS = {
    # What claims ends no sooner than its last claim does.
    "smtp.outbound.runner.POLL_SECONDS": POLL,
    "connectors.tasks.worker.POLL_SECONDS": POLL,
    # A client that does not end TLS in its turn is waited for so long.
    "smtp.stream.CLOSE_SECONDS": 0.5,
    # What was changed elsewhere is looked for so often.
    "homing.overrides.REFRESH_SECONDS": 0.5,
    "identity.limiting.gate.REFRESH_SECONDS": 0.5,
    "identity.scram_offer.SECONDS": 0.5,
}
"""What servers that tests start wait for, in seconds. In .ci/run they wait as long as they do for a user."""
THOROUGH = bool(os.environ.get("CI") or os.environ.get("HOMING_TEST_THOROUGH"))
"""Is every variant tried that .ci/run tries, or what somebody waits for?"""


def examples(count: int) -> int:
    """How many examples a property is tried on: `count` in .ci/run, a quarter where somebody waits for the end."""
    return count if THOROUGH else max(count // 4, 5)


def loops() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The event loops to try what has sockets on: that of the server, and in .ci/run asyncio's own as well."""
    both = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
    return both if THOROUGH else {"uvloop": both["uvloop"]}


def in_memory() -> None:
    """Have the folders of tests in memory, where no fsync is waited for, if there is room for them: .ci/run has them on
    a disk, as do the tests that somebody runs elsewhere."""
    if THOROUGH or not os.access(MEMORY, os.W_OK):
        return
    about = os.statvfs(MEMORY)
    if about.f_bavail * about.f_frsize >= ROOM and not about.f_flag & os.ST_NOEXEC:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


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
    know_utf8()
    if not THOROUGH:
        copy_schemas()
        draw_at_once()


def hurry_copies() -> None:
    """Have the forker's copies (tests/forking.py) take less of it; once all is imported."""
    uvicorn.server.asyncio = _Asyncio()  # type: ignore[assignment]
    # Of what a command takes, half is to read the signatures of all commands.
    typer.main.get_command = functools.cache(typer.main.get_command)
    typer.main.get_command(importlib.import_module("homing.cli").app)
    # What the first use alone pays for: the providers of OpenSSL, the patterns of rich.
    ssl.create_default_context()
    rich.console.Console(file=io.StringIO()).print("[b]:1[/b]")
    if not THOROUGH:
        hash_cheaply()
        check_late()
        copy_schemas()
        for where, seconds in WAITS.items():
            module, _, name = where.rpartition(".")
            setattr(importlib.import_module(module), name, seconds)


def hash_cheaply() -> None:
    """Have passwords cost next to nothing from here on: as they are meant to be, a server that starts pays a quarter of
    its time for them."""
    init: Any = importlib.import_module("identity.settings").PasswordSettings.__init__
    _memory, _iterations, *others = init.__defaults__
    init.__defaults__ = (64, 1, *others)


def check_late() -> None:
    """Have what the REST API's routes take be described when it is first asked for: a server that starts pays a fifth
    of its time for some hundred of them, of which a test asks for a few."""
    pydantic.TypeAdapter._defer_build = property(lambda _: True)  # type: ignore[assignment]


def copy_schemas() -> None:
    """Have a new database copy the schema of the first one like it from here on: made step by step, it costs half of
    what it takes to open one."""
    runtime.sqlite.migrate = Schemas(migrate).migrate


def know_utf8() -> None:
    """Have hypothesis know which characters UTF-8 has: in a fresh checkout the first text of each worker waits three
    seconds until all of Unicode has been encoded."""
    charmap: Any = importlib.import_module("hypothesis.internal.charmap")
    look, intervals = charmap.intervals_from_codec, charmap.IntervalSet
    utf8 = intervals(UTF8), intervals(())

    def known(codec_name: str) -> Any:
        return utf8 if codec_name == "utf-8" else look(codec_name)

    charmap.intervals_from_codec = known


def draw_at_once() -> None:
    """Have hypothesis draw no constants out of our modules: to parse all of them takes four seconds in a fresh
    checkout, and to read what was found half of one."""
    providers: Any = importlib.import_module("hypothesis.internal.conjecture.providers")
    none = providers._local_constants
    providers._get_local_constants = lambda: none


class Schemas:
    """The schemas that were made here, each in a database in memory. make: the server's own `migrate`."""

    def __init__(self, make: Callable[[sqlite3.Connection, Sequence[Migration], str], None]) -> None:
        self._make = make
        self._made: dict[tuple[int, Sequence[Migration]], sqlite3.Connection] = {}
        self._lock = threading.Lock()

    def migrate(self, connection: sqlite3.Connection, migrations: Sequence[Migration], name: str) -> None:
        """What `make` does, which sees to whatever is not empty."""
        (things,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if things or version:
            self._make(connection, migrations, name)
            return
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
        key = page_size, tuple(migrations)
        with self._lock:
            if key in self._made:
                self._made[key].backup(connection)
                connection.execute("PRAGMA foreign_keys = ON")
                return
            self._make(connection, migrations, name)
            made = sqlite3.connect(":memory:", check_same_thread=False)
            connection.backup(made)
            self._made[key] = made


class _Asyncio:
    """The module, as uvicorn's server sees it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    @staticmethod
    async def sleep(seconds: float) -> None:
        await asyncio.sleep(min(seconds, TICK))
