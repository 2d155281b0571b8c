"""A small internet on the loopback: a DNS server, Homing servers, and destinations that work or go wrong.

Every host has an address of its own in one 127.0.n.0/24, and takes mail on the one port of the town. The DNS server is
on port 53, where programs that know no other one ask (a town on another port where that cannot be had: ``standard``).

    with Town() as town:
        a = town.homing("a.example", folder, "ann")
        peer = town.peer("down.example")
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import imaplib
import smtplib
import ssl
import subprocess
import threading
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from email.message import EmailMessage, Message, MIMEPart
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

from tests import live
from tests.dnsserver import DnsServer
from tests.live import PASSWORD, Live, free_ports, until
from tests.smtp.outbound.peers import Peer

T = TypeVar("T")
FIRST, LAST = 10, 250
DNS_HOST = 53
"""The last octet of the DNS server's address; those of hosts follow in order."""
SECONDS = 60.0


class Loop:
    """An event loop in a thread of its own, for servers of tests that are not asynchronous themselves."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(SECONDS)

    def close(self) -> None:
        async def end() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self.run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        self._loop.close()


class Town:
    """ad: whether the DNS server says that it has validated its answers."""

    def __init__(self, *, ad: bool = False) -> None:
        (self.port,) = free_ports(1)
        self.standard = True
        for number in range(FIRST, LAST):
            try:
                self.dns = DnsServer(f"127.0.{number}.{DNS_HOST}", DNS_HOST, ad=ad)
                break
            except PermissionError:
                self.dns = DnsServer(f"127.0.{number}.{DNS_HOST}", ad=ad)
                self.standard = False
                break
            except OSError:
                # Another town is there.
                continue
        else:
            raise OSError("no 127.0.n.53 is free")
        self.network = self.dns.address.rpartition(".")[0]
        self._hosts = 0
        self._loop = Loop()
        self._stack = ExitStack()
        self._stack.callback(self._loop.close)
        self.dns.start()
        self._stack.callback(self.dns.stop)

    def __enter__(self) -> Town:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def address(self) -> str:
        """Of one host more."""
        self._hosts += 1
        if self._hosts == DNS_HOST:
            self._hosts += 1
        return f"{self.network}.{self._hosts}"

    def names(self, domain: str, address: str, host: str = "") -> None:
        """Records for a domain whose mail host has this address."""
        host = host or f"mx.{domain}"
        self.dns.add(f"{domain} MX 10 {host}.", f"{host} A {address}")

    def peer(self, domain: str, **how: Any) -> Peer:
        """A destination, its records made; how: fields of ``Peer``."""
        peer = Peer(name=f"mx.{domain}", **how)
        self._loop.run(peer.start(self.address(), self.port))
        self._stack.callback(lambda: self._loop.run(peer.stop()))
        self.names(domain, peer.address)
        return peer

    def hang_up(self, peer: Peer) -> None:
        """Close every connection of the destination."""

        async def close() -> None:
            peer.hang_up()

        self._loop.run(close())

    def homing(self, domain: str, data: Path, *users: str, **env: str) -> Live:
        """A running server with these users, its records made. Ended, and its end checked, with the town."""
        host = self.address()
        given = {
            "HOMING_HOST": host,
            "HOMING_DOMAIN": domain,
            "HOMING_HOSTNAME": f"mx.{domain}",
            "HOMING_SMTP_PORT": str(self.port),
            "HOMING_DNS_SERVERS": self.dns.where,
            "HOMING_DNS_TRUSTED": self.dns.address,
            "HOMING_OUTBOUND_PORT": str(self.port),
            "HOMING_LOG_LEVEL": "warning",
            **env,
        }
        server = live.make(data, **given)
        server.ports["SMTP"] = self.port
        self.names(domain, host)
        self._stack.enter_context(live.started(server, *users))
        return server


# -- mail programs


@dataclass
class Submitted:
    """What the server said to a submission. refused: by recipient."""

    trace: str
    refused: Mapping[str, tuple[int, bytes]]


def submit(
    server: Live,
    sender: str,
    to: Sequence[str] | Mapping[str, Sequence[str]],
    text: bytes,
    *,
    options: Iterable[str] = (),
    login: str = "",
    tls: bool = False,
) -> Submitted:
    """Over the submission port, signed in as the sender (or ``login``). to: with options of each RCPT in a mapping.
    options: of MAIL."""
    with smtplib.SMTP(server.host, server.ports["SUBMISSION"], timeout=20) as client:
        client.ehlo("client.example")
        if tls:
            client.starttls(context=ssl._create_unverified_context())
            client.ehlo("client.example")
        client.login(login or sender, PASSWORD)
        everyone = to if isinstance(to, Mapping) else dict.fromkeys(to, ())
        if not "".join((sender, *everyone)).isascii():
            client.command_encoding = "utf-8"
        assert (reply := client.mail(sender, list(options)))[0] == 250, reply
        refused = {}
        for address, wanted in everyone.items():
            reply = client.rcpt(address, list(wanted))
            if reply[0] != 250:
                refused[address] = reply
        code, said = client.data(text)
        assert code == 250, said
        return Submitted(said.decode().rpartition(" ")[2], refused)


def letter(sender: str, to: str, subject: str = "hello", body: str = "Hello.\r\n") -> bytes:
    """A message with all fields that a server might add. The body may have anything."""
    unique = f"{abs(hash((sender, to, subject, body))):x}"
    head = (
        f"From: {sender}\r\nTo: {to}\r\nSubject: {subject}\r\nDate: Sat, 21 Nov 2026 12:00:00 +0000\r\n"
        f"Message-ID: <{unique}@test.invalid>\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
    return (head + body).encode()


def mails(server: Live, address: str, mailbox: str = "INBOX") -> list[bytes]:
    """All messages of the mailbox, as IMAP gives them."""
    context = ssl._create_unverified_context()
    with imaplib.IMAP4_SSL(server.host, server.ports["IMAPS"], ssl_context=context, timeout=20) as imap:
        imap.login(address, PASSWORD)
        assert imap.select(mailbox, readonly=True)[0] == "OK"
        _, data = imap.uid("FETCH", "1:*", "(BODY.PEEK[])")
        return [one[1] for one in data if isinstance(one, tuple)]


def arrived(server: Live, address: str, what: bytes, seconds: float = SECONDS) -> bytes:
    """The message whose end is ``what``, once it has come."""

    def find() -> bytes | None:
        return next((one for one in mails(server, address) if one.endswith(what)), None)

    found: bytes = until(find, seconds, f"{address} has the message", pause=0.1)
    return found


@dataclass
class Notice:
    """A delivery status notification, taken apart. fields: of the message; recipients: the fields of each."""

    message: EmailMessage
    text: str
    fields: Message
    recipients: list[Message] = field(default_factory=list)

    @property
    def returned(self) -> MIMEPart:
        """The third part."""
        return list(self.message.iter_parts())[2]

    def about(self, address: str) -> Message | None:
        """The fields of one recipient."""
        for one in self.recipients:
            if str(one["Final-Recipient"]).partition(";")[2].strip() == address:
                return one
        return None


def notice_of(raw: bytes) -> Notice | None:
    """None for what is none."""
    message = email.message_from_bytes(raw, policy=email.policy.default)
    if message.get_content_type() != "multipart/report":
        return None
    assert isinstance(message, EmailMessage)
    assert not message.defects, message.defects
    text = next(message.iter_parts())
    # The email package knows the blocks of message/delivery-status, not those of message/global-delivery-status.
    status = raw.split(b"\r\n--" + (message.get_boundary() or "").encode())[2].partition(b"\r\n\r\n")[2]
    fields, *recipients = (email.message_from_string(block) for block in status.decode().strip().split("\r\n\r\n"))
    return Notice(message, text.get_content(), fields, recipients)


def notices(server: Live, address: str) -> list[Notice]:
    """All that are in the INBOX."""
    return [notice for raw in mails(server, address) if (notice := notice_of(raw)) is not None]


def told(server: Live, sender: str, recipient: str, action: str = "failed", seconds: float = SECONDS) -> Notice:
    """The notice to the sender that this became of the recipient, once it has come."""

    def find() -> Notice | None:
        for notice in notices(server, sender):
            about = notice.about(recipient)
            if about is not None and about["Action"] == action:
                return notice
        return None

    found: Notice = until(find, seconds, f"{sender} is told of {recipient}: {action}", pause=0.1)
    return found


# -- administrators


class Desk:
    """An administrator of a server, at REST."""

    def __init__(self, server: Live) -> None:
        self._server = server
        self._token = server.admin_token()

    def get(self, path: str) -> Any:
        status, body = self._server.rest("GET", path, token=self._token)
        assert status == 200, (path, status, body)
        return body

    def post(self, path: str, body: Any = None, status: int = 200) -> Any:
        got, told = self._server.rest("POST", path, body, self._token)
        assert got == status, (path, got, told)
        return told

    def queue(self, domain: str) -> list[dict[str, Any]]:
        """What waits for the domain."""
        items: list[dict[str, Any]] = self.get(f"/api/queue?domain={quote(domain)}")["items"]
        return items

    def trace(self, id: str) -> dict[str, Any]:
        """The trace, whole."""
        found: dict[str, Any] = self.get(f"/api/trace/{id}")
        return found

    def events(self, id: str, kind: str) -> list[dict[str, Any]]:
        """The events of one kind, as (time in ``at`` and) detail."""
        return [{"at": one["at"], **one["detail"]} for one in self.trace(id)["table"] if one["kind"] == kind]

    def sentence(self, id: str) -> str:
        return str(self.trace(id)["sentence"])

    def attempts(self, id: str, count: int, seconds: float = SECONDS) -> list[dict[str, Any]]:
        """The attempts, once there are so many."""
        found: list[dict[str, Any]] = until(
            lambda: len(got := self.events(id, "attempt")) >= count and got,
            seconds,
            f"{count} attempts",
            pause=0.05,
        )
        return found

    def drop(self, domain: str) -> None:
        """Take away all that waits for the domain."""

        def gone() -> bool:
            self.post("/api/queue/change", {"action": "drop", "domain": domain})
            return not self.queue(domain)

        until(gone, what=f"nothing waits for {domain}", pause=0.05)


def ran(command: Sequence[str], *, data: bytes = b"", seconds: float = 30.0) -> str:
    """Its output, together; AssertionError where it fails."""
    done = subprocess.run(command, input=data, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds)
    output = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0, output
    return output
