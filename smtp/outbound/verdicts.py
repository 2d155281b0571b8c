"""What an attempt means: who is done with, when the others are tried again, what the trace says, who is told. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from mail.dsn import About, Action, wanted
from smtp.outbound.local import DELIVERED
from smtp.outbound.schedule import Schedule
from smtp.outbound.transport import TEXT_MAX, Outcome, Phase, Result, Status
from storage.model import Event, RemoteRecipient, SpoolItem

SINGLY_MAX = 20
"""Recipients with the same outcome of which each has an event of its own."""
DAY = 86400.0

UNTOLD = Outcome(Status.DEFERRED, Phase.ROUTE, "4.3.0", "The transport did not tell what came of this recipient")


@dataclass(frozen=True, slots=True)
class Verdict:
    """finished: addresses that are done with. next_attempt: of the others. late: the sender is told now, or would be,
    that it is late. about: what the sender is to be told, as far as it was asked for. events: in the item's trace.
    last: the reply or reason that is shown with the item."""

    finished: tuple[str, ...]
    next_attempt: float
    late: bool
    about: tuple[About, ...]
    events: tuple[Event, ...]
    last: str


def judge(item: SpoolItem, result: Result, schedule: Schedule, now: float, chance: float) -> Verdict:
    """From one attempt's result, at the time ``now`` (Unix seconds); chance: at random, from 0 to 1."""
    expires = schedule.expires(item.queued_at, item.params)
    again = schedule.next_attempt(now, item.attempts + 1, expires, chance)
    late = again is not None and schedule.late(now, item.queued_at, item.params, item.told_at)
    finished: list[str] = []
    about: list[About] = []
    events: list[Event] = []
    groups: defaultdict[Outcome, list[RemoteRecipient]] = defaultdict(list)
    for recipient in item.recipients:
        groups[result.outcomes.get(recipient.address, UNTOLD)].append(recipient)
    deferred = False
    for outcome, recipients in groups.items():
        events += _attempts(item, result, outcome, recipients, now, again)
        waits = outcome.status is Status.DEFERRED and again is not None
        deferred |= waits
        if not waits:
            finished += [recipient.address for recipient in recipients]
        action = _action(outcome, waits, late, result.relayed_dsn)
        if outcome.status is Status.DEFERRED and again is None:
            days = round((now - item.queued_at) / DAY, 1)
            events += [
                Event(item.trace, now, "expired", item.account, {"item": item.id, "address": one.address, "days": days})
                for one in recipients
            ]
        if action is None:
            continue
        for recipient in recipients:
            if wanted(recipient.params.get("NOTIFY"), action):
                about.append(_about(recipient, action, outcome, now, expires))
            elif action is Action.FAILED:
                events.append(_suppressed(item, recipient.address, "its sender asked not to be told", now))
    return Verdict(
        finished=tuple(finished),
        next_attempt=again if deferred and again is not None else now,
        late=late and deferred,
        about=tuple(about),
        events=tuple(events),
        last=_last(groups),
    )


def _suppressed(item: SpoolItem, address: str, why: str, now: float) -> Event:
    """The event that says why nobody is told."""
    return Event(item.trace, now, "suppressed", item.account, {"item": item.id, "about": address, "why": why})


def _action(outcome: Outcome, waits: bool, late: bool, relayed_dsn: bool) -> Action | None:
    if outcome == DELIVERED:
        return Action.DELIVERED
    if outcome.status is Status.SENT:
        # RFC 3461 §5.2.2: who speaks DSN tells of success from here on.
        return None if relayed_dsn else Action.RELAYED
    if waits:
        return Action.DELAYED if late else None
    return Action.FAILED


def _about(recipient: RemoteRecipient, action: Action, outcome: Outcome, now: float, expires: float) -> About:
    return About(
        address=recipient.address,
        action=action,
        status=outcome.enhanced,
        text=outcome.text,
        code=outcome.code,
        remote=outcome.remote,
        original=recipient.params.get("ORCPT"),
        at=now,
        until=expires,
    )


def _attempts(
    item: SpoolItem,
    result: Result,
    outcome: Outcome,
    recipients: list[RemoteRecipient],
    now: float,
    again: float | None,
) -> list[Event]:
    detail: dict[str, str | int | float | bool | None] = {
        "item": item.id,
        "domain": item.domain,
        "status": outcome.status.value,
        "phase": outcome.phase.value,
        "code": outcome.code,
        "enhanced": outcome.enhanced,
        "text": outcome.text[:TEXT_MAX],
        "remote": outcome.remote,
        "tls": result.tls,
        "verified": result.verified,
        "attempt": item.attempts + 1,
        "doubtful": outcome.doubtful,
        "seconds": round(result.seconds, 3),
    }
    if outcome.status is Status.DEFERRED and again is not None:
        detail["next"] = again
    if len(recipients) > SINGLY_MAX:
        grouped = {**detail, "address": recipients[0].address, "addresses": len(recipients)}
        # Whoever tells of one of them has to know whether it was among these.
        grouped["others"] = "\n".join(recipient.address for recipient in recipients[1:])
        return [Event(item.trace, now, "attempt", item.account, grouped)]
    return [
        Event(item.trace, now, "attempt", item.account, {**detail, "address": recipient.address})
        for recipient in recipients
    ]


def _last(groups: dict[Outcome, list[RemoteRecipient]]) -> str:
    """What keeps the item waiting, in the remote's words."""
    for status in (Status.DEFERRED, Status.FAILED):
        for outcome in groups:
            if outcome.status is status:
                said = " ".join(part for part in (str(outcome.code or ""), outcome.text) if part)
                return f"{outcome.remote}: {said}"[:TEXT_MAX] if outcome.remote else said[:TEXT_MAX]
    return ""
