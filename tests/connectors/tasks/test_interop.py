"""Tasks through Postfix with Dovecot's SASL, over STARTTLS: what they come to, and what arrives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from connectors import create_connector
from connectors.tasks.adapters.spool import SpoolTasks
from connectors.tasks.model import NewTask, Status, Task
from homing.settings import load_settings
from homing.tasks import through
from storage.adapters.sqlite.adapter import SqliteStorage
from tests.connectors.certs import Certs
from tests.connectors.mailhost import PASSWORD, Host
from tests.connectors.tasks.test_worker import ended, working
from tests.connectors.test_interop import certs, endpoint, folder, host, programs  # noqa: F401  # fixtures
from tests.live import until

pytestmark = pytest.mark.interop

ALICE, BOB = "alice@test.example", "bob@test.example"


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[SpoolTasks]:
    store = SqliteStorage(tmp_path / "data")
    await store.open(index=False)
    tasks = SpoolTasks(store)
    yield tasks
    await tasks.close()
    await store.close()


async def outcome(queue: SpoolTasks, host: Host, to: str = BOB, word: str = "", **env: str) -> Task:  # noqa: F811
    """What a task comes to; env: other settings."""
    given = {
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(host.submission),
        "SMTP_USER": ALICE,
        "SMTP_PASS": PASSWORD,
        "HOMING_OUTBOUND_ROOTS": str(host.ca),
    }
    text = f"From: {ALICE}\r\nTo: {to}\r\nSubject: {word}\r\n\r\n.Grüße\r\n".encode()
    async with working(queue, through(load_settings(given | env).settings)):
        return await ended(queue, await queue.put(NewTask("ann", ALICE, to, text, uuid4().hex), uuid4().hex))


async def test_a_task_arrives(queue: SpoolTasks, host: Host) -> None:  # noqa: F811
    word = uuid4().hex
    task = await outcome(queue, host, word=word)
    assert (task.status, task.attempts, task.doubtful) == (Status.SUCCESS, 1, False), task.reason
    config = {"host": "127.0.0.1", "port": host.imaps, "username": BOB, "password": PASSWORD, "ca_file": str(host.ca)}
    with create_connector("imap", config).connection() as imap:
        (message,) = until(lambda: imap.search_messages(["SUBJECT", word], mailbox="INBOX"), 20, word, pause=0.1)
    assert message["body"].strip() == ".Grüße"


async def test_each_refusal(queue: SpoolTasks, host: Host, certs: Certs, tmp_path: Path) -> None:  # noqa: F811
    unknown = await outcome(queue, host, "nobody@test.example")
    assert (unknown.status, unknown.attempts, unknown.doubtful) == (Status.FAILED, 1, False)
    assert "550" in unknown.reason
    wrong = await outcome(queue, host, SMTP_PASS="wrong horse")
    assert (wrong.status, wrong.attempts, wrong.doubtful) == (Status.FAILED, 1, False)
    assert "535" in wrong.reason
    assert "wrong horse" not in wrong.reason
    strange = await outcome(queue, host, HOMING_OUTBOUND_ROOTS="")
    assert (strange.status, strange.attempts, strange.doubtful) == (Status.FAILED, 3, False)
    assert "certificate" in strange.reason
