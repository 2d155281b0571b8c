"""Traces asked of the ports, with the names that their events' ids stand for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final
from unicodedata import category

from homing.tracing.lines import Names
from identity.port import Identity, Refused
from storage.model import Event, TraceFound
from storage.port import Storage
from storage.tracekeys import told, trace_ids

_NO_LETTERS: Final = frozenset({"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"})
NAMED: Final = 100
"""Accounts of one trace whose names are looked up."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One trace: what is told of it, and its events as far as they are shown."""

    found: TraceFound
    events: tuple[Event, ...]


async def search(
    storage: Storage, text: str, account: str | None, *, since: float = 0.0, limit: int = 20
) -> tuple[Shown, ...]:
    """What ``Storage.find_traces`` finds, with the events."""
    shown: list[Shown] = []
    for found in await storage.find_traces(text, account, since, limit):
        events = await storage.trace(found.trace, account)
        if events:
            shown.append(Shown(found, _printable(events)))
    return tuple(shown)


async def by_id(storage: Storage, id: str, account: str | None) -> Shown | None:
    """The trace of this id, as far as it is shown to the account."""
    for trace in trace_ids(id):
        events = await storage.trace(trace, account)
        found = told(trace, events, 0.0)
        if found is not None:
            return Shown(found, _printable(events))
    return None


async def names_of(storage: Storage, identity: Identity, events: Sequence[Event]) -> Names:
    """The addresses of the events' accounts and the names of their mailboxes, of as many as are there still."""
    accounts: dict[str, str] = {}
    mailboxes: dict[str, str] = {}
    known = dict.fromkeys(event.account for event in events if event.account is not None)
    with_mailbox = {event.account for event in events if "mailbox" in event.detail}
    for account in list(known)[:NAMED]:
        try:
            accounts[account] = (await identity.account(account)).address
        except Refused:
            # It was removed, and its mailboxes with it.
            continue
        if account in with_mailbox:
            listed = await storage.list_mailboxes(account)
            mailboxes.update((one.ref.mailbox, one.name) for one in listed.mailboxes)
    return Names(accounts, {id: printable(name) for id, name in mailboxes.items()})


def printable(text: str) -> str:
    """The same, with U+FFFD for what is no letter: strangers' words are not to move a terminal's cursor, nor to turn
    the direction of what stands behind them; and half a surrogate pair has no UTF-8."""
    if text.isprintable():
        return text
    return "".join("\ufffd" if category(one) in _NO_LETTERS else one for one in text)


def _printable(events: Iterable[Event]) -> tuple[Event, ...]:
    return tuple(
        replace(event, detail={name: _clean(name, value) for name, value in event.detail.items()}) for event in events
    )


def _clean(name: str, value: str | float | bool | None) -> str | int | float | bool | None:
    if not isinstance(value, str):
        return value
    # Addresses, one on a line.
    return "\n".join(map(printable, value.split("\n"))) if name == "others" else printable(value)
