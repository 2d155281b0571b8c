"""Strangers: addresses that are neither loopback nor trusted, in a network of their own (see `strangers.py`)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NETWORKS = ("203.0.113.0/24", "198.51.100.0/24")
APART = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c"]
ROUTES = " && ".join(["ip link set lo up", *(f"ip route add local {one} dev lo" for one in NETWORKS)])
SECONDS = 580


def apart() -> bool:
    """May this user have a network of his own here?"""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    return subprocess.run([*APART, ROUTES], capture_output=True, timeout=60).returncode == 0


@pytest.mark.slow
def test_strangers(tmp_path: Path) -> None:
    if not apart():
        pytest.skip("this user cannot make a network namespace (unshare, ip)")
    command = f'{ROUTES} && exec "$0" -m pytest -q -p no:cacheprovider --basetemp "$1" "$2"'
    done = subprocess.run(
        [*APART, command, sys.executable, str(tmp_path / "inner"), str(HERE / "strangers.py")],
        cwd=HERE.parents[1],
        text=True,
        capture_output=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
