from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from identity.settings import PasswordSettings
from tests import forking
from tests.hurry import hash_cheaply

ROOT = Path(__file__).parents[2]
LISTENERS = ("SMTP", "SUBMISSION", "SUBMISSIONS", "IMAP", "IMAPS", "REST")

Homing = Callable[..., Result]


@dataclass
class Up:
    """A server started as a user starts it, and what it printed before `ready`."""

    process: subprocess.Popen[str]
    folder: Path
    printed: list[str] = field(default_factory=list)

    def port(self, service: str) -> int:
        """The port in the printed table."""
        for line in self.printed:
            words = line.split()
            if words and words[0] == service:
                return int(words[1])
        raise AssertionError(f"{service} is not in the table: {self.printed}")


def environment(folder: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HOMING_", "SMTP_", "IMAP_"))}
    ports = {f"HOMING_{name}_PORT": "0" for name in LISTENERS}
    # Nothing leaves this machine.
    fixed = {"HOMING_HOST": "127.0.0.1", "HOMING_OUTBOUND_ENABLED": "false", "PYTHONPATH": str(ROOT)}
    return {**kept, **ports, **fixed, "HOMING_DATA": str(folder), **more}


@pytest.fixture
def homing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Homing:
    """Run a command on the data folder `tmp_path/data`."""
    from homing.cli import app

    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith(("HOMING_", "SMTP_", "IMAP_")):
            monkeypatch.delenv(name)
    for name, value in environment(tmp_path / "data").items():
        monkeypatch.setenv(name, value)

    init = PasswordSettings.__init__
    monkeypatch.setattr(init, "__defaults__", init.__defaults__)  # to be put back
    hash_cheaply()

    def run(*arguments: str, stdin: str = "", status: int | None = 0) -> Result:
        result = CliRunner().invoke(app, list(arguments), input=stdin)
        if status is not None:
            assert result.exit_code == status, (result.output, result.exception)
        return result

    return run


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """Start `homing up` and wait for `ready`; what is still running is ended after the test."""
    running: list[Up] = []

    def go(**more: str) -> Up:
        folder = tmp_path / "data"
        with (tmp_path / "log").open("a") as log:
            process = forking.Popen(
                (*forking.HOMING, "up"),
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(folder, **more),
                cwd=tmp_path,
            )
        up = Up(process, folder)
        running.append(up)
        assert process.stdout is not None
        for line in process.stdout:
            if line == "ready\n":
                return up
            up.printed.append(line.rstrip())
        raise AssertionError(f"it ended with {process.wait()}: {up.printed} {(tmp_path / 'log').read_text()}")

    yield go
    for up in running:
        up.process.kill()
        up.process.wait()
        assert up.process.stdout is not None
        up.process.stdout.close()
