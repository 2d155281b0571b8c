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
            metrics.gauge(
                f"smtp_{one.name}", f"{one.name.replace('_', ' ')} since the start", read=_Read(self, one.name)
            )


class _Read:
    def __init__(self, figures: Figures, name: str) -> None:
        self._figures = figures
        self._name = name

    def __call__(self) -> float:
        return float(getattr(self._figures, self._name))
