"""Processes of `homing` that do not pay for its imports: copies of one process that has imported it all.

A run of the suite starts hundreds of them, and what most of them would spend most of their time with is importing.
`Popen` and `run` are those of `subprocess`. With `FORKS` (tests/conftest.py sets it, unless HOMING_TEST_EXEC does not
want it) a process of HOMING is a copy of the forker: a child with its own arguments, environment, folder, files and
signals, as if it had been executed. Without `FORKS`, it is.

    python -m tests.forking N      the forker itself, which listens on the socket with the file descriptor N
"""

from __future__ import annotations

import array
import atexit
import contextlib
import ctypes
import functools
import gc
import importlib
import inspect
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tests.hurry import hurry_copies

ROOT = Path(__file__).resolve().parents[1]
HOMING = (sys.executable, "-m", "homing")
ROOMS = ("mail", "runtime", "identity", "storage", "smtp", "imap", "connectors", "homing")
LATE = (
    "argon2",
    "cryptography.hazmat.backends.openssl.backend",
    "passlib.handlers.argon2",
    "passlib.handlers.bcrypt",
    "passlib.handlers.sha2_crypt",
    "pydantic.v1",
    "rich._emoji_codes",
    "typer._adapters",
    "uvicorn.lifespan.off",
    "uvicorn.protocols.http.auto",
)
"""What the libraries import when they are first used."""
FORKS = False
"""Are processes copies of the forker, or executed?"""
PR_SET_CHILD_SUBREAPER = 36
"""prctl(2): orphans below this process become its children, so that it may wait for them."""
REQUEST_OCTETS = 1 << 18


class Popen(subprocess.Popen[str]):
    """`subprocess.Popen` of a command, with pipes that carry text; a copy if the command is HOMING."""

    def __init__(self, command: Sequence[str], **options: Any) -> None:
        super().__init__(tuple(command), text=True, **options)

    def _execute_child(self, *given: Any) -> None:
        execute: Any = super()._execute_child  # type: ignore[misc]  # private, and so unknown to the stubs
        # The names of these parameters are the same in all versions of Python, their places are not.
        told = inspect.signature(execute).bind(*given).arguments
        if not FORKS or told["args"][: len(HOMING)] != HOMING:
            execute(*given)
            return
        pipes = {name: told[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")}
        files = [pipes["p2cread"], pipes["c2pwrite"], pipes["errwrite"]]
        try:
            self.pid = _forker().copy(
                told["args"][len(HOMING) :],
                os.environ if told["env"] is None else told["env"],
                told["cwd"] or Path.cwd(),
                [number if file == -1 else file for number, file in enumerate(files)],
            )
            self._child_created = True
        finally:
            self._close_pipe_fds(**pipes)  # type: ignore[attr-defined]


def run(command: Sequence[str], *, timeout: float, stdin: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    """`subprocess.run` of such a command, its output captured."""
    pipe = subprocess.PIPE
    with Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, **options) as process:
        try:
            out, err = process.communicate(stdin, timeout)
        except BaseException:
            process.kill()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


class Forker:
    """The process that is copied."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for side in (self._socket, theirs):
            side.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, REQUEST_OCTETS)
        with theirs:
            # It ends when this process does: then its socket does.
            self._process = subprocess.Popen(
                (sys.executable, "-m", __name__, str(theirs.fileno())),
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

    def copy(self, arguments: Sequence[str], env: Mapping[str, str], cwd: Path | str, files: Sequence[int]) -> int:
        """The process id of a copy that runs `homing`. files: its standard input, output and error."""
        request = json.dumps([list(arguments), dict(env), str(cwd)]).encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]
        self._socket.sendmsg([request], rights)
        answer = self._socket.recv(64)
        if not answer:
            raise OSError(f"the forker ended with {self._process.wait()}")
        return int(answer)


@functools.cache
def _forker() -> Forker:
    return Forker()


def _serve(asked: socket.socket) -> None:
    """Copy this process whenever asked; returns in each copy, ready to run, and ends the original at the end."""
    while True:
        request, control, _, _ = asked.recvmsg(REQUEST_OCTETS, socket.CMSG_SPACE(3 * 4))
        if not request:
            os._exit(0)
        files = array.array("i", b"".join(octets for _, _, octets in control))
        here, there = os.pipe()
        # The child ends at once: only an orphan comes to who has asked. When the child has been waited for, it is one.
        if (child := os.fork()) == 0:
            if (pid := os.fork()) != 0:
                os.write(there, str(pid).encode())
                os._exit(0)
            asked.close()
            os.close(here)
            os.close(there)
            _become(json.loads(request), files)
            return
        os.waitpid(child, 0)
        os.close(there)
        with open(here, "rb") as pipe:
            asked.send(pipe.read())
        for file in files:
            os.close(file)


def _become(request: tuple[list[str], dict[str, str], str], files: Sequence[int]) -> None:
    arguments, environment, folder = request
    for number, file in enumerate(files):
        os.dup2(file, number)
    for file in files:
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["homing", *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _import_all() -> None:
    for room in ROOMS:
        package = importlib.import_module(room)
        for found in pkgutil.walk_packages(package.__path__, f"{room}."):
            if not found.name.endswith(".__main__"):
                importlib.import_module(found.name)
    for name in LATE:
        importlib.import_module(name)


def main(number: int) -> None:
    """Be the forker; in each copy of it, run `homing`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(ConnectionError):
        _import_all()
        hurry_copies()
        # What will not change is not looked at again by the copies' garbage collection.
        gc.collect()
        gc.freeze()
        _serve(socket.socket(fileno=number))
    _run()


def _run() -> NoReturn:
    """Run `homing` and end as the interpreter would, but without taking a thousand modules apart first."""
    status: Any = 0
    try:
        runpy.run_module("homing", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code
        if isinstance(status, str):
            print(status, file=sys.stderr)
            status = 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status or 0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
