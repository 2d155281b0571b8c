"""Mail to destinations that are down, slow, or go wrong in other ways: when it is tried again, what its sender is told,
and what its trace says."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.live import Live, until
from tests.smtp.outbound.peers import EXTENSIONS, Peer
from tests.smtp.outbound.pki import server
from tests.town import Desk, Notice, Submitted, Town, letter, notices, submit, told

pytestmark = pytest.mark.slow

HERE = "here.example"
ANN = f"ann@{HERE}"
RETRY = (1.0, 2.0, 600.0)
"""Three attempts in quick succession; then all stands still for long enough to look at it."""
SPREAD = 0.2
TIMEOUT = 5.0
WITHIN = f"within {TIMEOUT:g} s"
WITHOUT_UTF8 = tuple(word for word in EXTENSIONS if word != "SMTPUTF8")
WITHOUT_8BIT = tuple(word for word in EXTENSIONS if word != "8BITMIME")
LONG = ("x" * 70 + "\r\n") * 170_000
"""More than the buffers of a connection hold: a server can close in the middle of it."""


@dataclass(frozen=True)
class Case:
    """One destination.

    how: fields of its ``Peer``; None for one without. zone: its records then, in which ``{net}`` stands for the town's
    network, ``{here}`` for our own address. status: of the attempts that did not succeed. words: of the remote, or
    ours, in queue, notice and trace. why: what the trace's sentence has besides. code: of a reply. doubtful: the
    message may have been taken; taken: it was. remote: a server was spoken to that is no ``Peer``.
    """

    name: str
    how: dict[str, Any] | None = None
    zone: tuple[str, ...] = ()
    phase: str = ""
    status: str = ""
    words: str = ""
    why: str = ""
    code: int | None = None
    doubtful: bool = False
    taken: bool = True
    remote: bool = False
    local: str = "zoe"
    body: str = "Hello.\r\n"
    options: tuple[str, ...] = ()

    @property
    def domain(self) -> str:
        return f"{self.name.replace(' ', '-')}.example"

    @property
    def to(self) -> str:
        return f"{self.local}@{self.domain}"


WAITING = (
    Case("down", None, ("down.example MX 10 mx.down.example.", "mx.down.example A {net}.250"), phase="connect",
         status="4.4.1", words="Connection refused", why="mx.down.example cannot be reached"),
    Case("unanswered", None, ("unanswered.example MX 10 mx.unanswered.example.", "mx.unanswered.example A {net}.251"),
         phase="connect", status="4.4.1", words=f"No connection came about {WITHIN}", why="cannot be reached"),
    Case("slow greeting", {"silent": {"CONNECT"}}, phase="greeting", status="4.4.1", words=WITHIN,
         why="cannot be reached or does not speak properly"),
    Case("slow text", {"silent": {"TEXT"}}, phase="text", status="4.4.1", words=WITHIN, doubtful=True),
    Case("busy", {"replies": {"CONNECT": "421 4.3.2 Come back later"}}, phase="greeting", status="4.3.2", code=421,
         words="Come back later", why="has trouble of its own"),
    Case("tempfail mail", {"replies": {"MAIL": "451 4.3.0 No room in the queue"}}, phase="mail", status="4.3.0",
         code=451, words="No room in the queue", why="has trouble of its own"),
    Case("tempfail text", {"replies": {"TEXT": "452 4.3.1 Disk full"}}, phase="text", status="4.3.1", code=452,
         words="Disk full", why="has trouble of its own"),
    Case("full", {"replies": {"RCPT": "452 4.2.2 Mailbox full"}}, phase="rcpt", status="4.2.2", code=452,
         words="Mailbox full", why="the recipient's mailbox is full"),
    Case("greylisting", {"replies": {"RCPT": "450 4.7.1 Greylisted, try again in 300 seconds"}}, phase="rcpt",
         status="4.7.1", code=450, words="Greylisted", why="(greylisting)"),
    Case("close in data", {"close": {"MIDDLE"}}, phase="text", status="4.4.2", words="closed", body=LONG),
    # All of it was on its way already.
    Case("close in short data", {"close": {"MIDDLE"}}, phase="text", status="4.4.2", words="closed", doubtful=True,
         taken=False),
    Case("close after the dot", {"close": {"TEXT"}}, phase="text", status="4.4.2", words="closed", doubtful=True),
    Case("garbage", {"replies": {"CONNECT": b"\x00\xff\x80 HTTP/1.1 200 OK\r\n"}}, phase="greeting", status="4.4.2",
         words="not a reply of SMTP", why="does not speak properly"),
    Case("endless", {"unending": {"EHLO"}}, phase="ehlo", status="4.4.2", words="the reply has no end"),
    Case("servfail", None, phase="route", status="4.4.3", words="cannot be looked up now",
         why="the DNS does not say now where mail for servfail.example goes"),
    Case("unsigned in", None, ("unsigned-in.example MX 10 nowhere.unsigned-in.example.",), phase="route",
         status="4.4.3", words="cannot be looked up now"),
)  # fmt: skip

FAILED = (
    Case("nobody", {"replies": {"RCPT": "550 5.1.1 No such user here"}}, phase="rcpt", status="5.1.1", code=550,
         words="No such user here", why="there is no such mailbox"),
    Case("unwanted", {"replies": {"CONNECT": "554 5.7.1 Your address is on the Spamhaus blocklist"}}, phase="greeting",
         status="5.7.1", code=554, words="Spamhaus", why="stands on a list of senders of spam"),
    Case("spam", {"replies": {"TEXT": "550 5.7.1 This looks like spam"}}, phase="text", status="5.7.1", code=550,
         words="This looks like spam", why="takes the message for spam"),
    Case("null mx", None, ("null-mx.example MX 0 .",), phase="route", status="5.1.10", words="null MX",
         why="declares in the DNS that it takes no mail"),
    Case("no such domain", None, phase="route", status="5.1.2", words="does not exist", why="there is no domain"),
    Case("no address", None, ("no-address.example MX 10 mx.no-address.example.",), phase="route", status="5.4.4",
         words="has no address"),
    Case("loop", None, (f"loop.example MX 10 mx.{HERE}.",), phase="route", status="5.4.6",
         words="loops back to myself", why="goes in a circle"),
    Case("circle", None, ("circle.example MX 10 mx.circle.example.", "mx.circle.example A {here}"), phase="ehlo",
         status="5.4.6", words="the server calls itself mx.here.example", why="goes in a circle", remote=True),
    Case("too big", {"extensions": (*WITHOUT_8BIT[:1], "SIZE 2000", "8BITMIME")}, phase="mail", status="5.3.4",
         words="the server takes 2000", why="larger than mx.too-big.example takes", body="x" * 70 + "\r\n" * 1500),
    Case("without utf8", {"extensions": WITHOUT_UTF8}, phase="ehlo", status="5.6.7",
         words="internationalised addresses", why="letters beyond ASCII", local="zoë", options=("SMTPUTF8",)),
    Case("without 8bit", {"extensions": WITHOUT_8BIT}, phase="ehlo", status="5.6.3", words="8-bit text",
         why="does not like the form", body="Grüße\r\n", options=("BODY=8BITMIME",)),
)  # fmt: skip


@dataclass
class World:
    town: Town
    here: Live
    desk: Desk
    peers: dict[str, Peer] = field(default_factory=dict)
    sent: dict[str, Submitted] = field(default_factory=dict)

    def send(self, case: Case) -> None:
        text = letter(ANN, case.to, case.name, case.body)
        self.sent[case.name] = submit(self.here, ANN, [case.to], text, options=case.options)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """All are sent to at once: they are in nobody's way."""
    folder = tmp_path_factory.mktemp("faults")
    settings = {
        "HOMING_OUTBOUND_RETRY": ",".join(f"{pause:g}s" for pause in RETRY),
        "HOMING_OUTBOUND_DOWN_PAUSE": "0.1s",
        "HOMING_OUTBOUND_CONNECT_TIMEOUT": f"{TIMEOUT:g}",
        "HOMING_OUTBOUND_COMMAND_TIMEOUT": f"{TIMEOUT:g}",
        "HOMING_OUTBOUND_DATA_TIMEOUT": f"{TIMEOUT:g}",
        "HOMING_DNS_TIMEOUT": "10",
    }
    with ExitStack() as stack:
        town = stack.enter_context(Town())
        here = town.homing(HERE, folder / "data", "ann", **settings)
        world = World(town, here, Desk(here))
        unanswered(stack, f"{town.network}.251", town.port)
        town.dns.fault("servfail.example", "servfail")
        town.dns.fault("nowhere.unsigned-in.example", "servfail")
        for case in (*WAITING, *FAILED):
            if case.how is not None:
                world.peers[case.name] = town.peer(case.domain, **case.how)
            town.dns.add(*(line.format(net=town.network, here=here.host) for line in case.zone))
        for case in (*WAITING, *FAILED):
            world.send(case)
        yield world


def unanswered(stack: ExitStack, address: str, port: int) -> None:
    """A host whose places for connections that nobody takes are full: it answers nothing."""
    listener = stack.enter_context(socket.socket())
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(0)
    for _ in range(3):
        filler = stack.enter_context(socket.socket())
        filler.setblocking(False)
        filler.connect_ex((address, port))


def by_schedule(attempts: list[dict[str, Any]]) -> None:
    """Were they made, and is the next one planned, as the setting says?"""
    for number, attempt in enumerate(attempts):
        pause = RETRY[min(number, len(RETRY) - 1)]
        assert attempt["attempt"] == number + 1
        assert pause * (1 - SPREAD) <= attempt["next"] - attempt["at"] <= pause * (1 + SPREAD) + 0.1
        if number:
            assert attempt["at"] >= attempts[number - 1]["next"]


@pytest.mark.parametrize("case", WAITING, ids=lambda case: case.name)
def test_it_waits_and_is_tried_again(world: World, case: Case) -> None:
    trace = world.sent[case.name].trace
    attempts = world.desk.attempts(trace, len(RETRY))
    by_schedule(attempts)
    for attempt in attempts:
        assert (attempt["status"], attempt["phase"], attempt["enhanced"]) == ("deferred", case.phase, case.status)
        assert (attempt["code"], attempt["doubtful"]) == (case.code, case.doubtful)
        assert case.words in attempt["text"], attempt["text"]
        assert attempt["address"] == case.to
    (item,) = until(lambda: [one for one in world.desk.queue(case.domain) if one["state"] == "waiting"])
    assert (item["attempts"], item["next_attempt"]) == (len(RETRY), attempts[-1]["next"])
    assert case.words in item["last"]
    sentence = world.desk.sentence(trace)
    assert sentence.startswith(f"Waiting: {case.to} does not have the message yet. The reason: "), sentence
    assert case.words in sentence
    assert case.why in sentence, sentence
    assert "The next attempt is on " in sentence
    assert f"`homing queue retry {item['id']}`" in sentence
    assert ("may get it twice" in sentence) == case.doubtful
    assert all(notice.about(case.to) is None for notice in notices(world.here, ANN))
    if case.doubtful and case.taken:
        # Nobody can know it here.
        assert len(world.peers[case.name].taken) == len(RETRY)


@pytest.mark.parametrize("case", FAILED, ids=lambda case: case.name)
def test_it_goes_back_to_its_sender(world: World, case: Case) -> None:
    notice = told(world.here, ANN, case.to)
    about = notice.about(case.to)
    assert about is not None
    assert about["Status"] == case.status
    kind, _, diagnosis = about["Diagnostic-Code"].partition("; ")
    if case.code is None:
        assert kind.lower() == "x-homing"
    else:
        assert kind == "smtp"
        assert diagnosis.startswith(f"{case.code} {case.status} ")
    assert case.words in " ".join(diagnosis.split())
    spoken = case.how is not None or case.remote
    assert about["Remote-MTA"] == (f"dns; mx.{case.domain}" if spoken else None)
    assert case.to in notice.text
    assert notice.message["To"].addresses[0].addr_spec == ANN
    assert notice.message["Auto-Submitted"] == "auto-replied"
    trace = world.sent[case.name].trace
    (attempt,) = world.desk.attempts(trace, 1)
    assert (attempt["status"], attempt["phase"], attempt["enhanced"]) == ("failed", case.phase, case.status)
    assert world.desk.queue(case.domain) == []
    sentence = world.desk.sentence(trace)
    assert sentence.startswith(f"Not delivered: the message did not get to {case.to}. The reason: "), sentence
    assert case.words in sentence
    assert case.why in sentence, sentence
    assert f"The sender {ANN} was told by a message on " in sentence
    if (peer := world.peers.get(case.name)) is not None and case.phase != "text":
        assert not peer.taken


def test_greylisting_is_waited_out(world: World) -> None:
    peer = world.town.peer("grey.example", replies={"RCPT": ["450 4.7.1 Greylisted", "250 2.1.5 Welcome"]})
    sent = submit(world.here, ANN, ["zoe@grey.example"], letter(ANN, "zoe@grey.example"))
    first, second = world.desk.attempts(sent.trace, 2)
    assert (first["status"], first["code"]) == ("deferred", 450)
    assert RETRY[0] * (1 - SPREAD) <= first["next"] - first["at"] <= RETRY[0] * (1 + SPREAD) + 0.1
    assert (second["status"], second["code"]) == ("sent", 250)
    assert len(peer.taken) == 1
    assert world.desk.queue("grey.example") == []
    sentence = world.desk.sentence(sent.trace)
    assert sentence.startswith("Sent: mx.grey.example ")
    assert " took the message for zoe@grey.example on " in sentence
    assert " at attempt 2 " in sentence


def test_one_refused_of_three(world: World) -> None:
    refused = {"RCPT b@three.example": "550 5.1.1 No such user"}
    put_off = {"RCPT c@three.example": ["451 4.3.0 Not now", "250 2.1.5 Ok"]}
    peer = world.town.peer("three.example", replies={**refused, **put_off})
    everyone = [f"{name}@three.example" for name in "abc"]
    sent = submit(world.here, ANN, everyone, letter(ANN, ", ".join(everyone)))
    notice = told(world.here, ANN, "b@three.example")
    assert [one["Final-Recipient"] for one in notice.recipients] == ["rfc822; b@three.example"]
    until(lambda: world.desk.queue("three.example") == [], what="the third has it")
    assert [taken.rcpt for taken in peer.taken] == [
        ("RCPT TO:<a@three.example>",),
        ("RCPT TO:<c@three.example>",),
    ]
    by_address = {
        address: [one["status"] for one in world.desk.events(sent.trace, "attempt") if one["address"] == address]
        for address in everyone
    }
    assert list(by_address.values()) == [["sent"], ["failed"], ["deferred", "sent"]]
    fates = {fate["address"]: fate["state"] for fate in world.desk.trace(sent.trace)["fates"]}
    assert fates == dict(zip(everyone, ["sent", "failed", "sent"], strict=True))
    assert world.desk.sentence(sent.trace).startswith("Of 3 recipients: ")


@pytest.mark.parametrize(
    "how",
    [
        {"broken_tls": True},
        {"close": {"HANDSHAKE"}, "tls": "good"},
        {"replies": {"STARTTLS": "454 4.7.0 TLS not available"}, "tls": "good"},
    ],
    ids=["nonsense", "closed", "refused"],
)
def test_broken_tls_that_nobody_asks_for_is_gone_around(
    world: World, how: dict[str, Any], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if how.get("tls"):
        context: ssl.SSLContext = server("mx.example").server(tmp_path)
        how = {**how, "tls": context}
    domain = f"tls-{request.node.callspec.id}.example"
    peer = world.town.peer(domain, **how)
    sent = submit(world.here, ANN, [f"zoe@{domain}"], letter(ANN, f"zoe@{domain}"))
    (attempt,) = world.desk.attempts(sent.trace, 1)
    assert (attempt["status"], attempt["tls"], attempt["verified"]) == ("sent", None, "")
    assert peer.said("STARTTLS")
    assert [taken.tls for taken in peer.taken] == [False]
    assert " without TLS " in world.desk.sentence(sent.trace)


def test_the_second_host_has_it_where_the_first_is_down(world: World) -> None:
    peer = world.town.peer("second.example")
    world.town.dns.add("second.example MX 5 gone.second.example.", f"gone.second.example A {world.town.network}.249")
    sent = submit(world.here, ANN, ["zoe@second.example"], letter(ANN, "zoe@second.example"))
    (attempt,) = world.desk.attempts(sent.trace, 1)
    assert (attempt["status"], attempt["remote"].split()[0]) == ("sent", "mx.second.example")
    assert len(peer.taken) == 1


def test_a_domain_without_mx_records_is_its_own_host(world: World) -> None:
    peer = world.town.peer("implicit.example")
    world.town.dns.zone.remove("implicit.example", "MX")
    world.town.dns.add(f"implicit.example A {peer.address}")
    sent = submit(world.here, ANN, ["zoe@implicit.example"], letter(ANN, "zoe@implicit.example"))
    (attempt,) = world.desk.attempts(sent.trace, 1)
    assert (attempt["status"], attempt["remote"].split()[0]) == ("sent", "implicit.example")


def test_an_address_that_does_not_answer_is_not_the_only_one(world: World) -> None:
    """IPv6 first, where nobody listens on the port; then an IPv4 address that is down; then one that is up."""
    peer = world.town.peer("several.example")
    world.town.dns.zone.remove("mx.several.example")
    down, up = sorted((f"{world.town.network}.248", peer.address))
    world.town.dns.add("mx.several.example AAAA ::1", f"mx.several.example A {down}", f"mx.several.example A {up}")
    sent = submit(world.here, ANN, ["zoe@several.example"], letter(ANN, "zoe@several.example"))
    (attempt,) = world.desk.attempts(sent.trace, 1)
    assert (attempt["status"], attempt["remote"]) == (
        "sent",
        f"mx.several.example [{peer.address}]:{world.town.port}",
    )


def test_the_notice_has_the_message_in_it(world: World) -> None:
    case = next(case for case in FAILED if case.name == "nobody")
    notice: Notice = told(world.here, ANN, case.to)
    assert notice.returned.get_content_type() == "message/rfc822"
    inner: Any = notice.returned.get_payload(0)
    assert inner["Subject"] == "nobody"
    assert inner.get_content() == "Hello.\r\n"
