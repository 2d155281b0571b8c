"""scripts/python chooses the Python that a .venv is made with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def stand_in(path: Path, *, fit: bool) -> str:
    """A Python that says of itself whether it is fit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\nexit {int(not fit)}\n")
    path.chmod(0o755)
    return str(path)


def chosen(path: str, prefix: Path) -> str:
    env = {"PATH": path, "SYSTEM_PREFIX": str(prefix)}
    command = ["/bin/sh", str(ROOT / "scripts/python")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("system", [True, False])
def test_the_first_that_is_fit_is_taken(tmp_path: Path, first: bool, system: bool) -> None:
    python3 = stand_in(tmp_path / "bin" / "python3", fit=first)
    other = stand_in(tmp_path / "system" / "bin" / "python3", fit=system)
    wanted = python3 if first else other if system else "python3"
    assert chosen(str(tmp_path / "bin"), tmp_path / "system") == wanted


def test_a_python_is_judged_by_how_it_was_compiled(tmp_path: Path) -> None:
    """What this one says of itself, as the system's own and as one that is not."""
    (tmp_path / "python3").symlink_to(sys.executable)
    path = f"{tmp_path}:/usr/bin:/bin"
    assert chosen(path, Path(sys.base_prefix)) == str(tmp_path / "python3")
    optimized = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    assert (chosen(path, tmp_path / "none") == str(tmp_path / "python3")) is optimized


def test_what_is_chosen_runs() -> None:
    python = subprocess.run([ROOT / "scripts/python"], env=os.environ, capture_output=True, text=True, check=True)
    assert shutil.which(python.stdout.strip())
