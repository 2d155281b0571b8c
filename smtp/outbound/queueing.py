"""The queue as its administrators see and change it; REST and the command line both use this."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from runtime.ids import new_id
from smtp.outbound.routetext import no_connector, read_route
from storage.model import SYSTEM, Operation, SpoolAction, SpoolItem
from storage.port import Storage

CHANGE_MAX = 1000
"""Items of one change; more are several."""


class BadRoute(ValueError):
    """The route cannot be used; one sentence that says why, without what was given."""


def state(item: SpoolItem, now: float) -> str:
    """What an item does now (Unix seconds): "held", "sending", "due" or "waiting"."""
    if item.held:
        return "held"
    if item.leased_until > now:
        return "sending"
    return "due" if item.next_attempt <= now else "waiting"


def check_route(route: str | None, connectors: Collection[str]) -> str | None:
    """The route, None for where the domain leads by the settings. connectors: names of those that there are. Raises
    BadRoute."""
    if route is None or not route.strip():
        return None
    try:
        found = read_route(route.strip())
    except ValueError as error:
        raise BadRoute(f"{error}") from None
    if found.kind == "connector" and found.host not in connectors:
        raise BadRoute(no_connector(found.host, connectors))
    return route.strip()


async def change(
    storage: Storage, items: Iterable[str], action: SpoolAction, route: str | None = None
) -> tuple[str, ...]:
    """Do it to each of the items, in steps: the ids of those that were there and not refused. Raises storage's
    errors."""
    ids = list(dict.fromkeys(items))
    done: list[str] = []
    for start in range(0, len(ids), CHANGE_MAX):
        some = ids[start : start + CHANGE_MAX]
        done += await storage.change_spool(Operation(new_id(), SYSTEM), some, action, route)
    return tuple(done)


async def change_all(
    storage: Storage, domain: str | None, action: SpoolAction, route: str | None = None
) -> tuple[str, ...]:
    """The same with all that waits for a domain, or (None) with all that waits."""
    done: list[str] = []
    after = ""
    while page := await storage.spool(None, CHANGE_MAX, after, domain):
        after = page[-1].id
        done += await change(storage, (item.id for item in page), action, route)
    return tuple(done)
