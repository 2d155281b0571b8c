"""smtp-source, Postfix's own client for tests of servers, delivers to us: over SMTP and LMTP, many connections at
once."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live import DOMAIN, Live, free_ports, running, until

pytestmark = pytest.mark.interop

MESSAGES = 60


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    (port,) = free_ports(1)
    with running(tmp_path_factory.mktemp("source") / "data", "alice", HOMING_LMTP_PORT=str(port)) as server:
        server.ports["LMTP"] = port
        yield server


def stored(live: Live) -> int:
    status, stats = live.rest("GET", "/api/stats", token=live.admin_token())
    assert status == 200
    return int(stats["total_emails"])


@pytest.mark.parametrize("protocol", ["SMTP", "LMTP"])
@pytest.mark.parametrize(
    "way",
    [(), ("-d",), ("-l", "300000"), ("-L",)],
    ids=["plain", "many in a connection", "big", "long lines"],
)
def test_delivers(
    program: Callable[[str], str], live: Live, tmp_path: Path, protocol: str, way: tuple[str, ...]
) -> None:
    before = stored(live)
    command = [program("smtp-source"), "-s", "6", "-m", str(MESSAGES), "-f", "x@elsewhere.example"]
    further = ["-M", "client.example", *(["-L"] if protocol == "LMTP" else [])]
    further += [word for word in way if word != "-L"]
    if "-L" in way:
        text = tmp_path / "text"
        text.write_bytes(b"Subject: long\n\n" + b"x" * 3000 + b"\n")
        further += ["-F", str(text)]
    done = subprocess.run(
        [*command, *further, "-t", f"alice@{DOMAIN}", f"inet:{live.host}:{live.ports[protocol]}"],
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    until(lambda: stored(live) == before + MESSAGES, what="all are stored")
