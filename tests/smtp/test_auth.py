"""Who may sign in where, and what signing in allows."""

from __future__ import annotations

import asyncio
import base64

import pytest

from smtp.session import Rules, Session
from tests.smtp.fakes import FakeIdentity

MESSAGE = b"Subject: x\r\n\r\n.\r\n"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def test_login_with_initial_response(running) -> None:
    client = await running.connect("submission")
    await client.hello()
    assert await client.say("AUTH LOGIN " + b64("alice")) == "334 " + b64("Password:")
    assert (await client.say(b64("wonder"))).startswith("235 2.7.0")


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (["AUTH PLAIN " + b64("\0alice\0wrong")], "535 5.7.8"),
        (["AUTH PLAIN " + b64("\0nobody\0wonder")], "535 5.7.8"),
        (["AUTH PLAIN " + b64("bob\0alice\0wonder")], "535 5.7.8"),
        (["AUTH PLAIN " + b64("alice\0wonder")], "501 5.5.2"),
        (["AUTH PLAIN ="], "501 5.5.2"),
        (["AUTH PLAIN a"], "501 5.5.2"),
        (["AUTH PLAIN \xe9"], "501 5.5.2"),
        (["AUTH LOGIN", "%%%"], "501 5.5.2"),
        (["AUTH LOGIN", b64("alice"), "*"], "501 5.7.0"),
        (["AUTH"], "501 5.5.4"),
        (["AUTH PLAIN a b"], "501 5.5.4"),
        (["AUTH GSSAPI"], "504 5.5.4"),
    ],
)
async def test_refusals(running, lines: list[str], code: str) -> None:
    client = await running.connect("submission")
    await client.hello()
    for line in lines:
        reply = await client.say(line)
    assert reply.startswith(code)
    # Nobody is signed in, and the connection goes on.
    assert (await client.say("MAIL FROM:<alice@example.org>")).startswith("530 5.7.0")
    assert (await client.sign_in()).startswith("235")


async def test_guessing_ends_the_connection(start) -> None:
    async with start(auth_failures_max=3) as running:
        client = await running.connect()
        await client.hello()
        assert (await client.sign_in(password="a")).startswith("535")
        assert (await client.sign_in(password="b")).startswith("535")
        assert (await client.sign_in(password="c")).startswith("421 4.7.0")
        assert await client.closed() == b""


async def test_guess_counters_of_identity_are_told(running) -> None:
    running.identity.guesses = 100
    client = await running.connect()
    await client.hello()
    assert (await client.sign_in(password="a")).startswith("454 4.7.0")


async def test_identity_away(running) -> None:
    running.identity.away = True
    client = await running.connect()
    await client.hello()
    assert (await client.sign_in()).startswith("454 4.7.0")
    running.identity.away = False
    assert (await client.sign_in()).startswith("235")


async def test_plain_auth_never(start) -> None:
    async with start(plain_auth="never") as running:
        client = await running.connect("submission")
        assert "AUTH" not in await client.hello()
        assert (await client.sign_in()).startswith("538 5.7.11")
        # RFC 3207 §4
        assert (await client.say("MAIL FROM:<>")).startswith("530 5.7.0 Must issue a STARTTLS")
        tls = await running.connect("submissions")
        assert "AUTH PLAIN LOGIN" in await tls.hello()
        assert (await tls.sign_in()).startswith("235")


@pytest.mark.parametrize(
    ("setting", "peer", "offered"),
    [
        ("loopback", "127.0.0.1", True),
        ("loopback", "::1", True),
        ("loopback", "192.0.2.1", False),
        ("never", "127.0.0.1", False),
        ("always", "192.0.2.1", True),
    ],
)
async def test_where_plain_sign_in_is_offered(start, setting: str, peer: str, offered: bool) -> None:
    async with start(plain_auth=setting) as running:
        session = Session(peer, 1, Rules("smtp"), 0.0)
        assert bool(running.service.handler.mechanisms(session)) == offered


async def test_senders(running) -> None:
    running.identity.aliases["sales@example.org"] = ("alice@example.org",)
    client = await running.connect("submissions")
    await client.hello()
    await client.sign_in()
    for sender, code in (
        ("alice@example.org", "250"),
        ("sales@example.org", "250"),
        ("", "250"),
        ("bob@example.org", "553 5.7.1"),
        ("alice@elsewhere.example", "553 5.7.1"),
    ):
        assert (await client.say(f"MAIL FROM:<{sender}>")).startswith(code)
        await client.say("RSET")


async def test_relay_only_when_signed_in(running) -> None:
    client = await running.connect()
    await client.hello()
    await client.say("MAIL FROM:<alice@example.org>")
    assert (await client.say("RCPT TO:<x@elsewhere.example>")).startswith("550 5.7.1")
    await client.say("RSET")
    await client.sign_in()
    await client.envelope("alice@example.org", "x@elsewhere.example", "X@ELSEWHERE.example", "x@Elsewhere.Example")
    assert (await client.data(MESSAGE)).startswith("250")
    delivery, blob = running.storage.delivered[0]
    assert [one.address for one in delivery.remote] == ["x@elsewhere.example", "X@ELSEWHERE.example"]
    assert delivery.op.actor == "Aalice"
    assert b"with ESMTPA\r\n" in blob


async def test_auth_within_a_transaction(running) -> None:
    client = await running.connect()
    await client.hello()
    await client.envelope()
    assert (await client.sign_in()).startswith("503 5.5.1")


async def test_signing_in_opens_the_account(running) -> None:
    client = await running.connect()
    await client.hello()
    await client.sign_in()
    assert running.storage.accounts == {"Aalice"}


async def test_change_of_credentials_ends_connections(running) -> None:
    clients = {}
    for user in ("alice@example.org", "bob@example.org"):
        clients[user] = await running.connect("submission")
        await clients[user].hello()
        await clients[user].sign_in(user, running.identity.passwords[user])
    running.identity.change("Aalice", "app:1")
    running.identity.change("Aalice", "password")
    assert (await clients["alice@example.org"].reply()).startswith("421 4.7.0")
    assert await clients["alice@example.org"].closed() == b""
    assert (await clients["bob@example.org"].say("NOOP")).startswith("250")


async def test_revoked_elsewhere_does_not_end(running, until) -> None:
    client = await running.connect()
    await client.hello()
    await client.sign_in()
    running.identity.change("Aalice", "app:1")
    running.identity.change("Abob")
    await until(lambda: not running.identity.news.is_set())
    assert (await client.say("NOOP")).startswith("250")


async def test_credentials_lost_in_data(running) -> None:
    client = await running.connect()
    await client.hello()
    await client.sign_in()
    await client.envelope("alice@example.org")
    await client.say("DATA")
    running.identity.change("Aalice")
    assert (await client.reply()).startswith("421 4.7.0")
    assert running.storage.delivered == []


async def test_credentials_lost_while_the_text_is_staged(running, until) -> None:
    client = await running.connect()
    await client.hello()
    await client.sign_in()
    await client.envelope("alice@example.org")
    await client.say("DATA")
    running.storage.gate = asyncio.Event()
    await client.send(b"A: b\r\n\r\n" + b"y\r\n" * 500_000)
    (connection,) = running.service._door.open
    await until(lambda: not connection._waiting)
    running.identity.change("Aalice")
    await until(lambda: connection._at_once or not running.service._door.open)
    running.storage.gate.set()
    assert (await client.reply()).startswith("421 4.7.0")
    await until(lambda: running.service._budget.used == 0)
    assert running.storage.delivered == []


async def test_credentials_that_ended_while_signing_in(start, monkeypatch: pytest.MonkeyPatch) -> None:
    async with start() as running:

        async def no(self: FakeIdentity, principal: object) -> bool:
            return False

        monkeypatch.setattr(FakeIdentity, "still_valid", no)
        client = await running.connect()
        await client.hello()
        assert (await client.sign_in()).startswith("535 5.7.8")
