"""What the doctor finds, and what has changed since the look before. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class State(Enum):
    """SKIPPED: it was not looked at, or could not be: nothing is known."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"
    SKIPPED = "skipped"


ORDER = (State.BAD, State.WARN, State.SKIPPED, State.OK)
"""The worst first."""


@dataclass(frozen=True, slots=True)
class Finding:
    """check: its name, as `homing doctor --only` takes it. subject: what was looked at: a domain, a host, an address, a
    port. paste: lines of a zone file to publish, or commands. why: what it means, and what to do."""

    check: str
    subject: str
    state: State
    found: str
    wanted: str = ""
    paste: tuple[str, ...] = ()
    why: str = ""

    @property
    def key(self) -> str:
        """Of the same thing at another time."""
        return f"{self.check} {self.subject}"

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "check": self.check,
            "subject": self.subject,
            "state": self.state.value,
            "found": self.found,
            "wanted": self.wanted,
            "paste": list(self.paste),
            "why": self.why,
        }


@dataclass(frozen=True, slots=True)
class Change:
    """Drift: something is not as it was when it was last known."""

    check: str
    subject: str
    before: State
    after: State
    found: str

    @property
    def worse(self) -> bool:
        return ORDER.index(self.after) < ORDER.index(self.before)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "check": self.check,
            "subject": self.subject,
            "before": self.before.value,
            "after": self.after.value,
            "found": self.found,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """One look at everything. at: when it began, in Unix seconds; seconds: how long it took. changes: since the look
    before. known: the state of each thing when it was last known, by ``Finding.key``."""

    at: float
    seconds: float
    findings: tuple[Finding, ...]
    changes: tuple[Change, ...] = ()
    known: Mapping[str, State] = field(default_factory=dict)

    @property
    def state(self) -> State:
        """The worst of what was found; OK where everything was skipped."""
        states = {one.state for one in self.findings}
        return next((one for one in (State.BAD, State.WARN) if one in states), State.OK)

    def counts(self) -> dict[str, int]:
        """How many findings are in each state."""
        return {state.value: sum(one.state is state for one in self.findings) for state in State}

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "at": self.at,
            "seconds": round(self.seconds, 3),
            "state": self.state.value,
            "counts": self.counts(),
            "findings": [one.plain() for one in self.findings],
            "changes": [one.plain() for one in self.changes],
        }

    def text(self) -> str:
        """To be kept."""
        known = {key: state.value for key, state in self.known.items()}
        return json.dumps({**self.plain(), "known": known}, ensure_ascii=False)

    @classmethod
    def of(cls, text: str) -> Report:
        """Of what ``text`` wrote. Raises ValueError."""
        try:
            value = json.loads(text)
            return cls(
                float(value["at"]),
                float(value["seconds"]),
                tuple(_finding(one) for one in value["findings"]),
                tuple(
                    Change(one["check"], one["subject"], State(one["before"]), State(one["after"]), one["found"])
                    for one in value["changes"]
                ),
                {str(key): State(state) for key, state in value["known"].items()},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a report: {error!r}") from error


def _finding(value: Mapping[str, Any]) -> Finding:
    return Finding(
        str(value["check"]),
        str(value["subject"]),
        State(value["state"]),
        str(value["found"]),
        str(value["wanted"]),
        tuple(map(str, value["paste"])),
        str(value["why"]),
    )


def made_report(at: float, seconds: float, findings: Iterable[Finding], before: Report | None) -> Report:
    """The report of a look, beside the one before it. What was skipped now is as it was known; what is not looked at
    any more is forgotten."""
    found = tuple(findings)
    was = {} if before is None else before.known
    changes = tuple(
        Change(one.check, one.subject, was[one.key], one.state, one.found)
        for one in found
        if one.key in was and one.state is not State.SKIPPED and one.state is not was[one.key]
    )
    known: dict[str, State] = {}
    for one in found:
        state = was.get(one.key) if one.state is State.SKIPPED else one.state
        if state is not None:
            known[one.key] = state
    return Report(at, seconds, found, changes, known)


def listed(values: Sequence[str], nothing: str = "none", most: int = 10) -> str:
    """Values in one line; long lists are cut."""
    if not values:
        return nothing
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(values[:most]) + more
