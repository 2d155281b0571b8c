"""docs/import.md shows commands that work, and the table that they print."""

from __future__ import annotations

import os
import re
import shlex
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.connectors.certs import make
from tests.connectors.imapserver import ImapServer

from .conftest import ROOT, Homing

PAGE = (ROOT / "docs" / "import.md").read_text("utf-8")
COMMANDS = re.findall(r"^homing (\w+ ann@example.org .*)$", PAGE, re.M)
HOST = "mail.example.net"


def letter(number: int) -> bytes:
    return b"Message-ID: <%d@x.example>\r\nFrom: eve@x.example\r\nSubject: letter %d\r\n\r\ntext\r\n" % (number, number)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server behind the page's name, and the files that it names."""
    certs = make(tmp_path / "certs", [HOST])
    with ImapServer(certs.context()) as server:
        server.users = {"ann": "correct horse"}
        server.mailboxes = {"INBOX": [], "Sent Items": []}
        for number in range(3):
            server.add(letter(number), "\\Seen")
        server.add(letter(3), mailbox="Sent Items")
        connect = socket.create_connection

        def redirected(address: tuple[str, int], *args: Any, **more: Any) -> socket.socket:
            assert address == (HOST, 993)
            return connect(("127.0.0.1", server.port), *args, **more)

        monkeypatch.setattr(socket, "create_connection", redirected)
        monkeypatch.setenv("SSL_CERT_FILE", str(certs.ca))
        for part in ("cur", "new", "tmp"):
            os.makedirs(tmp_path / "old" / "Maildir" / part)
        (tmp_path / "old" / "Maildir" / "cur" / "1.x:2,S").write_bytes(letter(4))
        (tmp_path / "old" / "Mail").write_bytes(b"From eve Mon Jan  2 03:04:05 2023\n" + letter(5) + b"\n")
        yield server


def test_the_commands_work_in_their_order(homing: Homing, world: ImapServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAP_PASSWORD", "correct horse")
    homing("domain", "add", "example.org")
    homing("user", "add", "ann@example.org", "--generate")
    assert len(COMMANDS) == 7
    told = [homing(*shlex.split(words)).stdout for words in COMMANDS]
    assert "Nothing was done" in told[0]
    table = re.search(r"^ Folder.*?has it\.$", PAGE, re.M | re.S)
    assert table is not None
    assert [line.split() for line in told[1].splitlines()] == [line.split() for line in table[0].splitlines()]
    assert ["6 messages" in one for one in told[4:]] == [True] * 3


def test_variables_of_the_page_are_those_of_the_code() -> None:
    from connectors.config import from_env
    from connectors.pull.places import MICROSOFT_NAMES
    from homing.cli.importing import SECRET

    for name in (*MICROSOFT_NAMES, SECRET):
        assert f"`{name}`" in PAGE
    google = dict.fromkeys(re.findall(r"`(GOOGLE_\w+)`", PAGE), "x")
    assert from_env("gmail_imap", {"GMAIL_USERNAME": "a@b", **google})["use_oauth"] is True
