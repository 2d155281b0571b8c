"""getmail and fetchmail: programs that fetch what has come, and leave or remove it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.interop.trusted import Trusted, maildir, ran
from tests.live import DOMAIN, PASSWORD, until

pytestmark = pytest.mark.interop

Find = Callable[[str], str]
USER = "nobody" if os.geteuid() == 0 else None
UNPRIVILEGED = (pwd.getpwnam("nobody").pw_uid, pwd.getpwnam("nobody").pw_gid)
# as a mail program makes them, in eight bits, empty, and with what a Unix mailbox or SMTP would have to quote
MAILS = [
    b"From: x@elsewhere.example\r\nTo: alice@test.example\r\nSubject: one\r\n\r\nFrom here\r\n.\r\n..dots\r\n",
    b"From: x@elsewhere.example\r\nSubject: two\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n",
    b"From: x@elsewhere.example\r\nSubject: three\r\n\r\n",
]
UNIX = [mail.replace(b"\r\n", b"\n") for mail in MAILS]


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder of somebody who is not root: as root getmail does not deliver, and fetchmail warns."""
    with tempfile.TemporaryDirectory(prefix="homing-interop-") as folder:
        if os.geteuid() == 0:
            os.chown(folder, *UNPRIVILEGED)
        yield Path(folder)


def owned(path: Path, mode: int = 0o600) -> Path:
    """The file or folder, given to whom the programs run as."""
    path.chmod(mode)
    if os.geteuid() == 0:
        os.chown(path, *UNPRIVILEGED)
    return path


def copied(server: Trusted, home: Path) -> Path:
    """The authority's file, where the programs can read it."""
    return owned(Path(shutil.copy(server.authority, home)))


def text(path: Path) -> bytes:
    """A message without the fields that getmail adds."""
    lines = path.read_bytes().splitlines(keepends=True)
    return b"".join(line for line in lines if not line.startswith((b"Return-Path: ", b"X-getmail-")))


def put(server: Trusted, user: str, mailbox: str = "INBOX") -> None:
    with server.imap(user) as imap:
        for mail in MAILS:
            assert imap.append(mailbox, "", None, mail)[0] == "OK"


def test_getmail_to_a_maildir(program: Find, server: Trusted, home: Path) -> None:
    box = home / "mail"
    for part in (box, box / "cur", box / "new", box / "tmp"):
        part.mkdir()
        owned(part, 0o700)

    def run(**options: str) -> str:
        rc = home / "getmailrc"
        lines = "".join(f"{name} = {value}\n" for name, value in options.items())
        rc.write_text(f"""
[retriever]
type = SimpleIMAPSSLRetriever
server = {server.host}
port = {server.imaps}
username = alice@{DOMAIN}
password = {PASSWORD}
mailboxes = ("INBOX", "Archive")
ca_certs = {copied(server, home)}

[destination]
type = Maildir
path = {box}/

[options]
delivered_to = false
received = false
{lines}""")
        return ran([program("getmail"), "--getmaildir", home, "--rcfile", owned(rc)], home, user=USER)

    put(server, "alice")
    put(server, "alice", "Archive")
    run(read_all="false")
    assert sorted(text(path) for path in maildir(box)) == sorted([*UNIX, *UNIX])
    # It knows by their uids what it has had.
    with server.imap("alice") as imap:
        imap.append("INBOX", "", None, b"Subject: four\r\n\r\nx\r\n")
    said = run(read_all="false")
    assert len(maildir(box)) == 7
    assert "1 messages" in said
    assert len(server.stored("alice")) == 4
    said = run(read_all="false", delete="true")
    assert len(maildir(box)) == 7
    assert server.stored("alice") == server.stored("alice", "Archive") == {}


def fetchmailrc(server: Trusted, home: Path, user: str, options: str, into: str) -> Path:
    path = home / "fetchmailrc"
    path.write_text(f"""
set invisible
poll {server.host} protocol IMAP service {server.imaps} timeout 20
  user "{user}@{DOMAIN}" password "{PASSWORD}" is {user} here
  ssl sslcertck sslcertfile "{copied(server, home)}"
  {into}
  {options}
""")
    return owned(path)


def test_fetchmail_keeps_then_flushes(program: Find, server: Trusted, home: Path) -> None:
    """To a program, as the messages are; then over SMTP to another account of the same server."""
    into = f"no rewrite mda \"sh -c 'cat > {home}/$$.eml'\""

    def run(options: str, into: str = into, *, exits: tuple[int, ...] = (0,)) -> str:
        rc = fetchmailrc(server, home, "bob", options, into)
        return ran([program("fetchmail"), "-f", rc, "--nosyslog", "-v"], home, exits=exits, user=USER)

    put(server, "bob")
    run("keep")
    got = sorted(path.read_bytes() for path in home.glob("*.eml"))
    assert got == sorted(UNIX)
    assert server.stored("bob") == {mail: {b"\\Seen"} for mail in MAILS}
    # 1: no mail, for they are read
    run("keep", exits=(1,))
    assert len(list(home.glob("*.eml"))) == 3

    run("flush", exits=(1,))
    assert server.stored("bob") == {}

    put(server, "bob")
    smtp = f"smtphost {server.host}/{server.live.ports['SMTP']} smtpname dora@{DOMAIN}"
    run("fetchall", smtp)
    assert server.stored("bob") == {}
    until(lambda: len(server.stored("dora")) == 3, 60, "all have gone to the other account")
    for mail in server.stored("dora"):
        assert any(mail.endswith(one.partition(b"Subject: ")[2]) for one in MAILS), mail


def test_fetchmail_idles(program: Find, server: Trusted, home: Path) -> None:
    into = f"no rewrite mda \"sh -c 'cat > {home}/$$.tmp && mv {home}/$$.tmp {home}/$$.eml'\""
    rc = fetchmailrc(server, home, "carol", "idle", into)
    log = home / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [program("fetchmail"), "-f", str(rc), "--nosyslog", "--nodetach", "-v"],
            env={"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            user=USER,
        )
    try:
        for number in (1, 2):
            until(lambda n=number: _idling(log) >= n, 60, "it idles")
            server.deliver("carol", b"From: x@elsewhere.example\r\nSubject: pushed %d\r\n\r\ntext\r\n" % number)
            until(lambda n=number: len(list(home.glob("*.eml"))) == n, 60, "it was told, and fetched")
    finally:
        process.terminate()
        process.wait(20)
    subjects = {line for path in home.glob("*.eml") for line in path.read_bytes().splitlines() if b"pushed" in line}
    assert subjects == {b"Subject: pushed 1", b"Subject: pushed 2"}


def _idling(log: Path) -> int:
    return sum("IDLE" in line and "IMAP> " in line for line in log.read_text().splitlines())
