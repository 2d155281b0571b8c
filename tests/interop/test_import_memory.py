"""What an import keeps in memory does not grow with the mailbox: some octets a message, for the names of files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live import DOMAIN, Live, running

FEW, MANY = 2_000, 12_000
GROWTH_MAX = 2048
"""Octets of memory that a message more may take. Its file has twice as many."""

pytestmark = [pytest.mark.interop, pytest.mark.slow]


def maildir(folder: Path, count: int) -> Path:
    for part in ("cur", "new", "tmp"):
        (folder / part).mkdir(parents=True)
    for number in range(count):
        head = b"Message-ID: <%d@x.example>\r\nSubject: letter %d\r\n\r\n" % (number, number)
        (folder / "cur" / f"{1_700_000_000 + number}.M{number}.h:2,S").write_bytes(head + b"a line of text\r\n" * 256)
    return folder


def memory(live: Live, user: str, source: Path) -> int:
    """The most octets that the command had."""
    command = [sys.executable, "-m", "homing", "import", f"{user}@{DOMAIN}", "--from", f"maildir:{source}"]
    process = subprocess.Popen(command, env=live.cli_env, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return used.ru_maxrss * 1024


def test_it_is_bounded(tmp_path: Path) -> None:
    few, many = maildir(tmp_path / "few", FEW), maildir(tmp_path / "many", MANY)
    with running(tmp_path / "data", "ann", "bob") as live:
        before = memory(live, "ann", few)
        assert memory(live, "bob", many) - before < GROWTH_MAX * (MANY - FEW)
