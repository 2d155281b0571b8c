"""What is in the data folder has one owner each: its locks, and the control sockets by which commands reach processes.

Over the socket go the calls of ports (`runtime.portcall`), one JSON object a line each way, one after the other. Who
may open the socket (mode 0600) may administer: there is no other sign-in.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import structlog

from runtime.lifecycle import StartError
from runtime.portcall import BadCall, Json, PortCodec

P = TypeVar("P")
SOCKET_NAME = "control.sock"
LOCK_NAME = "lock"
LINE_LIMIT = 16 * 1024 * 1024
"""Octets of one call or answer."""
_SUN_PATH = 107
_POLL = 0.05

log = structlog.get_logger("control")


class FolderLocked(Exception):
    """Another process holds the data folder. `pid` is its number where it is known, else 0."""

    def __init__(self, folder: Path, pid: int) -> None:
        super().__init__(f"The data folder {folder} is in use by process {pid or '(unknown)'}.")
        self.pid = pid


class ControlUnreachable(Exception):
    """A process does not answer on its control socket."""


class FolderLock:
    """The lock of a data folder, or of one part of it; the system lets go of it when the process ends, however it ends.

    part: "" for the whole folder, which nobody shares; else the name of what is owned ("identity"), beside which others
    may own other parts, and nobody the whole.
    """

    def __init__(self, folder: Path, part: str = "") -> None:
        self._folder = folder
        self._part = part
        self._files: list[int] = []

    def acquire(self, wait: float = 0.0) -> None:
        """Make the folder (mode 0700) if need be, and take it, trying for so many seconds (the thread waits). Raises
        FolderLocked, or StartError where it cannot be made or written."""
        until = time.monotonic() + wait
        while True:
            try:
                self._acquire()
            except FolderLocked:
                if time.monotonic() >= until:
                    raise
                time.sleep(_POLL)
            else:
                return

    def _acquire(self) -> None:
        make_folder(self._folder)
        wanted = [(LOCK_NAME, fcntl.LOCK_SH), (f"{self._part}.lock", fcntl.LOCK_EX)]
        for name, kind in wanted if self._part else [(LOCK_NAME, fcntl.LOCK_EX)]:
            file = self._open(name)
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                self.release()
                raise FolderLocked(self._folder, self._holder(name)) from None
            self._files.append(file)
            if kind == fcntl.LOCK_EX:
                self._sign(file)

    def _sign(self, file: int) -> None:
        """Write into it who has it."""
        try:
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            self.release()
            raise _unusable(self._folder, error) from error

    def _open(self, name: str) -> int:
        try:
            return os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self.release()
            raise _unusable(self._folder, error) from error

    def _holder(self, name: str) -> int:
        """The process that holds the lock of that name, or a part where it is the whole that cannot be had."""
        parts = sorted(path.name for path in self._folder.glob("*.lock")) if name == LOCK_NAME else []
        for one in (*parts, name):
            file = self._open(one)
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                number = os.pread(file, 32, 0).strip()
                return int(number) if number.isdigit() else 0
            finally:
                os.close(file)
        return 0

    def release(self) -> None:
        """Let go. May be repeated."""
        while self._files:
            os.close(self._files.pop())

    def __enter__(self) -> FolderLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def make_folder(folder: Path) -> None:
    """The folder, with mode 0700 where it is made. Raises StartError."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise _unusable(folder, error) from error


def _unusable(folder: Path, error: OSError) -> StartError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StartError(f"The data folder {folder} cannot be written: {error.strerror}. Make room on its disk.")
    return StartError(
        f"The data folder {folder} cannot be used: {error.strerror}. "
        "Choose another with HOMING_DATA, or give this user the right to write there."
    )


class Served(Generic[P]):
    """A port that the control socket serves: how it is called, and who does the work."""

    def __init__(self, codec: PortCodec[P], port: P) -> None:
        self._codec = codec
        self._port = port

    async def answer(self, call: Json) -> Json:
        return await self._codec.serve(self._port, call)


class ControlServer:
    """Serves ports by their names on a socket in a folder, which the caller has made.

    socket: `control.sock` is of the process that holds the lock of the whole folder; others take names of their own.
    """

    def __init__(self, folder: Path, ports: Mapping[str, Served[Any]], socket: str = SOCKET_NAME) -> None:
        self._path = folder / socket
        self._ports = dict(ports)
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._path.unlink(missing_ok=True)
        # Made for the owner alone from the first moment: the mode of a socket file follows the umask.
        before = os.umask(0o177)
        try:
            with _short(self._path) as path:
                self._server = await asyncio.start_unix_server(self._talk, path, limit=LINE_LIMIT)
        except OSError as error:
            raise StartError(f"The control socket {self._path} cannot be made: {error.strerror or error}.") from error
        finally:
            os.umask(before)

    async def drain(self) -> None:
        if self._server is not None:
            self._server.close()
        self._path.unlink(missing_ok=True)

    async def stop(self) -> None:
        await self.drain()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            # The command has gone, or sent a line over the limit: nothing more can be read from it.
            return
        finally:
            self._talks.discard(task)
            writer.close()

    async def _answer(self, line: bytes) -> Json:
        try:
            asked = json.loads(line)
            if not isinstance(asked, dict) or asked.get("port") not in self._ports:
                raise BadCall("there is no such port here")
            return await self._ports[asked["port"]].answer(asked)
        except (BadCall, ValueError) as error:
            return {"problem": str(error)}
        except Exception:
            log.exception("a control call failed")
            return {"problem": "the server met an error of its own; its log says which"}


class ControlClient:
    """Calls the process behind a control socket. One call at a time; use as an async context manager."""

    def __init__(self, folder: Path, socket: str = SOCKET_NAME) -> None:
        self._path = folder / socket
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> ControlClient:
        try:
            with _short(self._path) as path:
                self._streams = await asyncio.open_unix_connection(path, limit=LINE_LIMIT)
        except OSError as error:
            raise ControlUnreachable(
                f"The server does not answer on {self._path} ({error.strerror or error})."
            ) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._streams is not None:
            self._streams[1].close()
            with contextlib.suppress(ConnectionError):
                await self._streams[1].wait_closed()

    def port(self, name: str, codec: PortCodec[P]) -> P:
        """The port of that name, each call going to the other process. Beyond the port's errors its methods raise
        ControlUnreachable and BadCall."""

        async def send(call: Json) -> Json:
            return await self.call(name, call)

        return codec.client(send)

    async def call(self, name: str, call: Json) -> Json:
        """One call of the port of that name, and its answer, as they are. Raises ControlUnreachable and BadCall."""
        return await self._send({"port": name, **call})

    async def _send(self, call: Json) -> Json:
        if self._streams is None:
            raise ControlUnreachable("The control socket is not open.")
        reader, writer = self._streams
        line = json.dumps(call).encode() + b"\n"
        if len(line) > LINE_LIMIT:
            raise BadCall(f"a call is at most {LINE_LIMIT} octets long")
        async with self._turn:
            try:
                writer.write(line)
                await writer.drain()
                answer = await reader.readline()
            except (OSError, ValueError) as error:
                raise ControlUnreachable(f"The server ended the conversation: {error}.") from error
        if not answer.endswith(b"\n"):
            raise ControlUnreachable("The server ended in the middle of the call.")
        return json.loads(answer)


@contextlib.contextmanager
def _short(path: Path) -> Any:
    """A name for the socket that fits the 108 octets of sockaddr_un, however deep the folder is."""
    if len(os.fsencode(path)) <= _SUN_PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
