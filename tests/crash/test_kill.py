"""kill -9 at random moments under a load of deliveries, APPENDs, STOREs and MOVEs."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.crash.load import Ledger, Load, prepare, verify
from tests.live import Live, until

pytestmark = pytest.mark.crash

KILLS = 5


def test_every_acknowledged_operation_survives(tmp_path: Path) -> None:
    rng = random.Random(20)
    live = Live(tmp_path / "data").start()
    live.add_users("alice", "bob", "carol")
    prepare(live)
    ledger = Ledger()
    try:
        for round_ in range(KILLS):
            load = Load(live, ledger, round_)
            load.start()
            until(lambda: all(done > 0 for done, _ in ledger.counts().values()), 60, "every kind of work is done")
            time.sleep(rng.uniform(0.5, 2.0))  # the moment of the kill is random on purpose
            live.kill()
            load.stop()
            load.join()
            live.start()
            verify(live, ledger)
        print("\nacknowledged / asked:", ledger.counts())
    finally:
        if live.process is not None and live.process.poll() is None:
            assert live.stop() == 0
