"""The examples of docs/sending-api.md are run as they are written, but for the places of the servers in them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from homing.integrations.failures import Cause
from homing.integrations.vault import parse_key
from tests.connectors.certs import Certs
from tests.connectors.servers import SmtpServer
from tests.live import Live, running

PAGE = Path(__file__).resolve().parents[3] / "docs" / "sending-api.md"


@pytest.fixture
def homing(tmp_path: Path, certs: Certs) -> Iterator[Live]:
    with running(tmp_path / "data", "alice", HOMING_SENDING_CA_FILE=str(certs.ca), HOMING_SECRETS_KEY="A" * 43) as live:
        yield live


def test_examples_run(homing: Live, smtp: SmtpServer) -> None:
    smtp.users = {"alice@example.org": "an app password"}
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    assert [language for language, _ in blocks] == ["sh", "python", "sh"]
    for language, text in blocks:
        here = text.replace("http://127.0.0.1:8000", f"http://{homing.host}:{homing.rest_port('/smtp')}")
        here = here.replace("mail.example.org", "127.0.0.1").replace('"port": 587', f'"port": {smtp.port}')
        if language == "python":
            names: dict[str, Any] = {"__name__": "example"}
            exec(compile(here, PAGE.name, "exec"), names)
            assert names["status"] == 200, names["told"]
        elif "curl" not in here:
            done = subprocess.run(["sh", "-c", here], text=True, capture_output=True, timeout=30, check=True)
            assert parse_key(done.stdout)
        elif shutil.which("curl"):
            # --json is of curl 7.82.
            here = here.replace("--json", "-H 'Content-Type: application/json' -d")
            subprocess.run(["sh", "-ec", here], text=True, capture_output=True, timeout=60, check=True)
            assert smtp.mails[0].recipients == ["john@example.com"]
    assert smtp.mails[-1].recipients == ["john@example.com", "carol@example.com"]


def test_the_table_has_every_cause() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d{3}) \|", PAGE.read_text("utf-8"), re.M)
    assert {name: int(status) for name, status in rows} == {cause.value: cause.status for cause in Cause}
