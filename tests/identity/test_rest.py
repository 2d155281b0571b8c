"""The routers, behind the real guard and the real application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

import httpx
import pytest

from identity import admin_api, http_api
from identity.adapters.sqlite.adapter import SqliteIdentity
from identity.model import NewAccount, Role
from runtime.clock import ManualClock
from runtime.rest import Guard, RequestCounters, make_app

D = "test.example"


class Scene:
    def __init__(self, identity: SqliteIdentity, clock: ManualClock) -> None:
        self.bugs: list[Exception] = []
        self.kept: dict[str, int | None] = {}
        self.app = make_app(
            title="t",
            version="1",
            counters=RequestCounters(),
            problems=http_api.problems(),
            on_bug=self.bugs.append,
        )
        guard = Guard(http_api.verifier(identity), is_admin=http_api.is_admin)
        self.app.include_router(http_api.router(identity, guard, clock))
        self.app.include_router(admin_api.router(identity, guard, self.used, self.unknown))
        self.http = self.client()

    async def used(self, accounts: Sequence[str]) -> list[int | None]:
        return [self.kept.get(account, 0) for account in accounts]

    @staticmethod
    def unknown(names: Iterable[str]) -> str | None:
        return next((f"{name} masks nothing" for name in names if name.upper() not in ("ID", "UIDONLY", "A B")), None)

    def client(self, address: str = "127.0.0.1", scheme: str = "http") -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, client=(address, 1))
        return httpx.AsyncClient(transport=transport, base_url=f"{scheme}://test")

    async def bearer(self, name: str, password: str) -> dict[str, str]:
        answer = await self.http.post("/token", data={"username": name, "password": password})
        assert answer.status_code == 200, answer.text
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}


@pytest.fixture
async def scene(identity: SqliteIdentity, clock: ManualClock) -> AsyncIterator[Scene]:
    await identity.add_account(NewAccount(f"admin@{D}", "admin's", role=Role.ADMIN))
    await identity.add_account(NewAccount(f"alice@{D}", "alice's", quota=1000))
    scene = Scene(identity, clock)
    yield scene
    await scene.http.aclose()
    assert scene.bugs == []


async def test_token_refresh_verify_logout(scene: Scene) -> None:
    answer = await scene.http.post("/token", data={"username": "alice", "password": "alice's"})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    pair = answer.json()
    assert (pair["token_type"], pair["expires_in"]) == ("bearer", 3600)
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    for method in ("GET", "POST"):
        who = await scene.http.request(method, "/api/verify", headers=headers)
        assert who.status_code == 200
        assert (who.json()["email"], who.json()["role"], who.json()["quota"]) == (f"alice@{D}", "user", 1000)

    fresh = await scene.http.post("/api/refresh", json={"refresh_token": pair["refresh_token"]})
    assert fresh.status_code == 200
    assert (await scene.http.get("/api/verify", headers=headers)).status_code == 401
    form = {"grant_type": "refresh_token", "refresh_token": fresh.json()["refresh_token"]}
    fresh = await scene.http.post("/token", data=form)
    assert fresh.status_code == 200
    headers = {"Authorization": f"Bearer {fresh.json()['access_token']}"}
    assert (await scene.http.post("/api/logout", headers=headers)).json() == {"status": "ok"}
    assert (await scene.http.get("/api/verify", headers=headers)).status_code == 401
    assert (await scene.http.post("/api/refresh", json={"refresh_token": "gone"})).status_code == 401


async def test_token_refused(scene: Scene) -> None:
    wrong = await scene.http.post("/token", data={"username": "alice", "password": "hunter2"})
    assert wrong.status_code == 401
    assert wrong.json() == {
        "error": "invalid_grant",
        "error_description": "wrong name or password",
        "detail": "wrong name or password",
    }
    other = await scene.http.post("/token", data={"grant_type": "client_credentials"})
    assert (other.status_code, other.json()["error"]) == (400, "unsupported_grant_type")
    # What lacks something is no guess.
    for given in (
        {"data": {}},
        {"data": {"username": "alice"}},
        {"json": {"username": "alice", "password": "alice's"}},
    ):
        lacking = await scene.http.post("/token", **given)
        assert (lacking.status_code, lacking.json()["error"]) == (400, "invalid_request")
        assert lacking.json()["detail"] == "username and password are needed, as fields of a form"
    lacking = await scene.http.post("/token", data={"grant_type": "refresh_token"})
    assert (lacking.status_code, lacking.json()["error"]) == (400, "invalid_request")
    assert (await scene.http.post("/token", data={"username": "x" * 5000, "password": "y"})).status_code == 422


async def test_login(scene: Scene, identity: SqliteIdentity) -> None:
    good = await scene.http.post("/api/login", json={"email": f"alice@{D}", "password": "alice's"})
    assert good.status_code == 200
    assert good.json()["token_type"] == "bearer"
    wrong = await scene.http.post("/api/login", json={"email": f"alice@{D}", "password": "hunter2"})
    assert (wrong.status_code, wrong.json()) == (401, {"detail": "wrong name or password"})
    assert (await scene.http.post("/api/login", json={"email": f"alice@{D}"})).status_code == 422
    await identity.update_account((await identity.find_account("alice")).id, enabled=False)
    disabled = await scene.http.post("/api/login", json={"email": f"alice@{D}", "password": "alice's"})
    assert (disabled.status_code, disabled.json()) == (403, {"detail": "account is disabled"})


@pytest.mark.parametrize("path", ["/token", "/api/login"])
async def test_guesses_are_slowed(scene: Scene, path: str) -> None:
    async with scene.client("203.0.113.5", "https") as http:
        for n in range(6):
            body = {"username": "alice", "email": "alice", "password": f"guess {n}"}
            answer = await (http.post(path, data=body) if path == "/token" else http.post(path, json=body))
            assert answer.status_code == (401 if n < 5 else 429)
    assert int(answer.headers["retry-after"]) == 2
    assert answer.json()["detail"] == "too many failed sign-ins"


async def test_plain_http_from_elsewhere(scene: Scene) -> None:
    headers = await scene.bearer("alice", "alice's")
    async with scene.client("203.0.113.5") as http:
        assert (await http.post("/token", data={"username": "alice", "password": "alice's"})).status_code == 403
        assert (await http.post("/api/login", json={"email": "alice", "password": "alice's"})).status_code == 403
        assert (await http.post("/api/refresh", json={"refresh_token": "x"})).status_code == 403
        assert (await http.get("/api/verify", headers=headers)).status_code == 403
    async with scene.client("203.0.113.5", "https") as http:
        assert (await http.get("/api/verify", headers=headers)).status_code == 200


async def test_domain_exists(scene: Scene) -> None:
    headers = await scene.bearer("alice", "alice's")
    answer = await scene.http.get(f"/api/domains/{D}/exists", headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"exists": True, "domain": D})
    answer = await scene.http.get("/api/domains/elsewhere.example/exists", headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"exists": False, "domain": "elsewhere.example"})
    assert (await scene.http.get(f"/api/domains/{D}/exists")).status_code == 401


async def test_only_administrators_administer(scene: Scene) -> None:
    alice = await scene.bearer("alice", "alice's")
    for method, path, body in (
        ("GET", "/api/users", None),
        ("POST", "/api/register", {"email": f"x@{D}", "password": "x"}),
        ("DELETE", f"/api/users/alice@{D}", None),
        ("GET", f"/api/users/admin@{D}", None),
        ("GET", "/api/users/nobody", None),
        ("PUT", f"/api/users/admin@{D}", {"display_name": "x"}),
        ("PUT", f"/api/users/alice@{D}", {"role": "admin"}),
        ("PUT", f"/api/users/alice@{D}", {"quota": None}),
        ("PUT", f"/api/users/alice@{D}", {"password": "new"}),
        ("GET", f"/api/users/admin@{D}/app-passwords", None),
        ("POST", f"/api/users/admin@{D}/app-passwords", {"name": "x"}),
        ("PUT", f"/api/users/admin@{D}/app-passwords/x", {"mask": []}),
        ("DELETE", f"/api/users/admin@{D}/app-passwords/x", None),
        ("GET", "/api/domains", None),
        ("POST", "/api/domains", {"domain": "x.example"}),
        ("GET", f"/api/domains/{D}", None),
        ("PUT", f"/api/domains/{D}", {}),
        ("DELETE", f"/api/domains/{D}", None),
        ("GET", "/api/aliases", None),
        ("PUT", f"/api/aliases/x@{D}", {"targets": ["a@b.example"]}),
        ("DELETE", f"/api/aliases/x@{D}", None),
    ):
        assert (await scene.http.request(method, path, json=body, headers=alice)).status_code == 403, (method, path)
        assert (await scene.http.request(method, path, json=body)).status_code == 401, (method, path)


async def test_users(scene: Scene) -> None:
    admin = await scene.bearer("admin", "admin's")
    made = await scene.http.post(
        "/api/register",
        json={"email": f"bob@{D}", "password": "bob's", "display_name": "Bob", "quota": 5},
        headers=admin,
    )
    assert made.status_code == 201
    bob = made.json()
    assert (bob["email"], bob["display_name"], bob["role"], bob["quota"], bob["enabled"]) == (
        f"bob@{D}",
        "Bob",
        "user",
        5,
        True,
    )
    assert "bob's" not in made.text
    for body, status in (
        ({"email": f"bob@{D}", "password": "x"}, 409),
        ({"email": "bob", "password": "x"}, 422),
        ({"email": "x@no.example", "password": "x"}, 404),
        ({"email": f"x@{D}"}, 422),
        ({"email": f"x@{D}", "password": "x", "colour": "red"}, 422),
        ({"email": f"x@{D}", "password_hash": "nonsense"}, 422),
    ):
        assert (await scene.http.post("/api/register", json=body, headers=admin)).status_code == status, body
    listed = (await scene.http.get("/api/users?limit=2", headers=admin)).json()["users"]
    assert [user["email"] for user in listed] == [f"admin@{D}", f"alice@{D}"]
    listed = (await scene.http.get("/api/users", params={"after": f"alice@{D}"}, headers=admin)).json()["users"]
    assert listed == [bob]
    assert (await scene.http.get("/api/users?limit=0", headers=admin)).status_code == 422
    for id in (bob["id"], f"bob@{D}"):
        assert (await scene.http.get(f"/api/users/{id}", headers=admin)).json() == bob
    change = {"quota": None, "enabled": False, "role": "admin", "password": "new"}
    changed = (await scene.http.put(f"/api/users/{bob['id']}", json=change, headers=admin)).json()
    assert (changed["quota"], changed["enabled"], changed["role"]) == (None, False, "admin")
    changed = (await scene.http.put(f"/api/users/{bob['id']}", json={"enabled": True}, headers=admin)).json()
    assert (changed["quota"], changed["enabled"]) == (None, True)
    await scene.bearer("bob", "new")
    assert (await scene.http.delete(f"/api/users/{bob['id']}", headers=admin)).json() == {"status": "removed"}
    assert (await scene.http.get(f"/api/users/{bob['id']}", headers=admin)).status_code == 404
    last = await scene.http.delete(f"/api/users/admin@{D}", headers=admin)
    assert last.status_code == 409


async def test_what_is_used_of_the_quota(scene: Scene) -> None:
    admin, alice = await scene.bearer("admin", "admin's"), await scene.bearer("alice", "alice's")
    mine = f"/api/users/alice@{D}"
    id = (await scene.http.get(mine, headers=alice)).json()["id"]
    for octets in (0, 700, None):
        scene.kept = {id: octets}
        for headers in (admin, alice):
            user = (await scene.http.get(mine, headers=headers)).json()
            assert (user["quota"], user["used"]) == (1000, octets)
        listed = (await scene.http.get("/api/users", headers=admin)).json()["users"]
        assert [(user["email"], user["used"]) for user in listed] == [(f"admin@{D}", 0), (f"alice@{D}", octets)]


async def test_ones_own_account(scene: Scene) -> None:
    alice = await scene.bearer("alice", "alice's")
    mine = f"/api/users/alice@{D}"
    user = (await scene.http.get(mine, headers=alice)).json()
    assert (await scene.http.get(f"/api/users/{user['id']}", headers=alice)).json() == user
    changed = await scene.http.put(mine, json={"display_name": "Alice"}, headers=alice)
    assert changed.json()["display_name"] == "Alice"
    body = {"password": "new", "current_password": "wrong"}
    assert (await scene.http.put(mine, json=body, headers=alice)).status_code == 401
    body = {"password": "new", "current_password": "alice's"}
    assert (await scene.http.put(mine, json=body, headers=alice)).status_code == 200
    assert (await scene.http.get(mine, headers=alice)).status_code == 401, "tokens of the old password end"
    await scene.bearer("alice", "new")


async def test_app_passwords(scene: Scene) -> None:
    alice, admin = await scene.bearer("alice", "alice's"), await scene.bearer("admin", "admin's")
    path = f"/api/users/alice@{D}/app-passwords"
    made = await scene.http.post(path, json={"name": "phone"}, headers=alice)
    assert made.status_code == 201
    phone = made.json()
    by_phone = await scene.bearer("alice", phone["password"])
    assert (await scene.http.post(path, json={"name": "phone"}, headers=alice)).status_code == 409
    (listed,) = (await scene.http.get(path, headers=admin)).json()["app_passwords"]
    assert (listed["name"], listed["id"]) == ("phone", phone["id"])
    assert "password" not in listed
    assert listed["last_used"] is not None
    body = {"password": "new", "current_password": phone["password"]}
    assert (await scene.http.put(f"/api/users/alice@{D}", json=body, headers=by_phone)).status_code == 401
    assert (await scene.http.delete(f"{path}/{phone['id']}", headers=alice)).json() == {"status": "revoked"}
    assert (await scene.http.delete(f"{path}/{phone['id']}", headers=alice)).status_code == 404
    assert (await scene.http.get("/api/verify", headers=by_phone)).status_code == 401


async def test_masks(scene: Scene) -> None:
    alice = await scene.bearer("alice", "alice's")
    mine = f"/api/users/alice@{D}"
    assert (await scene.http.get(mine, headers=alice)).json()["mask"] == []
    assert (await scene.http.put(mine, json={"mask": ["uidonly"]}, headers=alice)).json()["mask"] == ["UIDONLY"]
    assert (await scene.http.put(mine, json={"mask": ["a b"]}, headers=alice)).status_code == 422
    wrong = await scene.http.put(mine, json={"mask": ["ID", "UIDONLI"]}, headers=alice)
    assert (wrong.status_code, wrong.json()) == (422, {"detail": "UIDONLI masks nothing"})
    assert (await scene.http.get(mine, headers=alice)).json()["mask"] == ["UIDONLY"]
    path = f"{mine}/app-passwords"
    made = (await scene.http.post(path, json={"name": "phone", "mask": ["ID"]}, headers=alice)).json()
    assert made["mask"] == ["ID"]
    changed = await scene.http.put(f"{path}/{made['id']}", json={"mask": []}, headers=alice)
    assert (changed.json()["name"], changed.json()["mask"]) == ("phone", [])
    assert (await scene.http.put(f"{path}/none", json={"mask": []}, headers=alice)).status_code == 404
    wrong = await scene.http.post(path, json={"name": "tablet", "mask": ["UIDONLI"]}, headers=alice)
    assert (wrong.status_code, wrong.json()) == (422, {"detail": "UIDONLI masks nothing"})
    wrong = await scene.http.put(f"{path}/{made['id']}", json={"mask": ["UIDONLI"]}, headers=alice)
    assert (wrong.status_code, wrong.json()) == (422, {"detail": "UIDONLI masks nothing"})
    assert [one["name"] for one in (await scene.http.get(path, headers=alice)).json()["app_passwords"]] == ["phone"]


async def test_domains(scene: Scene) -> None:
    admin = await scene.bearer("admin", "admin's")
    made = await scene.http.post("/api/domains", json={"domain": "New.example"}, headers=admin)
    assert made.status_code == 201
    domain = made.json()
    assert (domain["domain"], domain["catch_all"], domain["subaddress"]) == ("New.example", None, "+")
    assert (await scene.http.post("/api/domains", json={"domain": "new.EXAMPLE"}, headers=admin)).status_code == 409
    assert (await scene.http.post("/api/domains", json={"domain": "no domain"}, headers=admin)).status_code == 422
    assert len((await scene.http.get("/api/domains", headers=admin)).json()["domains"]) == 2
    for id in (domain["id"], "NEW.example"):
        assert (await scene.http.get(f"/api/domains/{id}", headers=admin)).json() == domain
    path = f"/api/domains/{domain['id']}"
    changed = await scene.http.put(path, json={"catch_all": f"alice@{D}"}, headers=admin)
    assert changed.json() == domain | {"catch_all": f"alice@{D}"}
    changed = await scene.http.put(path, json={"subaddress": "-"}, headers=admin)
    assert changed.json() == domain | {"catch_all": f"alice@{D}", "subaddress": "-"}
    changed = await scene.http.put(path, json={"catch_all": None}, headers=admin)
    assert changed.json() == domain | {"subaddress": "-"}
    assert (await scene.http.put(path, json={"subaddress": "x"}, headers=admin)).status_code == 422
    assert (await scene.http.delete(path, headers=admin)).json() == {"status": "removed"}
    assert (await scene.http.delete(path, headers=admin)).status_code == 404
    assert (await scene.http.delete(f"/api/domains/{D}", headers=admin)).status_code == 409


async def test_aliases(scene: Scene) -> None:
    admin = await scene.bearer("admin", "admin's")
    path = f"/api/aliases/team@{D}"
    alias = {"address": f"team@{D}", "targets": [f"alice@{D}", "x@else.example"]}
    made = await scene.http.put(path, json={"targets": alias["targets"]}, headers=admin)
    assert (made.status_code, made.json()) == (200, alias)
    assert (await scene.http.get("/api/aliases", headers=admin)).json() == {"aliases": [alias]}
    assert (await scene.http.put(path, json={"targets": []}, headers=admin)).status_code == 422
    taken = await scene.http.put(f"/api/aliases/alice@{D}", json={"targets": ["x@y.example"]}, headers=admin)
    assert taken.status_code == 409
    assert (await scene.http.delete(path, headers=admin)).json() == {"status": "removed"}
    assert (await scene.http.delete(path, headers=admin)).status_code == 404


async def test_identity_away_is_503(scene: Scene, identity: SqliteIdentity) -> None:
    headers = await scene.bearer("alice", "alice's")
    await identity._database.close()
    for answer in (
        await scene.http.get("/api/verify", headers=headers),
        await scene.http.post("/api/login", json={"email": "nobody", "password": "x"}),
        await scene.http.post("/token", data={"username": "nobody", "password": "x"}),
    ):
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
    await identity._database.open()


async def test_the_documentation_names_errors_and_models(scene: Scene) -> None:
    document = (await scene.http.get("/openapi.json")).json()
    routes = {
        (method, path): route
        for path, methods in document["paths"].items()
        for method, route in methods.items()
        if path.startswith(("/api", "/token"))
    }
    assert len(routes) == 24
    for name, route in routes.items():
        assert route["tags"], name
        assert route["summary"], name
        answers = route["responses"]
        assert {"403", "503"} <= set(answers), name
        good = answers.get("200") or answers["201"]
        assert good["content"]["application/json"]["schema"], name
    assert len({route["operationId"] for route in routes.values()}) == len(routes)
