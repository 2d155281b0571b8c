"""The dialogue of INPROGRESS (RFC 9585), with a clock that is in a hurry: each look at it is PERIOD later."""

from __future__ import annotations

from pathlib import Path

import pytest

from imap.progress import PERIOD
from imap.service import ImapService, ImapSettings
from runtime.clock import ManualClock
from tests.imap.fakes import FakeIdentity, FakeStorage
from tests.transcripts.play import play, read

SCRIPT = Path(__file__).parent / "hurried" / "in_progress.txt"


class Hurried(ManualClock):
    """Time goes on by being asked for."""

    def monotonic(self) -> float:
        self.advance(PERIOD)
        return super().monotonic()


@pytest.mark.parametrize("cut", [None, 1], ids=["lines", "octets"])
async def test_in_progress(cut: int | None) -> None:
    settings = ImapSettings(host="127.0.0.1", port=0, tls_port=None)
    service = ImapService(
        settings,
        identity=FakeIdentity(alice="secret"),  # type: ignore[arg-type]  # the fake has what the door asks
        storage=FakeStorage(),  # type: ignore[arg-type]  # as above
        tls=None,
        clock=Hurried(),
    )
    await service.start()
    try:
        await play(read(SCRIPT), service.ports["imap"], cut=cut)
    finally:
        await service.stop()
