"""Keeping integrations over REST: one's own alone, and no secret ever comes back."""

from __future__ import annotations

import sqlite3

from homing.integrations.vault import FILE
from tests.connectors.servers import SmtpServer
from tests.homing.integrations.conftest import ELSEWHERE, SECRET, Scene


async def test_add_show_change_choose_remove(scene: Scene) -> None:
    work = await scene.add(from_email=" Alice <alice@test.example> ", host="Mail.Test.Example", port=465)
    assert (work["security"], work["port"], work["host"]) == ("tls", 465, "mail.test.example")
    assert (work["default"], work["provider"], work["verify"]) == (True, "smtp", True)
    assert work["from_email"] == "Alice <alice@test.example>"
    gmail = await scene.add(name="gmail", provider="gmail", host=None, credential="refresh-1")
    assert (gmail["host"], gmail["port"], gmail["default"]) == (None, None, False)
    basic = await scene.add(name="old word", provider="basic")
    assert basic["provider"] == "smtp"
    listed = await scene.ask("GET", "integrations")
    assert listed.json()["integrations"] == [work, gmail, basic]
    assert (await scene.ask("GET", f"integrations/{gmail['id']}")).json() == gmail
    renamed = await scene.ask("PUT", f"integrations/{gmail['id']}", {"name": "google", "from_email": "a@b.example"})
    assert renamed.json() == gmail | {"name": "google", "from_email": "a@b.example"}
    chosen = await scene.ask("PUT", f"integrations/{gmail['id']}/default")
    assert chosen.json()["default"]
    defaults = [one["default"] for one in (await scene.ask("GET", "integrations")).json()["integrations"]]
    assert defaults == [False, True, False]
    assert (await scene.ask("DELETE", f"integrations/{work['id']}")).json() == {"status": "removed"}
    for method, path in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("PUT", "/default"), ("POST", "/test")):
        answer = await scene.ask(
            method, f"integrations/{work['id']}{path}", {} if (method, path) == ("PUT", "") else None
        )
        assert answer.status_code == 404, (method, path)
    for answer in (listed, renamed, chosen):
        assert SECRET not in answer.text


async def test_they_are_ones_own_alone(scene: Scene) -> None:
    alices = await scene.add()
    for who in ("bob", "admin"):
        assert (await scene.ask("GET", "integrations", who=who)).json() == {"integrations": []}
        for method, path in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("PUT", "/default"), ("POST", "/test")):
            body = {"name": "mine"} if (method, path) == ("PUT", "") else None
            answer = await scene.ask(method, f"integrations/{alices['id']}{path}", body, who)
            assert answer.status_code == 404, (who, method, path)
    for method, path in (
        ("GET", ""),
        ("POST", ""),
        ("GET", "/x"),
        ("PUT", "/x"),
        ("DELETE", "/x"),
        ("POST", "/x/test"),
    ):
        assert (await scene.ask(method, f"integrations{path}", {}, "nobody")).status_code == 401
    assert (await scene.ask("GET", "integrations")).json()["integrations"] == [alices]


async def test_what_cannot_be_stored(scene: Scene) -> None:
    good = {"name": "n", "from_email": ELSEWHERE, "user": "u", "secret": SECRET, "host": "mail.test.example"}
    for bad, status, words in (
        ({"host": None}, 422, "'host' is missing"),
        ({"host": "a\r\nb"}, 422, "control character"),
        ({"from_email": "nobody"}, 422, "from_email"),
        ({"from_email": "a@b.example\r\nBcc: c@d.example"}, 422, "from_email"),
        ({"user": ""}, 422, "user"),
        ({"secret": ""}, 422, "secret"),
        ({"secret": "a\r\nRSET"}, 422, "control character"),
        ({"provider": "gmail"}, 422, "credential"),
        ({"provider": "yahoo"}, 422, "provider"),
        ({"security": "none"}, 422, "in clear"),
        ({"port": 0}, 422, "port"),
        ({"more": 1}, 422, "more"),
        ({"name": "x" * 101}, 422, "name"),
    ):
        answer = await scene.ask("POST", "integrations", good | bad)
        assert answer.status_code == status, bad
        assert words in answer.json()["detail"], bad
        assert SECRET not in answer.text
    await scene.add(name="n")
    assert (await scene.ask("POST", "integrations", good)).status_code == 409
    assert (
        await scene.ask("POST", "integrations", good | {"name": "m", "security": "none", "host": "localhost"})
    ).status_code == 201


async def test_a_token_alone_gets_no_secret_to_another_server(scene: Scene, smtp: SmtpServer) -> None:
    one = await scene.add(port=smtp.port)
    path = f"integrations/{one['id']}"
    for change in ({"host": "evil.example"}, {"port": 26}, {"user": "eve"}, {"security": "tls"}, {"verify": False}):
        answer = await scene.ask("PUT", path, change)
        assert answer.status_code == 422, change
        assert "give secret" in answer.json()["detail"]
    assert (await scene.ask("GET", path)).json() == one
    smtp.users["eve@test.example"] = "hers"
    moved = await scene.ask("PUT", path, {"user": "eve@test.example", "secret": "hers", "name": "eve"})
    assert moved.status_code == 200
    assert (await scene.send()).status_code == 200
    assert smtp.signed_in == ["eve@test.example"]
    # A new secret for the same server.
    smtp.users["eve@test.example"] = "new one"
    assert (await scene.ask("PUT", path, {"secret": "new one"})).status_code == 200
    assert (await scene.ask("POST", f"{path}/test")).json() == {
        "status": "ok",
        "message": "The provider lets eve sign in.",
    }
    assert len(smtp.mails) == 1


async def test_in_the_file_nothing_is_in_clear(scene: Scene) -> None:
    one = await scene.add()
    await scene.add(name="gmail", provider="gmail", secret="client-secret-9", credential="refresh-token-9")
    assert (scene.folder / FILE).stat().st_mode & 0o777 == 0o600
    for path in scene.folder.iterdir():
        if path.name != FILE:
            for secret in (SECRET, "client-secret-9", "refresh-token-9"):
                assert secret.encode() not in path.read_bytes(), path
    # Put beside another host by who can write the file, it is not told to that one.
    with sqlite3.connect(scene.folder / "identity.db") as database:
        database.execute("UPDATE integration SET host = 'evil.example' WHERE id = ?", (one["id"],))
    answer = await scene.send()
    assert (answer.status_code, answer.json()["cause"]) == (503, "secret_unreadable")
    for held in await scene.identity.integrations(scene.people["alice"].id):
        assert SECRET not in repr(held)
        assert SECRET.encode() not in held.settings.sealed
