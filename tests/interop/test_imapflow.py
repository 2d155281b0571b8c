"""imapflow, the IMAP library of Node: QRESYNC and CONDSTORE switched on, sets of uids, events while it idles."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.interop.trusted import SECONDS, Trusted
from tests.live import DOMAIN, PASSWORD

pytestmark = pytest.mark.interop

HERE = Path(__file__).with_name("imapflow")
INSTALL_SECONDS = 120.0
SUBJECT = "Grüße"


def mail(number: int) -> bytes:
    return (
        b"From: x@elsewhere.example\r\nTo: alice@test.example\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= %d\r\n"
        b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n'
        b"Content-Type: text/plain; charset=utf-8\r\n\r\ntext %d\r\n--b\r\n"
        b'Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename="a.bin"\r\n'
        b"Content-Transfer-Encoding: base64\r\n\r\nAAEC/w==\r\n--b--\r\n" % (number, number)
    )


@pytest.fixture(scope="module")
def modules() -> Path:
    """The folder with imapflow and what it needs, installed once for each lock file, as tests/servers are built."""
    for name in ("node", "npm"):
        if shutil.which(name) is None:
            reason = f"{name} is not on PATH"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
    named = os.environ.get("HOMING_TEST_SERVERS")
    cache = Path(named) if named else Path.home() / ".cache" / "homing-test-servers"
    cache.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()[:16]
    made = cache / f"imapflow-{digest}"
    with (cache / "imapflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            with tempfile.TemporaryDirectory(dir=cache, prefix=".imapflow-") as scratch:
                folder = Path(scratch) / "made"
                folder.mkdir()
                for name in ("package.json", "package-lock.json"):
                    shutil.copy(HERE / name, folder)
                command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS)
                assert done.returncode == 0, done.stdout + done.stderr
                os.replace(folder, made)
    return made / "node_modules"


class Told:
    """What the script tells, a step at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def __call__(self, step: str) -> Any:
        """The value of the next step, which must be this one."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"it ended before {step!r}: {self.process.communicate(timeout=SECONDS)[1]}"
        told = json.loads(line)
        assert told["step"] == step
        return told.get("value")


def test_imapflow(program: Callable[[str], str], modules: Path, server: Trusted, tmp_path: Path) -> None:
    with server.imap("alice") as imap:
        for number in (1, 2, 3):
            imap.append("INBOX", "", '"01-May-2024 12:30:15 +0200"', mail(number))
    given = {
        "host": server.host,
        "port": server.imaps,
        "user": f"alice@{DOMAIN}",
        "password": PASSWORD,
        "ca": str(server.authority),
        "subject": SUBJECT,
        "append": mail(4).decode(),
    }
    with subprocess.Popen(
        [program("node"), str(HERE / "client.cjs")],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "NODE_PATH": str(modules),
            "IMAPFLOW": json.dumps(given),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            dialogue(Told(process), server)
            assert process.wait(SECONDS) == 0
        finally:
            if process.poll() is None:
                process.kill()


def dialogue(told: Told, server: Trusted) -> None:
    """Each step of the script, and what it must have seen."""
    who = told("signed in")
    assert who["id"]["name"] == "Homing"
    assert {"CONDSTORE", "QRESYNC", "UTF8=ACCEPT", "IMAP4REV2"} <= set(who["enabled"])
    folders = {row["path"]: row.get("specialUse") for row in told("folders")}
    assert folders["INBOX"] == "\\Inbox"
    assert [folders[name] for name in ("Sent", "Drafts", "Junk", "Trash", "Archive")] == [
        "\\Sent", "\\Drafts", "\\Junk", "\\Trash", "\\Archive",
    ]  # fmt: skip
    created = told("created")
    assert created["created"] is True
    assert created["mailboxId"]

    opened = told("opened")
    assert (opened["exists"], opened["uidNext"]) == (3, 4)
    assert opened["mailboxId"]
    rows = told("fetched")
    assert [row["source"].encode("latin-1") for row in rows] == [mail(1), mail(2), mail(3)]
    for number, row in enumerate(rows, 1):
        assert (row["seq"], row["uid"], row["flags"], row["size"]) == (number, number, [], len(mail(number)))
        assert row["envelope"]["subject"] == f"{SUBJECT} {number}"
        assert row["envelope"]["from"] == [{"name": "", "address": "x@elsewhere.example"}]
        assert row["internalDate"] == "2024-05-01T10:30:15.000Z"
        assert [part["type"] for part in row["bodyStructure"]["childNodes"]] == [
            "text/plain",
            "application/octet-stream",
        ]
        assert 0 < row["modseq"] <= opened["highestModseq"]
    assert len({row["emailId"] for row in rows}) == 3
    assert told("found") == [1, 2, 3]
    assert told("text") == [2]
    part = told("part")
    assert part["content"] == "\x00\x01\x02\xff"
    assert part["meta"]["filename"] == "a.bin"

    assert told("flagged") is True
    assert told("unflagged") is True
    assert told("moved")["uidMap"] == {"2": 1}
    assert told("copied")["uidMap"] == {"1": 1}
    appended = told("appended")
    assert (appended["uid"], appended["uidValidity"]) == (4, opened["uidValidity"])
    status = told("status")
    assert (status["messages"], status["uidNext"], status["unseen"]) == (3, 5, 3)
    assert status["size"] == 3 * len(mail(1))
    assert status["highestModseq"] > opened["highestModseq"]
    assert told("quota")["path"] == "INBOX"

    told("idling")
    server.deliver("alice", mail(5))
    exists = told("exists")
    assert (exists["count"], exists["prevCount"]) == (4, 3)
    flags = told("flags")
    assert (flags["uid"], flags["flags"]) == (1, ["$Label1", "\\Answered", "\\Flagged"])
    expunge = told("expunge")
    assert (expunge["uid"], expunge["vanished"], expunge["earlier"]) == (1, True, False)
    assert told("changed") == [4, 5]
    vanished = told("vanished")
    assert (vanished["uid"], vanished["vanished"], vanished["earlier"]) == (1, True, True)
    assert {"Alt", "Projekte"} <= set(told("renamed"))
    told("done")

    stored = server.stored("alice")
    assert stored[mail(3)] == frozenset()
    assert stored[mail(4)] == {b"\\Draft"}
    assert len(stored) == 3
    assert server.stored("alice", "Alt") == {mail(2): {b"$Label1"}}
    assert server.stored("alice", "Archive") == {mail(1): {b"\\Flagged", b"$Label1"}}
