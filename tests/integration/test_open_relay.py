"""Nobody relays mail through the server: what open-relay testers and spammers try, and what they may think of next."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import DOMAIN, Live, running, until

ELSEWHERE = "elsewhere.example"
CYRILLIC = DOMAIN.replace("e", "\N{CYRILLIC SMALL LETTER IE}", 1)
WIDE = DOMAIN.replace("t", "\N{FULLWIDTH LATIN SMALL LETTER T}", 1)
# Each is a recipient, as it stands between the angle brackets.
RECIPIENTS = {
    "plain": f"victim@{ELSEWHERE}",
    "capitals": f"Victim@{ELSEWHERE.upper()}",
    "postmaster of another domain": f"postmaster@{ELSEWHERE}",
    "percent hack": f"victim%{ELSEWHERE}@{DOMAIN}",
    "percent hack without a domain": f"victim%{ELSEWHERE}",
    "percent hack twice": f"victim%{ELSEWHERE}%{DOMAIN}@{DOMAIN}",
    "percent hack at a literal": f"victim%{ELSEWHERE}@[127.0.0.1]",
    "bang path": f"{ELSEWHERE}!victim",
    "bang path at our domain": f"{ELSEWHERE}!victim@{DOMAIN}",
    "bang and percent": f"{DOMAIN}!victim%{ELSEWHERE}",
    "source route": f"@{DOMAIN}:victim@{ELSEWHERE}",
    "source route over two": f"@{DOMAIN},@{ELSEWHERE}:victim@{ELSEWHERE}",
    "source route to the percent hack": f"@{DOMAIN}:victim%{ELSEWHERE}@{DOMAIN}",
    "source route to a literal": f"@[127.0.0.1]:victim@{ELSEWHERE}",
    "quoted address at our domain": f'"victim@{ELSEWHERE}"@{DOMAIN}',
    "quoted address alone": f'"victim@{ELSEWHERE}"',
    "quoted percent hack": f'"victim%{ELSEWHERE}"@{DOMAIN}',
    "quoted local part": f'"victim"@{ELSEWHERE}',
    "quoted with an escaped quote": f'"victim\\"@{DOMAIN}"@{ELSEWHERE}',
    "two at signs, ours last": f"victim@{ELSEWHERE}@{DOMAIN}",
    "two at signs, ours first": f"alice@{DOMAIN}@{ELSEWHERE}",
    "brackets inside": f"<victim@{ELSEWHERE}>@{DOMAIN}",
    "a second address behind a blank": f"victim@{ELSEWHERE} alice@{DOMAIN}",
    "a second address behind a comma": f"alice@{DOMAIN},victim@{ELSEWHERE}",
    "a colon list": f"victim@{ELSEWHERE}:{DOMAIN}",
    "a semicolon": f"victim@{ELSEWHERE};@{DOMAIN}",
    "our domain as a label": f"victim@{DOMAIN}.{ELSEWHERE}",
    "our domain as a local part": f"{DOMAIN}@{ELSEWHERE}",
    "our domain as a detail": f"victim+{DOMAIN}@{ELSEWHERE}",
    "a domain that ends like ours": f"victim@not{DOMAIN}",
    "a subdomain of ours": f"victim@sub.{DOMAIN}",
    "a literal": "victim@[192.0.2.1]",
    "the loopback literal": "victim@[127.0.0.1]",
    "an IPv6 literal": "victim@[IPv6:2001:db8::1]",
    "an address without a bracket": "victim@192.0.2.1",
    "a look-alike of our domain": f"victim@{CYRILLIC}",
    "a full width letter in our domain": f"victim@{WIDE}",
    "an ideographic full stop": f"victim@{ELSEWHERE.replace('.', chr(0x3002))}",
    "a zero width joiner": f"victim@{ELSEWHERE}\N{ZERO WIDTH SPACE}.{DOMAIN}",
    "a full width at sign": f"victim\N{FULLWIDTH COMMERCIAL AT}{ELSEWHERE}",
    "an alias of ours by percent": f"alice%{DOMAIN}@{ELSEWHERE}",
}
SENDERS = {
    "a stranger": f"spammer@{ELSEWHERE}",
    "the null sender": "",
    "an account of ours": f"alice@{DOMAIN}",
    "our postmaster": f"postmaster@{DOMAIN}",
    "nobody of ours": f"nobody@{DOMAIN}",
    "the literal of this machine": "alice@[127.0.0.1]",
    "the victim": f"victim@{ELSEWHERE}",
}


class Wire:
    """One connection, line by line."""

    def __init__(self, live: Live, name: str = "prober.example") -> None:
        self.socket = socket.create_connection((live.host, live.ports["SMTP"]), timeout=60)
        self.file = self.socket.makefile("rb")
        self.reply()
        assert self.ask(f"EHLO {name}").startswith("250")

    def __enter__(self) -> Wire:
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

    def mail(self, sender: str) -> None:
        assert self.ask(f"MAIL FROM:<{sender}> SMTPUTF8").startswith("250"), sender


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    # A probe is what a ban is for: here all of it has to be answered.
    with running(tmp_path_factory.mktemp("relay") / "data", "alice", HOMING_SMTP_ERRORS_MAX="1000") as server:
        yield server


def waiting(live: Live) -> int:
    """Messages for other servers."""
    status, stats = live.rest("GET", "/api/stats", token=live.admin_token())
    assert status == 200
    return int(stats["spool"])


def test_every_form_is_refused_from_every_sender(live: Live) -> None:
    for sender in SENDERS.values():
        with Wire(live) as wire:
            for form, recipient in RECIPIENTS.items():
                wire.mail(sender)
                reply = wire.ask(f"RCPT TO:<{recipient}>")
                assert reply.startswith(("550 5.1.1", "550 5.7.1", "501 5.1.3", "501 5.5.4", "555 5.5.4")), (
                    form,
                    reply,
                )
                assert wire.ask("DATA").startswith("554"), form
                assert wire.ask("RSET").startswith("250")
    assert waiting(live) == 0


@pytest.mark.parametrize("name", ["localhost", DOMAIN, "[127.0.0.1]", f"mail.{DOMAIN}"])
def test_who_calls_himself_like_us_relays_nothing(live: Live, name: str) -> None:
    with Wire(live, name) as wire:
        wire.mail(f"alice@{DOMAIN}")
        assert wire.ask(f"RCPT TO:<victim@{ELSEWHERE}>").startswith("550 5.7.1")


def test_neither_an_auth_parameter_nor_a_failed_sign_in_opens_the_way(live: Live) -> None:
    with Wire(live) as wire:
        assert wire.ask(f"MAIL FROM:<alice@{DOMAIN}> AUTH=alice@{DOMAIN}").startswith("250")
        assert wire.ask(f"RCPT TO:<victim@{ELSEWHERE}>").startswith("550 5.7.1")
        wire.ask("RSET")
        secret = base64.b64encode(b"\0alice\0wrong").decode()
        assert wire.ask(f"AUTH PLAIN {secret}").startswith("535")
        wire.mail(f"alice@{DOMAIN}")
        assert wire.ask(f"RCPT TO:<victim@{ELSEWHERE}>").startswith("550 5.7.1")


def test_a_recipient_of_ours_carries_no_other_along(live: Live) -> None:
    with Wire(live) as wire:
        wire.mail(f"spammer@{ELSEWHERE}")
        assert wire.ask(f"RCPT TO:<alice@{DOMAIN}>").startswith("250")
        for recipient in RECIPIENTS.values():
            assert wire.ask(f"RCPT TO:<{recipient}>").startswith("5")
        assert wire.ask("DATA").startswith("354")
        text = f"To: victim@{ELSEWHERE}\r\nCc: <victim@{ELSEWHERE}>\r\nBcc: victim@{ELSEWHERE}\r\n\r\nhello\r\n."
        assert wire.ask(text).startswith("250")
    assert waiting(live) == 0


def test_with_a_catch_all_such_names_are_its_own_and_go_nowhere_else(tmp_path: Path) -> None:
    with running(tmp_path / "data", "alice") as live:
        live.cli("domain", "add", "second.example", "--catch-all", f"alice@{DOMAIN}")
        with Wire(live) as wire:
            wire.mail(f"spammer@{ELSEWHERE}")
            for local in (f"victim%{ELSEWHERE}", f'"victim@{ELSEWHERE}"', f"{ELSEWHERE}!victim"):
                assert wire.ask(f"RCPT TO:<{local}@second.example>").startswith("250")
            assert wire.ask("DATA").startswith("354")
            assert wire.ask("hello\r\n.").startswith("250")
        token = live.admin_token()
        until(lambda: live.rest("GET", "/api/stats", token=token)[1]["total_emails"] == 1, what="it is stored once")
        assert waiting(live) == 0
