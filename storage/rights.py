"""Who may change what (the port's "Rights")."""

from __future__ import annotations

from storage.model import SYSTEM, Operation
from storage.port import Reason, Refused


def check_rights(op: Operation, owner: str) -> None:
    """NO_PERMISSION unless the actor owns the account or is the system."""
    if op.actor not in (owner, SYSTEM):
        raise Refused(Reason.NO_PERMISSION)
