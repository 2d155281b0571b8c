"""What holds of the spool in every store: who may do what to an item, and what its trace says of it."""

from __future__ import annotations

from storage.limits import SPOOL_RESULT
from storage.model import SYSTEM, Event, Operation, Settlement, SpoolAction
from storage.port import Reason, Refused


def may_change(op: Operation, account: str | None) -> bool:
    """May the actor change an item of this account?"""
    return op.actor == SYSTEM or (account is not None and op.actor == account)


def check_settler(op: Operation, account: str | None) -> None:
    """NO_PERMISSION for who is neither the item's owner nor SYSTEM."""
    if not may_change(op, account):
        raise Refused(Reason.NO_PERMISSION)


def check_settlement(settlement: Settlement) -> None:
    """ValueError for a report that would be the same operation as what it reports; TOO_BIG for too long a result."""
    if settlement.report is not None and settlement.report.op.id == settlement.op.id:
        raise ValueError("a report is an operation of its own")
    if settlement.result is not None and len(settlement.result) > SPOOL_RESULT:
        raise Refused(Reason.TOO_BIG, f"At most {SPOOL_RESULT} characters are kept of what has ended.")


def check_number(items: int, most: int) -> None:
    """LIMIT for a call with too many items."""
    if items > most:
        raise Refused(Reason.LIMIT, f"At most {most} items at a time.")


def queue_event(
    op: Operation, trace: str, account: str | None, item: str, action: SpoolAction, route: str | None, now: float
) -> Event:
    """What the trace says of an administrator's change."""
    detail: dict[str, str | int | float | bool | None] = {"item": item, "action": action.value}
    if action is SpoolAction.ROUTE:
        detail["route"] = route
    return Event(trace, now, "queue", account, {**detail, "by": op.actor})
