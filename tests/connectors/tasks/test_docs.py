"""The examples of docs/tasks.md are run as they are written, but for the place of the server in them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from connectors.tasks.adapters.redis import open_redis
from homing.settings import Settings, load_settings
from homing.tasks import route_of, sender_of
from tests.live import running
from tests.redisserver import Server

PAGE = Path(__file__).resolve().parents[3] / "docs" / "tasks.md"
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)


def test_there_is_nothing_else_to_run() -> None:
    assert [language for language, _ in BLOCKS] == ["sh", "sh", ""]


def test_the_requests(tmp_path: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not on PATH")
    requests = BLOCKS[0][1]
    # Nobody takes it before it is looked at and cancelled.
    with running(tmp_path / "data", "alice", HOMING_QUEUE_CONCURRENCY="0") as live:
        here = requests.replace("http://127.0.0.1:8000", f"http://{live.host}:{live.rest_port('/api/v1/email')}")
        done = subprocess.run(["sh", "-ec", here], text=True, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told = [json.loads(text) for text in re.findall(r"\{[^{}]*\}", done.stdout)]
    shown = [
        json.loads(text) for line in re.findall(r"^# (.*)$", requests, re.M) for text in re.findall(r"{.*?}", line)
    ]
    assert told == [shown[0], shown[2]]


def test_the_file_beside_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ours = [name for name in os.environ if name.startswith("HOMING_")]
    for name in ("SMTP_HOST", "SMTP_PORT", "SMTP_USER", "SMTP_PASS", *ours):
        monkeypatch.delenv(name, raising=False)
    Path(".env").write_text(BLOCKS[1][1])
    found: Settings = load_settings().settings
    assert route_of(found.queue) == "smtp+tls://me%40example.net:an%20app%20password@smtp.example.net:587"
    assert sender_of(found.queue, "alice@example.org") == "me@example.net"
    assert found.rest.port == 8000
    assert "an app password" not in repr(found)


async def test_the_settings_of_redis(tmp_path: Path) -> None:
    options = [word for line in BLOCKS[2][1].splitlines() for word in (f"--{line.split()[0]}", *line.split()[1:])]
    server = Server(*options)
    try:
        tasks = await open_redis(server.url)
        assert await tasks.waiting() == 0
        await tasks.close()
    finally:
        server.close()
