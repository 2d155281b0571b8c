"""The dialogues of tests/transcripts/smtp, each played whole and octet by octet."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.transcripts.play import play, read

FOLDER = Path(__file__).resolve().parents[1] / "transcripts" / "smtp"
SCRIPTS = sorted(FOLDER.glob("*.txt"))


@pytest.mark.parametrize("cut", [None, 1, 7], ids=["whole", "1", "7"])
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
async def test_dialogue(running, path: Path, cut: int | None) -> None:
    script = read(path)
    listener = script.listener or "smtp"
    await play(
        script,
        running.service.ports[listener],
        tls=running.client_tls,
        implicit=listener == "submissions",
        cut=cut,
    )
