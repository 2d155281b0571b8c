"""offlineimap: a two-way mirror like mbsync's, by other means: it asks for all uids and flags, and remembers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop.trusted import Trusted, letters, maildir, ran
from tests.live import DOMAIN, PASSWORD

pytestmark = pytest.mark.interop

MAILS = [b"From: x@elsewhere.example\r\nSubject: far %d\r\n\r\ntext %d\r\n" % (i, i) for i in range(4)]
NEAR = b"From: me@test.example\nSubject: near\n\nmade near\n"


def config(server: Trusted, home: Path) -> Path:
    path = home / "offlineimaprc"
    path.write_text(f"""
[general]
metadata = {home}/metadata
accounts = homing
ui = basic
socktimeout = 20

[Account homing]
localrepository = near
remoterepository = far
utf8foldernames = yes

[Repository near]
type = Maildir
localfolders = {home}/mail

[Repository far]
type = IMAP
remotehost = {server.host}
remoteport = {server.imaps}
remoteuser = alice@{DOMAIN}
remotepass = {PASSWORD}
ssl = yes
sslcacertfile = {server.authority}
""")
    return path


def text(path: Path) -> bytes:
    """A message of the Maildir without the field that offlineimap adds."""
    lines = path.read_bytes().splitlines(keepends=True)
    return b"".join(line for line in lines if not line.startswith(b"X-OfflineIMAP: "))


def test_two_way(program: Callable[[str], str], server: Trusted, tmp_path: Path) -> None:
    rc, mail = config(server, tmp_path), tmp_path / "mail"

    def sync() -> str:
        return ran([program("offlineimap"), "-c", rc, "-o"], tmp_path)

    with server.imap("alice") as imap:
        for message in MAILS:
            imap.append("INBOX", "", None, message)
        imap.create("Gr&APYA3w-e")
        imap.append("Gr&APYA3w-e", "(\\Flagged \\Seen)", None, MAILS[0])
    sync()
    inbox = mail / "INBOX"
    assert sorted(text(path) for path in maildir(inbox)) == [one.replace(b"\r\n", b"\n") for one in MAILS]
    (flagged,) = maildir(mail / "Größe")
    assert letters(flagged) == "FS"
    assert {"Sent", "Drafts", "Trash", "Junk", "Archive"} <= {path.name for path in mail.iterdir()}

    # near: one read and answered, one deleted, one new
    first, second, *_ = sorted(maildir(inbox), key=text)
    first.rename(inbox / "cur" / (first.name.partition(":2,")[0] + ":2,RS"))
    second.unlink()
    (inbox / "new" / "1.made.here").write_bytes(NEAR)
    sync()
    stored = server.stored("alice")
    assert stored[MAILS[0]] == {b"\\Seen", b"\\Answered"}
    assert MAILS[1] not in stored
    assert stored[MAILS[2]] == stored[MAILS[3]] == frozenset()
    (made,) = set(stored) - set(MAILS)
    assert made.endswith(NEAR.replace(b"\n", b"\r\n").partition(b"\r\n")[2])
    assert stored[made] == frozenset()

    # far: a flag taken and one set, one deleted, one new
    with server.imap("alice") as imap:
        imap.select("INBOX")
        imap.store("1", "-FLAGS", "(\\Answered)")
        imap.store("2", "+FLAGS", "(\\Deleted)")
        imap.expunge()
        imap.append("INBOX", "(\\Flagged)", None, MAILS[1])
    sync()
    kept = {text(path): letters(path) for path in maildir(inbox)}
    assert {one.partition(b"\n")[2]: flags for one, flags in kept.items()} == {
        b"Subject: far 0\n\ntext 0\n": "S",
        b"Subject: far 1\n\ntext 1\n": "F",
        b"Subject: far 3\n\ntext 3\n": "",
        NEAR.partition(b"\n")[2]: "",
    }

    # nothing to do: nothing is done on either side
    names = [path.name for path in maildir(inbox)]
    with server.imap("alice") as imap:
        before = imap.status("INBOX", "(MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ)")[1]
        said = sync()
        assert imap.status("INBOX", "(MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ)")[1] == before
    assert [path.name for path in maildir(inbox)] == names
    assert not [line for line in said.splitlines() if "Copy message" in line or "flag" in line or "Deleting" in line]
