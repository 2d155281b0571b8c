from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel, Field

from runtime.listener import Tls, make_self_signed
from runtime.rest import Guard, Problem, RequestCounters, RestServer, make_app


class Login(BaseModel):
    email: str
    password: str = Field(max_length=8)
    tries: int = 0


class Sorry(Exception):
    """A port's error."""


async def verify(token: str) -> str | None:
    if token == "slow":
        raise Sorry("later")
    return {"good": "user", "root": "admin"}.get(token)


class Scene:
    def __init__(self, *, allow_plain: bool = False) -> None:
        self.counters = RequestCounters()
        self.bugs: list[Exception] = []
        self.guard = Guard(verify, is_admin=lambda who: who == "admin", allow_plain=allow_plain)
        self.app: FastAPI = make_app(
            title="t",
            version="1",
            counters=self.counters,
            problems={Sorry: lambda error: Problem(503, str(error), 2.4)},
            on_bug=self.bugs.append,
            max_body=100,
        )

        @self.app.get("/mine")
        async def mine(caller: str = Depends(self.guard.user)) -> dict[str, str]:
            return {"who": caller}

        @self.app.get("/ours")
        async def ours(caller: str = Depends(self.guard.admin)) -> dict[str, str]:
            return {"who": caller}

        @self.app.get("/bug")
        async def bug() -> None:
            raise ZeroDivisionError("inside")

        @self.app.post("/body")
        async def body(request: Request) -> int:
            return len(await request.body())

        @self.app.post("/login")
        async def login(given: Login) -> int:
            return given.tries

    def client(self, address: str = "127.0.0.1", scheme: str = "http") -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, client=(address, 1))
        return httpx.AsyncClient(transport=transport, base_url=f"{scheme}://test")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/mine", {}, 401),
        ("/mine", bearer("bad"), 401),
        ("/mine", {"Authorization": "Basic good"}, 401),
        ("/mine", {"Authorization": "Bearer"}, 401),
        ("/mine", bearer("good"), 200),
        ("/ours", bearer("good"), 403),
        ("/ours", bearer("root"), 200),
        ("/mine", bearer("slow"), 503),
        ("/absent", {}, 404),
        ("/docs", {}, 200),
        ("/openapi.json", {}, 200),
    ],
)
async def test_who_may_what(path: str, headers: dict[str, str], status: int) -> None:
    scene = Scene()
    async with scene.client() as client:
        answer = await client.get(path, headers=headers)
    assert answer.status_code == status
    if status >= 400:
        assert isinstance(answer.json()["detail"], str)
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
    if status == 503:
        # Rounded up: who waits as long as is told does not come too early.
        assert answer.headers["retry-after"] == "3"


@pytest.mark.parametrize(
    ("address", "scheme", "allow", "status"),
    [
        ("127.0.0.1", "http", False, 200),
        ("::1", "http", False, 200),
        ("192.0.2.1", "http", False, 403),
        ("192.0.2.1", "https", False, 200),
        ("192.0.2.1", "http", True, 200),
    ],
)
async def test_tokens_over_plain_http(address: str, scheme: str, allow: bool, status: int) -> None:
    async with Scene(allow_plain=allow).client(address, scheme) as client:
        assert (await client.get("/mine", headers=bearer("good"))).status_code == status


async def test_requests_are_counted() -> None:
    scene = Scene()
    async with scene.client() as client:
        await client.get("/mine", headers=bearer("good"))
        await client.get("/mine")
        await client.get("/bug")
    counters = scene.counters
    assert (counters.total, counters.successful, counters.failed) == (3, 1, 2)
    assert counters.last_request_time is not None


async def test_a_bug_is_a_500_without_details() -> None:
    scene = Scene()
    async with scene.client() as client:
        answer = await client.get("/bug")
    assert answer.status_code == 500
    assert "inside" not in answer.text
    assert [type(bug) for bug in scene.bugs] == [ZeroDivisionError]


async def test_bodies_are_bounded() -> None:
    async def pieces(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * 10

    async with Scene().client() as client:
        assert (await client.post("/body", content=b"x" * 100)).json() == 100
        assert (await client.post("/body", content=b"x" * 101)).status_code == 413
        assert (await client.post("/body", content=pieces(10))).json() == 100
        assert (await client.post("/body", content=pieces(11))).status_code == 413


async def test_it_serves_and_drains(tmp_path: Path) -> None:
    scene = Scene()
    waiting, go_on = asyncio.Event(), asyncio.Event()

    @scene.app.get("/wait")
    async def wait() -> str:
        waiting.set()
        await go_on.wait()
        return "done"

    cert, key = make_self_signed(tmp_path, ["localhost"])
    server = RestServer(scene.app, host="127.0.0.1", port=0, tls=Tls(cert, key))
    await server.start()
    trust = ssl.create_default_context(cafile=str(cert))
    async with httpx.AsyncClient(verify=trust, base_url=f"https://localhost:{server.port}", timeout=60) as client:
        assert (await client.get("/mine", headers=bearer("good"))).json() == {"who": "user"}
        request = asyncio.create_task(client.get("/wait"))
        await asyncio.wait_for(waiting.wait(), 60)
        draining = asyncio.create_task(server.drain())
        await asyncio.sleep(0)
        go_on.set()
        assert (await request).json() == "done"
        await asyncio.wait_for(draining, 60)
    await server.stop()


async def test_a_proxy_on_this_machine_speaks_for_others() -> None:
    server = RestServer(Scene().app, host="127.0.0.1", port=0)
    await server.start()
    afar = {**bearer("good"), "X-Forwarded-For": "192.0.2.1"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=60) as client:
        assert (await client.get("/mine", headers=bearer("good"))).status_code == 200
        assert (await client.get("/mine", headers=afar)).status_code == 403
        assert (await client.get("/mine", headers={**afar, "X-Forwarded-Proto": "https"})).status_code == 200
    await server.drain()
    await server.stop()


async def test_the_documentation_offers_to_sign_in() -> None:
    async with Scene().client() as client:
        described = (await client.get("/openapi.json")).json()
    flow = described["components"]["securitySchemes"]["OAuth2PasswordBearer"]["flows"]["password"]
    assert flow["tokenUrl"] == "/token"


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ('{"password": "s3cret"}', "email: Field required."),
        ('{"email": "a", "password": ["s3cret"]}', "password: Input should be a valid string."),
        ('{"email": "a", "password": "s3cret s3cret"}', "password: String should have at most 8 characters."),
        ('{"tries": "s3cret"}', "email: Field required; password: Field required; tries: Input should be a valid"),
        ('"s3cret"', "body: a JSON object is wanted, and Content-Type: application/json."),
        ('{"password": "s3cret', "body: no JSON: Unterminated string starting at, at character 13."),
    ],
)
async def test_what_is_not_acceptable_is_told_in_a_sentence_without_it(sent: str, told: str) -> None:
    async with Scene().client() as client:
        answer = await client.post("/login", content=sent, headers={"Content-Type": "application/json"})
        described = (await client.get("/openapi.json")).json()
    assert answer.status_code == 422
    assert set(answer.json()) == {"detail"}
    assert told in answer.json()["detail"]
    assert "s3cret" not in answer.text
    shape = described["paths"]["/login"]["post"]["responses"]["422"]["content"]["application/json"]["schema"]
    assert shape == {"$ref": "#/components/schemas/Told"}


async def test_many_faults_are_counted() -> None:
    scene = Scene()

    @scene.app.post("/many")
    async def many(numbers: list[int]) -> int:
        return len(numbers)

    async with scene.client() as client:
        answer = await client.post("/many", json=["x"] * 10)
    assert answer.json()["detail"].endswith("; and 7 more.")
