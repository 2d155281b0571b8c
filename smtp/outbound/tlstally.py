"""Counting TLS sessions by domain and day (RFC 8460 §4): kept where a restart does not lose it.

Each process keeps its own counts in notes of its own, which it writes anew; a report adds up those of all processes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from smtp.outbound.notes import Notes, NotesUnavailable
from smtp.outbound.tlspolicy import Noted
from smtp.outbound.tlsresult import TlsResult

SPACE: Final = "tls-report"
DAY: Final = 86400
KEPT_SECONDS: Final = 3 * DAY
"""How long counts are kept after their day: who cannot be told of them by then is not told."""
DOMAINS_MAX: Final = 10_000
"""Domains of all days that one process counts."""
POLICIES_MAX: Final = 5
DETAILS_MAX: Final = 50
"""Kinds of failures under one policy that are told apart; more are counted under their result alone."""
LINES_MAX: Final = 30
LINE_MAX: Final = 300
DETAIL_MAX: Final = 200

log = structlog.get_logger("tls-report")

Name = tuple[str, tuple[str, ...], tuple[str, ...]]
"""Type, lines and host patterns of a policy."""
Failure = tuple[str, str, str, str]
"""Result, host, its address, more words."""


@dataclass(slots=True)
class Count:
    """Sessions under one policy."""

    good: int = 0
    bad: int = 0
    failures: dict[Failure, int] = field(default_factory=dict)

    def fail(self, failure: Failure, sessions: int) -> None:
        self.bad += sessions
        if failure not in self.failures and len(self.failures) >= DETAILS_MAX:
            failure = (failure[0], "", "", "")
        self.failures[failure] = self.failures.get(failure, 0) + sessions


Counts = dict[Name, Count]
"""Of one domain and day."""


@dataclass(slots=True)
class _Domain:
    counts: Counts = field(default_factory=dict)
    dirty: bool = True


class Tally:
    """The counts of this process. process: an id that no other one has, now or before."""

    def __init__(self, notes: Notes, process: str) -> None:
        self._notes = notes
        self._process = process
        self._domains: dict[tuple[int, str], _Domain] = {}

    def add(self, noted: Noted) -> None:
        """Count one session, or one host that was not used."""
        key = (noted.day, noted.domain)
        if key not in self._domains and len(self._domains) >= DOMAINS_MAX:
            return
        of = self._domains.setdefault(key, _Domain())
        of.dirty = True
        name: Name = (noted.policy_type, _cut(noted.policy), _cut(noted.mx_patterns))
        if name not in of.counts and len(of.counts) >= POLICIES_MAX:
            # A policy that changes all day long: what comes late is counted under the last of that day.
            name = next(reversed(of.counts))
        count = of.counts.setdefault(name, Count())
        if noted.result is TlsResult.SUCCESS:
            count.good += 1
        else:
            count.fail((noted.result.value, noted.host, noted.address, noted.detail[:DETAIL_MAX]), 1)

    async def flush(self, today: int) -> None:
        """Write what has changed; forget the days before yesterday. What cannot be written now is written next time."""
        for (day, domain), of in list(self._domains.items()):
            if of.dirty:
                of.dirty = False
                try:
                    until = (day + 1) * DAY + KEPT_SECONDS
                    await self._notes.put(SPACE, key_of(day, domain, self._process), to_text(of.counts), float(until))
                except NotesUnavailable as error:
                    of.dirty = True
                    log.info("counts are not written", reason=str(error))
                    return
            if day < today - 1:
                self._domains.pop((day, domain), None)


def _cut(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(line[:LINE_MAX] for line in lines)[:LINES_MAX]


def key_of(day: int, domain: str, process: str) -> str:
    """The days sort as they follow one another until the year 4707."""
    return f"{day:06d}/{domain}/{process}"


def parts_of(key: str) -> tuple[int, str]:
    """Day and domain."""
    day, domain, _ = key.split("/", 2)
    return int(day), domain


def to_text(counts: Counts) -> str:
    return json.dumps(
        [
            {
                "type": kind,
                "policy": policy,
                "mx": patterns,
                "good": count.good,
                "failures": [[*failure, sessions] for failure, sessions in count.failures.items()],
            }
            for (kind, policy, patterns), count in counts.items()
        ],
        ensure_ascii=False,
        separators=(",", ":"),
    )


def merge(texts: Iterable[str]) -> Counts:
    """The counts of several processes together."""
    counts: Counts = {}
    for text in texts:
        one: Any
        for one in json.loads(text):
            name = (one["type"], tuple(one["policy"]), tuple(one["mx"]))
            count = counts.setdefault(name, Count())
            count.good += one["good"]
            for result, host, address, detail, sessions in one["failures"]:
                count.fail((result, host, address, detail), sessions)
    return counts
