"""neomutt in a terminal of the test's: it reads, flags, saves, deletes and searches, with QRESYNC and its header
cache."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop.trusted import SECONDS, Trusted
from tests.live import DOMAIN, PASSWORD

pytestmark = pytest.mark.interop

MAILS = [
    b"From: x%d@elsewhere.example\r\nTo: alice@test.example\r\nDate: Wed, 1 May 2024 12:00:0%d +0000\r\n"
    b"Message-ID: <%d@elsewhere.example>\r\nSubject: number %d\r\n\r\ntext %d\r\n" % (i, i, i, i, i)
    for i in range(5)
]
HEADERS = re.compile(r"\* \d+ FETCH \(UID (\d+) .*BODY\[HEADER\.FIELDS ")
"""What the server says where a header is fetched."""


class Neomutt:
    """Runs of one neomutt, each on INBOX with keys that are pushed as if typed."""

    def __init__(self, program: str, server: Trusted, home: Path) -> None:
        self.program = program
        self.home = home
        self.runs = 0
        (home / "headers").mkdir()
        (home / "rc").write_text(f"""
set folder = "imaps://{server.host}:{server.imaps}/"
set spoolfile = "+INBOX"
set imap_user = "alice@{DOMAIN}"
set imap_pass = "{PASSWORD}"
set ssl_ca_certificates_file = "{server.authority}"
set imap_condstore = yes
set imap_qresync = yes
set header_cache = "{home}/headers"
set delete = yes
set quit = yes
set confirmappend = no
set confirmcreate = no
set wait_key = no
set pipe_decode = no
set pager_stop = yes
set sort = mailbox-order
set read_inc = 0
set mark_old = no
set sleep_time = 0
""")

    def run(self, keys: str, mailbox: str = "INBOX") -> str:
        """Type these and leave; what was said with the server, password and all."""
        self.runs += 1
        log = self.home / f"log{self.runs}"
        above, below = pty.openpty()
        command = [self.program, "-n", "-F", self.home / "rc", "-d", "5", "-l", log, "-f", f"+{mailbox}"]
        process = subprocess.Popen(
            [*command, "-e", f"push '{keys}<quit>'"],
            cwd=self.home,
            env={"HOME": str(self.home), "PATH": os.environ["PATH"], "TERM": "xterm", "LANG": "C.UTF-8"},
            stdin=below,
            stdout=below,
            stderr=below,
            start_new_session=True,
        )
        os.close(below)
        shown = b""
        deadline = time.monotonic() + SECONDS
        try:
            while time.monotonic() < deadline:
                if not select.select([above], [], [], 0.05)[0]:
                    continue
                try:
                    shown += os.read(above, 65536)
                except OSError:  # nobody holds the other end any more
                    break
            assert process.wait(max(0.0, deadline - time.monotonic())) == 0, shown.decode(errors="replace")
        finally:
            os.close(above)
            if process.poll() is None:
                process.kill()
                process.wait()
        return log.with_name(f"{log.name}0").read_text(errors="replace")


def test_read_flag_save_and_search(program: Callable[[str], str], server: Trusted, tmp_path: Path) -> None:
    with server.imap("alice") as imap:
        for mail in MAILS:
            imap.append("INBOX", "", None, mail)
    mutt = Neomutt(program("neomutt"), server, tmp_path)

    # one read, one flagged, one found by the server and saved elsewhere, one deleted
    said = mutt.run(
        "<first-entry><pipe-message>cat > piped<enter><display-message><exit>"
        "<next-entry><flag-message>"
        '<search>=b "text 2"<enter><save-message>=Archive<enter>'
        "<last-entry><delete-message><sync-mailbox>"
    )
    assert "* ENABLED QRESYNC" in said
    assert 'UID SEARCH BODY "text 2"' in said
    assert "* VANISHED 3,5" in said
    assert len(HEADERS.findall(said)) == 5
    assert (tmp_path / "piped").read_bytes() == MAILS[0].replace(b"\r\n", b"\n")
    assert server.stored("alice") == {
        MAILS[0]: {b"\\Seen"},
        MAILS[1]: {b"\\Flagged"},
        MAILS[3]: frozenset(),
    }
    assert server.stored("alice", "Archive") == {MAILS[2]: frozenset()}

    # What others do meanwhile it is told by QRESYNC. (Where messages have vanished before others that have changed, it
    # takes the numbers for the old ones, with any server, and then asks for uids and flags instead.)
    with server.imap("alice") as imap:
        imap.select("INBOX")
        imap.store("1", "+FLAGS", "(\\Deleted)")
        imap.expunge()
        imap.store("2", "+FLAGS", "(\\Answered)")
        imap.append("INBOX", "", None, MAILS[4])
    said = mutt.run("<limit>~Q<enter><flag-message><limit>~A<enter><last-entry><pipe-message>cat > piped<enter>")
    assert re.search(r"UID FETCH 1:5 \(FLAGS\) \(CHANGEDSINCE \d+ VANISHED\)", said)
    assert "* VANISHED (EARLIER) 1,3,5" in said
    assert {"6"} <= set(HEADERS.findall(said)) <= {"2", "6"}
    assert (tmp_path / "piped").read_bytes() == MAILS[4].replace(b"\r\n", b"\n")
    assert server.stored("alice") == {
        MAILS[1]: {b"\\Flagged"},
        MAILS[3]: {b"\\Answered", b"\\Flagged"},
        MAILS[4]: frozenset(),
    }

    # The header cache: where only flags have changed no header is fetched, and what is changed is known.
    with server.imap("alice") as imap:
        imap.select("INBOX")
        imap.store("1", "+FLAGS", "(\\Seen)")
    said = mutt.run("<limit>~R ~F<enter><clear-flag>!")
    assert re.search(r"UID FETCH 1:6 \(FLAGS\) \(CHANGEDSINCE \d+ VANISHED\)", said)
    assert "QRESYNC failed" not in said
    assert HEADERS.findall(said) == []
    assert server.stored("alice")[MAILS[1]] == {b"\\Seen"}
