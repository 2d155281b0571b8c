"""The figures of storage and the doors together, beside SMTP's own in `GET /api/stats`."""

from __future__ import annotations

from pydantic import BaseModel

from connectors.tasks.http_api import TaskFigures, figures_of
from connectors.tasks.worker import Worker
from homing.admin_api import Index, index
from identity.http_api import is_admin
from identity.model import Principal
from imap.service import ImapService
from smtp.http_api import MoreFigures, Stats
from smtp.outbound.runner import Runner
from storage.port import Storage


class Outbound(BaseModel):
    """Since the start, of this process: recipients of other domains to whom mail was sent, put off, or not to be
    delivered; notices to senders. running: messages being sent. down: destinations that cannot be reached."""

    sent: int
    deferred: int
    failed: int
    notices: int
    running: int
    down: int


class KeptStats(Stats):
    """For administrators, besides SMTP's figures: what is kept (total_size_bytes: of all messages; spool: messages
    that wait to be sent to other servers; spool_held: those of them that are held; spool_oldest: when the oldest came,
    in Unix seconds), what was sent on, and whether the search index is up to date."""

    accounts: int
    total_emails: int
    total_size_bytes: int
    emails_today: int
    spool: int
    spool_held: int
    spool_oldest: float | None
    outbound: Outbound
    tasks: TaskFigures
    index: Index


class AllStats(KeptStats):
    """And, where they are in the same process, who reads."""

    active_connections: int
    active_sessions: int


def more_figures(storage: Storage, runner: Runner, worker: Worker, imap: ImapService | None) -> MoreFigures:
    """What `GET /api/stats` tells an administrator besides SMTP's own figures. imap: where it is in this process."""

    async def add(own: Stats, caller: Principal) -> Stats:
        if not is_admin(caller):
            return own
        kept = await storage.stats()
        figures = {
            **own.model_dump(),
            "accounts": kept.accounts,
            "total_emails": kept.emails,
            "total_size_bytes": kept.size,
            "emails_today": kept.emails_today,
            "spool": kept.spool,
            "spool_held": kept.spool_held,
            "spool_oldest": kept.spool_oldest,
            "outbound": _outbound(runner),
            "tasks": figures_of(worker),
            "index": index(kept),
        }
        if imap is None:
            return KeptStats(**figures)
        readers = imap.stats
        return AllStats(
            **figures, active_connections=readers.active_connections, active_sessions=readers.active_sessions
        )

    return MoreFigures((KeptStats if imap is None else AllStats) | Stats, add)


def _outbound(runner: Runner) -> Outbound:
    figures = runner.figures
    return Outbound(
        sent=figures.sent,
        deferred=figures.deferred,
        failed=figures.failed,
        notices=figures.notices,
        running=runner.running,
        down=runner.down,
    )
