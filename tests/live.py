"""A running Homing as a user would start it: its processes, its ports, its users, its end.

HOMING_TEST_MODE says how it is started: `embedded` (the default), `homing up`; `sqlite`, the four services as processes
of their own, the keepers on SQLite; `mongo`, the same on a fresh database of HOMING_TEST_MONGODB.
Nothing of the server is imported here; all goes through the command line, the environment and the sockets.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests import forking

ROOT = Path(__file__).resolve().parents[1]
DOMAIN = "test.example"
PASSWORD = "correct horse"
LISTENERS = ("SMTP", "SUBMISSION", "SUBMISSIONS", "IMAP", "IMAPS", "REST")
DEADLINE = 120.0
"""Seconds after which what is waited for does not come: a machine may be busy with much else."""
MODES = ("embedded", "sqlite", "mongo")
PORTS = range(11_000, 31_800)
BLOCK = 100
BLOCKS = 20
"""How many blocks of ports a process has at most, before it uses the first again."""
OURS = ("HOMING_", "SMTP_", "MONGODB_", "QUEUE_", "STORAGE_", "IDENTITY_")


def mode() -> str:
    """How servers are started here."""
    chosen = os.environ.get("HOMING_TEST_MODE", "embedded")
    assert chosen in MODES, f"HOMING_TEST_MODE is one of {', '.join(MODES)}, not {chosen!r}"
    return chosen


def embedded_only(reason: str) -> pytest.MarkDecorator:
    """For a test that looks at what only one process with one data folder has."""
    return pytest.mark.skipif(mode() != "embedded", reason=f"one process alone: {reason}")


def until(condition: Callable[[], Any], seconds: float = DEADLINE, what: str = "", pause: float = 0.02) -> Any:
    """The first true value of the condition, asked again until the deadline; AssertionError after it."""
    deadline = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or condition}"
        time.sleep(pause)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on. They are below those that the system gives to outgoing connections, and in blocks
    that this process has for itself: so nobody takes one before it is used."""
    found: list[int] = []
    while len(found) < count:
        port = next(_PORTS)
        try:
            socket.create_server(("", port)).close()
        except OSError:
            continue
        found.append(port)
    return found


def _ports() -> Iterator[int]:
    """Those of its blocks, in turn."""
    for claim in itertools.cycle(itertools.islice(_claims(), BLOCKS)):
        first = claim.getsockname()[1]
        yield from range(first + 1, first + BLOCK)


def _claims() -> Iterator[socket.socket]:
    """What holds a block of ports, to the end of this process: a socket that listens on the first of them."""
    firsts = PORTS[::BLOCK]
    at = os.getpid() % len(firsts)
    for first in (*firsts[at:], *firsts[:at]):
        try:
            claim = socket.create_server(("127.0.0.1", first))
        except OSError:
            continue
        yield claim


_PORTS = _ports()


class Process:
    """One process of a server, and what it has printed."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self.command = tuple(command)
        self.env = dict(env)
        self.output: list[str] = []
        self.process: subprocess.Popen[str] | None = None
        self._ready = threading.Event()
        self._reader = threading.Thread()

    def begin(self) -> None:
        """Start it; `wait` for it to be ready."""
        self._ready = threading.Event()
        self.process = forking.Popen(
            self.command,
            cwd=ROOT,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._read, args=(self.process, self._ready), daemon=True)
        self._reader.start()

    def wait(self) -> None:
        """Until it has said `ready`."""
        assert self.process is not None
        deadline = time.monotonic() + DEADLINE
        while not self._ready.wait(0.05):
            assert self.process.poll() is None, "the server ended:\n" + "".join(self.output)
            assert time.monotonic() < deadline, "not ready:\n" + "".join(self.output)

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

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: int) -> None:
        """Send it a signal (SIGSTOP makes it hang, SIGCONT go on)."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9 and wait."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(60)

    def stop(self, seconds: float = DEADLINE) -> int:
        """SIGTERM; the exit status after draining."""
        if self.running:
            self.signal(signal.SIGTERM)
        return self.ended(seconds)

    def ended(self, seconds: float = DEADLINE) -> int:
        """The exit status of a process that was told to end; all that it has printed is in its output."""
        assert self.process is not None
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(60)
            raise
        self._reader.join(seconds)
        return status


class Live:
    """One server on a data folder of its own. ``ports`` is keyed by listener name in capitals."""

    host = "127.0.0.1"
    command: tuple[str, ...] = (*forking.HOMING, "up")

    def __init__(self, data: Path, **env: str) -> None:
        self.data = data
        self.host = env.get("HOMING_HOST", self.host)
        self.domain = env.get("HOMING_DOMAIN", DOMAIN)
        self.ports = dict(zip(LISTENERS, free_ports(len(LISTENERS)), strict=True))
        self.admin_password = "administrators only"
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(OURS)},
            "HOMING_DATA": str(data),
            "HOMING_DOMAIN": self.domain,
            "HOMING_HOST": self.host,
            "HOMING_ADMIN_PASSWORD": self.admin_password,
            "PYTHONPATH": str(ROOT),
            **{f"HOMING_{name}_PORT": str(port) for name, port in self.ports.items()},
            # Nothing leaves this machine: who wants mail sent names a DNS server of the test.
            **({} if "HOMING_DNS_SERVERS" in env else {"HOMING_OUTBOUND_ENABLED": "false"}),
            **env,
        }
        self.cli_env = self.env
        self._one: Process | None = None

    # -- the processes

    def start(self) -> Live:
        before = [] if self._one is None else self._one.output
        self._one = Process(self.command, self.env)
        self._one.output = before
        self._one.begin()
        self._one.wait()
        return self

    @property
    def process(self) -> subprocess.Popen[str] | None:
        """The one process (embedded mode alone has one)."""
        return None if self._one is None else self._one.process

    @property
    def output(self) -> list[str]:
        """All that was printed, over all starts."""
        return [] if self._one is None else self._one.output

    @property
    def pid(self) -> int:
        assert self._one is not None
        return self._one.pid

    @property
    def running(self) -> bool:
        return self._one is not None and self._one.running

    def kill(self) -> None:
        """kill -9 and wait."""
        assert self._one is not None
        self._one.kill()

    def stop(self, seconds: float = DEADLINE) -> int:
        """SIGTERM; the exit status after draining."""
        assert self._one is not None
        return self._one.stop(seconds)

    # -- the command line and REST

    def cli(self, *args: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        done = forking.run((*forking.HOMING, *args), cwd=ROOT, env=self.cli_env, stdin=stdin, timeout=DEADLINE)
        if check:
            assert done.returncode == 0, f"homing {' '.join(args)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def add_users(self, *names: str, password: str = PASSWORD) -> None:
        """Accounts at the default domain, made in one import."""
        rows = "".join(f"{name if '@' in name else f'{name}@{self.domain}'},{password}\n" for name in names)
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
        url = f"http://{self.host}:{self.rest_port(path)}{path}"
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def rest_port(self, path: str) -> int:
        """Where the path is served."""
        return self.ports["REST"]

    def token(self, name: str, password: str) -> str:
        from urllib.parse import urlencode

        status, body = self.rest("POST", "/token", urlencode({"username": name, "password": password}), form=True)
        assert status == 200, body
        return str(body["access_token"])

    def admin_token(self) -> str:
        return self.token(f"admin@{self.domain}", self.admin_password)


SERVED: dict[str, tuple[str, ...]] = {
    "identity": ("IDENTITY",),
    "storage": ("STORAGE",),
    "smtp": ("SMTP", "SUBMISSION", "SUBMISSIONS", "REST"),
    "imap": ("IMAP", "IMAPS", "IMAP_REST"),
}
"""The services, keepers first, and the listeners of each."""
OF_IDENTITY = ("/token", "/api/login", "/api/users", "/api/register", "/api/domains", "/api/aliases", "/api/bans")


class Member(Process):
    """One of the processes of a cluster: it keeps its ports over a kill and the next start."""

    def __init__(self, service: str, number: int, ports: Mapping[str, int], env: Mapping[str, str]) -> None:
        super().__init__((*forking.HOMING, "serve", service), env)
        self.service = service
        self.number = number
        self.ports = dict(ports)

    def __repr__(self) -> str:
        return f"{self.service} {self.number}"

    def start(self) -> Member:
        """Start it, again if it has been killed or stopped, and wait until it is ready."""
        self.begin()
        self.wait()
        return self


class Cluster(Live):
    """The four services as processes of their own, as many of each as `counts` says (default: one).

    mongodb: a URL with a database of its own, or None: the keepers use SQLite in the data folder, and are one each.
    ``ports`` are those of the first process of each service; the rest is in ``members``. Doors ask all keepers in turn.
    """

    def __init__(
        self, data: Path, mongodb: str | None = None, counts: Mapping[str, int] | None = None, /, **env: str
    ) -> None:
        super().__init__(data, HOMING_SERVICE_TOKEN=f"token-{uuid4().hex}", **env)
        if mongodb is not None:
            self.env["MONGODB_URL"] = mongodb
        wanted = {service: (counts or {}).get(service, 1) for service in SERVED}
        free = iter(free_ports(sum(wanted[service] * len(names) for service, names in SERVED.items())))
        ports = {
            service: [{name: next(free) for name in names} for _ in range(wanted[service])]
            for service, names in SERVED.items()
        }
        self.ports = {name: port for service in SERVED for name, port in ports[service][0].items()}
        self.env.update({f"HOMING_{name}_PORT": str(port) for name, port in self.ports.items()})
        self.env.update({name: value for name, value in env.items() if name.endswith("_PORT")})
        for service in ("identity", "storage"):
            places = ",".join(f"{self.host}:{one[service.upper()]}" for one in ports[service])
            self.env[f"HOMING_{service.upper()}_URL"] = f"http://{places}"
        self.members = [
            Member(service, number, own, self._member_env(own, env))
            for service in SERVED
            for number, own in enumerate(ports[service])
        ]
        # A command works on the store itself, or on the process that owns it, which may be stopped.
        self.cli_env = {k: v for k, v in self.env.items() if not k.endswith("_URL") or k == "MONGODB_URL"}

    def _member_env(self, ports: Mapping[str, int], given: Mapping[str, str]) -> dict[str, str]:
        own = {f"HOMING_{name}_PORT": str(port) for name, port in ports.items()}
        return {**self.env, **{name: port for name, port in own.items() if name not in given}}

    def of(self, service: str) -> list[Member]:
        """The processes of a service."""
        return [member for member in self.members if member.service == service]

    def start(self) -> Cluster:
        """All that do not run."""
        begun = [member for member in self.members if not member.running]
        for member in begun:
            member.begin()
        for member in begun:
            member.wait()
        until(self.ready, DEADLINE, "the doors see their keepers")
        return self

    def ready(self) -> bool:
        """Does every door say that it can do its work?"""
        return all(
            self.health(port)[0] == 200
            for member in self.members
            for name, port in member.ports.items()
            if name in ("REST", "IMAP_REST", "IDENTITY", "STORAGE") and member.env[f"HOMING_{name}_PORT"]
        )

    def health(self, port: int) -> tuple[int, Any]:
        """(status, body) of one process's health; status 0 where it does not answer."""
        try:
            with urllib.request.urlopen(f"http://{self.host}:{port}/api/health", timeout=5) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")
        except OSError:
            return 0, None

    @property
    def output(self) -> list[str]:
        return [line for member in self.members for line in member.output]

    @property
    def running(self) -> bool:
        return any(member.running for member in self.members)

    def kill(self) -> None:
        """kill -9 of all, and wait."""
        for member in self.members:
            if member.running:
                member.kill()

    def stop(self, seconds: float = DEADLINE) -> int:
        """Doors first, then keepers; the worst exit status of those that ran to now."""
        worst = 0
        try:
            for services in (("smtp", "imap"), ("storage", "identity")):
                ending = [member for member in self.members if member.service in services and member.running]
                for member in ending:
                    member.signal(signal.SIGTERM)
                for member in ending:
                    worst = worst or member.ended(seconds)
        finally:
            self.kill()
        return worst

    def forget(self) -> None:
        """Drop the database, where there is one."""
        if url := self.env.get("MONGODB_URL"):
            from tests.mongo import dropped

            asyncio.run(dropped(url))

    def rest_port(self, path: str) -> int:
        return self.ports["IDENTITY" if path.startswith(OF_IDENTITY) else "REST"]


def make(data: Path, **env: str) -> Live:
    """A server that is not yet started, of the kind that HOMING_TEST_MODE asks for."""
    match mode():
        case "embedded":
            return Live(data, **env)
        case "sqlite":
            return Cluster(data, **env)
        case _:
            from tests.mongo import mongo_url

            return Cluster(data, mongo_url("mongodb"), **env)


@contextmanager
def started(server: Live, *users: str) -> Iterator[Live]:
    """The server, started with these users, ended (and its end checked) afterwards."""
    try:
        server.start()
        if users:
            server.add_users(*users)
        yield server
    finally:
        if server.running:
            assert server.stop() == 0, "".join(server.output[-40:])
        if isinstance(server, Cluster):
            server.forget()


@contextmanager
def running(data: Path, *users: str, **env: str) -> Iterator[Live]:
    """A started server with these users, ended (and its end checked) afterwards."""
    with started(make(data, **env), *users) as server:
        yield server
