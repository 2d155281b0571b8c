"""TLS reports: counted, kept, added up over processes, sent once."""

from __future__ import annotations

import email
import email.policy
import gzip
import json
from typing import Any

import pytest

from identity.model import Resolution, Target, Verdict
from mail.dnsrecords import tlsrpt_places, tlsrpt_text
from runtime.clock import ManualClock
from runtime.dns import Answer, DnsTemporary, NoSuchName
from runtime.web import Trouble, WebError
from smtp.outbound.notes import NotesUnavailable
from smtp.outbound.notices import OWN
from smtp.outbound.tlspolicy import Noted
from smtp.outbound.tlsresult import TlsResult
from smtp.outbound.tlsrpt import CLAIM_SECONDS, DELAY_SECONDS, SPREAD_SECONDS, Reporter, TlsReports
from smtp.outbound.tlstally import DAY, DETAILS_MAX, LINES_MAX, POLICIES_MAX, Tally, merge
from smtp.outbound.transport import TLS_OPTIONAL
from storage.model import Accepted, Delivery
from storage.port import Unavailable

from .fakenotes import FakeNotes

DOMAIN = "there.example"
LINES = ("version: STSv1", "mode: enforce", "mx: mx.there.example", "max_age: 86400")
REPORTER = Reporter("Ours", "postmaster@ours.example", "ours.example")
START = 20_000 * DAY + 3600.0


class World:
    """Everything that reports touch; processes share it."""

    def __init__(self) -> None:
        self.clock = ManualClock(START)
        self.notes = FakeNotes(self.clock)
        self.record: str | Exception = tlsrpt_text("mailto:tls@there.example")
        self.accepted: dict[str, Delivery] = {}
        self.calls = 0
        self.away = False
        self.posted: list[tuple[str, bytes, str]] = []
        self.resolution = Resolution(Verdict.NOT_OURS)
        self.opened: list[str] = []

    def process(self, name: str) -> TlsReports:
        return TlsReports(
            REPORTER,
            resolver=self,
            notes=self.notes,
            storage=self,  # type: ignore[arg-type]  # two calls of the port
            identity=self,  # type: ignore[arg-type]  # one call of the port
            post=self.post,
            clock=self.clock,
            process=name,
        )

    async def txt(self, name: str) -> Answer[str]:
        assert name == f"_smtp._tls.{DOMAIN}"
        if isinstance(self.record, Exception):
            raise self.record
        return Answer((self.record,), False, 60, name)

    async def post(self, url: str, body: bytes, kind: str) -> None:
        if self.away:
            raise WebError(Trouble.REACH, "away")
        self.posted.append((url, body, kind))

    async def resolve(self, address: str) -> Resolution:
        return self.resolution

    async def open_account(self, op: object, account: str) -> None:
        self.opened.append(account)

    async def accept(self, deliveries: list[Delivery]) -> list[Accepted | Unavailable]:
        (delivery,) = deliveries
        self.calls += 1
        if self.away:
            return [Unavailable("away")]
        self.accepted.setdefault(delivery.op.id, delivery)
        return [Accepted((), ("s",))]

    def noted(self, result: TlsResult = TlsResult.SUCCESS, **more: Any) -> Noted:
        values: dict[str, Any] = {
            "day": int(self.clock.now() // DAY),
            "domain": DOMAIN,
            "policy_type": "sts",
            "policy": LINES,
            "mx_patterns": ("mx.there.example",),
            "host": "mx.there.example",
            **more,
        }
        return Noted(result=result, **values)

    def next_day(self) -> None:
        self.clock.advance(DAY + DELAY_SECONDS + SPREAD_SECONDS)


def opened(delivery: Delivery) -> tuple[Any, dict[str, Any]]:
    assert isinstance(delivery.content, bytes)
    message = email.message_from_bytes(delivery.content, policy=email.policy.SMTP)
    assert delivery.content == delivery.content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    _, attachment = message.iter_parts()
    return message, json.loads(gzip.decompress(attachment.get_content()))


async def test_the_counts_of_all_processes_are_one_report() -> None:
    world = World()
    one, two = world.process("p1"), world.process("p2")
    for _ in range(3):
        one.note(world.noted())
    two.note(world.noted())
    two.note(world.noted(TlsResult.EXPIRED, address="192.0.2.1", detail="the certificate has expired"))
    one.note(world.noted(TlsResult.EXPIRED, address="192.0.2.1", detail="the certificate has expired"))
    one.note(world.noted(policy_type="tlsa", policy=("3 1 1 00",), mx_patterns=()))
    await one.stop()
    # The next life of the process.
    three = world.process("p3")
    three.note(world.noted(TlsResult.STARTTLS_NOT_SUPPORTED))
    await three.flush()
    await two.flush()
    assert await three.send_due() == 0
    world.next_day()
    assert [await three.send_due(), await two.send_due(), await three.send_due()] == [1, 0, 0]
    (delivery,) = world.accepted.values()
    message, report = opened(delivery)
    assert report == {
        "organization-name": "Ours",
        "date-range": {"start-datetime": "2024-10-04T00:00:00Z", "end-datetime": "2024-10-04T23:59:59Z"},
        "contact-info": "postmaster@ours.example",
        "report-id": report["report-id"],
        "policies": [
            {
                "policy": {
                    "policy-type": "sts",
                    "policy-string": list(LINES),
                    "policy-domain": DOMAIN,
                    "mx-host": ["mx.there.example"],
                },
                "summary": {"total-successful-session-count": 4, "total-failure-session-count": 3},
                "failure-details": [
                    {
                        "result-type": "certificate-expired",
                        "receiving-mx-hostname": "mx.there.example",
                        "receiving-ip": "192.0.2.1",
                        "failed-session-count": 2,
                        "failure-reason-code": "the certificate has expired",
                    },
                    {
                        "result-type": "starttls-not-supported",
                        "receiving-mx-hostname": "mx.there.example",
                        "failed-session-count": 1,
                    },
                ],
            },
            {
                "policy": {"policy-type": "tlsa", "policy-string": ["3 1 1 00"], "policy-domain": DOMAIN},
                "summary": {"total-successful-session-count": 1, "total-failure-session-count": 0},
            },
        ],
    }
    assert message["TLS-Report-Domain"] == DOMAIN
    assert message["TLS-Report-Submitter"] == "ours.example"
    assert message["To"] == "tls@there.example"
    assert message["Subject"].startswith(f"Report Domain: {DOMAIN} Submitter: ours.example Report-ID: <")
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "tlsrpt"
    attachment = list(message.iter_parts())[1]
    assert attachment.get_content_type() == "application/tlsrpt+gzip"
    name = attachment.get_filename()
    assert name.startswith("ours.example!there.example!1728000000!1728086399!")
    assert name.endswith(".json.gz")
    assert (delivery.sender, delivery.params) == ("postmaster@ours.example", {OWN: "", TLS_OPTIONAL: ""})
    assert [(one.address, dict(one.params)) for one in delivery.remote] == [("tls@there.example", {"NOTIFY": "NEVER"})]
    assert await world.notes.page("tls-report") == ()


async def test_who_asks_for_none_gets_none() -> None:
    for record in (NoSuchName("x"), "v=spf1 -all", "v=TLSRPTv1; rua=ftp://x"):
        world = World()
        world.record = record
        reports = world.process("p")
        reports.note(world.noted())
        await reports.flush()
        world.next_day()
        assert await reports.send_due() == 0
        assert await world.notes.page("tls-report") == ()
        assert not world.accepted


async def test_what_cannot_be_sent_now_is_sent_later_by_the_same_or_another() -> None:
    world = World()
    one, two = world.process("p1"), world.process("p2")
    one.note(world.noted())
    await one.flush()
    world.next_day()
    world.away = True
    assert await one.send_due() == 0
    world.away, world.record = False, DnsTemporary("x")
    assert await one.send_due() == 0
    world.record = tlsrpt_text("mailto:tls@there.example")
    # The first process has it.
    assert await two.send_due() == 0
    world.clock.advance(CLAIM_SECONDS)
    assert await two.send_due() == 1
    assert len(world.accepted) == 1


async def test_a_report_that_was_accepted_before_a_crash_is_accepted_once() -> None:
    world = World()
    one, two = world.process("p1"), world.process("p2")
    one.note(world.noted())
    await one.flush()
    kept = dict(world.notes.kept)
    world.next_day()
    assert await one.send_due() == 1
    # As if the process had been killed before it took the counts away.
    world.notes.kept.update(kept)
    world.clock.advance(CLAIM_SECONDS)
    await two.send_due()
    assert (world.calls, len(world.accepted)) == (2, 1)


async def test_over_https_and_to_an_address_of_ours() -> None:
    world = World()
    world.record = tlsrpt_text("https://r.there.example/v1", "mailto:tls%40x@there.example", "mailto:tls@there.example")
    world.resolution = Resolution(Verdict.LOCAL, (Target("a1", "tls@there.example", None),), ("far@away.example",))
    reports = world.process("p")
    reports.note(world.noted())
    await reports.flush()
    world.next_day()
    assert await reports.send_due() == 1
    ((url, body, kind),) = world.posted
    assert (url, kind) == ("https://r.there.example/v1", "application/tlsrpt+gzip")
    assert json.loads(gzip.decompress(body))["policies"][0]["policy"]["policy-domain"] == DOMAIN
    (delivery,) = world.accepted.values()
    assert [one.account for one in delivery.local] == world.opened == ["a1"]
    assert [one.address for one in delivery.remote] == ["far@away.example"]


async def test_counts_are_written_again_when_they_could_not_be() -> None:
    world = World()
    reports = world.process("p")
    reports.note(world.noted())
    world.notes.error = NotesUnavailable("away")
    await reports.flush()
    assert await reports.send_due() == 0
    world.notes.error = None
    await reports.flush()
    assert len(await world.notes.page("tls-report")) == 1


async def test_what_is_counted_is_bounded() -> None:
    world = World()
    tally = Tally(world.notes, "p")
    for n in range(500):
        tally.add(world.noted(TlsResult.EXPIRED, host=f"mx{n}.there.example", detail="x" * 1000))
        tally.add(world.noted(policy=("y" * 1000,) * 1000, mx_patterns=(str(n),)))
    await tally.flush(int(world.clock.now() // DAY))
    (note,) = await world.notes.page("tls-report")
    counts = merge([note.text])
    assert len(counts) == POLICIES_MAX
    assert sum(count.good for count in counts.values()) == 500
    assert sum(count.bad for count in counts.values()) == 500
    assert all(len(count.failures) <= DETAILS_MAX + 1 for count in counts.values())
    assert all(len(lines) <= LINES_MAX for _, lines, _ in counts)


@pytest.mark.parametrize(
    ("texts", "places"),
    [
        (["v=TLSRPTv1; rua=mailto:a@b.example"], ("mailto:a@b.example",)),
        (["v=TLSRPTv1;rua=mailto:a@b.example , https://b.example/x;"], ("mailto:a@b.example", "https://b.example/x")),
        (["v=TLSRPTv1; rua=mailto:a", "x"], ()),
        (["v=TLSRPTv1; rua=mailto:a@b", "v=TLSRPTv1; rua=mailto:c@d"], ()),
        (["v=TLSRPTv2; rua=mailto:a@b"], ()),
        ([], ()),
    ],
)
def test_the_record(texts: list[str], places: tuple[str, ...]) -> None:
    assert tlsrpt_places(texts) == places
