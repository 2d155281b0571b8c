"""A running Homing as a user would start it: the `homing up` process, its ports, its users, its end.

Nothing of the server is imported here; all goes through the command line, the environment and the sockets.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOMAIN = "test.example"
PASSWORD = "correct horse"
LISTENERS = ("SMTP", "SUBMISSION", "SUBMISSIONS", "IMAP", "IMAPS", "REST")
START_SECONDS = 30.0


def until(condition: Callable[[], Any], seconds: float = 10.0, what: str = "", pause: float = 0.02) -> Any:
    """The first true value of the condition, asked again until the deadline; AssertionError after it."""
    deadline = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or condition}"
        time.sleep(pause)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Live:
    """One server on a data folder of its own. ``ports`` is keyed by listener name in capitals."""

    host = "127.0.0.1"
    command: tuple[str, ...] = (sys.executable, "-m", "homing", "up")

    def __init__(self, data: Path, **env: str) -> None:
        self.data = data
        self.ports = dict(zip(LISTENERS, free_ports(len(LISTENERS)), strict=True))
        self.admin_password = "administrators only"
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("HOMING_", "SMTP_", "MONGODB_", "QUEUE_"))}
        self.env = clean | {
            "HOMING_DATA": str(data),
            "HOMING_DOMAIN": DOMAIN,
            "HOMING_HOST": self.host,
            "HOMING_ADMIN_PASSWORD": self.admin_password,
            "PYTHONPATH": str(ROOT),
            **{f"HOMING_{name}_PORT": str(port) for name, port in self.ports.items()},
            **env,
        }
        self.process: subprocess.Popen[str] | None = None
        self.output: list[str] = []

    # -- the process

    def start(self) -> Live:
        self.process = subprocess.Popen(
            self.command,
            cwd=ROOT,
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        ready = threading.Event()
        reader = threading.Thread(target=self._read, args=(self.process, ready), daemon=True)
        reader.start()
        deadline = time.monotonic() + START_SECONDS
        while not ready.wait(0.05):
            assert self.process.poll() is None, "the server ended:\n" + "".join(self.output)
            assert time.monotonic() < deadline, "not ready:\n" + "".join(self.output)
        return self

    def _read(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.output.append(line)
            if line.strip() == "ready":
                ready.set()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """kill -9 and wait."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self, seconds: float = 30.0) -> int:
        """SIGTERM; the exit status after draining."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
            raise

    # -- the command line and REST

    def cli(self, *args: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "homing", *args],
            cwd=ROOT,
            env=self.env,
            text=True,
            input=stdin,
            capture_output=True,
            timeout=60,
        )
        if check:
            assert done.returncode == 0, f"homing {' '.join(args)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def add_users(self, *names: str, password: str = PASSWORD) -> None:
        """Accounts at the domain, made in one import."""
        rows = "".join(f"{name if '@' in name else f'{name}@{DOMAIN}'},{password}\n" for name in names)
        path = self.data.parent / f"users-{time.monotonic_ns()}.csv"
        path.write_text(rows)
        self.cli("user", "import", str(path))

    def rest(
        self, method: str, path: str, body: Any = None, token: str | None = None, form: bool = False
    ) -> tuple[int, Any]:
        """(status, decoded JSON) of one request."""
        headers, data = {}, None
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded" if form else "application/json"
            data = body.encode() if form else json.dumps(body).encode()
        url = f"http://{self.host}:{self.ports['REST']}{path}"
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def token(self, name: str, password: str) -> str:
        from urllib.parse import urlencode

        status, body = self.rest("POST", "/token", urlencode({"username": name, "password": password}), form=True)
        assert status == 200, body
        return str(body["access_token"])

    def admin_token(self) -> str:
        return self.token(f"admin@{DOMAIN}", self.admin_password)


@contextmanager
def running(data: Path, *users: str, **env: str) -> Iterator[Live]:
    """A started server with these users, ended (and its end checked) afterwards."""
    server = Live(data, **env).start()
    try:
        if users:
            server.add_users(*users)
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            assert server.stop() == 0, "".join(server.output[-40:])
