"""Two Homing servers and a Postfix send each other mail by MX, each under its own TLS policy: opportunistic STARTTLS,
DANE, MTA-STS; and keep it where a policy is not met. swaks is the mail program.

Postfix knows DANE, and no MTA-STS (its `smtp_tls_policy_maps` want a foreign daemon for that).
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import dkim  # type: ignore[import-untyped]
import dns.message
import dns.query
import pytest

from tests.interop.postfix import Postfix, postfix, usable
from tests.live import PASSWORD, Live, until
from tests.smtp.outbound.pki import Made, authority, server
from tests.town import Desk, Notice, Town, arrived, letter, notice_of, ran, submit, told

pytestmark = pytest.mark.interop
Find = Callable[[str], str]

CA, OTHER_CA = authority(), authority("another")
A, B, C = "a.example", "b.example", "c.example"
ANN, BOB, CAT = f"ann@{A}", f"bob@{B}", f"cat@{C}"
AT_B = (
    "ee.example",
    "ta.example",
    "wrong.example",
    "unproved.example",
    "sts.example",
    "mismatch.example",
    "badcert.example",
    "mended.example",
)
"""Domains of B, each with a mail host of its own name and a policy of its own."""
AT_C = ("ee-c.example",)
MIDDLE_DOT = "Two · lines,\r\n.one with a dot,\r\n..two dots,\r\n\r\nFrom the end.\r\n"


@dataclass
class Exchange:
    town: Town
    a: Live
    b: Live
    c: Postfix
    desk: Desk
    desk_b: Desk
    of_b: Made

    def swaks(self, find: Find, sender: str, to: str, text: bytes) -> str:
        """Submit with swaks; what it showed."""
        at = {A: self.a, B: self.b}.get(sender.rpartition("@")[2])
        place = ["--server", self.c.address, "--port", str(self.c.port)]
        if at is not None:
            place = ["--server", at.host, "--port", str(at.ports["SUBMISSION"]), "--tls"]
            place += ["--auth", "PLAIN", "--auth-user", sender, "--auth-password", PASSWORD]
        path = self.c.folder / "letter"
        path.write_bytes(text.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        return ran(
            [
                *(find("swaks"), *place, "--helo", "client.example", "--from", sender, "--to", to),
                *("--no-data-fixup", "--data", f"@{path}"),
            ]
        )

    def sent(self, find: Find, to: str, subject: str) -> tuple[str, bytes]:
        """From Ann: the trace's id, and the text."""
        text = letter(ANN, to, subject, MIDDLE_DOT)
        shown = self.swaks(find, ANN, to, text)
        return stored_as(shown), text


def stored_as(shown: str) -> str:
    """The trace's id, in what swaks has shown."""
    (line,) = (line for line in shown.splitlines() if " 250 2.0.0 Ok: stored as " in line)
    return line.rpartition(" ")[2]


def tlsa(made: Made, usage: int) -> str:
    """The data of a record with the digest of its key. # RFC 6698 §2.1"""
    return f"{usage} 1 1 {hashlib.sha256(made.spki).hexdigest()}"


@contextmanager
def web(address: str, folder: Path, names: list[str], policies: dict[str, bytes], behind: str) -> Iterator[int]:
    """The HTTPS front of the town: policies of a host, or what the REST server behind it says to that host's name."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host = (self.headers["Host"] or "").partition(":")[0]
            status, body = 200, policies.get(host)
            if body is None:
                try:
                    with urlopen(Request(f"{behind}{self.path}", headers={"Host": host}), timeout=60) as answer:
                        body = answer.read()
                except HTTPError as error:
                    status, body = error.code, b""
            self.send_response(status)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    front = ThreadingHTTPServer((address, 0), Handler)
    front.socket = server(*names, by=CA).server(folder).wrap_socket(front.socket, server_side=True)
    threading.Thread(target=front.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield int(front.server_address[1])
    finally:
        front.shutdown()
        front.server_close()


@pytest.fixture(scope="module")
def exchange() -> Iterator[Exchange]:
    with ExitStack() as stack:
        # Postfix's own users have to come through to the folder: the next pytest that begins closes its own to them.
        folder = Path(stack.enter_context(TemporaryDirectory()))
        folder.chmod(0o755)
        roots = folder / "roots.pem"
        roots.write_bytes(CA.pem)
        town = stack.enter_context(Town(ad=True))
        if why := usable(town):
            (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
        hosts = [f"mx.{domain}" for domain in (B, *AT_B) if domain != "badcert.example"]
        of_a, of_b = server(f"mx.{A}", by=CA), server(*hosts, by=CA)
        policies: dict[str, bytes] = {}
        files = folder / "tls"
        files.mkdir()

        def tls(made: Made) -> dict[str, str]:
            chain, key = made.files(files)
            return {"HOMING_TLS_CERT": str(chain), "HOMING_TLS_KEY": str(key), "HOMING_OUTBOUND_ROOTS": str(roots)}

        b = town.homing(
            B, folder / "b", "bob", HOMING_STS_MODE="enforce", HOMING_STS_MX="mx.sts.example,mx.badcert.example",
            # The resolver's word counts for nothing here.
            HOMING_DNS_TRUSTED="127.0.0.1", **tls(of_b),
        )  # fmt: skip
        names = [f"mta-sts.{domain}" for domain in AT_B]
        front = town.address()
        https = stack.enter_context(web(front, files, names, policies, f"http://{b.host}:{b.ports['REST']}"))
        a = town.homing(A, folder / "a", "ann", HOMING_OUTBOUND_HTTPS_PORT=str(https), **tls(of_a))
        of_c = server(f"mx.{C}", "mx.ee-c.example", by=OTHER_CA)
        c = stack.enter_context(postfix(town, folder / "c", [C, *AT_C], of_c, roots))
        desk_b = Desk(b)
        for domain in AT_B:
            desk_b.post("/api/domains", {"domain": domain, "catch_all": BOB}, 201)
            town.names(domain, b.host)
        for domain in ("sts.example", "mismatch.example", "badcert.example"):
            town.dns.add(f'_mta-sts.{domain} TXT "v=STSv1; id=1"', f"mta-sts.{domain} A {front}")
        policies["mta-sts.mismatch.example"] = (
            b"version: STSv1\r\nmode: enforce\r\nmx: mx.elsewhere.example\r\nmax_age: 86400\r\n"
        )
        town.dns.zone.insecure.add("unproved.example")
        stranger = server("mx.stranger.example")
        for host, data in {
            "mx.ee.example": tlsa(of_b, 3),
            "mx.ta.example": tlsa(CA, 2),
            "mx.wrong.example": tlsa(stranger, 3),
            "mx.unproved.example": tlsa(stranger, 3),
            "mx.ee-c.example": tlsa(of_c, 3),
            f"mx.{A}": tlsa(of_a, 3),
        }.items():
            town.dns.add(f"_{town.port}._tcp.{host} TLSA {data}")
        town.dns.add(f"_{town.port}._tcp.mx.mended.example 1 TLSA {tlsa(stranger, 3)}")
        for server_, domain in ((a, A), (b, B)):
            town.dns.add(*server_.cli("domain", "dkim", "records", domain).stdout.splitlines())
        yield Exchange(town, a, b, c, Desk(a), desk_b, of_b)


def signed(world: Exchange, raw: bytes, domain: str) -> None:
    """Do all its signatures, RSA and Ed25519, hold against the keys in the DNS?"""

    def txt(name: bytes, timeout: float = 5.0) -> bytes | None:
        query = dns.message.make_query(name.decode(), "TXT")
        answer = dns.query.tcp(query, world.town.dns.address, timeout, world.town.dns.port)
        return b"".join(answer.answer[0][0].strings) if answer.answer else None

    signatures = [line for line in raw.split(b"\r\n") if line.lower().startswith(b"dkim-signature:")]
    assert len(signatures) == 2
    assert f"d={domain};".encode() in raw
    found = dkim.DKIM(raw)
    assert all(found.verify(index, dnsfunc=txt) for index in range(len(signatures)))


def attempt(world: Exchange, trace: str) -> dict[str, Any]:
    return world.desk.attempts(trace, 1)[0]


@pytest.mark.parametrize(
    ("domain", "verified"),
    [(B, ""), ("ee.example", "dane"), ("ta.example", "dane"), ("sts.example", "mta-sts"), ("unproved.example", "")],
)
def test_between_homings(exchange: Exchange, program: Find, domain: str, verified: str) -> None:
    """Under each policy; and through answers that nobody has validated, where TLSA records count for nothing."""
    to = f"bob@{domain}"
    trace, text = exchange.sent(program, to, f"to {domain}")
    stored = arrived(exchange.b, BOB, text)
    signed(exchange, stored, A)
    done = attempt(exchange, trace)
    assert (done["status"], done["tls"], done["verified"]) == ("sent", "TLSv1.3", verified)
    sentence = exchange.desk.sentence(trace)
    assert f" took the message for {to} on " in sentence
    assert " over TLSv1.3" in sentence
    assert (f", its name proved by {verified}" in sentence) == bool(verified)
    assert b"with ESMTPS" in stored.partition(b"DKIM-Signature")[0]


def test_back(exchange: Exchange, program: Find) -> None:
    """B to A, whose host has a TLSA record, through a resolver that B does not trust."""
    text = letter(BOB, ANN, "back", MIDDLE_DOT)
    shown = exchange.swaks(program, BOB, ANN, text)
    stored = arrived(exchange.a, ANN, text)
    signed(exchange, stored, B)
    done = exchange.desk_b.attempts(stored_as(shown), 1)[0]
    assert (done["status"], done["tls"], done["verified"]) == ("sent", "TLSv1.3", "")


@pytest.mark.parametrize(("domain", "verified"), [(C, ""), ("ee-c.example", "dane")])
def test_to_postfix(exchange: Exchange, program: Find, domain: str, verified: str) -> None:
    trace, text = exchange.sent(program, f"cat@{domain}", f"to {domain}")
    (stored,) = until(
        lambda: [one for one in exchange.c.delivered() if one.endswith(text)], 60, "Postfix has the message"
    )
    signed(exchange, stored, A)
    done = attempt(exchange, trace)
    assert (done["status"], done["verified"]) == ("sent", verified)
    assert done["tls"] == "TLSv1.3"
    # Its own word for it: the queue id.
    assert "Ok: queued as " in done["text"]
    assert b"(using TLSv1.3 with cipher" in stored


def test_to_postfix_with_addresses_beyond_ascii(exchange: Exchange) -> None:
    to = f"zoë@{C}"
    text = letter(ANN, to, "Grüße", MIDDLE_DOT)
    sent = submit(exchange.a, ANN, [to], text, options=("SMTPUTF8",))
    assert attempt(exchange, sent.trace)["status"] == "sent"
    until(lambda: any(one.endswith(text) for one in exchange.c.delivered()), 60, "Postfix has the message")


def test_postfix_tells_of_success(exchange: Exchange) -> None:
    """NOTIFY, ORCPT and ENVID go through; the notice is Postfix's, and comes back by MX and DANE."""
    to = f"told@{C}"
    wanted = {to: ("NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;First+2BName@c.example")}
    sent = submit(exchange.a, ANN, wanted, letter(ANN, to), options=("ENVID=QQ+2B7", "RET=HDRS"))
    notice = told(exchange.a, ANN, to, "delivered")
    about = notice.about(to)
    assert about is not None
    assert about["Original-Recipient"] == "rfc822;First+Name@c.example"
    assert notice.fields["Original-Envelope-Id"] == "QQ+7"
    assert "Postfix" in str(notice.message["Subject"]) or "MAILER-DAEMON" in str(notice.message["From"])
    assert not exchange.desk.events(sent.trace, "dsn")


def test_postfix_understands_a_refusal(exchange: Exchange, program: Find) -> None:
    """An address that A has not: Postfix tells its own sender, with A's words."""
    to = f"nobody@{A}"
    exchange.swaks(program, CAT, to, letter(CAT, to))

    def back() -> Notice | None:
        found = (notice_of(raw.removeprefix(b"\r\n")) for raw in exchange.c.delivered())
        return next((one for one in found if one is not None and one.about(to) is not None), None)

    about = until(back, 60, "Cat is told").about(to)
    assert about["Status"] == "5.1.1"
    assert about["Remote-MTA"] == f"dns; mx.{A}"
    assert "550 5.1.1" in about["Diagnostic-Code"]


def test_requiretls(exchange: Exchange) -> None:
    """Between Homings under DANE; a Postfix does not know it, and the message goes back."""
    text = letter(ANN, "bob@ee.example", "with REQUIRETLS")
    sent = submit(exchange.a, ANN, ["bob@ee.example"], text, options=("REQUIRETLS",), tls=True)
    arrived(exchange.b, BOB, text)
    assert attempt(exchange, sent.trace)["verified"] == "dane"
    to = "cat@ee-c.example"
    sent = submit(exchange.a, ANN, [to], letter(ANN, to), options=("REQUIRETLS",), tls=True)
    about = told(exchange.a, ANN, to).about(to)
    assert about is not None
    assert about["Status"] == "5.7.30"
    assert attempt(exchange, sent.trace)["status"] == "failed"


def test_from_postfix(exchange: Exchange, program: Find) -> None:
    """By DANE to A, by opportunistic STARTTLS to B."""
    for to, at, how in ((ANN, exchange.a, "Verified"), (BOB, exchange.b, "Trusted")):
        text = letter(CAT, to, "from Postfix", MIDDLE_DOT)
        exchange.swaks(program, CAT, to, text)
        stored = arrived(at, to, text)
        assert b"with ESMTPS" in stored
        domain = to.rpartition("@")[2]
        assert f"{how} TLS connection established to mx.{domain}[{at.host}]:{exchange.town.port}" in exchange.c.log


@pytest.mark.parametrize(
    ("domain", "words", "why"),
    [
        ("wrong.example", "TLSA", "no encrypted connection as it is required"),
        ("mismatch.example", "MTA-STS", "no encrypted connection as it is required"),
        ("badcert.example", "certificate", "no encrypted connection as it is required"),
    ],
)
def test_a_policy_that_is_not_met_keeps_the_mail(
    exchange: Exchange, program: Find, domain: str, words: str, why: str
) -> None:
    to = f"bob@{domain}"
    trace, _ = exchange.sent(program, to, f"to {domain}")
    done = attempt(exchange, trace)
    assert (done["status"], done["phase"], done["enhanced"], done["code"]) == ("deferred", "tls", "4.7.5", None)
    (item,) = until(lambda: [one for one in exchange.desk.queue(domain) if one["state"] == "waiting"])
    assert item["attempts"] == 1
    assert item["next_attempt"] == done["next"] > done["at"] + 200
    sentence = exchange.desk.sentence(trace)
    assert sentence.startswith(f"Waiting: {to} does not have the message yet. The reason: {why}"), sentence
    assert words in sentence, sentence
    assert "The next attempt is on " in sentence
    exchange.desk.drop(domain)


def test_it_goes_once_the_destination_has_mended_its_record(exchange: Exchange, program: Find) -> None:
    host = f"_{exchange.town.port}._tcp.mx.mended.example"
    trace, text = exchange.sent(program, "bob@mended.example", "mended")
    assert attempt(exchange, trace)["status"] == "deferred"
    (item,) = until(lambda: [one for one in exchange.desk.queue("mended.example") if one["state"] == "waiting"])
    exchange.town.dns.zone.remove(host)
    exchange.town.dns.add(f"{host} TLSA {tlsa(exchange.of_b, 3)}")

    def sent() -> dict[str, Any] | None:
        # The record that was there is remembered for as long as it allowed.
        exchange.desk.post("/api/queue/change", {"action": "retry", "domain": "mended.example"})
        return next((one for one in exchange.desk.events(trace, "attempt") if one["status"] == "sent"), None)

    assert until(sent, 60, "it is sent", pause=0.2)["verified"] == "dane"
    arrived(exchange.b, BOB, text)
    assert item["id"] in {one["item"] for one in exchange.desk.events(trace, "queue")}


def dane_of(server: Live) -> tuple[int, str]:
    """(exit status, what was found) of the doctor's look at DANE."""
    done = server.cli("doctor", "--only", "dane", "--json", check=False)
    (finding,) = json.loads(done.stdout)["findings"]
    return done.returncode, finding["found"]


def test_doctor_says_whether_dane_is_active(exchange: Exchange) -> None:
    resolver = exchange.town.dns.address
    assert dane_of(exchange.a) == (0, f"active by {resolver}")
    assert dane_of(exchange.b) == (1, f"inactive: none of the resolvers ({resolver}) is trusted")
    # What it asks for is signed in the real world.
    exchange.town.dns.zone.insecure.add("org")
    try:
        assert dane_of(exchange.a) == (1, f"inactive: {resolver} does not set the AD bit")
    finally:
        exchange.town.dns.zone.insecure.discard("org")
