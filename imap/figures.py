"""What the service counts since its start."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.metrics import Metrics


@dataclass(slots=True)
class Figures:
    """connections: that were greeted; connections_refused: sent away before; sign_ins: good ones."""

    connections: int = 0
    connections_refused: int = 0
    sign_ins: int = 0
    sign_ins_failed: int = 0

    def show(self, metrics: Metrics) -> None:
        """Let the process's metrics read these figures."""
        metrics.counted("imap_connections", "IMAP connections that were greeted", lambda: self.connections)
        metrics.counted(
            "imap_connections_refused", "IMAP connections that were sent away", lambda: self.connections_refused
        )
        metrics.counted("imap_sign_ins", "Good sign-ins over IMAP", lambda: self.sign_ins)
        metrics.counted("imap_sign_ins_failed", "Failed sign-ins over IMAP", lambda: self.sign_ins_failed)
