"""Trace events of what was refused: kept in a bounded buffer and recorded in batches, never in a reply's way."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from runtime.backlog import Backlog
from storage.model import Event
from storage.port import Refused, Storage, Unavailable

BUFFER_MAX = 10_000
BATCH_MAX = 500
PAUSE_SECONDS = 0.5

log = structlog.get_logger("smtp")


class Journal(Backlog[Event]):
    """``dropped`` counts events that came while the buffer was full; the newest are those that are lost."""

    def __init__(self, storage: Storage) -> None:
        super().__init__(self._keep, name="smtp journal", most=BUFFER_MAX, batch=BATCH_MAX, pause=PAUSE_SECONDS)
        self._storage = storage

    async def _keep(self, batch: Sequence[Event]) -> bool:
        try:
            await self._storage.record(batch)
        except Unavailable:
            return False
        except Refused as error:
            log.warning("trace events refused", reason=error.text)
        except Exception:
            log.exception("trace events not recorded")
        return True
