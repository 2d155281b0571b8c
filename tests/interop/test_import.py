"""`homing import` from a Dovecot, killed on the way; `homing export`, and its import: all is equal to the source."""

from __future__ import annotations

import contextlib
import hashlib
import imaplib
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.interop.dovecot import dovecot
from tests.live import DOMAIN, PASSWORD, Live, embedded_only, running, until

pytestmark = [
    pytest.mark.interop,
    embedded_only("the ledger of an import is read from its data folder"),
]

FOLDERS = ("INBOX", "Work", "Work/Sub", "Sent", '"Br&APw-cke a b"', "Trash")
FLAGS = ("", "(\\Seen)", "(\\Flagged $Forwarded)", "(\\Answered \\Draft work)", "(\\Deleted \\Seen)")
SECRET = PASSWORD.replace(" ", "_")
KILLS = 5
NOTED = (
    ("Work", "/shared/comment", "theirs"),
    ("Work", "/private/vendor/x/colour", "green"),
    ('"Br&APw-cke a b"', "/shared/vendor/kolab/folder-type", "mail"),
)
"""Annotations: mailbox, entry, value."""

Message = tuple[str, frozenset[str], int, str]
"""Folder, flags and keywords, INTERNALDATE, digest of the octets."""


@pytest.fixture
def theirs(program: Callable[[str], str]) -> Iterator[int]:
    with (
        TemporaryDirectory(dir="/tmp", prefix="homing-dovecot-") as folder,
        dovecot(program("dovecot"), program("doveadm"), Path(folder)) as port,
    ):
        yield port


def signed_in(port: int, user: str, password: str) -> imaplib.IMAP4:
    client = imaplib.IMAP4("127.0.0.1", port)
    client.login(user, password)
    return client


def fill(port: int, count: int) -> None:
    chosen = random.Random(count)
    client = signed_in(port, "ann", SECRET)
    for name in FOLDERS[1:]:
        client.create(name)
    client.subscribe("Work")
    for name, entry, value in NOTED:
        assert client.xatom("SETMETADATA", name, f'({entry} "{value}")')[0] == "OK"
    for number in range(count):
        head = f"Message-ID: <{number}@x.example>\r\nFrom: eve@x.example\r\nSubject: number {number}\r\n\r\n"
        body = "From the text\r\n.\r\n>From it\r\n" + "text\r\n" * chosen.randrange(400)
        if number % 1000 == 500:
            body += ("x" * 70 + "\r\n") * 20_000
        octets = (head + body).encode()
        if number % 97 == 0:
            octets = octets.removesuffix(b"\r\n")
        date = imaplib.Time2Internaldate(1_500_000_000 + number * 977)
        done, told = client.append(FOLDERS[number % len(FOLDERS)], FLAGS[number % len(FLAGS)], date, octets)
        assert done == "OK", told
    client.logout()


def everything(client: imaplib.IMAP4) -> list[Message]:
    """All that an IMAP client sees, in order."""
    found: list[Message] = []
    names = [match[1] for row in client.list()[1] for match in [re.search(r' "/" (.*)$', row.decode())] if match]
    for name in names:
        client.select(name, readonly=True)
        numbers = client.search(None, "ALL")[1][0].split()
        for at in range(0, len(numbers), 200):
            wanted = f"{int(numbers[at])}:{int(numbers[min(at + 199, len(numbers) - 1)])}"
            rows = client.fetch(wanted, "(FLAGS INTERNALDATE BODY.PEEK[])")[1]
            for row in rows:
                if isinstance(row, tuple):
                    words = imaplib.ParseFlags(row[0])
                    date = imaplib.Internaldate2tuple(row[0])
                    assert date is not None
                    kept = frozenset(one.decode() for one in words) - {"\\Recent"}
                    found.append((name.strip('"'), kept, int(time.mktime(date)), hashlib.sha256(row[1]).hexdigest()))
    client.logout()
    return sorted(found, key=lambda one: (one[0], one[2], one[3]))


def command(live: Live, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "homing", *words],
        env={**live.cli_env, "IMAP_PASSWORD": SECRET},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def ended(process: subprocess.Popen[str]) -> str:
    told, complained = process.communicate(timeout=900)
    assert process.returncode == 0, told + complained
    return told


def far(data: Path) -> int:
    """How many messages the ledgers know of."""
    known = 0
    for path in (data / "import").glob("*.db"):
        with contextlib.suppress(sqlite3.Error), sqlite3.connect(f"file:{path}?mode=ro", uri=True) as ledger:
            known += ledger.execute("SELECT count(*) FROM message").fetchone()[0]
        with contextlib.suppress(UnboundLocalError):
            ledger.close()
    return known


def brought(live: Live, port: int, count: int) -> None:
    """Import, killed five times on the way."""
    words = ("import", f"ann@{DOMAIN}", "--from", f"imap://ann@127.0.0.1:{port}")
    for kill in range(1, KILLS + 1):
        process = command(live, *words)
        wanted = count * kill // (KILLS + 2)
        until(
            lambda process=process, wanted=wanted: process.poll() is not None or far(live.data) >= wanted,
            300,
            pause=0.003,
        )
        assert process.poll() is None, process.communicate()
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    told = ended(command(live, *words))
    assert "All is the same" in told
    assert f"Brought {count:,} messages" not in told


def noted(live: Live, name: str) -> None:
    """The annotations have come along."""
    with signed_in(live.ports["IMAP"], f"{name}@{DOMAIN}", PASSWORD) as client:
        for mailbox, entry, value in NOTED:
            assert client.xatom("GETMETADATA", mailbox, f"({entry})")[0] == "OK"
            assert f'({entry} "{value}")'.encode() in client.response("METADATA")[1][0]


def there_and_back(live: Live, port: int, count: int, folder: Path) -> None:
    fill(port, count)
    source = everything(signed_in(port, "ann", SECRET))
    assert len(source) == count
    brought(live, port, count)
    ours = everything(signed_in(live.ports["IMAP"], f"ann@{DOMAIN}", PASSWORD))
    assert ours == source
    noted(live, "ann")
    assert "Brought 0 messages" in ended(
        command(live, "import", f"ann@{DOMAIN}", "--from", f"imap://ann@127.0.0.1:{port}")
    )
    for form, name in (("maildir", "bob"), ("mbox", "eve")):
        ended(command(live, "export", f"ann@{DOMAIN}", "--to", f"{form}:{folder}/{form}"))
        ended(command(live, "import", f"{name}@{DOMAIN}", "--from", f"{form}:{folder}/{form}"))
        assert everything(signed_in(live.ports["IMAP"], f"{name}@{DOMAIN}", PASSWORD)) == source
        noted(live, name)


@pytest.fixture
def own() -> Iterator[Live]:
    with (
        TemporaryDirectory(dir="/tmp", prefix="homing-import-") as folder,
        running(Path(folder) / "data", "ann", "bob", "eve") as live,
    ):
        yield live


def test_killed_five_times_and_back(theirs: int, own: Live, tmp_path: Path) -> None:
    there_and_back(own, theirs, 600, tmp_path)


@pytest.mark.slow
def test_ten_thousand_killed_five_times_and_back(theirs: int, own: Live, tmp_path: Path) -> None:
    there_and_back(own, theirs, 10_000, tmp_path)
