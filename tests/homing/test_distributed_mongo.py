"""The services, and the whole server, over one MongoDB (or what stands in for it, HOMING_TEST_MONGODB)."""

from __future__ import annotations

import imaplib
import json
import smtplib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runtime.mongo import open_mongo
from tests.live import DOMAIN, PASSWORD, Cluster, Live, until
from tests.mongo import dropped, mongo_url

pytestmark = pytest.mark.slow

TWO = {"identity": 2, "storage": 2, "smtp": 2, "imap": 2}


@pytest.fixture
async def url() -> AsyncIterator[str]:
    found = mongo_url("mongodb")
    yield found
    await dropped(found)


def subjects(live: Live, port: int, user: str = "alice") -> list[bytes]:
    with imaplib.IMAP4(live.host, port) as client:
        client.login(user, PASSWORD)
        client.select()
        found = client.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
        return [part[1].strip() for part in found if isinstance(part, tuple)]


def send(live: Live, port: int, subject: str) -> int:
    """The code of the last reply."""
    try:
        with smtplib.SMTP(live.host, port, timeout=120) as client:
            client.sendmail("x@elsewhere.example", [f"alice@{DOMAIN}"], f"Subject: {subject}\r\n\r\nx\r\n".encode())
            return 250
    except smtplib.SMTPRecipientsRefused as error:
        return next(iter(error.recipients.values()))[0]
    except smtplib.SMTPResponseException as error:
        return error.smtp_code


async def test_two_of_each(url: str, tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "data", url, TWO)
    try:
        cluster.start()
        # Both identity processes began at the same moment.
        cluster.add_users("alice")
        found = json.loads(cluster.cli("user", "list", "--json").stdout)
        assert sorted(one["address"].partition("@")[0] for one in found) == ["admin", "alice", "user"]
        assert [one["address"] for one in found if one["role"] == "admin"] == [f"admin@{DOMAIN}"]

        mongo = await open_mongo(url)
        turns = {one["_id"]: one["holder"] async for one in mongo.database["turn"].find({})}
        assert "sweep" in turns
        await mongo.close()

        for number, door in enumerate(cluster.of("smtp")):
            until(lambda door=door, number=number: send(cluster, door.ports["SMTP"], f"by {number}") == 250)
        readers = [door.ports["IMAP"] for door in cluster.of("imap")]
        assert [subjects(cluster, port) for port in readers] == [[b"Subject: by 0", b"Subject: by 1"]] * 2

        # With one keeper of each kind killed, the others carry on.
        for service in ("identity", "storage"):
            cluster.of(service)[0].kill()
        for number, door in enumerate(cluster.of("smtp")):
            until(lambda door=door, number=number: send(cluster, door.ports["SMTP"], f"again {number}") == 250)
        for port in readers:
            until(lambda port=port: len(subjects(cluster, port)) == 4)
        for service in ("identity", "storage"):
            cluster.of(service)[0].start()
        until(cluster.ready)

        cluster.cli("config", "set", "smtp.max_workers", "7")
        token = cluster.admin_token()
        until(lambda: cluster.rest("GET", "/api/config", token=token)[1]["max_workers"] == 7)
        assert cluster.stop() == 0
    finally:
        cluster.kill()
    # No process is needed for a command.
    assert "alice@" in cluster.cli("user", "list").stdout
    rows = {row["key"]: row for row in json.loads(cluster.cli("config", "--json").stdout)}
    assert rows["smtp.max_workers"]["origin"] == "override"
    cluster.cli("config", "clear", "smtp.max_workers")


async def test_the_whole_server_in_one_process(url: str, tmp_path: Path) -> None:
    live = Live(tmp_path / "data", MONGODB_URL=url).start()
    try:
        live.add_users("alice")
        assert send(live, live.ports["SMTP"], "one") == 250
        assert subjects(live, live.ports["IMAP"]) == [b"Subject: one"]
        assert "Of the running server" in live.cli("config").stdout
        live.cli("config", "set", "smtp.max_workers", "7")
        assert live.rest("GET", "/api/config", token=live.admin_token())[1]["max_workers"] == 7
        assert live.stop() == 0
        assert not list(live.data.glob("*.db"))
        # Another start, from another folder, has it all.
        live.env["HOMING_DATA"] = str(tmp_path / "another")
        live.start()
        assert subjects(live, live.ports["IMAP"]) == [b"Subject: one"]
        begun = time.monotonic()
        assert live.stop() == 0
        assert time.monotonic() - begun < 25
    finally:
        if live.running:
            live.kill()
