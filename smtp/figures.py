"""What the service counts since its start."""

from __future__ import annotations

from dataclasses import dataclass, fields

from runtime.metrics import Metrics


@dataclass(slots=True)
class Figures:
    """emails_received: stored, from SMTP. emails_sent: stored, from REST. refused: messages refused after DATA."""

    emails_received: int = 0
    emails_sent: int = 0
    emails_refused: int = 0
    connections: int = 0
    connections_refused: int = 0
    sign_ins: int = 0
    sign_ins_failed: int = 0
    recipients_refused: int = 0

    def show(self, metrics: Metrics) -> None:
        """Let the process's metrics read these figures."""
        for one in fields(self):
            metrics.counted(f"smtp_{one.name}", _DESCRIBED[one.name], _Read(self, one.name))


_DESCRIBED = {
    "emails_received": "Messages stored or spooled, from SMTP",
    "emails_sent": "Messages stored or spooled, from REST",
    "emails_refused": "Messages refused after their text",
    "connections": "Connections",
    "connections_refused": "Connections that were sent away",
    "sign_ins": "Good sign-ins",
    "sign_ins_failed": "Failed sign-ins",
    "recipients_refused": "Recipients refused",
}


class _Read:
    def __init__(self, figures: Figures, name: str) -> None:
        self._figures = figures
        self._name = name

    def __call__(self) -> float:
        return float(getattr(self._figures, self._name))
