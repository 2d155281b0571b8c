"""POST /smtp/send-email through Postfix with Dovecot's SASL: by password, and by tokens of a server that plays Google's
and Microsoft's endpoints."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from connectors import create_connector, oauth
from tests.connectors.mailhost import PASSWORD, Host
from tests.connectors.servers import TokenServer
from tests.connectors.test_interop import certs, endpoint, folder, host, programs  # noqa: F401  # fixtures
from tests.homing.integrations.conftest import Scene
from tests.homing.integrations.test_send_email import failure
from tests.live import until

pytestmark = pytest.mark.interop

ALICE, BOB = "alice@test.example", "bob@test.example"


def given(host: Host, provider: str) -> dict[str, Any]:  # noqa: F811
    by_token = {"user": "client-1", "secret": "client-secret-1"}
    kinds = {
        "smtp": {"user": ALICE, "secret": PASSWORD},
        "gmail": by_token | {"credential": "refresh-1"},
        "microsoft": by_token | {"credential": "tenant-1"},
    }
    return {"name": provider, "provider": provider, "from_email": ALICE, "port": host.submission, **kinds[provider]}


def arrived(host: Host, word: str) -> dict[str, Any]:  # noqa: F811
    config = {"host": "127.0.0.1", "port": host.imaps, "username": BOB, "password": PASSWORD, "ca_file": str(host.ca)}
    with create_connector("imap", config).connection() as imap:
        (message,) = until(lambda: imap.search_messages(["SUBJECT", word], mailbox="INBOX"), 20, word, pause=0.1)
    return dict(message)


@pytest.fixture
def ready(scene: Scene, endpoint: TokenServer) -> Scene:  # noqa: F811
    oauth.forget_all()
    scene.serve(token_url=endpoint.token_url, authority=endpoint.authority)
    return scene


@pytest.mark.parametrize("provider", ["smtp", "gmail", "microsoft"])
async def test_each_provider_sends(ready: Scene, host: Host, provider: str) -> None:  # noqa: F811
    word = uuid4().hex
    one = await ready.add(**given(host, provider))
    assert (await ready.ask("POST", f"integrations/{one['id']}/test")).status_code == 200
    answer = await ready.send(to=f"Bob <{BOB}>, nobody@test.example", subject=f"Grüße {word}", message="schön\n.\n")
    assert answer.status_code == 200, answer.text
    assert [one["cause"] for one in answer.json()["refused"]] == ["recipient_refused"]
    message = arrived(host, word)
    assert (message["subject"], message["from"]) == (f"Grüße {word}", ALICE)
    assert message["body"].strip() == "schön\n."
    assert message["message_id"] == answer.json()["message_id"]


async def test_each_failure(ready: Scene, host: Host, endpoint: TokenServer) -> None:  # noqa: F811
    await ready.add(**given(host, "smtp"))
    await ready.add(**given(host, "smtp") | {"name": "wrong", "secret": "wrong"})
    await ready.add(**given(host, "gmail"))
    await ready.add(**given(host, "microsoft"))
    assert failure(await ready.send(to="nobody@test.example")) == (422, "recipient_refused", "no")
    assert failure(await ready.send(to=BOB, message="ä" * 7_900_000)) == (422, "message_refused", "no")
    assert failure(await ready.send(to=BOB, integration="wrong")) == (424, "sign_in_refused", "no")
    for name in ("gmail", "microsoft"):
        assert (await ready.send(to=BOB, integration=name)).status_code == 200
        await ready.outbox.stop()
        # An access token that was revoked is fetched anew; a refresh token, or consent, that was ends it.
        endpoint.state.revoked |= set(endpoint.state.given)
        assert (await ready.send(to=BOB, integration=name)).status_code == 200
        await ready.outbox.stop()
        endpoint.state.revoked |= set(endpoint.state.given)
        endpoint.state.refuse = "invalid_grant"
        try:
            answer = await ready.send(to=BOB, integration=name)
        finally:
            endpoint.state.refuse = ""
        assert failure(answer) == (424, "sign_in_refused", "no")
        assert "invalid_grant" in answer.json()["detail"]
    ready.serve(ca_file=None)
    assert failure(await ready.send(to=BOB)) == (502, "bad_certificate", "no")
