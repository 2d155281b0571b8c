"""The dialogues of tests/transcripts/smtp, each played whole, octet by octet, and over TLS from the first octet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from smtp.wire.ehlo import EXTENSIONS
from tests.smtp.conftest import Running, Start
from tests.transcripts.play import play, read

FOLDER = Path(__file__).resolve().parents[1] / "transcripts" / "smtp"
SCRIPTS = sorted(FOLDER.glob("*.txt"))
UNDER_TLS = [path for path in SCRIPTS if read(path).fits_tls]
LISTENERS = [
    {"name": "smtps", "kind": "smtp", "port": 0, "tls": "tls"},
    {"name": "lmtps", "kind": "lmtp", "port": 0, "tls": "tls"},
    {"name": "small", "kind": "smtp", "port": 0, "tls": "none", "sign_in": "off", "recipients_max": 2},
]
OVER_TLS = {"": "smtps", "submission": "submissions", "submissions": "submissions", "lmtp": "lmtps"}
"""A script's listener → the same with TLS from the first octet."""


@pytest.fixture
async def every(start: Start) -> AsyncIterator[Running]:
    async with start(lmtp_port=0, listeners=LISTENERS) as one:
        yield one


@pytest.mark.parametrize("cut", [None, 1, 7], ids=["whole", "1", "7"])
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
async def test_dialogue(every: Running, path: Path, cut: int | None) -> None:
    script = read(path)
    listener = script.listener or "smtp"
    await play(
        script,
        every.service.ports[listener],
        tls=every.client_tls,
        implicit=listener == "submissions",
        cut=cut,
    )


@pytest.mark.parametrize("cut", [None, 1], ids=["whole", "1"])
@pytest.mark.parametrize("path", UNDER_TLS, ids=lambda path: path.stem)
async def test_dialogue_over_tls(every: Running, path: Path, cut: int | None) -> None:
    script = read(path)
    port = every.service.ports[OVER_TLS[script.listener]]
    await play(script, port, tls=every.client_tls, implicit=True, cut=cut)


def test_every_keyword_has_its_dialogue() -> None:
    told = " ".join(
        path.read_text("utf-8").partition("\n")[0] for path in SCRIPTS if "EHLO keyword" in path.read_text()
    )
    words = set(told.replace(",", " ").split())
    assert {row.keyword for row in EXTENSIONS} <= words
