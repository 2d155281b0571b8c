"""The probe of test_open_relay through the other doors: LMTP, submission without sign-in, after STARTTLS, with BDAT,
and with the parameters of DSN."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import pytest

from tests.integration.test_open_relay import ELSEWHERE, RECIPIENTS, SENDERS, waiting
from tests.live import DOMAIN, Live, free_ports, running

REFUSED = ("550 5.1.1", "550 5.7.1", "501 5.1.3", "501 5.5.4", "555 5.5.4")
# Of a recipient that is ours, and of one that is not: written as nobody else would.
DOTTED = {f"alice@{DOMAIN}.": None, f"victim@{ELSEWHERE}.": None, f"victim.@{ELSEWHERE}": None, "alice@": None}


class Door:
    """One connection to a port, line by line."""

    def __init__(self, live: Live, port: int, hello: str = "EHLO") -> None:
        self.socket: socket.socket = socket.create_connection((live.host, port), timeout=60)
        self.file = self.socket.makefile("rb")
        self.hello = hello
        self.reply()
        assert self.ask(f"{hello} prober.example").startswith("250")

    def __enter__(self) -> Door:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()

    def reply(self) -> str:
        while (line := self.file.readline())[3:4] == b"-":
            pass
        return line.decode().rstrip("\r\n")

    def ask(self, command: str) -> str:
        self.socket.sendall(command.encode() + b"\r\n")
        return self.reply()

    def starttls(self) -> None:
        assert self.ask("STARTTLS").startswith("220")
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.file.close()
        self.socket = context.wrap_socket(self.socket)
        self.file = self.socket.makefile("rb")
        assert self.ask(f"{self.hello} prober.example").startswith("250")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    (port,) = free_ports(1)
    further = {"HOMING_SMTP_ERRORS_MAX": "1000", "HOMING_LMTP_PORT": str(port)}
    with running(tmp_path_factory.mktemp("doors") / "data", "alice", **further) as server:
        server.ports["LMTP"] = port
        yield server


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "starttls"])
def test_lmtp_never_relays(live: Live, tls: bool) -> None:
    with Door(live, live.ports["LMTP"], "LHLO") as door:
        if tls:
            door.starttls()
        for sender in SENDERS.values():
            assert door.ask(f"MAIL FROM:<{sender}> SMTPUTF8").startswith("250")
            for form, recipient in (RECIPIENTS | DOTTED).items():
                reply = door.ask(f"RCPT TO:<{recipient or form}>")
                assert reply.startswith(REFUSED), (form, reply)
            assert door.ask("DATA").startswith("503")
            assert door.ask("RSET").startswith("250")
    assert waiting(live) == 0


def test_after_starttls_with_dsn_and_by_chunks(live: Live) -> None:
    with Door(live, live.ports["SMTP"]) as door:
        door.starttls()
        assert door.ask(f"MAIL FROM:<spammer@{ELSEWHERE}> SMTPUTF8 RET=FULL REQUIRETLS").startswith("250")
        for form, recipient in (RECIPIENTS | DOTTED).items():
            asked = f"NOTIFY=SUCCESS ORCPT=rfc822;alice@{DOMAIN}"
            reply = door.ask(f"RCPT TO:<{recipient or form}> {asked}")
            assert reply.startswith(REFUSED), (form, reply)
        assert door.ask("BDAT 7 LAST\r\nhello").startswith("554")
        # One of ours gets it, and nobody is told of the others, whom ORCPT does not name either.
        assert door.ask(f"RCPT TO:<alice@{DOMAIN}> NOTIFY=FAILURE ORCPT=rfc822;victim@{ELSEWHERE}").startswith("250")
        assert door.ask("BDAT 7 LAST\r\nhello").startswith("250")
    assert waiting(live) == 0


@pytest.mark.parametrize("port", ["SUBMISSION", "SUBMISSIONS"])
def test_submission_takes_nothing_from_who_has_not_signed_in(live: Live, port: str) -> None:
    if port == "SUBMISSIONS":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        raw = context.wrap_socket(socket.create_connection((live.host, live.ports[port]), timeout=60))
        with raw, raw.makefile("rb") as file:
            file.readline()
            raw.sendall(f"EHLO x\r\nMAIL FROM:<alice@{DOMAIN}>\r\nRCPT TO:<victim@{ELSEWHERE}>\r\nQUIT\r\n".encode())
            lines = [line for line in file if not line.startswith(b"250-")]
        assert [line[:9] for line in lines[1:3]] == [b"530 5.7.0"] * 2
    else:
        with Door(live, live.ports[port]) as door:
            for sender in SENDERS.values():
                assert door.ask(f"MAIL FROM:<{sender}>").startswith("530 5.7.0")
                assert door.ask(f"RCPT TO:<victim@{ELSEWHERE}>").startswith("530 5.7.0")
                assert door.ask("BDAT 6 LAST\r\nQUIT").startswith("530 5.7.0")
    assert waiting(live) == 0
