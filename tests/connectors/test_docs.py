"""Every example of the documents is run, as it is written: the names of providers lead to servers of the test."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from homing.relays import make_relays
from homing.settings import load_settings
from smtp.outbound.transport import Status
from tests.connectors.certs import make
from tests.connectors.imapserver import ImapServer
from tests.connectors.servers import SmtpServer, TokenServer
from tests.connectors.test_messaging_imap import letter
from tests.smtp.outbound.letters import letter as mail
from tests.smtp.outbound.letters import only

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "docs" / "connectors.md", *sorted((ROOT / "docs" / "connectors").glob("*.md"))]
NAMES = [
    *("mail.example.org", "smtp.gmail.com", "imap.gmail.com", "smtp.office365.com", "outlook.office365.com"),
    *("smtp.sendgrid.net", "email-smtp.eu-west-1.amazonaws.com", "oauth2.googleapis.com", "login.microsoftonline.com"),
]
USERS = {
    "alice@example.org": "an app password",
    "alice@gmail.com": "an app password",
    "apikey": "SG.the-api-key",
    "AKIASMTPUSER": "the SMTP password",
}


class World:
    """The servers behind the names."""

    def __init__(self, smtp: SmtpServer, imap: ImapServer, tokens: TokenServer) -> None:
        self.smtp, self.imap, self.tokens = smtp, imap, tokens
        self.port = {587: smtp.port, 993: imap.port, 443: tokens.port}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    certs = make(tmp_path / "certs", NAMES)
    with (
        SmtpServer(certs.context()) as smtp,
        ImapServer(certs.context()) as imap,
        TokenServer(certs.context()) as tokens,
    ):
        made = World(smtp, imap, tokens)
        smtp.users = imap.users = USERS

        def good(token: str) -> None:
            smtp.tokens.add(token)
            imap.tokens.add(token)

        tokens.state.on_token = good
        imap.capabilities.append("X-GM-EXT-1")
        imap.mailboxes["[Gmail]/Trash"] = []
        imap.attributes["[Gmail]/Trash"] = "\\Trash"
        for n in range(3):
            imap.add(letter([(f"{n}.pdf", b"x")]))
        connect = socket.create_connection

        def redirected(address: tuple[str, int], *args: Any, **more: Any) -> socket.socket:
            host, port = address
            assert host in NAMES, f"an example connects to {host}"
            return connect(("127.0.0.1", made.port[port]), *args, **more)

        monkeypatch.setattr(socket, "create_connection", redirected)
        monkeypatch.setenv("SSL_CERT_FILE", str(certs.ca))
        for name in list(os.environ):
            if name.lower().endswith("_proxy") or name.startswith("HOMING_"):
                monkeypatch.delenv(name)
        monkeypatch.chdir(tmp_path)
        (tmp_path / "report.pdf").write_bytes(b"%PDF")
        yield made


def blocks(page: Path) -> list[tuple[str, str]]:
    found = re.findall(r"^```(\w+)\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
    assert found
    return found


def send_by_each(text: str) -> None:
    """A message through each of the connectors that these settings have."""
    Path("homing.toml").write_text(text)
    settings = load_settings({}).settings

    async def send() -> None:
        relays = make_relays(settings)
        for one in settings.connectors:
            relay = relays.get(one.name)
            assert relay is not None
            assert only(await relay.send(mail())).status is Status.SENT
        await relays.stop()

    asyncio.run(send())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_run(page: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {"__name__": "example"}
    ran = 0
    for language, text in blocks(page):
        if language == "sh":
            for words in re.findall(r"^export (.*(?:\n  .*)*)", text, re.M):
                for word in shlex.split(words):
                    monkeypatch.setenv(*word.split("=", 1))
            if "HOMING_CONNECTORS" in os.environ:
                found = load_settings().settings
                assert (found.connector_names, found.outbound.table) == ({"ses"}, {"*": "connector:ses"})
        elif language == "toml":
            send_by_each(text)
        else:
            assert language == "python"
            exec(compile(text, page.name, "exec"), names)
            ran += 1
    assert ran
    if page.stem == "relay":
        assert world.smtp.signed_in == ["alice@gmail.com", "alice@example.org", "apikey", "AKIASMTPUSER", "apikey"]
    if page.stem in ("basic", "gmail", "microsoft", "connectors", "relay"):
        assert world.smtp.mails
    if page.stem == "basic":
        assert set(world.smtp.signed_in) == {"alice@example.org", "apikey", "AKIASMTPUSER"}
    if page.stem == "connectors":
        assert len(world.imap.mailboxes["Archive"]) == 1
        assert world.smtp.mails[0].recipients == ["john@example.org", "carol@example.org"]


def test_every_page_is_linked() -> None:
    overview = PAGES[0].read_text("utf-8")
    for page in PAGES[1:]:
        assert f"(connectors/{page.name})" in overview


@pytest.fixture
def script(tmp_path: Path, certs: Any) -> Iterator[tuple[World, list[str], dict[str, str]]]:
    with (
        SmtpServer(certs.context()) as smtp,
        ImapServer(certs.context()) as imap,
        TokenServer(certs.context()) as tokens,
    ):

        def good(token: str) -> None:
            smtp.tokens.add(token)
            imap.tokens.add(token)

        tokens.state.on_token = good
        command = [sys.executable, str(ROOT / "scripts" / "example_oauth_gmail.py"), "--email", "alice@gmail.com"]
        command += ["--token-url", tokens.token_url, "--ca-file", str(certs.ca), "--to", "bob@test.example"]
        command += ["--smtp", f"127.0.0.1:{smtp.port}", "--imap", f"127.0.0.1:{imap.port}"]
        env = {"PYTHONPATH": str(ROOT), "PATH": "", "GOOGLE_CLIENT_ID": "client-1"}
        env["GOOGLE_CLIENT_SECRET"] = "client-secret-1"
        yield World(smtp, imap, tokens), command, env


def test_the_script(script: tuple[World, list[str], dict[str, str]], tmp_path: Path) -> None:
    world, command, env = script
    world.imap.add(letter())
    token = tmp_path / "refresh-token"

    def run(*more: str, stdin: str = "", **change: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *more], env=env | change, text=True, input=stdin, capture_output=True, timeout=60, cwd=tmp_path
        )

    done = run("--save", str(token), stdin="http://localhost/?state=x&code=code-1&scope=y\n")
    assert done.returncode == 0, done.stderr
    assert "https://accounts.google.com/o/oauth2/v2/auth?client_id=client-1" in done.stdout
    assert "to bob@test.example." in done.stdout
    assert "Labels: INBOX, Archive" in done.stdout
    assert "with files" in done.stdout
    assert token.read_text() == "refresh-1"
    assert token.stat().st_mode & 0o777 == 0o600
    assert world.smtp.mails[0].recipients == ["bob@test.example"]
    again = run("--token-file", str(token))
    assert again.returncode == 0, again.stderr
    assert "Open this address" not in again.stdout
    assert len(world.smtp.mails) == 2
    refused = run(stdin="code-2\n")
    assert refused.returncode == 1
    assert "make a new URL" in refused.stderr
    assert "GOOGLE_CLIENT_ID" in run(GOOGLE_CLIENT_ID="").stderr
    for output in (done, again, refused):
        assert "refresh-1" not in output.stdout + output.stderr
