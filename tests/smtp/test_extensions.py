"""DSN, REQUIRETLS, FUTURERELEASE and LIMITS: what becomes of their parameters."""

from __future__ import annotations

import time

import pytest

from smtp.wire import hold

HELLO = b"A: b\r\n\r\n.\r\n"


async def signed_in(running, *, tls: bool = False):
    client = await running.connect("submissions" if tls else "submission")
    await client.hello()
    assert (await client.sign_in()).startswith("235")
    return client


def sent(running, at: int = -1):
    return running.storage.delivered[at][0]


async def test_dsn_parameters_go_with_the_message(running) -> None:
    client = await signed_in(running)
    assert (await client.say("MAIL FROM:<alice@example.org> RET=HDRS ENVID=Q+2B1")).startswith("250")
    assert (await client.say("RCPT TO:<x@b.example> NOTIFY=success,delay ORCPT=rfc822;X@c.example")).startswith("250")
    assert (await client.say("RCPT TO:<y@b.example> NOTIFY=NEVER")).startswith("250")
    assert (await client.say("RCPT TO:<z@b.example>")).startswith("250")
    assert (await client.data(HELLO)).startswith("250")
    assert sent(running).params == {"RET": "HDRS", "ENVID": "Q+2B1"}
    assert [(one.address, dict(one.params)) for one in sent(running).remote] == [
        ("x@b.example", {"NOTIFY": "SUCCESS,DELAY", "ORCPT": "rfc822;X@c.example"}),
        ("y@b.example", {"NOTIFY": "NEVER"}),
        ("z@b.example", {}),
    ]


async def test_an_alias_hands_on_what_was_asked(running) -> None:
    running.identity.aliases = {
        "one@example.org": ("far@b.example",),
        "many@example.org": ("far2@b.example", "far3@b.example"),
    }
    client = await running.connect()
    await client.hello()
    await client.say("MAIL FROM:<a@remote.example>")
    assert (await client.say("RCPT TO:<one@example.org> NOTIFY=SUCCESS,FAILURE")).startswith("250")
    assert (await client.say("RCPT TO:<many@example.org> NOTIFY=SUCCESS")).startswith("250")
    assert (await client.data(HELLO)).startswith("250")
    assert [(one.address, dict(one.params)) for one in sent(running, 0).remote] == [
        ("far@b.example", {"NOTIFY": "SUCCESS,FAILURE", "ORCPT": "rfc822;one@example.org"}),
        ("far2@b.example", {"NOTIFY": "NEVER", "ORCPT": "rfc822;many@example.org"}),
        ("far3@b.example", {"NOTIFY": "NEVER", "ORCPT": "rfc822;many@example.org"}),
    ]
    # RFC 3461 §5.2.7.3: that it went to several is told here, and once.
    ((to, told),) = notices(running)
    assert to == ("a@remote.example",)
    assert "Final-Recipient: rfc822;many@example.org\r\nAction: expanded" in told
    assert "one@example.org" not in told


@pytest.mark.parametrize(
    "command",
    ["MAIL FROM:<> RET=ALL", "MAIL FROM:<> ENVID=+", "MAIL FROM:<> RET=FULL RET=FULL", "MAIL FROM:<> REQUIRETLS=1"],
)
async def test_bad_values(running, command: str) -> None:
    client = await running.connect()
    await client.hello()
    assert (await client.say(command)).startswith("501 5.5.4")


async def test_requiretls(running) -> None:
    client = await running.connect()
    assert "REQUIRETLS" not in await client.hello()
    # RFC 8689 §2
    assert (await client.say("MAIL FROM:<> REQUIRETLS")).startswith("530 5.7.10")
    client = await running.connect("submissions")
    assert "250-REQUIRETLS" in (await client.hello()).split("\n")
    await client.sign_in()
    assert (await client.say("MAIL FROM:<alice@example.org> REQUIRETLS")).startswith("250")
    assert (await client.say("RCPT TO:<x@b.example>")).startswith("250")
    assert (await client.say("RCPT TO:<bob@example.org>")).startswith("250")
    assert (await client.data(HELLO)).startswith("250")
    assert sent(running).params == {"REQUIRETLS": ""}


async def test_held_for_somebody_else(running) -> None:
    client = await signed_in(running)
    before = int(time.time())
    offer = await client.say("EHLO client.example")
    line = next(line for line in offer.split("\n") if "FUTURERELEASE" in line)
    most, until = line.removeprefix("250-FUTURERELEASE ").split()
    assert most == "604800"
    assert (before + 604800) // 60 * 60 <= hold.moment(until) <= time.time() + 604800
    assert (await client.say("MAIL FROM:<alice@example.org> HOLDFOR=3600")).startswith("250")
    assert (await client.say("RCPT TO:<x@b.example>")).startswith("250")
    assert (await client.data(HELLO)).startswith("250")
    assert before + 3600 <= int(sent(running).params["HOLDUNTIL"]) <= time.time() + 3600


async def test_held_for_one_of_ours_too(running) -> None:
    """Nobody gets it earlier: it goes to the spool under the address as it was named."""
    running.identity.aliases = {"both@example.org": ("bob@example.org", "far@b.example")}
    client = await signed_in(running)
    at = hold.date_time(time.time() + 86400)
    assert (await client.say(f"MAIL FROM:<alice@example.org> HOLDUNTIL={at}")).startswith("250")
    assert (await client.say("RCPT TO:<nobody@example.org>")).startswith("550 5.1.1")
    assert (await client.say("RCPT TO:<Bob@Example.org> NOTIFY=SUCCESS")).startswith("250")
    assert (await client.say("RCPT TO:<both@example.org>")).startswith("250")
    assert (await client.data(HELLO)).startswith("250")
    delivery = sent(running)
    assert delivery.local == ()
    assert [(one.address, dict(one.params)) for one in delivery.remote] == [
        ("Bob@Example.org", {"NOTIFY": "SUCCESS"}),
        ("both@example.org", {}),
    ]
    assert delivery.params == {"HOLDUNTIL": str(hold.moment(at))}


async def test_what_is_held_comes_once(running) -> None:
    running.identity.aliases = {
        "me@example.org": ("bob@example.org",),
        "both@example.org": ("bob@example.org", "far@b.example"),
    }
    client = await signed_in(running)
    await client.say("MAIL FROM:<alice@example.org> HOLDFOR=60")
    for address in (
        "bob@example.org", "me@example.org", "BOB@example.org", "both@example.org", "far@B.example", "x@b.example",
        "both@example.org", "x@b.EXAMPLE",
    ):  # fmt: skip
        assert (await client.say(f"RCPT TO:<{address}>")).startswith("250"), address
    assert (await client.data(HELLO)).startswith("250")
    assert [one.address for one in sent(running).remote] == ["bob@example.org", "both@example.org", "x@b.example"]


async def test_what_cannot_be_held(running, start) -> None:
    client = await signed_in(running)
    far, past = (hold.date_time(time.time() + seconds) for seconds in (8 * 86400, -86400))
    for parameter in ("HOLDFOR=604801", f"HOLDUNTIL={far}", f"HOLDUNTIL={past}", "HOLDFOR=0", "HOLDUNTIL=soon"):
        assert (await client.say(f"MAIL FROM:<alice@example.org> {parameter}")).startswith("501 5.5.4"), parameter
    assert (await client.say("MAIL FROM:<alice@example.org> HOLDFOR=604800")).startswith("250")
    relay = await running.connect()
    assert "FUTURERELEASE" not in await relay.hello()
    await relay.sign_in()
    assert (await relay.say("MAIL FROM:<alice@example.org> HOLDFOR=60")).startswith("555 5.5.4")
    async with start(hold_max=0) as without:
        client = await signed_in(without)
        assert "FUTURERELEASE" not in await client.say("EHLO client.example")
        assert (await client.say("MAIL FROM:<alice@example.org> HOLDFOR=60")).startswith("555 5.5.4")


async def test_limits_are_kept(start) -> None:
    async with start(mails_max=3, recipients_max=100) as running:
        client = await running.connect()
        assert "250-LIMITS MAILMAX=3 RCPTMAX=100" in (await client.hello()).split("\n")
        for _ in range(3):
            assert (await client.say("MAIL FROM:<>")).startswith("250")
            await client.say("RSET")
        # RFC 9422 §4.1
        assert (await client.say("MAIL FROM:<>")).startswith("421 4.7.0 Too many messages")
        assert await client.closed() == b""


def notices(running) -> list[tuple[tuple[str, ...], str]]:
    """(to whom, text) of the messages without a sender."""
    return [
        (tuple(one.address for one in (*delivery.local, *delivery.remote)), blob.decode().replace("822; ", "822;"))
        for delivery, blob in running.storage.delivered
        if delivery.sender == ""
    ]


@pytest.mark.parametrize("big", [False, True])
async def test_success_is_told_to_who_asked(running, until, big: bool) -> None:
    running.identity.aliases = {"team@example.org": ("alice@example.org", "root@example.org")}
    client = await running.connect()
    await client.hello()
    await client.say("MAIL FROM:<a@remote.example> ENVID=QQ7 RET=FULL")
    await client.say("RCPT TO:<alice@example.org> NOTIFY=SUCCESS ORCPT=rfc822;Al@x.example")
    await client.say("RCPT TO:<bob@example.org> NOTIFY=FAILURE")
    await client.say("RCPT TO:<team@example.org> NOTIFY=SUCCESS,DELAY")
    text = b"Subject: told\r\n\r\nsecret" + b"\r\nmore" * (100_000 if big else 1)
    assert (await client.data(text + b"\r\n.\r\n")).startswith("250")
    ((to, told),) = notices(running)
    assert to == ("a@remote.example",)
    assert "Original-Envelope-Id: QQ7" in told
    assert "Original-Recipient: rfc822;Al@x.example" in told
    assert [line for line in told.split("\r\n") if line.startswith(("Final-", "Action"))] == [
        "Final-Recipient: rfc822;alice@example.org",
        "Action: delivered",
        "Final-Recipient: rfc822;team@example.org",
        "Action: expanded",
    ]
    assert "Subject: told" in told
    assert "secret" not in told
    await until(lambda: [event.kind for event in running.storage.recorded] == ["dsn", "dsn"])
    assert {event.trace for event in running.storage.recorded} == {running.storage.delivered[0][0].trace}


async def test_nobody_is_told_who_did_not_ask_or_has_no_address(running) -> None:
    client = await running.connect()
    await client.hello()
    for sender in ("<>", "<a@remote.example>"):
        await client.say(f"MAIL FROM:{sender}")
        notify = "NOTIFY=SUCCESS" if sender == "<>" else "NOTIFY=FAILURE"
        await client.say(f"RCPT TO:<alice@example.org> {notify}")
        assert (await client.data(HELLO)).startswith("250")
    assert len(running.storage.delivered) == 2


async def test_a_notice_that_cannot_be_stored_does_not_undo_the_message(running, until, monkeypatch) -> None:
    from storage.port import Unavailable

    kept = running.storage._accept
    monkeypatch.setattr(
        running.storage, "_accept", lambda one: kept(one) if one.sender else Unavailable("away for notices")
    )
    client = await running.connect()
    await client.hello()
    await client.say("MAIL FROM:<a@remote.example>")
    await client.say("RCPT TO:<alice@example.org> NOTIFY=SUCCESS")
    assert (await client.data(HELLO)).startswith("250")
    assert len(running.storage.delivered) == 1
    await until(lambda: bool(running.storage.recorded))
    (told,) = running.storage.recorded
    assert (told.kind, told.detail["about"]) == ("suppressed", "alice@example.org")
    assert "away for notices" in str(told.detail["why"])
