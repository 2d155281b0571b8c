"""`homing serve smtp imap …`: a child process for each service, started again where it dies, ended together."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import sys
import time
from collections.abc import Mapping, Sequence

import structlog
from rich.console import Console
from rich.text import Text

from homing import process, sockets
from homing.keepers import EXIT_CONFIG, check_urls, service_token
from homing.ports import SERVER, Listening, server_codec
from homing.services.base import SUPERVISED
from homing.settings import PREFIX, Settings, load_settings
from homing.sockets import DOORS, KEEPERS, ORDER, SUPERVISOR
from runtime.admin import ControlServer, Served
from runtime.closing import CLOSE_SECONDS
from runtime.lifecycle import heed_again, signalled
from runtime.log import LogLine

COLOURS = {"smtp": "cyan", "imap": "green", "identity": "magenta", "storage": "yellow", "worker": "blue"}
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
GOOD_SECONDS = 60.0
"""A child that has run for so long is started again without a longer pause than the first."""
HOPELESS = frozenset({1, 2, EXIT_CONFIG})
"""Statuses with which a child that never was ready says that it will not be when started again."""
END_SECONDS = CLOSE_SECONDS + 5.0
"""What a child may take for its end beyond the time for its work in hand. It ends by itself, and says what hung."""
LINE_LIMIT = 1024 * 1024

log = structlog.get_logger("homing")


def main(services: Sequence[str]) -> int:
    """Run the services as children until SIGTERM or SIGINT; the exit status. Raises StartError."""
    settings = load_settings().settings
    check_urls(settings)
    environ = dict(os.environ)
    made = settings.service.token is None and set(KEEPERS) <= set(services)
    if made:
        # All that need to know it are here; a command on this machine finds identity by its socket.
        environ[f"{PREFIX}_SERVICE_TOKEN"] = secrets.token_urlsafe(32)
    else:
        service_token(settings)
    if settings.log.form == "auto" and sys.stderr.isatty():
        environ[f"{PREFIX}_LOG_FORM"] = "text"
    process.logs(settings, "supervisor")
    if made:
        log.info("service.token is not set: a secret was made for these processes, until they end")
    supervisor = Supervisor(settings, services, environ)
    status = asyncio.run(supervisor.run())
    if supervisor.restart:
        heed_again()
        os.execv(sys.executable, [sys.executable, "-m", "homing", "serve", *services])
    return status


class Supervisor:
    """The children, and the `Server` port by which `homing down` ends them."""

    def __init__(self, settings: Settings, services: Sequence[str], environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._services = sorted(services, key=ORDER.index)
        self._environ = dict(environ)
        self._console = Console(highlight=False, markup=False, soft_wrap=True)
        self._children: dict[str, asyncio.subprocess.Process] = {}
        self._keeping: dict[str, asyncio.Task[None]] = {}
        self._ready: set[str] = set()
        self._told_ready = False
        self._asked = 0
        self._over = asyncio.Event()
        self._status = 0
        self._began = time.time()
        self.restart = False

    async def run(self) -> int:
        """Until all have ended; the exit status: 0, or that of a child that could not be started at all."""
        with signalled(self._signalled):
            return await self._run()

    async def _run(self) -> int:
        place = sockets.prepare(self._settings.data, SUPERVISOR, os.getpid())
        control = ControlServer(place.folder, {SERVER: Served(server_codec(), self)}, place.name)
        await control.start()
        try:
            for name in self._services:
                self._keeping[name] = asyncio.create_task(self._keep(name), name=f"child {name}")
            await self._over.wait()
            for group in (DOORS, KEEPERS):
                await self._end([name for name in self._services if name in group])
        finally:
            await control.stop()
        return self._status

    # -- the `Server` port

    async def listeners(self) -> tuple[Listening, ...]:
        return ()

    async def started_at(self) -> float:
        return self._began

    async def end(self, restart: bool) -> None:
        self.restart = restart
        asyncio.get_running_loop().call_later(0.05, self._ask)

    async def logs(self, after: int, wait: float) -> tuple[LogLine, ...]:
        """None of its own: each child holds its lines."""
        return ()

    # -- children

    def _signalled(self) -> None:
        # It is for the end, whatever was asked for before.
        self.restart = False
        self._ask()

    def _ask(self) -> None:
        self._asked += 1
        self._over.set()
        if self._asked > 1:
            self._signal(self._services, signal.SIGTERM)

    async def _keep(self, name: str) -> None:
        """Start the child, and again whenever it has died."""
        pause = FIRST_PAUSE
        while not self._over.is_set():
            began = time.monotonic()
            try:
                status = await self._once(name)
            except OSError as error:
                # No process or no memory to be had at the moment: that passes.
                status, how = -1, f"could not be started ({error.strerror or error})"
            else:
                how = "ended with " + (f"status {status}" if status >= 0 else f"signal {signal.Signals(-status).name}")
            if self._over.is_set():
                return
            if name not in self._ready and not self._told_ready and status in HOPELESS:
                self._tell(name, f"ended with status {status} before it was ready: ending all", "red")
                self._status = status
                self._over.set()
                return
            if time.monotonic() - began >= GOOD_SECONDS:
                pause = FIRST_PAUSE
            self._tell(name, f"{how}; it starts again in {pause:g} s", "red")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), pause)
            pause = min(LONGEST_PAUSE, 2 * pause)

    async def _once(self, name: str) -> int:
        """One life of a child: its exit status, negative for a signal."""
        terminal = sys.stderr.isatty()
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "homing",
            "serve",
            name,
            SUPERVISED,
            env=self._environ,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # Elsewhere the log is JSON, in which every line says whose it is.
            stderr=asyncio.subprocess.PIPE if terminal else None,
            # Ctrl-C is for the supervisor, which ends doors before keepers.
            start_new_session=True,
            limit=LINE_LIMIT,
        )
        self._children[name] = child
        if self._over.is_set():
            self._signal([name], signal.SIGTERM)
        outputs = [child.stdout, child.stderr] if terminal else [child.stdout]
        readers = [asyncio.create_task(self._forward(name, output)) for output in outputs]
        status = await child.wait()
        await asyncio.gather(*readers)
        del self._children[name]
        return status

    async def _forward(self, name: str, reader: asyncio.StreamReader | None) -> None:
        assert reader is not None
        while True:
            try:
                line = await reader.readline()
            except ValueError:
                # Longer than any line of ours: what was read of it is gone.
                continue
            if not line:
                return
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            self._tell(name, text)
            if text == "ready":
                self._is_ready(name)

    def _is_ready(self, name: str) -> None:
        self._ready.add(name)
        if not self._told_ready and self._ready >= set(self._services):
            self._told_ready = True
            print("ready", flush=True)

    def _tell(self, name: str, line: str, style: str = "") -> None:
        prefix = Text(f"{name:>8} | ", style=COLOURS[name])
        self._console.print(prefix + (Text(line, style=style) if style else Text.from_ansi(line)))

    async def _end(self, names: Sequence[str]) -> None:
        """Let these drain and end, and see to it that they do."""
        self._signal(names, signal.SIGTERM)
        tasks = [self._keeping[name] for name in names]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=self._settings.admin.drain_seconds + END_SECONDS)
        if late:
            self._signal(names, signal.SIGKILL)
            await asyncio.wait(tasks)
        for task in tasks:
            task.result()

    def _signal(self, names: Sequence[str], number: signal.Signals) -> None:
        for name in names:
            child = self._children.get(name)
            if child is not None and child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    child.send_signal(number)
