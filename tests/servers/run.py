"""Start the two servers that speak MongoDB's protocol, and run a command with their URLs in its environment.

    python -m tests.servers.run -- .venv/bin/pytest -q       # both; what cannot be had is an error
    python -m tests.servers.run --optional -- make test      # what can be had; the rest is said
    python -m tests.servers.run --only ferretdb              # prints the variable, runs until Ctrl-C
    python -m tests.servers.run --build                      # builds alone

A variable that is set already is left alone and its server is not started: HOMING_TEST_MONGODB (or MONGODB_URL) may
name a real MongoDB.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tests.mongo import configured
from tests.servers.build import SOURCES, ServerMissing, Source, built

START_SECONDS = 120.0
"""How long a server may take until it answers."""
END_SECONDS = 10.0
"""How long a server may take to end after SIGTERM, before it is killed."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers. url: without a database's name. pid: its process."""

    url: str
    pid: int


@contextmanager
def started(source: Source, port: int = 0) -> Iterator[Running]:
    """A server of its own on a port (0: any), with nothing in it; ended, and its data removed, at the end.

    Raises ServerMissing when it cannot be built or does not answer within START_SECONDS.
    """
    file = built(source)
    with tempfile.TemporaryDirectory(prefix=f"{source.name}-") as folder:
        data, log = Path(folder) / "data", Path(folder) / "log"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                source.run(file, port, data), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
            )
        try:
            yield Running(f"mongodb://127.0.0.1:{_ready(source, process, log)}", process.pid)
        finally:
            _end(process)


def _ready(source: Source, process: subprocess.Popen[bytes], log: Path) -> int:
    """The port that the server says it answers on."""
    assert process.stdout
    said = b""
    deadline = time.monotonic() + START_SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not said.endswith(b"\n"):
            more = selector.select(max(0.0, deadline - time.monotonic()))
            part = os.read(process.stdout.fileno(), 4096) if more else b""
            if not part:
                words = log.read_text("utf-8", "replace")[-2000:]
                raise ServerMissing(f"{source.name} did not get ready within {START_SECONDS:.0f} s:\n{words}")
            said += part
    word, _, port = said.decode().strip().partition(" ")
    if word != "ready" or not port.isdigit():
        raise ServerMissing(f"{source.name} said {said!r} in place of its port")
    return int(port)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGCONT)  # a test may have stopped it
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """Stop a process (SIGSTOP) for this block; when the block begins, none of its threads runs any more."""
    os.kill(pid, signal.SIGSTOP)
    try:
        deadline = time.monotonic() + END_SECONDS
        # proc(5): the state follows the command's name, which stands in parentheses
        while any(
            stat.read_text().rpartition(")")[2].split()[0] not in "Tt"
            for stat in Path(f"/proc/{pid}/task").glob("*/stat")
        ):
            assert time.monotonic() < deadline, f"process {pid} did not stop"
            time.sleep(0.005)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def main(arguments: list[str]) -> int:
    """Run as told (see the module's words); the command's own exit code, or 2 when a server is missing."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers.run", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=[source.name for source in SOURCES], help="this server alone")
    parser.add_argument("--optional", action="store_true", help="go on without a server that cannot be had")
    parser.add_argument("--build", action="store_true", help="build, and start nothing")
    parser.add_argument("command", nargs="*", help="what to run (after --); without one: until Ctrl-C")
    asked = parser.parse_args(arguments)
    sources = [source for source in SOURCES if asked.only in (None, source.name)]
    signal.signal(signal.SIGTERM, _stop)
    with contextlib.ExitStack() as stack:
        found: dict[str, str] = {}
        for source in sources:
            if configured(source.variable) and not asked.build:
                continue
            try:
                if asked.build:
                    built(source)
                else:
                    found[source.variable] = stack.enter_context(started(source)).url
            except ServerMissing as error:
                print(error, file=sys.stderr, flush=True)
                if not asked.optional:
                    return 2
        if asked.build:
            return 0
        if not asked.command:
            print("\n".join(f"export {name}={url}" for name, url in found.items()), flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
            return 0
        return _run(asked.command, os.environ | found)


def _run(command: list[str], environment: dict[str, str]) -> int:
    with subprocess.Popen(command, env=environment) as process:
        try:
            while True:
                with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C reaches the command as well: it ends by itself
                    return process.wait()
        finally:
            if process.poll() is None:
                process.terminate()


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
