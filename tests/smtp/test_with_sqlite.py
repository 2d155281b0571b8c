"""The service over the real stores of the embedded mode."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import identity.connect
import storage.connect
from identity.model import Alias, NewAccount
from identity.port import Identity
from identity.settings import IdentitySettings
from runtime.clock import SystemClock
from runtime.listener import Tls
from runtime.metrics import Metrics
from smtp.service import SmtpService
from smtp.settings import SmtpSettings
from storage.model import ALL_UIDS, SYSTEM, Operation, Want
from storage.port import Storage
from tests.reading import rows_of
from tests.smtp.conftest import Client

MESSAGE = b"From: a@remote.example\r\nTo: alice@example.org\r\nSubject: hello\r\n\r\nbody\r\n"


@dataclass
class Real:
    service: SmtpService
    identity: Identity
    storage: Storage
    accounts: dict[str, str]

    async def connect(self, listener: str = "smtp") -> Client:
        import asyncio

        return Client(*await asyncio.open_connection("127.0.0.1", self.service.ports[listener]))


@pytest.fixture
async def real(tmp_path: Path, certificate: tuple[Path, Path]) -> AsyncIterator[Real]:
    who = await identity.connect.connect(f"sqlite://{tmp_path}", IdentitySettings())
    store = await storage.connect.connect(f"sqlite://{tmp_path}")
    await who.add_domain("example.org")
    made = await who.import_accounts(
        [NewAccount(f"{name}@example.org", password=f"{name}-secret") for name in ("alice", "bob")]
    )
    accounts = {one.address.split("@")[0]: one.account.id for one in made if one.account is not None}
    service = SmtpService(
        SmtpSettings(port=0, submission_port=0, submissions_port=None),
        host="127.0.0.1",
        hostname="mx.example.org",
        domain="example.org",
        identity=who,
        storage=store,
        tls=Tls(*certificate).context,
        clock=SystemClock(),
        metrics=Metrics("homing"),
    )
    await service.start()
    try:
        yield Real(service, who, store, accounts)
    finally:
        await service.stop()
        await store.close()
        await who.close()


async def test_a_message_is_there_when_250_is_said(real: Real) -> None:
    client = await real.connect()
    await client.hello()
    await client.envelope("a@remote.example", "alice@example.org", "bob+lists@example.org")
    assert (await client.data(MESSAGE + b".\r\n")).startswith("250")
    for name in ("alice", "bob"):
        account = real.accounts[name]
        inbox = await real.storage.mailbox(account, "INBOX")
        assert inbox.messages == 1
        (row,) = await rows_of(real.storage, inbox.ref, ALL_UIDS, Want.PREFIX | Want.SIZE | Want.CONTENT)
        assert row.content is not None
        assert row.prefix is not None
        assert row.content.endswith(MESSAGE)
        assert row.content.startswith(b"Received: from client.example ([127.0.0.1])")
        assert row.prefix.startswith(b"Return-Path: <a@remote.example>\r\nDelivered-To: ")
        assert row.size == len(row.prefix) + len(row.content)


async def test_big_and_refused(real: Real) -> None:
    client = await real.connect()
    await client.hello()
    await client.say("MAIL FROM:<>")
    assert (await client.say("RCPT TO:<nobody@example.org>")).startswith("550 5.1.1")
    assert (await client.say("RCPT TO:<x@elsewhere.example>")).startswith("550 5.7.1")
    assert (await client.say("RCPT TO:<x@[127.0.0.1]>")).startswith("550 5.7.1")
    assert (await client.say("RCPT TO:<postmaster>")).startswith("550 5.1.1")
    assert (await client.say("RCPT TO:<alice@example.org>")).startswith("250")
    body = MESSAGE + b"line of text\r\n" * 100_000
    assert (await client.data(body + b".\r\n")).startswith("250")
    inbox = await real.storage.mailbox(real.accounts["alice"], "INBOX")
    (row,) = await rows_of(real.storage, inbox.ref, ALL_UIDS, Want.SIZE)
    assert row.size is not None
    assert row.size > len(body)


async def test_submission_goes_to_the_spool(real: Real) -> None:
    await real.identity.put_alias(Alias("sales@example.org", ("alice@example.org",)))
    client = await real.connect("submission")
    await client.hello()
    assert (await client.sign_in("alice@example.org", "wrong")).startswith("535")
    assert (await client.sign_in("alice@example.org", "alice-secret")).startswith("235")
    assert (await client.say("MAIL FROM:<bob@example.org>")).startswith("553 5.7.1")
    await client.envelope("sales@example.org", "x@elsewhere.example", "bob@example.org")
    assert (await client.data(MESSAGE + b".\r\n")).startswith("250")
    (item,) = await real.storage.spool(real.accounts["alice"])
    assert [one.address for one in item.recipients] == ["x@elsewhere.example"]
    assert (await real.storage.mailbox(real.accounts["bob"], "INBOX")).messages == 1
    events = await real.storage.trace(item.trace, None)
    assert {"connect", "rcpt", "data", "stored", "spooled"} <= {event.kind for event in events}


async def test_a_new_password_ends_the_connection(real: Real) -> None:
    client = await real.connect("submission")
    await client.hello()
    await client.sign_in("alice@example.org", "alice-secret")
    await real.identity.set_password(real.accounts["alice"], "another-secret")
    assert (await client.reply()).startswith("421 4.7.0")


async def test_an_account_that_was_removed(real: Real) -> None:
    client = await real.connect()
    await client.hello()
    await client.envelope("", "bob@example.org")
    await real.identity.remove_account(real.accounts["bob"])
    await real.storage.purge_account(Operation(uuid.uuid4().hex, SYSTEM), real.accounts["bob"])
    assert (await client.data(MESSAGE + b".\r\n")).startswith("451")
    await client.say("MAIL FROM:<>")
    assert (await client.say("RCPT TO:<bob@example.org>")).startswith("550 5.1.1")
