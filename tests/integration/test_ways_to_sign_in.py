"""Tokens and SCRAM at both doors of a running server: what is offered where, who gets in, and who is put out."""

from __future__ import annotations

import base64
import json
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from tests.live import DOMAIN, PASSWORD, Live, running, until
from tests.scram import ScramClient

PLAIN = {"PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2"}
SCRAM = {"SCRAM-SHA-256"}
PLUS = {"SCRAM-SHA-256-PLUS"}
DOORS = ("smtp", "imap")
Versions = ssl.TLSVersion


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    data: Path = tmp_path_factory.mktemp("ways") / "data"
    with running(data, "alice", "bob", HOMING_SIGNIN_SCRAM="true", HOMING_SIGNIN_SCRAM_ITERATIONS="4096") as server:
        # The administrator's keys were made with the account, on the first run.
        yield server


def b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


class Door:
    """A connection to SMTP or IMAP; what differs between them in an exchange."""

    def __init__(self, live: Live, kind: str, version: Versions | None = Versions.TLSv1_3) -> None:
        self.kind = kind
        names = {"smtp": ("SMTP", "SUBMISSIONS"), "imap": ("IMAP", "IMAPS")}[kind]
        plain = socket.create_connection((live.host, live.ports[names[version is not None]]), 10)
        self.binding = b""
        if version is None:
            self.socket: socket.socket = plain
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.minimum_version = context.maximum_version = version
            tls = context.wrap_socket(plain)
            self.binding = tls.get_channel_binding("tls-unique") or b""
            self.socket = tls
        self.lines = self.socket.makefile("rb")
        self.line()

    def line(self) -> str:
        return self.lines.readline().decode().rstrip("\r\n")

    def say(self, text: str) -> str:
        """The last line of the answer."""
        self.socket.sendall(text.encode() + b"\r\n")
        while True:
            line = self.line()
            if not re.match(r"\d\d\d-|\* ", line):
                return line

    def offered(self) -> set[str]:
        self.socket.sendall(b"EHLO client.example\r\n" if self.kind == "smtp" else b"c CAPABILITY\r\n")
        found: set[str] = set()
        while True:
            line = self.line()
            found |= set(line[9:].split()) if line[4:8] == "AUTH" else set(re.findall(r"\bAUTH=(\S+)", line))
            if line.startswith(("250 ", "c OK")):
                return found

    def begin(self, mechanism: str, initial: bytes | None = None) -> str:
        """The server's answer to the command that begins an exchange."""
        if self.kind == "smtp":
            self.say("EHLO client.example")
        words = ("AUTH" if self.kind == "smtp" else "a AUTHENTICATE", mechanism)
        return self.say(" ".join((*words, *(() if initial is None else (b64(initial) or "=",)))))

    def challenge(self, line: str) -> bytes:
        prefix = "334 " if self.kind == "smtp" else "+ "
        assert line.startswith(prefix), line
        return base64.b64decode(line.removeprefix(prefix))

    def answer(self, octets: bytes) -> str:
        return self.say(b64(octets))

    def good(self, line: str) -> bool:
        return line.startswith(("235 2.7.0", "a OK"))

    def refused(self, line: str) -> bool:
        return line.startswith(("535 5.7.8", "a NO [AUTHENTICATIONFAILED]"))

    def wrong(self, line: str) -> bool:
        """An error of syntax."""
        return line.startswith(("501", "a BAD"))

    def scram(self, mechanism: str, client: ScramClient) -> str:
        """The whole exchange; the server's last line."""
        line = self.begin(mechanism, client.first())
        if line.startswith(("334", "+")):
            line = self.answer(client.final(self.challenge(line)))
        if line.startswith(("334", "+")):
            assert client.is_server(self.challenge(line))
            line = self.answer(b"")
        return line

    def close(self) -> None:
        self.lines.close()
        self.socket.close()


@pytest.mark.parametrize("kind", DOORS)
@pytest.mark.parametrize(
    ("version", "offer"),
    [(None, PLAIN | SCRAM), (Versions.TLSv1_3, PLAIN | SCRAM), (Versions.TLSv1_2, PLAIN | SCRAM | PLUS)],
)
def test_offer(live: Live, kind: str, version: Versions | None, offer: set[str]) -> None:
    door = Door(live, kind, version)
    assert door.offered() == offer
    door.close()


@pytest.mark.parametrize("kind", DOORS)
@pytest.mark.parametrize(
    ("version", "mechanism", "header", "good"),
    [
        (Versions.TLSv1_3, "SCRAM-SHA-256", "n,,", True),
        (Versions.TLSv1_3, "scram-sha-256", "y,,", True),
        (Versions.TLSv1_2, "SCRAM-SHA-256", "n,,", True),
        (Versions.TLSv1_2, "SCRAM-SHA-256-PLUS", "p=tls-unique,,", True),
        # Who believes that there is no -PLUS, where it is offered, has been told so by somebody else.
        (Versions.TLSv1_2, "SCRAM-SHA-256", "y,,", False),
    ],
)
def test_scram(live: Live, kind: str, version: Versions, mechanism: str, header: str, good: bool) -> None:
    door = Door(live, kind, version)
    door.offered()
    binding = door.binding if header.startswith("p=") else b""
    line = door.scram(mechanism, ScramClient(f"alice@{DOMAIN}", PASSWORD, header, binding))
    assert door.good(line) if good else door.refused(line), line
    door.close()


@pytest.mark.parametrize("kind", DOORS)
def test_scram_refused(live: Live, kind: str) -> None:
    door = Door(live, kind, Versions.TLSv1_2)
    for client, mechanism in (
        (ScramClient("alice", "wrong"), "SCRAM-SHA-256"),
        (ScramClient("nobody", PASSWORD), "SCRAM-SHA-256"),
        (ScramClient("alice", PASSWORD, "p=tls-unique,,", b"another channel"), "SCRAM-SHA-256-PLUS"),
    ):
        line = door.scram(mechanism, client)
        assert door.refused(line), line
    assert door.good(door.scram("SCRAM-SHA-256", ScramClient("alice", PASSWORD)))
    door.close()


@pytest.mark.parametrize("kind", DOORS)
def test_scram_cancelled_and_malformed(live: Live, kind: str) -> None:
    door = Door(live, kind)
    assert door.challenge(door.begin("SCRAM-SHA-256")) == b""
    assert door.wrong(door.say("*"))
    assert door.wrong(door.begin("SCRAM-SHA-256", b"n,,nonsense"))
    client = ScramClient("alice", PASSWORD)
    told = door.challenge(door.begin("SCRAM-SHA-256", client.first()))
    signed = door.challenge(door.answer(client.final(told)))
    assert client.is_server(signed)
    # The client does not take the server for the right one.
    assert door.wrong(door.say("*"))
    assert door.good(door.scram("SCRAM-SHA-256", client))
    door.close()


def bearer(mechanism: str, name: str, token: str) -> bytes:
    header = f"n,a={name}," if mechanism == "OAUTHBEARER" else f"user={name}"
    return f"{header}\x01auth=Bearer {token}\x01\x01".encode()


@pytest.mark.parametrize("kind", DOORS)
@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "XOAUTH2"])
def test_a_token(live: Live, kind: str, mechanism: str) -> None:
    token = live.token("alice", PASSWORD)
    dummy = b"\x01" if mechanism == "OAUTHBEARER" else b""
    door = Door(live, kind)
    for name, access in ((f"alice@{DOMAIN}", "homing_at_bad"), ("bob", token)):
        told = json.loads(door.challenge(door.begin(mechanism, bearer(mechanism, name, access))))
        assert told["status"] in ("invalid_token", "401")
        assert door.refused(line := door.answer(dummy)), line
    assert door.good(door.begin(mechanism, bearer(mechanism, f"alice@{DOMAIN}", token)))
    door.close()
    again = Door(live, kind)
    assert again.challenge(again.begin(mechanism)) == b""
    assert again.good(again.answer(bearer(mechanism, "alice", token)))
    again.close()


@pytest.mark.parametrize("kind", DOORS)
def test_a_connection_ends_with_its_token(live: Live, kind: str) -> None:
    token, other = live.token("bob", PASSWORD), live.token("bob", PASSWORD)
    ended, stays = Door(live, kind), Door(live, kind)
    assert ended.good(ended.begin("OAUTHBEARER", bearer("OAUTHBEARER", "", token).replace(b"a=,", b",")))
    assert stays.good(stays.begin("XOAUTH2", bearer("XOAUTH2", "bob", other)))
    assert live.rest("POST", "/api/logout", token=token)[0] == 200
    ended.socket.settimeout(20)
    farewell = ended.line()
    assert farewell.startswith(("421 4.7.0", "* BYE")), farewell
    assert ended.line() == ""
    assert stays.say("NOOP" if kind == "smtp" else "b NOOP").startswith(("250", "b OK"))
    ended.close()
    stays.close()


def test_offered_while_no_account_lacks_keys(live: Live) -> None:
    """Last in this module: an account that was moved here with its hash."""
    hash = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    path = live.data.parent / "moved.csv"
    path.write_text(f"moved@{DOMAIN},{hash}\n")
    live.cli("user", "import", str(path))

    def offer(kind: str) -> set[str]:
        door = Door(live, kind)
        try:
            return door.offered()
        finally:
            door.close()

    for kind in DOORS:
        until(lambda kind=kind: offer(kind) == PLAIN, 60.0, "SCRAM is offered no more")
    live.token("moved", PASSWORD)
    for kind in DOORS:
        until(lambda kind=kind: offer(kind) == PLAIN | SCRAM, 60.0, "SCRAM is offered again")
    door = Door(live, "imap")
    assert door.good(door.scram("SCRAM-SHA-256", ScramClient("moved", PASSWORD)))
    door.close()


def test_a_mask_has_names_that_mask_something(live: Live) -> None:
    admin = live.admin_token()
    status, told = live.rest("PUT", f"/api/users/bob@{DOMAIN}", {"mask": ["UIDONLI"]}, admin)
    assert (status, told["detail"][:38]) == (422, "'UIDONLI' is no capability that can be"), told
    assert " UIDONLY " in told["detail"]
