"""What the runner of the spool counts."""

from __future__ import annotations

from collections.abc import Callable

from runtime.metrics import Metrics
from smtp.outbound.transport import Outcome, Phase, Status

BUCKETS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0)

_NETWORK = (Phase.CONNECT, Phase.GREETING, Phase.EHLO)


def reason(outcome: Outcome) -> str:
    """The class of a failure, of which there are few: what kept it back."""
    if outcome.phase is Phase.ROUTE:
        return "route"
    if outcome.phase in (Phase.TLS, Phase.AUTH):
        return str(outcome.phase.value)
    if outcome.code is None:
        return "network"
    if outcome.phase in _NETWORK:
        return "greeting"
    subject = outcome.enhanced.split(".")[1:2]
    return {"1": "address", "2": "mailbox", "7": "policy"}.get(subject[0] if subject else "", "other")


class OutboundFigures:
    """Since the start: recipients sent, deferred and failed; and attempts by how long they took."""

    def __init__(self, metrics: Metrics, running: Callable[[], float], down: Callable[[], float]) -> None:
        self.sent = 0
        self.deferred = 0
        self.failed = 0
        self.notices = 0
        self._outcomes = metrics.counter(
            "outbound_recipients", "Recipients of other domains by what an attempt came to", ("status", "reason")
        )
        self._seconds = metrics.histogram("outbound_attempt_seconds", "Duration of attempts", buckets=BUCKETS)
        self._notices = metrics.counter("outbound_notices", "Notices sent to senders", ("action",))
        metrics.gauge("outbound_running", "Messages being sent", read=running)
        metrics.gauge("outbound_destinations_down", "Destinations that cannot be reached", read=down)

    def outcome(self, outcome: Outcome, recipients: int) -> None:
        """What an attempt came to for so many recipients."""
        match outcome.status:
            case Status.SENT:
                self.sent += recipients
            case Status.DEFERRED:
                self.deferred += recipients
            case Status.FAILED:
                self.failed += recipients
        why = "" if outcome.status is Status.SENT else reason(outcome)
        self._outcomes.labels(outcome.status.value, why).inc(recipients)

    def lasted(self, seconds: float) -> None:
        """An attempt took so long."""
        self._seconds.observe(seconds)

    def told(self, action: str) -> None:
        """A sender was told."""
        self.notices += 1
        self._notices.labels(action).inc()
