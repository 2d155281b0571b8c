"""One and many sends per second: plain smtplib, the connectors, POST /smtp/send-email, and the tasks of POST
/api/v1/email/received until they are sent, in one run to one server.

The figures are printed, and nothing is asserted of them. The server takes mail by STARTTLS and a sign-in, and is a
process of its own; so is Homing.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import smtplib
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.message import EmailMessage
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from connectors.relay import Relay
from connectors.smtp_connector import BasicSMTPConnector
from smtp.outbound.transport import Status
from tests.connectors.certs import Certs, make
from tests.connectors.servers import SmtpServer
from tests.live import PASSWORD, Live, running
from tests.smtp.outbound.letters import letter, only

pytestmark = pytest.mark.performance

MANY = 200
AT_ONCE = 8
USER, SECRET = "alice@test.example", "correct horse"
TEXT = "A line of an ordinary message, as people write them.\n" * 40


@dataclass(frozen=True)
class Sink:
    port: int
    certs: Certs

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.certs.ca)

    @property
    def config(self) -> dict[str, Any]:
        return {
            "from_email": USER,
            "user": USER,
            "secret": SECRET,
            "host": "127.0.0.1",
            "port": self.port,
            "ca_file": str(self.certs.ca),
        }


def _serve(certs: Certs, pipe: Connection) -> None:
    with SmtpServer(certs.context()) as server:
        pipe.send(server.port)
        pipe.recv()


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sink]:
    certs = make(tmp_path_factory.mktemp("certs"), ["127.0.0.1"])
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(certs, theirs), daemon=True)
    process.start()
    yield Sink(ours.recv(), certs)
    ours.send(None)
    process.join(20)


@pytest.fixture(scope="module")
def homing(sink: Sink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    data: Path = tmp_path_factory.mktemp("timed") / "data"
    env = {"HOMING_SENDING_CA_FILE": str(sink.certs.ca), "HOMING_SENDING_PER_ACCOUNT": "100"}
    # What tasks are sent through.
    env |= {"HOMING_QUEUE_SMTP_HOST": "127.0.0.1", "HOMING_QUEUE_SMTP_PORT": str(sink.port)}
    env |= {"HOMING_QUEUE_SMTP_USER": USER, "HOMING_QUEUE_SMTP_PASS": SECRET}
    env |= {"HOMING_OUTBOUND_ROOTS": str(sink.certs.ca)}
    with running(data, "alice", HOMING_RATES_ACCOUNT="off", HOMING_RATES_ACCOUNT_RECIPIENTS="off", **env) as server:
        yield server


def message(n: int) -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = USER, "bob@test.example", f"message {n}"
    made.set_content(TEXT)
    return made


def opened(sink: Sink) -> smtplib.SMTP:
    smtp = smtplib.SMTP("127.0.0.1", sink.port, timeout=30)
    smtp.starttls(context=sink.context())
    smtp.login(USER, SECRET)
    return smtp


def by_smtplib(sink: Sink, count: int) -> None:
    with opened(sink) as smtp:
        for n in range(count):
            smtp.send_message(message(n))


def by_connector(sink: Sink, count: int) -> None:
    with BasicSMTPConnector(sink.config) as smtp:
        for n in range(count):
            assert smtp.send_email("bob@test.example", f"message {n}", TEXT).complete


def each_anew(send: Callable[[Sink, int], None]) -> Callable[[Sink, int], None]:
    """With a connection of its own for each message."""

    def sending(sink: Sink, count: int) -> None:
        for _ in range(count):
            send(sink, 1)

    return sending


def at_once(send: Callable[[Sink, int], None]) -> Callable[[Sink, int], None]:
    """On several threads."""

    def sending(sink: Sink, count: int) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda _: send(sink, count // AT_ONCE), range(AT_ONCE)))

    return sending


def by_rest(homing: Live, token: str) -> Callable[[Sink, int], None]:
    def sending(_sink: Sink, count: int) -> None:
        connection = http.client.HTTPConnection(homing.host, homing.rest_port("/smtp/send-email"), timeout=60)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        for n in range(count):
            body = {"to": "bob@test.example", "subject": f"message {n}", "message": TEXT}
            connection.request("POST", "/smtp/send-email", json.dumps(body), headers)
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status == 200, said
        connection.close()

    return sending


def by_tasks(homing: Live, token: str) -> Callable[[Sink, int], None]:
    """All of them accepted, and all of them a success."""

    def sending(_sink: Sink, count: int) -> None:
        path = "/api/v1/email"
        connection = http.client.HTTPConnection(homing.host, homing.rest_port(path), timeout=60)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

        def ask(method: str, path: str, body: str | None = None) -> Any:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status == 200, said
            return json.loads(said)

        waiting = []
        for n in range(count):
            body = {"to": "bob@test.example", "subject": f"message {n}", "body": TEXT, "username": "Bob"}
            waiting.append(ask("POST", f"{path}/received", json.dumps(body))["task_id"])
        for id in waiting:
            while (told := ask("GET", f"{path}/result?task_id={id}"))["status"] == "pending":
                time.sleep(0.005)
            assert told["status"] == "success", told
        connection.close()

    return sending


def test_one_and_many_sends_per_second(sink: Sink, homing: Live, capsys: pytest.CaptureFixture[str]) -> None:
    token = homing.token("alice", PASSWORD)
    given = {"name": "timed", "from_email": USER, "user": USER, "secret": SECRET, "host": "127.0.0.1"}
    status, made = homing.rest("POST", "/smtp/integrations", given | {"port": sink.port}, token)
    assert status == 201, made
    rest, tasks = by_rest(homing, token), by_tasks(homing, token)
    rows = [
        ("smtplib, a connection for each", each_anew(by_smtplib), 1, MANY // 4),
        ("connector, a connection for each", each_anew(by_connector), 1, MANY // 4),
        ("smtplib, one connection", by_smtplib, 1, MANY),
        ("connector, one connection", by_connector, 1, MANY),
        ("POST /smtp/send-email", rest, 1, MANY),
        ("POST /api/v1/email/received, until sent", tasks, 1, MANY),
        (f"smtplib, {AT_ONCE} at once", at_once(by_smtplib), AT_ONCE, MANY),
        (f"connector, {AT_ONCE} at once", at_once(by_connector), AT_ONCE, MANY),
        (f"POST /smtp/send-email, {AT_ONCE} at once", at_once(rest), AT_ONCE, MANY),
    ]
    lines = [f"{'':42} {'one':>10} {'many':>12}", f"{'':42} {'ms':>10} {'messages/s':>12}"]
    for name, send, least, many in rows:
        # What is imported late, and tokens, are not what is timed.
        send(sink, least)
        began = time.perf_counter()
        send(sink, least)
        one = time.perf_counter() - began
        began = time.perf_counter()
        send(sink, many)
        seconds = time.perf_counter() - began
        shown = f"{one * 1000:10.1f}" if least == 1 else f"{'':10}"
        lines.append(f"{name:42} {shown} {many / seconds:12.0f}")
    with capsys.disabled():
        print("\n" + "\n".join(lines))


async def test_the_relay_beside_it(sink: Sink, capsys: pytest.CaptureFixture[str]) -> None:
    relay = Relay("timed", {"provider": "basic", **sink.config})
    text = message(0).as_bytes().replace(b"\n", b"\r\n")
    assert only(await relay.send(letter("bob@test.example", text=text, sender=USER))).status is Status.SENT
    began = time.perf_counter()
    for _ in range(MANY):
        assert only(await relay.send(letter("bob@test.example", text=text, sender=USER))).status is Status.SENT
    seconds = time.perf_counter() - began
    await relay.close()
    with capsys.disabled():
        print(f"\n{'relay of connectors, one connection':42} {'':10} {MANY / seconds:12.0f}")
