"""Mail through a provider's account: the octets as they are, each recipient's outcome, and every way that it fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from connectors import handover, relay
from connectors.exceptions import ConfigurationError
from connectors.relay import Relay
from smtp.outbound.transport import Letter, Outcome, Phase, Result, Status
from storage.model import RemoteRecipient
from storage.port import Unavailable
from tests.connectors.certs import Certs
from tests.connectors.servers import Line, SmtpServer, TokenServer
from tests.live import free_ports
from tests.patience import attempts
from tests.smtp.outbound.letters import letter, only, until

Config = dict[str, Any]
Made = Callable[..., Relay]
LONG = b"Subject: long\r\n\r\n" + b"".join(b".line %d\r\n" % n for n in range(60_000))


@pytest.fixture
async def made(basic: Config) -> AsyncIterator[Made]:
    """Relays to the test's server; options of the configuration and of the relay."""
    relays: list[Relay] = []

    def make(**options: Any) -> Relay:
        own = {key: options.pop(key) for key in ("sender", "connections", "dot_seconds") if key in options}
        relays.append(Relay("home", basic | options, **own))
        return relays[-1]

    yield make
    for one in relays:
        await one.close()


def all_of(result: Result) -> set[Outcome]:
    return set(result.outcomes.values())


# -- sending


@pytest.mark.parametrize(
    "text",
    [
        b"Subject: a\r\n\r\n.dot\r\n..two\r\n.\r\nend\r\n",
        b"Subject: a\r\n\r\nbare\nLF\n.dot and \r CR\r\n",
        "Subject: a\r\n\r\nGrüße ÿ\r\n".encode("latin-1"),
        b"",
        LONG,
    ],
    ids=["dots", "bare", "8-bit", "empty", "long"],
)
async def test_the_octets_are_those_of_the_message(smtp: SmtpServer, made: Made, text: bytes) -> None:
    head = b"DKIM-Signature: v=1;\r\n\tb=x\r\n"
    result = await made().send(letter("x@d.example", "y@d.example", text=text, head=head))
    assert {one.status for one in all_of(result)} == {Status.SENT}
    (mail,) = smtp.mails
    assert mail.raw == head + text
    assert (mail.sender, mail.recipients) == ("a@here.example", ["x@d.example", "y@d.example"])
    assert f"SIZE={len(head + text)}" in mail.options
    assert ("BODY=8BITMIME" in mail.options) == (not text.isascii())
    assert smtp.signed_in == ["alice@test.example"]


async def test_a_long_message_is_never_held_whole(smtp: SmtpServer, made: Made) -> None:
    asked: list[tuple[int, int]] = []

    async def read(start: int, end: int) -> bytes:
        asked.append((start, end))
        return LONG[start:end]

    to = (RemoteRecipient("x@d.example"),)
    await made().send(Letter("item", "trace", "a@b.example", "d.example", to, len(LONG), read))
    assert smtp.mails[0].raw == LONG
    assert max(end - start for start, end in asked) == relay.BLOCK
    assert [start for start, _ in asked] == list(range(0, len(LONG), relay.BLOCK)), "once, in order"


async def test_the_result(smtp: SmtpServer, made: Made) -> None:
    result = await made().send(letter())
    assert (result.tls or "").startswith("TLSv1.")
    assert (result.verified, result.reused, result.destination_down) == ("web-pki", False, False)
    outcome = only(result)
    assert (outcome.phase, outcome.code, outcome.enhanced) == (Phase.TEXT, 250, "2.0.0")
    assert (outcome.text, outcome.remote) == ("2.0.0 queued as 1", f"127.0.0.1:{smtp.port}")


@pytest.mark.parametrize("provider", ["gmail", "microsoft"])
async def test_tokens_are_kept_and_fetched_anew(
    smtp: SmtpServer, tokens: TokenServer, made: Made, provider: str
) -> None:
    tokens.state.on_token = smtp.tokens.add
    more = {"provider": provider, "user": "client-1", "secret": "client-secret-1"}
    if provider == "gmail":
        more |= {"credential": "refresh-1", "token_url": tokens.token_url}
    else:
        more |= {"credential": "tenant-1", "authority": tokens.authority}
    one = made(**more)
    for _ in range(2):
        assert only(await one.send(letter())).status is Status.SENT
        await one.close()
    assert len(tokens.state.given) == 1, "one token for both connections"
    smtp.tokens.clear()
    assert only(await one.send(letter())).status is Status.SENT
    assert len(tokens.state.given) == 2
    tokens.state.refresh_tokens.clear()
    tokens.state.tenants.clear()
    smtp.tokens.clear()
    await one.close()
    result = await one.send(letter())
    outcome = only(result)
    assert outcome.status is Status.DEFERRED
    assert result.destination_down
    assert "home" in outcome.text
    assert not any(secret in outcome.text for secret in ("client-secret-1", "refresh-1", "access-"))


async def test_connections_are_used_again(smtp: SmtpServer, made: Made) -> None:
    one = made()
    assert not (await one.send(letter())).reused
    assert (await one.send(letter())).reused
    assert (smtp.connections, len(smtp.mails)) == (1, 2)
    await one.close()
    assert smtp.commands[-1].upper() == "QUIT"


@pytest.mark.parametrize("how", ["close", "421 4.4.2 idle for too long", "530 5.7.0 sign in first"])
async def test_one_that_died_is_replaced(smtp: SmtpServer, made: Made, how: str) -> None:
    smtp.at["mail"] = ["250 ok", how]
    one = made()
    await one.send(letter())
    result = await one.send(letter())
    assert only(result).status is Status.SENT
    assert (result.reused, smtp.connections, len(smtp.mails)) == (False, 2, 2)


async def test_idle_connections_are_ended(smtp: SmtpServer, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "IDLE_SECONDS", 0.1)
    await made().send(letter())
    await until(lambda: "quit" in smtp.commands)


async def test_the_loop_runs_and_connections_are_bounded(smtp: SmtpServer, made: Made) -> None:
    one = made(connections=2)
    gaps, last, running = [0.0], time.monotonic(), True

    async def tick() -> None:
        nonlocal last
        while running:
            await asyncio.sleep(0.005)
            gaps.append(time.monotonic() - last)
            last = time.monotonic()

    ticking = asyncio.create_task(tick())
    results = await asyncio.gather(*(one.send(letter(f"u{n}@d.example")) for n in range(20)))
    running = False
    await ticking
    assert all(only(result).status is Status.SENT for result in results)
    assert smtp.connections <= 2
    assert len(smtp.mails) == 20
    assert len(gaps) > 2


# -- recipients


async def test_each_recipient_has_its_own_outcome(smtp: SmtpServer, made: Made) -> None:
    smtp.refuse = {"gone@d.example": "550-5.1.1 no such\r\n550 5.1.1 user", "late@d.example": "450 4.2.1 too quickly"}
    result = await made().send(letter("x@d.example", "gone@d.example", "late@d.example"))
    found = result.outcomes
    assert found["x@d.example"].status is Status.SENT
    gone, late = found["gone@d.example"], found["late@d.example"]
    assert (gone.status, gone.phase, gone.code, gone.enhanced) == (Status.FAILED, Phase.RCPT, 550, "5.1.1")
    assert gone.text == "5.1.1 no such user"
    assert (late.status, late.code, late.enhanced) == (Status.DEFERRED, 450, "4.2.1")
    assert not result.destination_down


async def test_all_refused_and_the_connection_is_good_for_the_next(smtp: SmtpServer, made: Made) -> None:
    smtp.refuse = {"gone@d.example": "550 5.1.1 no"}
    one = made()
    assert only(await one.send(letter("gone@d.example"))).status is Status.FAILED
    assert only(await one.send(letter("x@d.example"))).status is Status.SENT
    assert smtp.connections == 1
    assert "RSET" in smtp.commands


async def test_many_recipients_go_in_several_transactions(smtp: SmtpServer, made: Made) -> None:
    everyone = [f"u{n}@d.example" for n in range(120)]
    result = await made().send(letter(*everyone))
    assert {one.status for one in all_of(result)} == {Status.SENT}
    assert [len(mail.recipients) for mail in smtp.mails] == [50, 50, 20]
    smtp.extensions.append("LIMITS RCPTMAX=7")
    result = await made().send(letter(*everyone[:10]))
    assert [len(mail.recipients) for mail in smtp.mails[3:]] == [7, 3]


async def test_too_many_for_one_transaction(smtp: SmtpServer, made: Made) -> None:
    smtp.at["rcpt"] = ["250 ok", "452 4.5.3 too many"]
    result = await made().send(letter("x@d.example", "y@d.example"))
    assert {one.status for one in all_of(result)} == {Status.SENT}
    assert len(smtp.mails) == 2
    smtp.at["rcpt"] = ["452 4.5.3 too many"]
    assert only(await made().send(letter())).status is Status.DEFERRED


# -- the envelope's sender


async def test_the_sender(smtp: SmtpServer, made: Made) -> None:
    smtp.extensions.append("DSN")
    asked = RemoteRecipient("x@d.example", {"NOTIFY": "SUCCESS", "ORCPT": "rfc822;x@d.example"})
    kept = await made().send(letter(asked, RET="HDRS", ENVID="e1"))
    assert kept.relayed_dsn
    assert "RCPT TO:<x@d.example> NOTIFY=SUCCESS ORCPT=rfc822;x@d.example" in smtp.commands
    assert {"RET=HDRS", "ENVID=e1"} <= set(smtp.mails[0].options)
    account = made(sender="account")
    changed = await account.send(letter(asked, RET="HDRS"))
    assert not changed.relayed_dsn, "notices would go to the account"
    assert smtp.mails[1].sender == "alice@test.example"
    assert smtp.mails[1].raw == smtp.mails[0].raw
    assert smtp.commands.count("RCPT TO:<x@d.example>") == 1
    assert not any(option.startswith("RET") for option in smtp.mails[1].options)
    await account.send(letter(sender=""))
    assert smtp.mails[2].sender == "", "a notice stays one"


# -- what goes wrong


async def test_a_refused_sign_in_waits_and_says_why(smtp: SmtpServer, made: Made) -> None:
    smtp.users, smtp.repeats_secrets = {}, True
    result = await made().send(letter("x@d.example", "y@d.example"))
    (outcome,) = all_of(result)
    assert (outcome.status, outcome.phase, outcome.enhanced) == (Status.DEFERRED, Phase.AUTH, "4.7.8")
    assert outcome.text.startswith("The connector home cannot sign in: 127.0.0.1 refused the sign-in of alice@")
    assert "535 5.7.8 no such luck" in outcome.text
    assert "correct horse" not in outcome.text
    assert result.destination_down


async def test_no_connection(made: Made, certs: Certs, smtp: SmtpServer) -> None:
    (port,) = free_ports(1)
    result = await made(port=port).send(letter())
    outcome = only(result)
    assert (outcome.status, outcome.phase, outcome.enhanced) == (Status.DEFERRED, Phase.CONNECT, "4.4.1")
    assert f"Nothing listens on 127.0.0.1:{port}" in outcome.text
    assert result.destination_down
    other = made(ca_file="")
    outcome = only(await other.send(letter()))
    assert (outcome.status, outcome.phase, outcome.enhanced) == (Status.DEFERRED, Phase.TLS, "4.7.5")
    smtp.at["connect"] = ["421 4.7.0 too many connections"]
    result = await made().send(letter())
    outcome = only(result)
    assert (outcome.status, outcome.phase) == (Status.DEFERRED, Phase.GREETING)
    assert "too many connections" in outcome.text


@pytest.mark.parametrize(
    ("stage", "reply", "status", "enhanced", "down"),
    [
        ("mail", "421 4.7.28 rate limited", Status.DEFERRED, "4.7.28", True),
        ("mail", "450 4.2.0 later", Status.DEFERRED, "4.2.0", False),
        ("mail", "550 5.7.60 not allowed to send as this sender", Status.FAILED, "5.7.60", False),
        ("mail", "550 5.4.5 Daily user sending limit exceeded", Status.DEFERRED, "4.4.5", True),
        ("rcpt", "421 4.3.0 closing", Status.DEFERRED, "4.3.0", True),
        ("data", "451 4.3.0 later", Status.DEFERRED, "4.3.0", False),
        ("data", "250 what?", Status.DEFERRED, "4.5.0", False),
        ("end", "454 Throttling failure: Maximum sending rate exceeded", Status.DEFERRED, "4.7.0", False),
        ("end", "554 5.7.1 spam", Status.FAILED, "5.7.1", False),
        ("end", "550 5.1.90 daily limit", Status.DEFERRED, "4.1.90", True),
    ],
)
async def test_refusals(
    smtp: SmtpServer, made: Made, stage: str, reply: str, status: Status, enhanced: str, down: bool
) -> None:
    smtp.at[stage] = [reply]
    result = await made().send(letter())
    outcome = only(result)
    assert (outcome.status, outcome.phase, outcome.enhanced) == (
        status,
        Phase.TEXT if stage == "end" else Phase(stage),
        enhanced,
    )
    assert reply.split(" ", 1)[1] in outcome.text
    assert not outcome.doubtful
    assert result.destination_down is down
    assert not smtp.mails


@pytest.mark.parametrize(
    ("stage", "how"),
    [
        *(
            (stage, how)
            for stage in ("ehlo", "starttls", "auth", "mail", "rcpt", "data")
            for how in ("close", "silent")
        ),
        ("body", "close"),
    ],
)
async def test_a_connection_lost_before_the_end_is_no_doubt(smtp: SmtpServer, made: Made, stage: str, how: str) -> None:
    smtp.at[stage] = [how]
    # Long enough that its end is not with the rest in the buffers of the system.
    text = LONG * 40 if stage == "body" else b"Subject: a\r\n\r\nb\r\n"
    outcome = only(await made(timeout=0.5 if how == "silent" else 30.0).send(letter(text=text)))
    assert (outcome.status, outcome.doubtful) == (Status.DEFERRED, False)
    assert not smtp.mails


@pytest.mark.parametrize("how", ["close", "silent", "what?"])
async def test_doubt_after_the_dot(smtp: SmtpServer, made: Made, how: str) -> None:
    smtp.at["end"] = [how]
    outcome = only(await made(dot_seconds=0.3 if how == "silent" else 30.0).send(letter()))
    assert (outcome.status, outcome.phase, outcome.doubtful) == (Status.DEFERRED, Phase.TEXT, True)


async def test_a_server_that_trickles_is_left(certs: Certs, basic: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    class Trickling(SmtpServer):
        def instead(self, line: Line, stage: str) -> bool:
            while stage == "mail":
                line.write("250-and")
                time.sleep(0.02)
            return super().instead(line, stage)

    monkeypatch.setattr(handover, "SLACK", 0.1)
    with Trickling(certs.context()) as server:
        for attempt in attempts():
            with attempt as seconds:
                one = Relay("home", basic | {"port": server.port, "timeout": seconds})
                outcome = only(await asyncio.wait_for(one.send(letter()), 60))
                assert (outcome.status, outcome.phase) == (Status.DEFERRED, Phase.MAIL)


@pytest.mark.parametrize("size", [100, len(LONG)])
async def test_storage_that_is_away_leaves_the_message_incomplete(smtp: SmtpServer, made: Made, size: int) -> None:
    async def read(start: int, end: int) -> bytes:
        if end == size:
            raise Unavailable("storage is away")
        return LONG[start:end]

    one = made(connections=1)
    broken = Letter("item", "trace", "a@b.example", "d.example", (RemoteRecipient("x@d.example"),), size, read)
    with pytest.raises(Unavailable):
        await one.send(broken)
    assert only(await one.send(letter())).status is Status.SENT
    assert len(smtp.mails) == 1


async def test_those_with_a_verdict_keep_it_when_storage_goes_away(smtp: SmtpServer, made: Made) -> None:
    times = 0

    async def read(start: int, end: int) -> bytes:
        nonlocal times
        times += end == len(LONG)
        if times == 2:
            raise Unavailable("storage is away")
        return LONG[start:end]

    recipients = tuple(RemoteRecipient(f"x{n}@d.example") for n in range(handover.RECIPIENTS_MAX + 1))
    letter = Letter("item", "trace", "a@b.example", "d.example", recipients, len(LONG), read)
    *taken, last = (await made().send(letter)).outcomes.values()
    assert {one.status for one in taken} == {Status.SENT}
    assert (last.status, last.enhanced) == (Status.DEFERRED, "4.3.0")
    assert len(smtp.mails) == 1


@pytest.mark.parametrize("size", [100, len(LONG)])
async def test_a_message_cut_short_waits(smtp: SmtpServer, made: Made, size: int) -> None:
    async def read(start: int, end: int) -> bytes:
        return LONG[start : min(end, size - 1)]

    broken = Letter("item", "trace", "a@b.example", "d.example", (RemoteRecipient("x@d.example"),), size, read)
    outcome = only(await made().send(broken))
    assert (outcome.status, outcome.enhanced) == (Status.DEFERRED, "4.3.0")
    assert not smtp.mails


async def test_one_that_is_broken_off_leaves_its_place(smtp: SmtpServer, made: Made) -> None:
    smtp.at["data"] = ["silent"]
    one = made(connections=1)
    sending = asyncio.create_task(one.send(letter()))
    await until(lambda: "DATA" in smtp.commands)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert only(await asyncio.wait_for(one.send(letter()), 60)).status is Status.SENT
    assert len(smtp.mails) == 1


# -- what the server cannot take


async def test_what_the_server_cannot_take_fails(smtp: SmtpServer, made: Made) -> None:
    smtp.extensions = ["SIZE 200"]
    one = made()
    for wanted, message in (
        ("5.3.4", letter(text=b"x" * 300)),
        ("5.6.3", letter(text=b"Subject: \xff\r\n")),
        ("5.6.7", letter("größe@d.example", SMTPUTF8="")),
        ("5.7.30", letter(REQUIRETLS="")),
    ):
        outcome = only(await one.send(message))
        assert (outcome.status, outcome.enhanced) == (Status.FAILED, wanted)
    assert not smtp.mails
    assert only(await one.send(letter(SMTPUTF8="", BODY="8BITMIME"))).status is Status.SENT


async def test_utf8_and_requiretls(smtp: SmtpServer, made: Made) -> None:
    smtp.extensions.append("REQUIRETLS")
    one = made()
    assert only(await one.send(letter("größe@dömain.example", SMTPUTF8="", REQUIRETLS=""))).status is Status.SENT
    assert smtp.mails[0].recipients == ["größe@dömain.example"]
    assert {"SMTPUTF8", "REQUIRETLS"} <= set(smtp.mails[0].options)
    result = await made(verify_ssl=False).send(letter(REQUIRETLS=""))
    assert (only(result).status, only(result).enhanced) == (Status.FAILED, "5.7.30")


@pytest.mark.parametrize(
    ("change", "word"),
    [({"provider": "gmial"}, "gmial"), ({"secret": ""}, "secret"), ({"ca_file": "/nowhere"}, "ca_file"),
     ({"provider": "gmail"}, "credential"), ({"hots": "x"}, "hots")],
)  # fmt: skip
def test_what_is_wrong_is_told_before_anything_is_sent(basic: Config, change: Config, word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        Relay("home", basic | change)
