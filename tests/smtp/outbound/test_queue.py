"""The queue over REST and on the command line."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from identity.model import Principal, Role
from runtime.clock import SystemClock
from runtime.rest import Guard, RequestCounters, make_app
from smtp.outbound.http_api import router
from tests.smtp.outbound.spooled import Spooled, opened

Call = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
async def spooled(tmp_path: Path) -> AsyncIterator[Spooled]:
    async with opened(tmp_path) as made:
        yield made


@pytest.fixture
async def call(spooled: Spooled) -> AsyncIterator[Call]:
    async def verify(token: str) -> Principal | None:
        roles = {"root": ("r", Role.ADMIN), "ann": (spooled.account, Role.USER), "bob": ("b", Role.USER)}
        if token not in roles:
            return None
        account, role = roles[token]
        return Principal(account, f"{token}@example.org", role, None, "token:1", 1)

    guard: Guard[Principal] = Guard(verify, is_admin=lambda caller: caller.role is Role.ADMIN)
    bugs: list[Exception] = []
    app = make_app(title="t", version="0", counters=RequestCounters(), problems={}, on_bug=bugs.append)
    app.include_router(router(spooled.storage, guard, SystemClock(), {"gmail"}))
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 40000))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:

        async def calling(method: str, path: str, body: Any = None, token: str = "root") -> httpx.Response:
            return await http.request(method, path, headers={"Authorization": f"Bearer {token}"}, json=body)

        yield calling
    assert not bugs


async def test_users_see_their_own_and_administrators_all(spooled: Spooled, call: Call) -> None:
    item, trace = await spooled.put("bob@remote.example", recipient={"NOTIFY": "NEVER"})
    for token, number in (("root", 1), ("ann", 1), ("bob", 0)):
        found = (await call("GET", "/api/queue", token=token)).json()
        assert len(found["items"]) == number
    one = (await call("GET", f"/api/queue/{item}", token="ann")).json()
    assert (one["id"], one["trace"], one["domain"], one["state"]) == (item, trace, "remote.example", "due")
    assert one["recipients"] == [{"address": "bob@remote.example", "notify": "NEVER", "orcpt": None}]
    assert (await call("GET", f"/api/queue/{item}", token="bob")).status_code == 404
    assert (await call("GET", "/api/queue/nothing")).status_code == 404
    for method, path in (("GET", "/api/queue/domains"), ("POST", f"/api/queue/{item}/drop")):
        assert (await call(method, path, token="ann")).status_code == 403
    assert (await call("GET", "/api/queue", token="nobody")).status_code == 401


async def test_pages_and_filters(spooled: Spooled, call: Call) -> None:
    for number in range(5):
        await spooled.put(f"bob@d{number % 2}.example")
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        page = (await call("GET", f"/api/queue?limit=2&after={after}")).json()
        seen += [one["id"] for one in page["items"]]
        after = page["next"]
    assert len(set(seen)) == len(seen) == 5
    assert len((await call("GET", "/api/queue?domain=D1.example")).json()["items"]) == 2
    assert (await call("GET", "/api/queue?domain=..")).status_code == 422
    assert (await call("GET", "/api/queue?limit=1001")).status_code == 422
    domains = (await call("GET", "/api/queue/domains")).json()["domains"]
    assert [(one["domain"], one["items"], one["held"]) for one in domains] == [
        ("d0.example", 3, 0),
        ("d1.example", 2, 0),
    ]


async def test_hold_release_retry_route_and_drop(spooled: Spooled, call: Call) -> None:
    item, trace = await spooled.put("bob@remote.example")
    assert (await call("POST", f"/api/queue/{item}/hold")).json()["state"] == "held"
    assert (await call("POST", f"/api/queue/{item}/release")).json()["state"] == "due"
    assert (await call("POST", f"/api/queue/{item}/retry")).json()["state"] == "due"
    routed = await call("POST", f"/api/queue/{item}/route", {"route": "smtp+tls://relay.example"})
    assert routed.json()["route"] == "smtp+tls://relay.example"
    assert (await call("POST", f"/api/queue/{item}/route", {"route": None})).json()["route"] is None
    assert (await call("POST", f"/api/queue/{item}/drop")).json() == {"changed": 1}
    assert (await call("POST", f"/api/queue/{item}/drop")).status_code == 404
    actions = [event.detail["action"] for event in await spooled.events(trace, "queue")]
    assert actions == ["hold", "release", "retry", "route", "route", "drop"]


@pytest.mark.parametrize("route", ["relay", "http://x", "smtp://user:secret@relay.example", "smtp://h/p"])
async def test_a_bad_route_is_refused_without_telling_secrets(spooled: Spooled, call: Call, route: str) -> None:
    item, _ = await spooled.put("bob@remote.example")
    answer = await call("POST", f"/api/queue/{item}/route", {"route": route})
    assert answer.status_code == 422
    assert "secret" not in answer.text


async def test_a_connector_has_to_be_there(spooled: Spooled, call: Call) -> None:
    item, _ = await spooled.put("bob@remote.example")
    found = await call("POST", f"/api/queue/{item}/route", {"route": "connector:gmail"})
    assert found.json()["route"] == "connector:gmail"
    many = {"action": "route", "items": [item], "route": "connector:gmial"}
    for answer in (
        await call("POST", f"/api/queue/{item}/route", {"route": "connector:gmial"}),
        await call("POST", "/api/queue/change", many),
    ):
        assert answer.status_code == 422
        assert "there is no connector 'gmial': there are gmail." in answer.text


async def test_what_is_being_sent_is_not_dropped(spooled: Spooled, call: Call) -> None:
    item, _ = await spooled.put("bob@remote.example")
    await spooled.storage.claim(1, 1, 60.0)
    assert (await call("GET", f"/api/queue/{item}")).json()["state"] == "sending"
    assert (await call("POST", f"/api/queue/{item}/drop")).status_code == 409


async def test_many_at_once(spooled: Spooled, call: Call) -> None:
    items = [(await spooled.put(f"bob@d{number % 2}.example"))[0] for number in range(6)]
    held = await call("POST", "/api/queue/change", {"action": "hold", "items": [*items[:2], "nothing"]})
    assert held.json() == {"changed": 2}
    assert (await call("POST", "/api/queue/change", {"action": "drop", "domain": "d1.example"})).json() == {
        "changed": 3
    }
    assert (await call("POST", "/api/queue/change", {"action": "release", "domain": "*"})).json() == {"changed": 3}
    routed = {"action": "route", "domain": "*", "route": "smtp://relay.example:25"}
    assert (await call("POST", "/api/queue/change", routed)).json() == {"changed": 3}
    for wrong in (
        {"action": "hold"},
        {"action": "hold", "items": items, "domain": "d0.example"},
        {"action": "route", "items": items},
        {"action": "hold", "items": items, "route": "mx"},
        {"action": "burn", "items": items},
        {"action": "hold", "items": ["x"] * 1001},
    ):
        assert (await call("POST", "/api/queue/change", wrong)).status_code == 422, wrong


# -- the command line, with no server running


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from homing.cli import app

    for name in [name for name in os.environ if name.startswith("HOMING_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOMING_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)

    def homing(*arguments: str, status: int = 0) -> str:
        result = CliRunner().invoke(app, ["queue", *arguments])
        assert result.exit_code == status, (result.output, result.exception)
        return result.output

    async def fill() -> list[str]:
        (tmp_path / "data").mkdir()
        async with opened(tmp_path / "data") as spooled:
            return [(await spooled.put(f"bob@d{number % 2}.example"))[0] for number in range(4)]

    with asyncio.Runner() as runner:
        items = runner.run(fill())
    assert items[0] in homing("list")
    assert [one["id"] for one in json.loads(homing("list", "--json"))] == items
    assert len(json.loads(homing("list", "--domain", "d1.example", "--json"))) == 2
    assert "There may be more" in homing("list", "--limit", "2")
    assert {one["domain"]: one["items"] for one in json.loads(homing("domains", "--json"))} == {
        "d0.example": 2,
        "d1.example": 2,
    }
    assert "d0.example" in homing("domains")
    assert "bob@d0.example" in homing("show", items[0])
    assert json.loads(homing("show", items[0], "--json"))["state"] == "due"
    assert "no message" in homing("show", "nothing", status=1)
    assert "2 messages" in homing("hold", "--domain", "d0.example")
    assert json.loads(homing("show", items[0], "--json"))["state"] == "held"
    assert "4 messages" in homing("release", "--all")
    assert "1 message." in homing("route", "smtp://relay.example:25", items[1])
    assert json.loads(homing("show", items[1], "--json"))["route"] == "smtp://relay.example:25"
    homing("route", "default", items[1])
    assert json.loads(homing("show", items[1], "--json"))["route"] is None
    assert "a route is" in homing("route", "nonsense", items[1], status=2)
    assert "1 message" in homing("retry", items[0])
    homing("drop", items[0], status=2)
    assert "not in the queue" in homing("drop", items[0], "nothing", "--yes", status=1)
    homing("retry", status=2)
    homing("retry", "--all", "--domain", "d1.example", status=2)
    assert "3 messages" in homing("drop", "--all", "--yes")
    assert "Nothing waits" in homing("list")
