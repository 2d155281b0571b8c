"""mbsync (isync): a two-way mirror of an account in a Maildir, the strictest everyday user of uids and flags."""

from __future__ import annotations

import imaplib
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live import DOMAIN, PASSWORD, Live, running

pytestmark = pytest.mark.interop


def config(live: Live, home: Path) -> Path:
    (home / "mail").mkdir(exist_ok=True)
    path = home / "mbsyncrc"
    path.write_text(f"""
IMAPAccount homing
Host {live.host}
Port {live.ports["IMAPS"]}
User dora@{DOMAIN}
Pass "{PASSWORD}"
SSLType IMAPS
CertificateFile {home}/cert.pem

IMAPStore far
Account homing

MaildirStore near
Path {home}/mail/
Inbox {home}/mail/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Remove Both
Expunge Both
SyncState *
""")
    return path


def messages(folder: Path) -> list[Path]:
    return sorted([*folder.joinpath("cur").iterdir(), *folder.joinpath("new").iterdir()])


def test_two_way(program: Callable[[str], str], tmp_path: Path) -> None:
    with running(tmp_path / "data", "dora") as live:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        (tmp_path / "cert.pem").write_text(ssl.get_server_certificate((live.host, live.ports["IMAPS"])))
        rc = config(live, tmp_path)

        def sync() -> None:
            done = subprocess.run(
                [program("mbsync"), "-c", str(rc), "-a"],
                text=True,
                capture_output=True,
                timeout=60,
                env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
            )
            assert done.returncode == 0, done.stdout + done.stderr

        with imaplib.IMAP4_SSL(live.host, live.ports["IMAPS"], ssl_context=context) as imap:
            imap.login("dora", PASSWORD)
            for i in range(12):
                imap.append("INBOX", "", None, b"Subject: %d\r\n\r\ntext %d\r\n" % (i, i))
            imap.create("Lists")
            imap.append("Lists", "(\\Flagged)", None, b"Subject: list\r\n\r\n1\r\n")
        sync()
        near = tmp_path / "mail"
        assert len(messages(near / "INBOX")) == 12
        assert [p.name.split(":2,")[1] for p in messages(near / "Lists")] == ["F"]

        # near: one read, one deleted, a new message, a new folder
        first, second, *_ = messages(near / "INBOX")
        texts = {p: p.read_bytes() for p in (first, second)}
        seen = near / "INBOX" / "cur" / (first.name.split(":2,")[0] + ":2,S")
        first.rename(seen)
        second.unlink()
        (near / "INBOX" / "new" / "1.made.here").write_bytes(b"Subject: near\n\nmade near\n")
        for sub in ("cur", "new", "tmp"):
            (near / "Made" / sub).mkdir(parents=True)
        (near / "Made" / "new" / "2.made.here").write_bytes(b"Subject: near folder\n\nx\n")
        sync()
        with imaplib.IMAP4_SSL(live.host, live.ports["IMAPS"], ssl_context=context) as imap:
            imap.login("dora", PASSWORD)
            assert imap.select("INBOX")[1] == [b"12"]
            subject = texts[first].split(b"\n", 1)[0].strip().removeprefix(b"Subject: ").decode()
            assert imap.search(None, "SEEN", "SUBJECT", f'"{subject}"')[1][0].split()
            gone = texts[second].split(b"\n", 1)[0].strip().removeprefix(b"Subject: ").decode()
            numbers = imap.search(None, "HEADER", "SUBJECT", f'"{gone}"')[1][0].split()
            bodies = [imap.fetch(n.decode(), "(BODY.PEEK[])")[1][0][1] for n in numbers]
            assert not [b for b in bodies if b.startswith(b"Subject: %s\r" % gone.encode())]
            assert imap.search(None, "SUBJECT", '"near"')[1][0].split()
            assert imap.select("Made")[1] == [b"1"]
            # far: delete and flag
            imap.select("INBOX")
            imap.store("1", "+FLAGS", "(\\Flagged)")
            imap.store("2", "+FLAGS", "(\\Deleted)")
            imap.expunge()
        sync()
        assert len(messages(near / "INBOX")) == 11
        assert len([p for p in messages(near / "INBOX") if "F" in p.name.split(":2,")[-1]]) == 1
        sync()
        assert len(messages(near / "INBOX")) == 11
