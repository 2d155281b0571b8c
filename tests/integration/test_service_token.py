"""Without the service token a keeper tells nothing: of its port, and of all routes but those that are open."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from identity import wire as identity_wire
from runtime.portwire import NAME_HEADER, port_name
from storage import wire as storage_wire
from tests.live import DOMAIN, PASSWORD, Cluster

pytestmark = pytest.mark.own_start

OPEN = {"/api/health", "/token", "/docs", "/openapi.json"}
"""interfaces.md §6; what is made of /docs by its own page comes with it."""
SIGN_IN = {
    "/api/login": {"email": f"alice@{DOMAIN}", "password": "wrong"},
    "/api/refresh": {"refresh_token": "wrong"},
}
"""Other names of /token: without what is right in the body they are closed."""
METHODS = {"identity": identity_wire.codec().methods(), "storage": storage_wire.codec().methods()}
NAMES = {"identity": identity_wire.NAME, "storage": storage_wire.NAME}
KEEPERS = ("identity", "storage")
HEADERS_OF_ANY_ANSWER = {"content-type", "content-length", "www-authenticate", "date", "server"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    server = Cluster(tmp_path_factory.mktemp("tokens") / "data")
    try:
        server.start().add_users("alice")
        yield server
        assert server.stop() == 0, "".join(server.output[-40:])
    finally:
        server.kill()


def ask(
    cluster: Cluster, service: str, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
) -> tuple[int, dict[str, str], bytes]:
    """(status, headers in small letters, body)"""
    connection = http.client.HTTPConnection(cluster.host, cluster.ports[service.upper()], timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def wrong_tokens(cluster: Cluster) -> dict[str, dict[str, str]]:
    """What is no service token, by what it is."""
    token = cluster.env["HOMING_SERVICE_TOKEN"]
    bearer = {
        "another": "x" * len(token),
        "none": "",
        "its beginning": token[:-1],
        "more than it": token + "x",
        "in capitals": token.upper(),
        "of a user": cluster.token(f"alice@{DOMAIN}", PASSWORD),
        "of an administrator": cluster.admin_token(),
    }
    return {
        "no header": {},
        "another scheme": {"Authorization": f"Basic {token}"},
        "no scheme": {"Authorization": token},
        "in another header": {"X-Authorization": f"Bearer {token}"},
        **{name: {"Authorization": f"Bearer {value}"} for name, value in bearer.items()},
    }


@pytest.mark.parametrize("service", KEEPERS)
def test_every_call_and_every_path_below_the_port_is_401_without_the_token(cluster: Cluster, service: str) -> None:
    paths = [f"/port/{method}" for method in METHODS[service]]
    assert len(paths) > 20
    paths += ["/port", "/port/", "/port/no_such_method", "/port/../api/users", "/port/__init__", "/port/close"]
    answers = set()
    for name, headers in wrong_tokens(cluster).items():
        for path in paths:
            for port in ("", NAMES[service], "another"):
                named = {**headers, NAME_HEADER: port_name(port).decode()} if port else headers
                status, told, body = ask(cluster, service, "POST", path, named, b"\x90")
                assert status == 401, f"{name}: {path} answers {status}"
                assert told.keys() <= HEADERS_OF_ANY_ANSWER, f"{name}: {path} tells {told}"
                answers.add((told["content-type"], told["www-authenticate"], body))
    assert len(answers) == 1, f"answers differ: {answers}"
    assert json.loads(answers.pop()[2]).keys() == {"detail"}


@pytest.mark.parametrize("service", KEEPERS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_no_other_verb_tells_more(cluster: Cluster, service: str, method: str) -> None:
    for path in ("/port", f"/port/{next(iter(METHODS[service]))}", "/port/no_such_method"):
        status, told, _ = ask(cluster, service, method, path)
        assert status == 401, f"{method} {path}"
        assert told.keys() <= HEADERS_OF_ANY_ANSWER


@pytest.mark.parametrize("service", KEEPERS)
def test_nothing_but_what_is_open_answers_without_a_token(cluster: Cluster, service: str) -> None:
    status, _, body = ask(cluster, service, "GET", "/openapi.json")
    assert status == 200
    listed: dict[str, dict[str, Any]] = json.loads(body)["paths"]
    assert OPEN - {"/docs", "/openapi.json"} <= listed.keys()
    asked = 0
    for path, methods in listed.items():
        for method in methods:
            if path in OPEN:
                continue
            place = path.replace("{", "").replace("}", "")
            given = json.dumps(SIGN_IN.get(path, {})).encode()
            for token in ({}, {"Authorization": "Bearer no-such-token"}):
                headers = {**token, "Content-Type": "application/json"}
                status, _, body = ask(cluster, service, method.upper(), place, headers, given)
                assert status == 401, f"{method.upper()} {path} answers {status}: {body!r}"
                assert json.loads(body).keys() == {"detail"}
                asked += 1
    assert asked >= 8
    assert ask(cluster, service, "GET", "/api/health")[0] == 200
    for path in (
        "/",
        "/api",
        "/port2/usage",
        "//port/usage",
        "/Port/usage",
        "/api/../port/usage",
        "/metrics",
        "/emails",
    ):
        assert ask(cluster, service, "POST", path)[0] in (401, 404, 405), path


@pytest.mark.parametrize("service", KEEPERS)
def test_what_is_open_tells_no_secret(cluster: Cluster, service: str) -> None:
    secrets = [cluster.env["HOMING_SERVICE_TOKEN"], PASSWORD, cluster.admin_password, "alice", str(cluster.data)]
    for path in ("/api/health", "/docs", "/openapi.json"):
        _, _, body = ask(cluster, service, "GET", path)
        assert not [secret for secret in secrets if secret in body.decode()], path


@pytest.mark.parametrize("service", KEEPERS)
def test_the_service_token_opens_no_route_of_users(cluster: Cluster, service: str) -> None:
    token = {"Authorization": f"Bearer {cluster.env['HOMING_SERVICE_TOKEN']}"}
    for path in ("/api/stats", "/api/config"):
        assert ask(cluster, service, "GET", path, token)[0] == 401, path


@pytest.mark.parametrize("service", ["smtp", "imap"])
def test_a_door_has_no_port(cluster: Cluster, service: str) -> None:
    port = cluster.of(service)[0].ports["REST" if service == "smtp" else "IMAP_REST"]
    connection = http.client.HTTPConnection(cluster.host, port, timeout=60)
    connection.request("POST", "/port/usage", b"", {"Authorization": f"Bearer {cluster.env['HOMING_SERVICE_TOKEN']}"})
    assert connection.getresponse().status == 404
    connection.close()


def test_the_right_token_opens_the_port(cluster: Cluster) -> None:
    for service in KEEPERS:
        headers = {
            "Authorization": f"Bearer {cluster.env['HOMING_SERVICE_TOKEN']}",
            NAME_HEADER: port_name(NAMES[service]).decode(),
        }
        assert ask(cluster, service, "POST", "/port/no_such_method", headers)[0] == 404
