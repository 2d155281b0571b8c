from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.admin import ControlClient, ControlServer, ControlUnreachable, FolderLock, FolderLocked, Served
from runtime.lifecycle import StartError
from runtime.portcall import BadCall, PortCodec

ROOT = Path(__file__).parents[2]


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True)
class Ball:
    name: str
    colour: Colour
    weights: tuple[float, ...] = ()
    inner: Ball | None = None


class Refused(Exception):
    def __init__(self, why: Colour, text: str = "", retry_after: float | None = None) -> None:
        super().__init__(text)
        self.why = why
        self.text = text
        self.retry_after = retry_after


class Away(Exception):
    """Takes its text."""


class Box(Protocol):
    async def put(self, ball: Ball, *, times: int = 1) -> tuple[Ball, ...]: ...

    async def fail(self, how: str) -> None: ...

    async def echo(self, content: bytes) -> bytes: ...

    async def size(self, text: str) -> int: ...


class RealBox:
    async def put(self, ball: Ball, *, times: int = 1) -> tuple[Ball, ...]:
        return (ball,) * times

    async def fail(self, how: str) -> None:
        if how == "refused":
            raise Refused(Colour.BLUE, "not so", 2.5)
        if how == "away":
            raise Away("come back")
        raise ZeroDivisionError("secret-inside")

    async def echo(self, content: bytes) -> bytes:
        return content

    async def size(self, text: str) -> int:
        return len(text)


CODEC: PortCodec[Box] = PortCodec(Box, [Refused, Away])


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    server = ControlServer(tmp_path, {"box": Served(CODEC, RealBox())})
    await server.start()
    async with ControlClient(tmp_path) as client:
        yield client.port("box", CODEC)
    await server.stop()


async def test_a_call_and_its_result(box: Box) -> None:
    ball = Ball("a", Colour.RED, (1.5, 2.0), Ball("in", Colour.BLUE))
    assert await box.put(ball) == (ball,)
    assert await box.put(ball, times=3) == (ball, ball, ball)


async def test_the_ports_errors_come_back_whole(box: Box) -> None:
    with pytest.raises(Refused) as caught:
        await box.fail("refused")
    assert (caught.value.why, caught.value.text, caught.value.retry_after) == (Colour.BLUE, "not so", 2.5)
    with pytest.raises(Away, match="come back"):
        await box.fail("away")


async def test_a_bug_is_told_without_details(box: Box) -> None:
    with pytest.raises(BadCall, match="an error of its own") as caught:
        await box.fail("otherwise")
    assert "secret-inside" not in str(caught.value)


async def test_calls_at_once_keep_apart(box: Box) -> None:
    assert await asyncio.gather(*(box.size("x" * n) for n in range(30))) == list(range(30))


async def test_large_calls(box: Box) -> None:
    assert await box.size("x" * 5_000_000) == 5_000_000
    with pytest.raises(BadCall, match="at most"):
        await box.size("x" * (16 * 1024 * 1024))
    assert await box.size("after") == 5


@given(st.binary(), st.text())
def test_values_survive_the_codec(content: bytes, name: str) -> None:
    async def through(method: str, *args: object) -> object:
        call = json.loads(json.dumps(CODEC.call(method, args, {})))
        return CODEC.result(method, json.loads(json.dumps(await CODEC.serve(RealBox(), call))))

    assert asyncio.run(through("echo", content)) == content
    ball = Ball(name, Colour.RED)
    assert asyncio.run(through("put", ball)) == (ball,)


@pytest.mark.parametrize(
    "line",
    [
        b"not json\n",
        b"[]\n",
        b'{"port":"other"}\n',
        b'{"port":"box"}\n',
        b'{"port":"box","method":"__class__","args":{}}\n',
        b'{"port":"box","method":"size","args":{"text":7}}\n',
        b'{"port":"box","method":"size","args":{"nonsense":7}}\n',
        b'{"port":"box","method":"size","args":{}}\n',
        b"\xff\xfe\n",
    ],
)
async def test_a_bad_line_is_answered_and_disturbs_nobody(tmp_path: Path, line: bytes) -> None:
    server = ControlServer(tmp_path, {"box": Served(CODEC, RealBox())})
    await server.start()
    reader, writer = await asyncio.open_unix_connection(tmp_path / "control.sock")
    writer.write(line + b'{"port":"box","method":"size","args":{"text":"abc"}}\n')
    assert "problem" in json.loads(await asyncio.wait_for(reader.readline(), 5))
    assert json.loads(await asyncio.wait_for(reader.readline(), 5)) == {"result": 3}
    writer.close()
    await server.stop()


async def test_the_socket_is_its_owners_alone_and_goes_with_the_server(tmp_path: Path) -> None:
    server = ControlServer(tmp_path, {})
    await server.start()
    assert stat.S_IMODE((tmp_path / "control.sock").stat().st_mode) == 0o600
    await server.drain()
    assert not (tmp_path / "control.sock").exists()
    await server.stop()
    with pytest.raises(ControlUnreachable, match="does not answer"):
        await ControlClient(tmp_path).__aenter__()


async def test_a_socket_deep_in_the_tree(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 100) / ("e" * 100)
    folder.mkdir(parents=True)
    server = ControlServer(folder, {"box": Served(CODEC, RealBox())})
    await server.start()
    async with ControlClient(folder) as client:
        assert await client.port("box", CODEC).size("abc") == 3
    await server.stop()


async def test_a_server_that_goes_away_is_told(tmp_path: Path) -> None:
    server = ControlServer(tmp_path, {"box": Served(CODEC, RealBox())})
    await server.start()
    async with ControlClient(tmp_path) as client:
        port = client.port("box", CODEC)
        assert await port.size("a") == 1
        await server.stop()
        with pytest.raises(ControlUnreachable):
            await port.size("a")


# -- the lock


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    with FolderLock(tmp_path / "data"):
        assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
        with pytest.raises(FolderLocked) as caught:
            FolderLock(tmp_path / "data").acquire()
        assert caught.value.pid == os.getpid()
    with FolderLock(tmp_path / "data"):
        return


def test_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from runtime.admin import FolderLock;"
        "FolderLock(Path(sys.argv[1])).acquire(); os.kill(os.getpid(), 9)"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    with FolderLock(tmp_path):
        return


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="cannot be used"):
        FolderLock(tmp_path / "file" / "data").acquire()


def test_parts_of_a_folder_have_owners_of_their_own(tmp_path: Path) -> None:
    with FolderLock(tmp_path, "identity"), FolderLock(tmp_path, "storage"):
        with pytest.raises(FolderLocked) as caught:
            FolderLock(tmp_path, "identity").acquire()
        assert caught.value.pid == os.getpid()
        # The whole is nobody's while a part is someone's, and it is told whose.
        with pytest.raises(FolderLocked) as caught:
            FolderLock(tmp_path).acquire()
        assert caught.value.pid == os.getpid()
    with FolderLock(tmp_path):
        for part in ("identity", "storage"):
            with pytest.raises(FolderLocked) as caught:
                FolderLock(tmp_path, part).acquire()
            assert caught.value.pid == os.getpid()
    with FolderLock(tmp_path, "identity"):
        return


async def test_sockets_of_several_processes_in_one_folder(tmp_path: Path) -> None:
    servers = [ControlServer(tmp_path, {"box": Served(CODEC, RealBox())}, f"{name}.sock") for name in ("a", "b")]
    for server in servers:
        await server.start()
    async with ControlClient(tmp_path, "a.sock") as first, ControlClient(tmp_path, "b.sock") as second:
        assert await first.port("box", CODEC).size("a") == await second.port("box", CODEC).size("b") == 1
    for server in servers:
        await server.stop()


def test_a_lock_on_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(StartError, match=r"No space left on device\. Make room on its disk\.$"):
            FolderLock(tmp_path).acquire()
    # It is let go of.
    with FolderLock(tmp_path):
        pass
