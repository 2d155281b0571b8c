"""A full disk: 452 and NO [UNAVAILABLE] while it lasts, and all is well again, without a restart, when it ends."""

from __future__ import annotations

import imaplib
import os
import smtplib
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.live import DOMAIN, PASSWORD, mode, running, until

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root"),
    pytest.mark.skipif(mode() == "mongo", reason="nothing is kept on the disk that is full, the data folder's"),
]

MAIL = b"Subject: fill\r\n\r\n" + b"x" * 70 + b"\r\n"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_full_disk_and_recovery(small_disk: Path) -> None:
    with running(small_disk / "data", "alice") as live:

        def deliver() -> tuple[int, bytes]:
            with smtplib.SMTP(live.host, live.ports["SMTP"], timeout=60) as smtp:
                smtp.ehlo()
                smtp.mail("x@elsewhere.example")
                smtp.rcpt(f"alice@{DOMAIN}")
                return smtp.data(MAIL)

        def append() -> tuple[str, bytes]:
            with imaplib.IMAP4(live.host, live.ports["IMAP"], timeout=60) as imap:
                imap.login("alice", PASSWORD)
                status, text = imap.append("INBOX", "", None, MAIL)
                return status, text[0]

        def count() -> int:
            with imaplib.IMAP4(live.host, live.ports["IMAP"], timeout=60) as imap:
                imap.login("alice", PASSWORD)
                return int(imap.select("INBOX", readonly=True)[1][0])

        assert deliver()[0] == 250
        filler = small_disk / "filler"
        descriptor = os.open(filler, os.O_CREAT | os.O_WRONLY)
        with suppress(OSError):
            while os.write(descriptor, b"\0" * 4096):
                continue
        os.close(descriptor)

        accepted = 1

        def refused() -> bool:
            nonlocal accepted
            code, text = deliver()
            accepted += code == 250
            return code == 452 and text.startswith(b"4.3.1")

        until(refused, 30, "452 4.3.1")
        status, text = append()
        assert (status, text.startswith(b"[UNAVAILABLE]")) == ("NO", True), text
        assert count() == accepted  # reading goes on
        filler.unlink()
        until(lambda: deliver()[0] == 250, 60, "250 again")
        assert append()[0] == "OK"
        assert count() == accepted + 2
