"""The doctor in the server: whose turn it is, what has changed, what is kept, and REST."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import structlog
from fastapi import FastAPI

from homing.doctor.daily import EVERY_SECONDS, DailyDoctor, DoctorUnavailable
from homing.doctor.finding import Change, Finding, Report, State, made_report
from homing.doctor.http_api import router
from homing.doctor.kept import PIECE_MAX, PIECES, keep, last
from homing.settings import Settings, load_settings
from identity.model import DkimKey, Domain
from identity.port import Unavailable
from runtime.clock import ManualClock
from runtime.metrics import Metrics
from runtime.rest import Guard
from smtp.outbound.notes import NotesUnavailable
from tests.dnsserver import DnsServer
from tests.homing.doctor.made import DOMAIN, HOST, LIST, NOW, V4, key, publish, setup
from tests.smtp.outbound.fakenotes import FakeNotes


class Ours:
    """Of the identity port what the doctor asks."""

    def __init__(self) -> None:
        self.away = False
        self.asked = 0

    async def domains(self) -> tuple[Domain, ...]:
        self.asked += 1
        if self.away:
            raise Unavailable("the database is away")
        return (Domain("d1", DOMAIN),)

    async def dkim_keys(self, domain: str) -> tuple[DkimKey, ...]:
        return (key(),)


@pytest.fixture
def dns() -> Iterator[DnsServer]:
    with DnsServer() as server:
        publish(server, setup(addresses=(V4,)))
        yield server


class Bench:
    """One process and what it shares with others."""

    def __init__(self, dns: DnsServer, folder: Path) -> None:
        self.clock = ManualClock(NOW)
        self.notes = Counting(self.clock)
        self.ours = Ours()
        self.metrics = Metrics("homing")
        self.environ = {
            "HOMING_DATA": str(folder),
            "HOMING_DOMAIN": DOMAIN,
            "HOMING_HOSTNAME": HOST,
            "HOMING_DNS_SERVERS": dns.where,
            "HOMING_DOCTOR_LISTS": LIST,
            "HOMING_DOCTOR_ADDRESSES": V4,
            "HOMING_OUTBOUND_PORT": "1",
            "HOMING_DNS_TIMEOUT": "30",
        }

    def settings(self) -> Settings:
        return load_settings(self.environ).settings

    def process(self, **more: float) -> DailyDoctor:
        metrics = self.metrics if not hasattr(self, "used") else Metrics("homing")
        self.used = True
        return DailyDoctor(
            self.settings,
            self.ours,  # type: ignore[arg-type]  # two calls of the port
            self.notes,
            tuple,
            metrics,
            clock=self.clock,
            **more,
        )


@pytest.fixture
def bench(dns: DnsServer, tmp_path: Path) -> Bench:
    # The port of MX is tried on the loopback: refused at once.
    dns.zone.remove(HOST, "A")
    dns.add(f"{HOST} A 127.0.0.1")
    return Bench(dns, tmp_path)


class Counting(FakeNotes):
    """Counts looks at the last report."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.looks = 0

    async def get(self, space: str, key: str) -> str | None:
        self.looks += (space, key) == ("doctor", "last")
        return await super().get(space, key)


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within {seconds} s")


async def test_a_look_is_kept_and_counted(bench: Bench) -> None:
    doctor = bench.process()
    assert await doctor.last() is None
    report = await doctor.now()
    again = await bench.process().last()
    assert again == report
    text = bench.metrics.render().decode()
    assert f'homing_doctor_findings{{state="bad"}} {report.counts()["bad"]:.1f}' in text
    assert "homing_doctor_last_look_seconds 1.8e+09" in text


async def test_drift_is_told(bench: Bench, dns: DnsServer) -> None:
    doctor = bench.process()
    await doctor.now()
    dns.zone.remove(f"_dmarc.{DOMAIN}")
    dns.add(f'_dmarc.{DOMAIN} TXT "v=DMARC1; p=wrong"')
    with structlog.testing.capture_logs() as lines:
        report = await doctor.now()
    change = Change("dmarc", DOMAIN, State.OK, State.BAD, "v=DMARC1; p=wrong")
    assert report.changes == (change,)
    (line,) = [one for one in lines if one["log_level"] == "warning"]
    assert (line["check"], line["subject"], line["before"], line["now"]) == ("dmarc", DOMAIN, "ok", "bad")
    # What cannot be known for a while has not changed; what is found after that is compared with what was known.
    dns.fault(f"_dmarc.{DOMAIN}", "servfail")
    assert (await doctor.now()).changes == ()
    dns.fault(f"_dmarc.{DOMAIN}")
    publish(dns, setup(addresses=("127.0.0.1",)))
    better = [one for one in (await doctor.now()).changes if one.check == "dmarc"]
    assert [(one.before, one.after) for one in better] == [(State.BAD, State.OK)]


async def test_one_of_several_processes_looks_once_a_day(bench: Bench) -> None:
    processes = [bench.process(first=0.0, look=0.02) for _ in range(3)]
    for one in processes:
        await one.start()
    await until(lambda: ("doctor", "last") in bench.notes.kept)
    rounds = bench.notes.looks + 20
    await until(lambda: bench.notes.looks >= rounds)
    assert bench.ours.asked == 1
    bench.clock.advance(EVERY_SECONDS + 1)
    await until(lambda: bench.ours.asked == 2)
    for one in processes:
        await one.stop()


async def test_daily_can_be_off(bench: Bench) -> None:
    bench.environ["HOMING_DOCTOR_DAILY"] = "false"
    doctor = bench.process(first=0.0, look=0.01)
    await doctor.start()
    await until(lambda: bench.notes.looks >= 5)
    await doctor.stop()
    assert bench.ours.asked == 0


async def test_who_asks_at_the_same_time_gets_the_same(bench: Bench) -> None:
    doctor = bench.process()
    first, second = await asyncio.gather(doctor.now(), doctor.now())
    assert first is second
    assert bench.ours.asked == 1


async def test_what_is_away_is_told(bench: Bench) -> None:
    doctor = bench.process(first=0.0, look=0.01)
    bench.ours.away = True
    with pytest.raises(DoctorUnavailable, match="the database is away"):
        await doctor.now()
    bench.notes.error = NotesUnavailable("no notes")
    with pytest.raises(DoctorUnavailable, match="no notes"):
        await doctor.last()
    with structlog.testing.capture_logs() as lines:
        await doctor.start()
        await until(lambda: any(one["event"] == "the doctor waits" for one in lines))
        await doctor.stop()


async def test_a_long_report_is_kept_whole() -> None:
    notes = FakeNotes(ManualClock(NOW))
    findings = [Finding("mx", f"{n}.example", State.BAD, "ä" * 200, "b", ("c",), "d") for n in range(2000)]
    report = made_report(NOW, 1.5, findings, None)
    await keep(notes, report)
    assert await last(notes) == report
    assert len(await notes.page(PIECES)) > 2
    assert all(len(note.text) <= PIECE_MAX for note in await notes.page(PIECES))
    short = made_report(NOW + 1, 1.0, findings[:1], report)
    await keep(notes, short)
    assert await last(notes) == short
    assert len(await notes.page(PIECES)) == 1
    await notes.remove(PIECES, [note.key for note in await notes.page(PIECES)])
    assert await last(notes) is None


def test_the_state_of_a_report() -> None:
    def of(*states: State) -> State:
        return made_report(NOW, 1, [Finding("mx", str(n), one, "") for n, one in enumerate(states)], None).state

    assert of() is State.OK
    assert of(State.OK, State.SKIPPED) is State.OK
    assert of(State.OK, State.WARN) is State.WARN
    assert of(State.WARN, State.BAD, State.OK) is State.BAD
    with pytest.raises(ValueError, match="not a report"):
        Report.of("[]")


async def test_rest(bench: Bench) -> None:
    async def verify(token: str) -> str:
        return token

    guard: Guard[str] = Guard(verify, is_admin=lambda caller: caller == "admin")
    app = FastAPI()
    app.include_router(router(bench.process(), guard))  # type: ignore[arg-type]  # callers are texts here
    transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        admin = {"Authorization": "Bearer admin"}
        assert (await client.get("/api/doctor", headers={"Authorization": "Bearer user"})).status_code == 403
        assert (await client.post("/api/doctor", headers={"Authorization": "Bearer user"})).status_code == 403
        assert (await client.get("/api/doctor", headers=admin)).status_code == 404
        done = await client.post("/api/doctor", headers=admin)
        assert done.status_code == 200
        kept = await client.get("/api/doctor", headers=admin)
        assert kept.json() == done.json()
        (mx,) = [one for one in kept.json()["findings"] if one["check"] == "mx"]
        assert (mx["state"], mx["subject"], mx["found"]) == ("ok", DOMAIN, f"10 {HOST}")
        bench.notes.error = NotesUnavailable("no notes")
        away = await client.get("/api/doctor", headers=admin)
        assert (away.status_code, away.headers["retry-after"]) == (503, "5")
