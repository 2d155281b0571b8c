"""A message in one transaction or several: what became of it, and of the connection."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from typing import Any

import pytest

from connectors import letter, recipients, submission
from connectors.exceptions import ConnectionError, MessageError
from connectors.handover import RECIPIENTS_MAX
from connectors.submission import Lost, SendResult, Server, transmit
from tests.connectors.servers import SmtpServer

MANY = [f"x{n}@test.example" for n in range(RECIPIENTS_MAX + 2)]
LAST = MANY[RECIPIENTS_MAX:]


@pytest.fixture
def plain() -> Iterator[SmtpServer]:
    with SmtpServer() as server:
        yield server


class Client:
    def __init__(self, server: SmtpServer, timeout: float) -> None:
        self.server = Server("127.0.0.1", server.port, timeout=timeout, tls=False)
        self.smtp: smtplib.SMTP = submission.open_server(self.server)

    def send(self, *to: str, text: str = "text") -> SendResult:
        sender = recipients.one("alice@test.example", "sender")
        people = recipients.several(to)
        return transmit(self.smtp, self.server, sender, people, letter.write(sender, people, "s", text=text))

    @property
    def closed(self) -> bool:
        return self.smtp.sock is None


@pytest.fixture
def client(plain: SmtpServer, request: pytest.FixtureRequest) -> Iterator[Client]:
    case = getattr(request.node, "callspec", None)
    made = Client(plain, 0.5 if case and "silent" in case.params.values() else 30.0)
    yield made
    submission.close(made.smtp)


def verbs(server: SmtpServer) -> list[str]:
    return [command.split(" ")[0].upper() for command in server.commands]


def test_many_recipients_in_several_transactions(client: Client, plain: SmtpServer) -> None:
    result = client.send(*MANY)
    assert result.complete
    assert result.accepted == tuple(MANY)
    assert [mail.recipients for mail in plain.mails] == [MANY[:RECIPIENTS_MAX], LAST]
    assert plain.mails[0].raw == plain.mails[1].raw


def test_too_many_for_one_transaction_go_in_the_next(client: Client, plain: SmtpServer) -> None:
    plain.at["rcpt"] = ["250 ok", "452 4.5.3 too many"]
    result = client.send("bob@test.example", "carol@test.example")
    assert result.complete
    assert len(plain.mails) == 2


@pytest.mark.parametrize(
    ("stage", "said"), [("mail", "451 4.7.1 slower"), ("data", "554 5.7.1 enough"), ("end", "552 5.2.2 full")]
)
def test_one_part_taken_and_one_refused(client: Client, plain: SmtpServer, stage: str, said: str) -> None:
    good = {"mail": "250 ok"}.get(stage)
    plain.at[stage] = [said] if good is None else [good, said]
    result = client.send(*MANY)
    lost = MANY[:RECIPIENTS_MAX] if good is None else LAST
    assert not result.complete
    assert result.accepted == tuple(one for one in MANY if one not in lost)
    assert list(result.refused) == lost
    code, _, text = said.partition(" ")
    assert {(one.code, one.text) for one in result.refused.values()} == {(int(code), text)}
    assert result.reply == "2.0.0 queued as 1"
    assert not client.closed
    assert client.send("bob@test.example").complete


@pytest.mark.parametrize("what", ["close", "silent", "421 4.3.2 going down"])
def test_a_later_part_finds_the_connection_ended(client: Client, plain: SmtpServer, what: str) -> None:
    plain.at["mail"] = ["250 ok", what]
    result = client.send(*MANY)
    assert result.accepted == tuple(MANY[:RECIPIENTS_MAX])
    assert {name: one.code for name, one in result.refused.items()} == dict.fromkeys(LAST, 421)
    assert client.closed


class Second(list[str]):
    """What is done at the second time alone."""

    def __init__(self, what: str) -> None:
        super().__init__([what])
        self.left = 1

    def __bool__(self) -> bool:
        self.left -= 1
        return self.left < 0 and len(self) > 0


def test_no_reply_to_a_later_part_is_told_as_doubtful(client: Client, plain: SmtpServer) -> None:
    plain.at["end"] = Second("close")
    with pytest.raises(
        ConnectionError, match=f"taken for {RECIPIENTS_MAX} of {len(MANY)} .*may have been sent"
    ) as told:
        client.send(*MANY)
    assert told.value.may_have_been_sent
    assert len(plain.mails) == 1
    assert client.closed


@pytest.mark.parametrize("stage", ["rcpt", "data"])
def test_a_refusal_leaves_the_connection_as_it_was(client: Client, plain: SmtpServer, stage: str) -> None:
    plain.at[stage] = ["550 5.7.1 no"]
    with pytest.raises(MessageError, match=r"550 5\.7\.1 no"):
        client.send("bob@test.example")
    assert verbs(plain)[-1] == "RSET"
    assert client.send("bob@test.example").complete


def test_a_refused_reset_ends_the_connection_and_changes_no_verdict(client: Client, plain: SmtpServer) -> None:
    plain.at |= {"data": ["550 5.7.1 no"], "rset": ["close"]}
    with pytest.raises(MessageError, match=r"550 5\.7\.1 no"):
        client.send("bob@test.example")
    assert client.closed


@pytest.mark.parametrize("what", ["close", "silent", "421 4.3.2 going down", "garbage"])
def test_ended_before_the_message(client: Client, plain: SmtpServer, what: str) -> None:
    plain.at["rcpt"] = ["550 5.1.1 nobody", what]
    with pytest.raises(Lost) as told:
        client.send("bob@test.example", "carol@test.example")
    assert isinstance(told.value.__cause__, Exception)
    assert client.closed


@pytest.mark.parametrize("what", ["close", "silent", "garbage"])
def test_no_reply_to_the_message(client: Client, plain: SmtpServer, what: str) -> None:
    plain.at["end"] = [what]
    with pytest.raises(ConnectionError, match="may have been sent") as told:
        client.send("bob@test.example")
    assert told.value.may_have_been_sent
    assert isinstance(told.value.__cause__, TimeoutError) == (what == "silent")
    assert client.closed
    assert "RSET" not in verbs(plain)


def test_what_breaks_off_in_between_leaves_no_half_message(
    client: Client, plain: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("connectors.handover.Line.text", interrupted)
    with pytest.raises(KeyboardInterrupt):
        client.send("bob@test.example")
    assert client.closed
    assert plain.mails == []
