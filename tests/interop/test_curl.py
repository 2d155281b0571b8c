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
    done = subprocess.run([find("curl"), "-sS", "-k", *args], capture_output=True, timeout=60)
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


@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "XOAUTH2"])
def test_a_bearer_token_instead_of_a_password(program: Find, live: Live, tmp_path: Path, mechanism: str) -> None:
    word = uuid4().hex
    mail = tmp_path / "mail"
    mail.write_bytes(b"From: alice@test.example\r\nSubject: %s\r\n\r\nby token\r\n" % word.encode())
    token = ("--oauth2-bearer", live.token("alice", PASSWORD), "--login-options", f"AUTH={mechanism}")
    curl(
        program,
        f"smtps://{live.host}:{live.ports['SUBMISSIONS']}",
        *token,
        "--user",
        f"alice@{DOMAIN}:",
        "--mail-from",
        f"alice@{DOMAIN}",
        "--mail-rcpt",
        f"alice@{DOMAIN}",
        "-T",
        str(mail),
    )
    box = f"imaps://{live.host}:{live.ports['IMAPS']}/INBOX"
    answer = curl(program, box, *token, "--user", f"alice@{DOMAIN}:", "-X", f"UID SEARCH SUBJECT {word}")
    assert answer.startswith("* SEARCH ")
    bad = ("--oauth2-bearer", "homing_at_bad", "--login-options", f"AUTH={mechanism}")
    done = subprocess.run(
        [program("curl"), "-sS", "-k", box, *bad, "--user", f"alice@{DOMAIN}:"], capture_output=True, timeout=30
    )
    # "Login denied"
    assert done.returncode == 67, done.stderr
