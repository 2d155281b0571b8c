"""curl's smtp:// and imap:// against the running server."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from tests.live import DOMAIN, PASSWORD, Live

pytestmark = pytest.mark.interop

Find = Callable[[str], str]


def curl(find: Find, *args: str) -> str:
    done = subprocess.run([find("curl"), "-sS", "-k", *args], capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode("utf-8", "replace")


@pytest.mark.parametrize(("scheme", "port"), [("smtp", "SUBMISSION"), ("smtps", "SUBMISSIONS")])
def test_send_and_read(program: Find, live: Live, tmp_path: Path, scheme: str, port: str) -> None:
    word = uuid4().hex
    mail = tmp_path / "mail"
    mail.write_bytes(b"From: alice@test.example\r\nSubject: curl %s\r\n\r\n.dot\r\n..two\r\n" % word.encode())
    curl(
        program,
        f"{scheme}://{live.host}:{live.ports[port]}",
        "--ssl-reqd",
        "--user",
        f"alice:{PASSWORD}",
        "--mail-from",
        f"alice@{DOMAIN}",
        "--mail-rcpt",
        f"bob@{DOMAIN}",
        "-T",
        str(mail),
    )
    box = f"imaps://{live.host}:{live.ports['IMAPS']}/INBOX"
    user = ("--user", f"bob:{PASSWORD}")
    answer = curl(program, box, *user, "-X", f"UID SEARCH SUBJECT {word}")
    uid = answer.replace("* SEARCH", "").split()[0]
    text = curl(program, f"{box};UID={uid}", *user)
    assert text.endswith(f"Subject: curl {word}\r\n\r\n.dot\r\n..two\r\n")
    plain = curl(program, f"imap://{live.host}:{live.ports['IMAP']}/INBOX;UID={uid};SECTION=TEXT", *user, "--ssl-reqd")
    assert plain == ".dot\r\n..two\r\n"


def test_list_append_and_flags(program: Find, live: Live, tmp_path: Path) -> None:
    user = ("--user", f"carol:{PASSWORD}")
    root = f"imaps://{live.host}:{live.ports['IMAPS']}"
    for name in ("INBOX", "Drafts", "Sent", "Trash", "Junk", "Archive"):
        assert name in curl(program, root, *user)
    mail = tmp_path / "mail"
    mail.write_bytes(b"Subject: kept\r\n\r\ntext\r\n")
    curl(program, f"{root}/Drafts", *user, "-T", str(mail))
    assert "Subject: kept" in curl(program, f"{root}/Drafts;MAILINDEX=1", *user)
    assert "\\Flagged" in curl(program, f"{root}/Drafts", *user, "-X", "STORE 1 +FLAGS (\\Flagged)")
