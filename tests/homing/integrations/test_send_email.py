"""POST /smtp/send-email through an account's own integration: what it sends, and each way in which it fails."""

from __future__ import annotations

import asyncio
import email
import email.policy
import threading
from dataclasses import replace
from typing import Any

import pytest

from homing.integrations.failures import Cause
from homing.integrations.vault import open_vault
from identity.limiting.rates import Rate
from storage.model import Event
from tests.connectors.certs import Certs
from tests.connectors.servers import SmtpServer, TokenServer
from tests.homing.integrations.conftest import ELSEWHERE, SECRET, D, Scene
from tests.homing.integrations.test_vault import K1, K2
from tests.live import free_ports, until
from tests.patience import attempts


def failure(answer: Any) -> tuple[int, str, str]:
    body = answer.json()
    assert SECRET not in answer.text
    assert set(body) == {"detail", "cause", "sent", "recipients"}, body
    return answer.status_code, body["cause"], body["sent"]


async def test_it_is_sent_as_the_integrations_address(scene: Scene, smtp: SmtpServer) -> None:
    await scene.add(port=smtp.port, from_email=f"Alice Größe <{ELSEWHERE}>")
    answer = await scene.send(to="Bob <bob@b.example>, carol@c.example", subject="Grüße", message="Hallo\n.\nAlice")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    (mail,) = smtp.mails
    assert (mail.sender, mail.recipients) == (ELSEWHERE, ["bob@b.example", "carol@c.example"])
    message = email.message_from_bytes(mail.raw, policy=email.policy.default)
    assert message["From"] == f"Alice Größe <{ELSEWHERE}>"
    assert message["To"] == "Bob <bob@b.example>, carol@c.example"
    assert message["Subject"] == "Grüße"
    assert message.get_content().replace("\r\n", "\n") == "Hallo\n.\nAlice\n"
    assert message["Message-ID"] == f"<{body['message_id']}>"
    assert body["status"] == "sent"
    assert body["message"] == "The message was sent to bob@b.example, carol@c.example."
    assert (body["accepted"], body["refused"], body["integration"]) == (mail.recipients, [], "work")
    assert smtp.signed_in == [ELSEWHERE]
    assert [event.detail["status"] for event in scene.recording.events] == ["sent", "sent"]
    assert {event.trace for event in scene.recording.events} == {body["trace"]}
    assert {event.account for event in scene.recording.events} == {scene.people["alice"].id}


async def test_html_and_a_named_integration_over_a_kept_connection(scene: Scene, smtp: SmtpServer) -> None:
    await scene.add(port=1)
    await scene.add(name="second", port=smtp.port)
    for _ in range(3):
        answer = await scene.send(html="<p>m</p>", integration="second")
        assert answer.status_code == 200, answer.text
    message = email.message_from_bytes(smtp.mails[-1].raw, policy=email.policy.default)
    assert message.get_content_type() == "multipart/alternative"
    assert len(smtp.mails) == 3
    assert smtp.connections == 1
    assert failure(await scene.send(integration="third")) == (404, "no_such_integration", "no")


async def test_some_recipients_are_refused(scene: Scene, smtp: SmtpServer) -> None:
    await scene.add(port=smtp.port)
    smtp.refuse["no@b.example"] = "550 5.1.1 nobody here"
    answer = await scene.send(to="no@b.example, yes@b.example")
    assert answer.status_code == 200
    (refused,) = answer.json()["refused"]
    assert (refused["to"], refused["cause"], refused["sent"]) == ("no@b.example", "recipient_refused", "no")
    assert "550 5.1.1 nobody here" in refused["detail"]
    assert answer.json()["message"].endswith("It was not sent to no@b.example.")
    answer = await scene.send(to="no@b.example")
    assert failure(answer) == (422, "recipient_refused", "no")
    assert "550 5.1.1 nobody here." in answer.json()["detail"]
    assert answer.json()["recipients"][0]["to"] == "no@b.example"


async def test_who_may(scene: Scene, smtp: SmtpServer) -> None:
    await scene.add(port=smtp.port)
    scene.headers["mallory"] = {"Authorization": "Bearer nonsense"}
    for who in ("nobody", "mallory"):
        answer = await scene.send(who)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert failure(await scene.send("bob")) == (409, "no_integration", "no")
    (alices,) = (await scene.ask("GET", "integrations")).json()["integrations"]
    for name in (alices["id"], alices["name"]):
        assert failure(await scene.send("bob", integration=name)) == (404, "no_such_integration", "no")
        assert failure(await scene.send("admin", integration=name)) == (404, "no_such_integration", "no")
    assert (await scene.ask("DELETE", f"integrations/{alices['id']}")).json() == {"status": "removed"}
    assert failure(await scene.send()) == (409, "no_integration", "no")
    assert smtp.mails == []


async def test_without_a_default_nothing_is_guessed(scene: Scene, smtp: SmtpServer) -> None:
    first = await scene.add(port=smtp.port)
    await scene.add(name="second", port=smtp.port)
    await scene.ask("DELETE", f"integrations/{first['id']}")
    answer = await scene.send()
    assert failure(answer) == (409, "no_integration", "no")
    assert "is the default" in answer.json()["detail"]


async def test_nothing_can_be_put_into_the_header(scene: Scene, smtp: SmtpServer) -> None:
    await scene.add(port=smtp.port)
    for bad in (
        {"to": "bob@b.example\r\nBcc: eve@e.example"},
        {"to": "bob@b.example>\r\nRCPT TO:<eve@e.example"},
        {"to": "nonsense"},
        {"to": ", ,"},
        {"subject": "x\r\nBcc: eve@e.example"},
        {"subject": "x\ny"},
        {"subject": "x\u2028y"},
        {"subject": "x\0y"},
    ):
        assert failure(await scene.send(**bad)) == (422, "not_acceptable", "no"), bad
    assert smtp.commands == []
    for body in ({}, {"to": "a@b.example"}, {"to": 1, "subject": "", "message": ""}, []):
        assert (await scene.ask("POST", "send-email", body)).status_code == 422


async def test_a_line_of_dots_and_names_cannot_end_it(scene: Scene, smtp: SmtpServer) -> None:
    await scene.add(port=smtp.port)
    answer = await scene.send(message="a\r\n.\r\nMAIL FROM:<eve@e.example>\r\n", html="a\r\n.\r\nQUIT\r\n")
    assert answer.status_code == 200
    assert len(smtp.mails) == 1


# -- each failure: the scene, the server, and what it is told as


STAGES: list[tuple[dict[str, list[str]], tuple[int, str, str], str]] = [
    ({"connect": ["554 5.7.1 go away"]}, (502, "unreachable", "no"), "554"),
    ({"connect": ["421 4.3.2 too busy"]}, (503, "put_off", "no"), "421"),
    ({"connect": ["close"]}, (502, "unreachable", "no"), "closed the connection"),
    ({"starttls": ["454 4.7.0 not now"]}, (503, "put_off", "no"), "454"),
    ({"auth": ["535 5.7.8 no such luck"]}, (424, "sign_in_refused", "no"), "535"),
    ({"auth": ["454 4.7.0 not now"]}, (502, "unreachable", "no"), "454"),
    ({"mail": ["550 5.7.1 not your address"]}, (422, "sender_refused", "no"), "not your address"),
    ({"mail": ["550 5.4.5 limit of the day"]}, (503, "put_off", "no"), "limit of the day"),
    ({"rcpt": ["451 4.7.1 greylisted"]}, (503, "put_off", "no"), "greylisted"),
    ({"rcpt": ["550 5.1.1 nobody"]}, (422, "recipient_refused", "no"), "nobody"),
    ({"rcpt": ["close"]}, (502, "broken_off", "no"), "was lost"),
    ({"data": ["554 5.6.0 no"]}, (422, "message_refused", "no"), "5.6.0"),
    ({"end": ["554 5.7.1 spam"]}, (422, "message_refused", "no"), "spam"),
    ({"end": ["451 4.3.0 later"]}, (503, "put_off", "no"), "later"),
    ({"body": ["close"]}, (502, "broken_off", "no"), "lost"),
    ({"end": ["close"]}, (504, "unseen", "maybe"), "may have been sent"),
]


async def test_each_stage(scene: Scene, certs: Certs) -> None:
    with SmtpServer(certs.context()) as server:
        await scene.add(port=server.port)
        for at, told, words in STAGES:
            # So that the next one finds no connection of the one before.
            await scene.outbox.stop()
            server.at, server.mails = {stage: list(what) for stage, what in at.items()}, []
            scene.recording.events.clear()
            # A message that is long enough to be broken off within.
            answer = await scene.send(message="line\n" * 400_000 if "body" in at else "m")
            assert failure(answer) == told, (at, answer.text)
            assert words in answer.json()["detail"], at
            assert ("Retry-After" in answer.headers) == (Cause(told[1]).again is not None)
            assert server.mails == []
            assert [event.detail["status"] for event in scene.recording.events] == ["failed"]
            # Nothing is broken for the next message.
            assert (await scene.send()).status_code == 200


async def test_silence(scene: Scene, certs: Certs) -> None:
    with SmtpServer(certs.context()) as server:
        await scene.add(port=server.port)
        for stage, told in (
            ("connect", (504, "timed_out", "no")),
            ("rcpt", (504, "timed_out", "no")),
            ("end", (504, "unseen", "maybe")),
        ):
            for attempt in attempts():
                with attempt as seconds:
                    await scene.outbox.stop()
                    scene.serve(seconds=seconds, total=120.0)
                    server.at = {stage: ["silent"]}
                    assert failure(await scene.send()) == told, stage


async def test_the_whole_time_is_bounded_and_the_loop_goes_on(scene: Scene, certs: Certs) -> None:
    with SmtpServer(certs.context()) as server:
        await scene.add(port=server.port)
        for attempt in attempts():
            with attempt as seconds:
                await scene.outbox.stop()
                scene.serve(total=seconds, seconds=120.0)
                server.at = {"end": ["silent"]}
                turns = 0
                async with asyncio.timeout(60):
                    sending = asyncio.create_task(scene.send())
                    while not sending.done():
                        await asyncio.sleep(0.005)
                        turns += 1
                assert failure(sending.result()) == (504, "unseen", "maybe")
                assert turns > 1
    await scene.outbox.drain()


async def test_nobody_listens_and_no_such_host(scene: Scene) -> None:
    (port,) = free_ports(1)
    one = await scene.add(port=port)
    answer = await scene.send()
    assert failure(answer) == (502, "unreachable", "no")
    assert "Nothing listens" in answer.json()["detail"]
    assert failure(await scene.ask("POST", f"integrations/{one['id']}/test")) == (502, "unreachable", "no")
    await scene.add(name="none", host="no-such-host.invalid")
    answer = await scene.send(integration="none")
    assert failure(answer) == (502, "unreachable", "no")
    assert "was not found" in answer.json()["detail"]


async def test_a_bad_certificate(scene: Scene, smtp: SmtpServer) -> None:
    scene.serve(ca_file=None)
    one = await scene.add(port=smtp.port)
    answer = await scene.send()
    assert failure(answer) == (502, "bad_certificate", "no")
    assert "certificate" in answer.json()["detail"]
    # in the words of an integration and of the settings
    assert "'verify': false turns the check off" in answer.json()["detail"]
    assert "sending.ca_file" in answer.json()["detail"]
    assert failure(await scene.ask("POST", f"integrations/{one['id']}/test")) == (502, "bad_certificate", "no")
    await scene.add(name="plain speech", port=smtp.port, security="tls")
    assert failure(await scene.send(integration="plain speech")) == (502, "bad_certificate", "no")
    await scene.add(name="trusting", port=smtp.port, verify=False)
    assert (await scene.send(integration="trusting")).status_code == 200


async def test_a_refused_sign_in(scene: Scene, smtp: SmtpServer) -> None:
    smtp.repeats_secrets = True
    one = await scene.add(port=smtp.port, secret="wrong horse")
    for answer in (await scene.send(), await scene.ask("POST", f"integrations/{one['id']}/test")):
        assert failure(answer) == (424, "sign_in_refused", "no")
        assert "535" in answer.json()["detail"]
        assert "wrong horse" not in answer.text
    assert all("wrong horse" not in str(event) for event in scene.recording.events)


@pytest.mark.parametrize("provider", ["gmail", "microsoft"])
async def test_tokens_of_providers(scene: Scene, smtp: SmtpServer, tokens: TokenServer, provider: str) -> None:
    scene.serve(token_url=tokens.token_url, authority=tokens.authority)
    tokens.state.on_token = smtp.tokens.add
    credential = {"gmail": "refresh-1", "microsoft": "tenant-1"}[provider]
    given = {"user": "client-1", "secret": "client-secret-1", "credential": credential}
    one = await scene.add(provider=provider, port=smtp.port, **given)
    assert one["provider"] == provider
    assert credential not in str(one)
    assert (await scene.ask("POST", f"integrations/{one['id']}/test")).json()["status"] == "ok"
    assert (await scene.send()).status_code == 200
    assert smtp.signed_in == [ELSEWHERE, ELSEWHERE]
    # An access token that the server has come to refuse is fetched anew, once.
    smtp.tokens.clear()
    scene.serve()
    assert (await scene.send()).status_code == 200
    # A refresh token, or consent, that was taken back.
    smtp.tokens.clear()
    tokens.state.refuse = "invalid_grant"
    scene.serve()
    answer = await scene.send()
    assert failure(answer) == (424, "sign_in_refused", "no")
    assert "invalid_grant" in answer.json()["detail"]
    for secret in ("client-secret-1", credential, "access-"):
        assert secret not in answer.text
    tokens.state.refuse, tokens.state.status = "", 503
    answer = await scene.send()
    assert failure(answer) == (502, "unreachable", "no")
    tokens.state.status = 0
    scene.serve(token_url="https://127.0.0.1:1/token", authority="https://127.0.0.1:1")
    assert failure(await scene.send()) == (502, "unreachable", "no")


async def test_one_account_cannot_take_all_of_it(scene: Scene, certs: Certs) -> None:
    gate = threading.Event()

    class Slow(SmtpServer):
        def serve(self, line: Any) -> None:
            gate.wait(120)
            super().serve(line)

    scene.serve(of_account=2)
    with Slow(certs.context()) as server:
        await scene.add(port=server.port)
        await scene.add("bob", port=server.port)
        held = [asyncio.create_task(scene.send()) for _ in range(2)]
        await asyncio.to_thread(until, lambda: server.connections == 2, 60, "both connect")
        answer = await scene.send()
        assert failure(answer) == (429, "too_busy", "no")
        assert answer.headers["Retry-After"] == "5"
        other = asyncio.create_task(scene.send("bob"))
        gate.set()
        assert [one.status_code for one in await asyncio.gather(*held, other)] == [200, 200, 200]
        assert (await scene.send()).status_code == 200


async def test_servers_of_one_account_that_are_slow_keep_nobody_waiting(
    scene: Scene, smtp: SmtpServer, certs: Certs
) -> None:
    gate = threading.Event()

    class Slow(SmtpServer):
        def serve(self, line: Any) -> None:
            gate.wait(120)
            super().serve(line)

    scene.serve(sends=4, of_account=10)
    with Slow(certs.context()) as server:
        await scene.add(port=server.port)
        await scene.add("bob", port=smtp.port)
        held = [asyncio.create_task(scene.send()) for _ in range(6)]
        await asyncio.to_thread(until, lambda: server.connections > 0, 60, "one connects")
        async with asyncio.timeout(60):
            assert (await scene.send("bob")).status_code == 200
        assert not any(one.done() for one in held)
        gate.set()
        assert {one.status_code for one in await asyncio.gather(*held)} == {200}


async def test_the_rate_of_the_account_counts(scene: Scene, smtp: SmtpServer) -> None:
    scene.rates = replace(scene.rates, account=Rate(2, 3600), account_recipients=Rate(4, 3600))
    scene.serve()
    await scene.add(port=smtp.port)
    assert (await scene.send(to="a@b.example, c@b.example, d@b.example")).status_code == 200
    answer = await scene.send(to="a@b.example, c@b.example")
    assert failure(answer) == (429, "too_busy", "no")
    assert int(answer.headers["Retry-After"]) > 60


async def test_a_missing_key_is_told_and_a_new_one_takes_over(scene: Scene, smtp: SmtpServer) -> None:
    scene.serve(open_vault(K1, None, None))
    one = await scene.add(port=smtp.port)
    scene.serve(open_vault(K2, None, None))
    for answer in (await scene.send(), await scene.ask("POST", f"integrations/{one['id']}/test")):
        assert failure(answer) == (503, "secret_unreadable", "no")
        assert "HOMING_SECRETS_KEY" in answer.json()["detail"]
    scene.serve(open_vault(K2, K1, None))
    keys = await scene.http.get("/api/integrations/keys", headers=scene.headers["admin"])
    assert list(keys.json()["sealed"].values()) == [1]
    assert keys.json()["sealed"].keys() != {keys.json()["present"]}
    assert keys.json()["missing"] == []
    assert (await scene.http.get("/api/integrations/keys", headers=scene.headers["alice"])).status_code == 403
    assert (await scene.send()).status_code == 200
    scene.serve(open_vault(K2, None, None))
    assert (await scene.send()).status_code == 200
    scene.serve(open_vault(None, None, None))
    answer = await scene.ask(
        "POST", "integrations", {"name": "n", "from_email": ELSEWHERE, "user": "u", "secret": "s", "host": "h"}
    )
    assert answer.status_code == 503
    assert "HOMING_SECRETS_KEY" in answer.json()["detail"]


async def test_networks_that_are_not_reached(scene: Scene, smtp: SmtpServer) -> None:
    scene.serve(refused=("127.0.0.0/8", "::1"))
    await scene.add(port=smtp.port)
    await scene.add(name="by name", host="localhost", port=smtp.port)
    for name in ("work", "by name"):
        answer = await scene.send(integration=name)
        assert failure(answer) == (409, "bad_settings", "no")
        assert "nothing is sent to" in answer.json()["detail"]
    assert smtp.connections == 0


async def test_a_lost_record_does_not_make_a_sent_message_unsent(scene: Scene, smtp: SmtpServer) -> None:
    scene.recording.broken = True
    await scene.add(port=smtp.port)
    assert (await scene.send()).status_code == 200


async def test_the_record_tells_a_story(scene: Scene, smtp: SmtpServer) -> None:
    from homing.tracing.story import State, tell

    await scene.add(port=smtp.port)
    smtp.refuse["no@b.example"] = "550 5.1.1 nobody here"
    smtp.at["end"] = ["250 2.0.0 first", "close"]
    await scene.send(to="yes@b.example, no@b.example")
    first = list(scene.recording.events)
    await scene.send()
    second = scene.recording.events[len(first) :]

    def states(events: list[Event]) -> list[State]:
        return [fate.state for fate in tell(events, now=scene.clock.now()).fates]

    assert states(first) == [State.SENT, State.FAILED]
    assert states(second) == [State.FAILED]
    assert f"@{D}" not in str(first)


async def test_the_documentation_has_each_failure(scene: Scene) -> None:
    paths = (await scene.http.get("/openapi.json")).json()["paths"]
    answers = paths["/smtp/send-email"]["post"]["responses"]
    told = {
        name: int(status)
        for status, answer in answers.items()
        for name in answer.get("content", {}).get("application/json", {}).get("examples", {})
    }
    assert told == {cause.value: cause.status for cause in Cause}
    assert paths["/smtp/send-email"]["post"]["security"] == [{"OAuth2PasswordBearer": []}]
