"""The queue as an administrator works with it: the same deeds on the command line and over REST, each seen in the
trace."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.live import PASSWORD, Live, until
from tests.smtp.outbound.peers import Peer
from tests.town import Desk, Town, letter, notices, submit

HERE = "here.example"
ANN, BEN = f"ann@{HERE}", f"ben@{HERE}"
WAYS = ("cli", "rest")
NOTHING_SECONDS = 0.5
"""How long it is looked whether nothing is sent."""
_NUMBERS = count(1)


@dataclass
class World:
    """Each message goes to a domain of its own, all of them to hosts that put it off; ``other`` takes mail."""

    town: Town
    here: Live
    desk: Desk
    putting_off: Peer
    other: Peer

    def waiting(self, sender: str = ANN, messages: int = 1) -> tuple[str, list[dict[str, Any]], list[str]]:
        """(domain, items, traces) of messages that have been tried once and wait for long."""
        domain = f"d{next(_NUMBERS)}.example"
        self.town.names(domain, self.putting_off.address)
        to = f"zoe@{domain}"
        traces = [submit(self.here, sender, [to], letter(sender, to, f"{n}")).trace for n in range(messages)]

        def all_wait() -> list[dict[str, Any]]:
            found = self.desk.queue(domain)
            return found if [one["state"] for one in found] == ["waiting"] * messages else []

        return domain, until(all_wait, 60, "all wait"), traces

    def do(self, way: str, action: str, id: str, route: str | None = None) -> None:
        """To one item."""
        if way == "cli":
            more = ["--yes"] if action == "drop" else []
            done = self.here.cli("queue", action, *([route] if route is not None else []), id, *more)
            assert "1 message." in done.stdout
        else:
            self.desk.post(f"/api/queue/{id}/{action}", {"route": route} if action == "route" else None)

    def item(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.desk.get(f"/api/queue/{id}")
        return found

    def deeds(self, trace: str) -> list[str]:
        return [one["action"] for one in self.desk.events(trace, "queue")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    data: Path = tmp_path_factory.mktemp("queue") / "data"
    with Town() as town:
        here = town.homing(HERE, data, "ann", "ben", HOMING_OUTBOUND_RETRY="1h")
        putting_off = town.peer("off.example", replies={"RCPT": "451 4.2.0 Not yet"})
        yield World(town, here, Desk(here), putting_off, town.peer("other.example"))


def test_list_and_show(world: World) -> None:
    domain, items, traces = world.waiting(messages=3)
    listed = json.loads(world.here.cli("queue", "list", "--domain", domain, "--json").stdout)
    assert [one["id"] for one in listed] == [one["id"] for one in items]
    assert {one["trace"] for one in listed} == set(traces)
    for one in listed:
        assert (one["sender"], one["recipients"], one["state"]) == (ANN, [f"zoe@{domain}"], "waiting")
        assert (one["attempts"], one["route"]) == (1, None)
        assert "451 4.2.0 Not yet" in one["last"]
    shown = world.here.cli("queue", "show", items[0]["id"]).stdout
    for part in (items[0]["id"], ANN, f"zoe@{domain}", "451 4.2.0 Not yet", items[0]["trace"]):
        assert part in shown
    assert json.loads(world.here.cli("queue", "show", items[0]["id"], "--json").stdout)["id"] == items[0]["id"]
    assert items[0]["id"] in world.here.cli("queue", "list", "--domain", domain).stdout
    for domains in (
        json.loads(world.here.cli("queue", "domains", "--json").stdout),
        world.desk.get("/api/queue/domains")["domains"],
    ):
        (ours,) = (one for one in domains if one["domain"] == domain)
        assert (ours["items"], ours["held"]) == (3, 0)
    page = world.desk.get(f"/api/queue?domain={domain}&limit=2")
    rest = world.desk.get(f"/api/queue?domain={domain}&limit=2&after={page['next']}")
    assert [one["id"] for one in (*page["items"], *rest["items"])] == [one["id"] for one in items]
    assert rest["next"] is None


@pytest.mark.parametrize("way", WAYS)
def test_retry(world: World, way: str) -> None:
    _, (item,), (trace,) = world.waiting()
    world.do(way, "retry", item["id"])
    assert [one["attempt"] for one in world.desk.attempts(trace, 2)] == [1, 2]
    assert world.deeds(trace) == ["retry"]
    until(lambda: world.item(item["id"])["state"] == "waiting")
    assert world.item(item["id"])["attempts"] == 2


@pytest.mark.parametrize("way", WAYS)
def test_hold_and_release(world: World, way: str) -> None:
    domain, (item,), (trace,) = world.waiting()
    world.do(way, "hold", item["id"])
    assert world.item(item["id"])["state"] == "held"
    assert world.desk.sentence(trace).startswith(f"Held: an administrator keeps the message for zoe@{domain}")
    tried = len(world.putting_off.said("RCPT"))
    world.do(way, "retry", item["id"])
    assert world.item(item["id"])["state"] == "held"
    world.do(way, "release", item["id"])
    assert [one["attempt"] for one in world.desk.attempts(trace, 2)] == [1, 2]
    assert len(world.putting_off.said("RCPT")) == tried + 1
    assert world.deeds(trace) == ["hold", "retry", "release"]


@pytest.mark.parametrize("way", WAYS)
def test_drop(world: World, way: str) -> None:
    domain, (item,), (trace,) = world.waiting()
    world.do(way, "drop", item["id"])
    assert world.desk.queue(domain) == []
    assert world.here.rest("GET", f"/api/queue/{item['id']}", token=world.here.admin_token())[0] == 404
    assert world.deeds(trace) == ["drop"]
    sentence = world.desk.sentence(trace)
    assert sentence.startswith(f"Dropped: an administrator took the message for zoe@{domain} out of the queue")
    assert all(notice.about(f"zoe@{domain}") is None for notice in notices(world.here, ANN))


@pytest.mark.parametrize("way", WAYS)
def test_route(world: World, way: str) -> None:
    domain, (item,), (trace,) = world.waiting()
    route = f"smtp://{world.other.address}:{world.other.port}"
    world.do(way, "route", item["id"], route)
    assert (world.item(item["id"])["route"], world.item(item["id"])["attempts"]) == (route, 1)
    world.do(way, "retry", item["id"])
    sent = world.desk.attempts(trace, 2)[-1]
    assert (sent["status"], sent["remote"]) == (
        "sent",
        f"{world.other.address} [{world.other.address}]:{world.other.port}",
    )
    assert any(f"RCPT TO:<zoe@{domain}>" in taken.rcpt for taken in world.other.taken)
    assert world.desk.queue(domain) == []
    assert world.deeds(trace) == ["route", "retry"]


def test_route_back_to_where_the_domain_leads(world: World) -> None:
    _, (item,), (trace,) = world.waiting()
    world.do("rest", "route", item["id"], f"smtp://{world.other.address}:{world.other.port}")
    world.here.cli("queue", "route", "default", item["id"])
    assert world.item(item["id"])["route"] is None
    world.do("rest", "retry", item["id"])
    assert world.desk.attempts(trace, 2)[1]["code"] == 451


@pytest.mark.parametrize("way", WAYS)
def test_all_of_a_domain(world: World, way: str) -> None:
    domain, items, _ = world.waiting(messages=3)
    if way == "cli":
        assert "Held: 3 messages." in world.here.cli("queue", "hold", "--domain", domain).stdout
    else:
        assert world.desk.post("/api/queue/change", {"action": "hold", "domain": domain}) == {"changed": 3}
    assert {one["state"] for one in world.desk.queue(domain)} == {"held"}
    if way == "cli":
        some = [one["id"] for one in items[:2]]
        assert "Dropped: 2 messages." in world.here.cli("queue", "drop", "--yes", *some).stdout
    else:
        some = [one["id"] for one in items[:2]]
        assert world.desk.post("/api/queue/change", {"action": "drop", "items": some}) == {"changed": 2}
    assert [one["id"] for one in world.desk.queue(domain)] == [items[2]["id"]]


def test_stopped_and_started_while_running(world: World) -> None:
    """outbound.enabled is live."""
    domain = f"d{next(_NUMBERS)}.example"
    world.town.names(domain, world.other.address)

    world.here.cli("config", "set", "outbound.enabled", "false")
    # Another process takes up changed settings within seconds: where it shows the later one, both are in force.
    world.here.cli("config", "set", "smtp.max_workers", "7")
    try:
        until(lambda: world.desk.get("/api/config")["max_workers"] == 7, what="nothing is sent any more")
        trace = submit(world.here, ANN, [f"zoe@{domain}"], letter(ANN, f"zoe@{domain}")).trace
        # What is to be sent is mostly begun before that.
        time.sleep(NOTHING_SECONDS)
        (item,) = world.desk.queue(domain)
        assert (item["state"], item["attempts"]) == ("due", 0)
        assert world.desk.sentence(trace).startswith(f"Waiting: the message for zoe@{domain} is in the queue since")
    finally:
        world.here.cli("config", "clear", "smtp.max_workers")
        world.here.cli("config", "set", "outbound.enabled", "true")
    (attempt,) = world.desk.attempts(trace, 1)
    assert attempt["status"] == "sent"


def test_what_is_being_sent_is_not_dropped(world: World) -> None:
    """It may have been taken; and a hold begins when the attempt has ended."""
    peer = world.town.peer("sending.example", silent={"TEXT"})
    trace = submit(world.here, ANN, ["zoe@sending.example"], letter(ANN, "zoe@sending.example")).trace
    until(lambda: peer.taken, what="the text has been sent")
    (item,) = world.desk.queue("sending.example")
    assert item["state"] == "sending"
    world.desk.post(f"/api/queue/{item['id']}/drop", status=409)
    refused = world.here.cli("queue", "drop", "--yes", item["id"], check=False)
    assert refused.returncode == 1
    assert "are being sent at this moment" in " ".join(refused.stderr.split())
    world.desk.post(f"/api/queue/{item['id']}/hold")
    world.town.hang_up(peer)
    (attempt,) = world.desk.attempts(trace, 1)
    assert attempt["doubtful"]
    until(lambda: world.item(item["id"])["state"] == "held", what="it is held")
    world.do("rest", "drop", item["id"])
    assert world.desk.queue("sending.example") == []


def test_what_is_not_there_and_what_makes_no_sense(world: World) -> None:
    _, (item,), _ = world.waiting()
    assert world.here.cli("queue", "show", "S0000000000zz", check=False).returncode == 1
    assert world.here.cli("queue", "retry", "S0000000000zz", check=False).returncode == 1
    assert world.here.cli("queue", "retry", check=False).returncode == 2
    assert world.here.cli("queue", "route", "gopher://x", item["id"], check=False).returncode == 2
    assert world.here.cli("queue", "drop", item["id"], check=False).returncode == 2
    world.desk.post("/api/queue/S0000000000zz/retry", status=404)
    world.desk.post(f"/api/queue/{item['id']}/route", {"route": "gopher://x"}, 422)
    world.desk.post(f"/api/queue/{item['id']}/route", {"route": "smtp://user:secret@relay.example"}, 422)
    world.desk.post("/api/queue/change", {"action": "hold"}, 422)
    assert world.item(item["id"])["state"] == "waiting"


def test_users_see_their_own_and_change_nothing(world: World) -> None:
    _, (item,), _ = world.waiting(BEN)
    ann, ben = world.here.token(ANN, PASSWORD), world.here.token(BEN, PASSWORD)
    assert world.here.rest("GET", f"/api/queue/{item['id']}", token=ben)[1]["id"] == item["id"]
    assert world.here.rest("GET", f"/api/queue/{item['id']}", token=ann)[0] == 404
    status, page = world.here.rest("GET", "/api/queue", token=ben)
    assert (status, {one["sender"] for one in page["items"]}) == (200, {BEN})
    for token in (ann, ben):
        for action in ("retry", "hold", "release", "drop"):
            assert world.here.rest("POST", f"/api/queue/{item['id']}/{action}", token=token)[0] == 403
    assert world.here.rest("GET", "/api/queue")[0] == 401
