"""What senders are told of mail that left: RFC 3461's wishes from the submission to the notice in the INBOX."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.live import Live, until
from tests.smtp.outbound.peers import EXTENSIONS, Peer
from tests.town import Desk, Town, letter, notices, submit, told

pytestmark = pytest.mark.slow

HERE = "here.example"
ANN, UTF8 = f"ann@{HERE}", f"änne@{HERE}"
LIFETIME = 10.0
GIVEN_UP = {
    "late": ("NOTIFY=DELAY,FAILURE", "ORCPT=rfc822;original@example.org"),
    "usual": (),
    "failure": ("NOTIFY=FAILURE",),
    "delay": ("NOTIFY=DELAY",),
    "never": ("NOTIFY=NEVER",),
}
"""Names at deferring.example, with what is asked for them: their time runs out while the other tests are made."""
WITHOUT_DSN = tuple(word for word in EXTENSIONS if word != "DSN")


@dataclass
class World:
    """plain: takes all, without DSN; able: with DSN; refusing: nobody; deferring: nobody yet. given_up: traces, by
    name."""

    town: Town
    here: Live
    desk: Desk
    plain: Peer
    able: Peer
    refusing: Peer
    deferring: Peer
    given_up: dict[str, str] = field(default_factory=dict)

    def send(self, to: str, *wanted: str, options: tuple[str, ...] = (), sender: str = ANN, body: str = "") -> str:
        """The trace's id."""
        text = letter(sender, to, f"to {to}", body or "Hello.\r\n")
        return submit(self.here, sender, {to: wanted}, text, options=options, login=ANN).trace

    def settled(self, to: str) -> None:
        until(lambda: self.desk.queue(to.rpartition("@")[2]) == [], 60, f"nothing waits for {to}", pause=0.05)

    def untold(self, to: str) -> bool:
        return all(notice.about(to) is None for notice in notices(self.here, ANN))

    def kinds(self, trace: str) -> list[str]:
        return [one["kind"] for one in self.desk.trace(trace)["table"]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    settings = {
        "HOMING_OUTBOUND_RETRY": "0.5s",
        "HOMING_OUTBOUND_LIFETIME": f"{LIFETIME:g}s",
        "HOMING_OUTBOUND_DELAY_NOTICE": "1s",
        "HOMING_OUTBOUND_RETURN_MAX": "4KiB",
    }
    data: Path = tmp_path_factory.mktemp("notices") / "data"
    with Town() as town:
        here = town.homing(HERE, data, "ann", "bob", **settings)
        here.cli("alias", "add", UTF8, ANN)
        here.cli("alias", "add", f"forward@{HERE}", "gone@refusing.example")
        world = World(
            town,
            here,
            Desk(here),
            plain=town.peer("plain.example", extensions=WITHOUT_DSN),
            able=town.peer("able.example"),
            refusing=town.peer("refusing.example", replies={"RCPT": "550 5.1.1 No such user"}),
            deferring=town.peer("deferring.example", replies={"RCPT": "451 4.2.0 Not yet"}),
        )
        for name, wanted in GIVEN_UP.items():
            world.given_up[name] = world.send(f"{name}@deferring.example", *wanted, options=(f"ENVID={name}",))
        yield world


def test_never(world: World) -> None:
    trace = world.send("never@refusing.example", "NOTIFY=NEVER")
    world.settled("never@refusing.example")
    assert "suppressed" in world.kinds(trace)
    assert "dsn" not in world.kinds(trace)
    assert "The sender was not told: its sender asked not to be told." in world.desk.sentence(trace)
    assert world.untold("never@refusing.example")


def test_only_success_was_asked_for(world: World) -> None:
    trace = world.send("success@refusing.example", "NOTIFY=SUCCESS")
    world.settled("success@refusing.example")
    assert "suppressed" in world.kinds(trace)
    assert world.untold("success@refusing.example")


def test_nothing_was_asked_for_and_it_went_well(world: World) -> None:
    trace = world.send("quiet@plain.example")
    world.settled("quiet@plain.example")
    assert not {"dsn", "suppressed"} & set(world.kinds(trace))
    assert world.untold("quiet@plain.example")


def test_relayed_to_a_server_that_does_not_tell(world: World) -> None:
    to = "relayed@plain.example"
    wanted = ("NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;First+2BName@plain.example")
    trace = world.send(to, *wanted, options=("RET=FULL", "ENVID=QQ+2B1"))
    notice = told(world.here, ANN, to, "relayed")
    about = notice.about(to)
    assert about is not None
    assert about["Status"].startswith("2.")
    assert about["Original-Recipient"] == "rfc822; First+Name@plain.example"
    assert notice.fields["Original-Envelope-Id"] == "QQ+1"
    # RFC 3461 §4.3: RET is for failures.
    assert notice.returned.get_content_type() == "text/rfc822-headers"
    taken = world.plain.taken[-1]
    assert taken.rcpt == (f"RCPT TO:<{to}>",)
    assert "ENVID" not in taken.mail
    assert "RET=" not in taken.mail
    assert "dsn" in world.kinds(trace)


def test_success_is_for_the_server_that_tells(world: World) -> None:
    to = "passed@able.example"
    wanted = ("NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;First+2BName@able.example")
    trace = world.send(to, *wanted, options=("RET=HDRS", "ENVID=QQ+2B2"))
    world.settled(to)
    (taken,) = [one for one in world.able.taken if to in one.rcpt[0]]
    assert set(taken.rcpt[0].split()[2:]) == set(wanted)
    assert {"RET=HDRS", "ENVID=QQ+2B2"} <= set(taken.mail.split())
    assert "dsn" not in world.kinds(trace)
    assert world.untold(to)


def test_delivered_here(world: World) -> None:
    trace = world.send(f"bob@{HERE}", "NOTIFY=SUCCESS", options=("ENVID=local",))
    notice = told(world.here, ANN, f"bob@{HERE}", "delivered")
    about = notice.about(f"bob@{HERE}")
    assert about is not None
    assert about["Status"] == "2.1.5"
    assert notice.fields["Original-Envelope-Id"] == "local"
    until(lambda: {"stored", "dsn"} <= set(world.kinds(trace)), what="the trace says it")


@pytest.mark.parametrize(
    ("name", "options", "body", "kind"),
    [
        ("full", ("RET=FULL",), "", "message/rfc822"),
        ("usual", (), "", "message/rfc822"),
        ("hdrs", ("RET=HDRS",), "", "text/rfc822-headers"),
        ("long", ("RET=FULL",), "x" * 70 + "\r\n" * 5000, "text/rfc822-headers"),
    ],
)
def test_how_much_comes_back(world: World, name: str, options: tuple[str, ...], body: str, kind: str) -> None:
    to = f"{name}@refusing.example"
    world.send(to, options=options, body=body)
    notice = told(world.here, ANN, to)
    assert notice.returned.get_content_type() == kind
    assert f"to {to}" in str(notice.returned)
    assert ("Hello." in str(notice.returned)) == (kind == "message/rfc822")


def test_late_and_then_given_up(world: World) -> None:
    to = "late@deferring.example"
    trace = world.given_up["late"]
    late = told(world.here, ANN, to, "delayed")
    about = late.about(to)
    assert about is not None
    assert (about["Status"], about["Original-Recipient"]) == ("4.2.0", "rfc822; original@example.org")
    assert about["Diagnostic-Code"].startswith("smtp; 451 4.2.0 Not yet")
    (stored,) = world.desk.events(trace, "spooled")
    until_ = parsedate_to_datetime(about["Will-Retry-Until"]).timestamp()
    assert abs(until_ - (stored["at"] + LIFETIME)) <= 1.5
    assert late.message["Subject"].startswith("Your message is late")
    ended = told(world.here, ANN, to)
    about = ended.about(to)
    assert about is not None
    assert "Will-Retry-Until" not in about
    assert ended.fields["Original-Envelope-Id"] == late.fields["Original-Envelope-Id"] == "late"
    assert [one["action"] for one in world.desk.events(trace, "dsn")] == ["delayed", "failed"]
    attempts = world.desk.events(trace, "attempt")
    assert attempts[-1]["at"] - stored["at"] >= LIFETIME - 0.1
    assert "next" not in attempts[-1]
    sentence = world.desk.sentence(trace)
    assert sentence.startswith(f"Given up: the message for {to} could not be handed over within ")
    assert "451 4.2.0 Not yet" in sentence


@pytest.mark.parametrize(
    ("name", "actions"),
    [("usual", ["delayed", "failed"]), ("failure", ["failed"]), ("delay", ["delayed"]), ("never", [])],
)
def test_which_of_both_is_told(world: World, name: str, actions: list[str]) -> None:
    to, trace = f"{name}@deferring.example", world.given_up[name]
    until(lambda: "expired" in world.kinds(trace), 60, "it is given up", pause=0.1)
    assert [one["action"] for one in world.desk.events(trace, "dsn")] == actions
    assert ("suppressed" in world.kinds(trace)) == ("failed" not in actions)
    for action in actions:
        told(world.here, ANN, to, action)
    got = [str(about["Action"]) for notice in notices(world.here, ANN) if (about := notice.about(to)) is not None]
    assert got == actions


def strange(world: World, sender: str) -> str:
    """A stranger's message to an address that forwards to one that there is not."""
    with smtplib.SMTP(world.here.host, world.here.ports["SMTP"], timeout=60) as client:
        client.ehlo("stranger.example")
        assert client.docmd(f"MAIL FROM:<{sender}>")[0] == 250
        assert client.docmd(f"RCPT TO:<forward@{HERE}>")[0] == 250
        code, said = client.data(letter(sender or "nobody@stranger.example", f"forward@{HERE}"))
        assert code == 250
        return said.decode().rpartition(" ")[2]


def test_the_null_sender_is_never_told(world: World) -> None:
    trace = strange(world, "")
    world.settled("gone@refusing.example")
    assert "dsn" not in world.kinds(trace)
    (event,) = world.desk.events(trace, "suppressed")
    assert event["about"] == "gone@refusing.example"
    assert event["why"] == "it has no sender"
    assert "it has no sender" in world.desk.sentence(trace)


def test_a_notice_that_comes_back_makes_no_other(world: World) -> None:
    """The sender elsewhere is told by mail, from the null sender, and that mail is refused too."""
    trace = strange(world, "stranger@refusing.example")
    (event,) = until(lambda: world.desk.events(trace, "dsn"), 60, "the stranger is told", pause=0.1)
    assert event["to"] == "stranger@refusing.example"
    own = event["trace"]
    until(lambda: world.desk.queue("refusing.example") == [], 60, "nothing waits", pause=0.05)
    (attempt,) = world.desk.events(own, "attempt")
    assert (attempt["status"], attempt["code"]) == ("failed", 550)
    assert "dsn" not in world.kinds(own)
    assert "MAIL FROM:<> " in "\n".join(f"{line} " for line in world.refusing.said("MAIL"))


def test_addresses_beyond_ascii(world: World) -> None:
    """RFC 6531 on the way there, RFC 6533 on the way back."""
    to = "zoë@refusing.example"
    trace = world.send(to, "ORCPT=utf-8;zo\\x{EB}@refusing.example", options=("SMTPUTF8",), sender=UTF8)
    notice = told(world.here, ANN, to)
    about = notice.about(to)
    assert about is not None
    assert about["Final-Recipient"] == f"utf-8; {to}"
    assert about["Original-Recipient"] == f"utf-8; {to}"
    assert notice.message["Content-Type"].params["report-type"] == "global-delivery-status"
    assert notice.returned.get_content_type() == "message/global"
    assert f"RCPT TO:<{to}>" in " ".join(world.refusing.said("RCPT"))
    assert any(f"MAIL FROM:<{UTF8}>" in line and "SMTPUTF8" in line for line in world.refusing.said("MAIL"))
    assert f"The sender {UTF8} was told by a message on " in world.desk.sentence(trace)
