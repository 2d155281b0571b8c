"""Which events of which mailboxes a client wants to hear of (RFC 5465 §6). Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from imap.places import PREFIX
from imap.wire.forms import FetchItem
from imap.wire.forms_notify import SERVER_METADATA, EventGroup
from storage.model import DELIMITER
from storage.names import canonical

NOTHING: frozenset[str] = frozenset()


class Wanted:
    """Made of the groups of one NOTIFY SET; of none for NOTIFY NONE.

    selected: events of the mailbox selected. delayed: its EXPUNGEs wait for a command (SELECTED-DELAYED). items: what
    is fetched of its new messages. server: whether annotations of the server are of interest. elsewhere: whether
    anything but the mailbox selected is. shared: whether mailboxes of others may be among that.
    """

    def __init__(self, groups: Iterable[EventGroup] = ()) -> None:
        self.selected = NOTHING
        self.delayed = False
        self.items: tuple[FetchItem, ...] = ()
        self.server = False
        self._personal = NOTHING
        self._subscribed = NOTHING
        self._trees: dict[str, frozenset[str]] = {}
        self._names: dict[str, frozenset[str]] = {}
        for group in groups:
            self._add(group)
        others = (self._personal, self._subscribed, *self._trees.values(), *self._names.values())
        self.elsewhere = any(others)
        # what is subscribed to may be another's
        named = (*self._trees, *self._names)
        self.shared = bool(self._subscribed) or any(f"{name}{DELIMITER}".startswith(PREFIX) for name in named)

    def _add(self, group: EventGroup) -> None:
        events = group.events
        # RFC 5465 §5.7: it is of the server, whatever mailboxes it stands beside
        self.server = self.server or SERVER_METADATA in events
        match group.of:
            case "SELECTED" | "SELECTED-DELAYED":
                self.selected, self.items = events, group.items
                self.delayed = group.of == "SELECTED-DELAYED"
            case "PERSONAL" | "INBOXES":
                # RFC 5465 §6.3: mail can be delivered to any mailbox, so that they are the same
                self._personal |= events
            case "SUBSCRIBED":
                self._subscribed |= events
            case "SUBTREE":
                self._put(self._trees, group)
            case "MAILBOXES":
                self._put(self._names, group)

    @staticmethod
    def _put(by_name: dict[str, frozenset[str]], group: EventGroup) -> None:
        for name in map(canonical, group.names):
            by_name[name] = by_name.get(name, NOTHING) | group.events

    def of(self, name: str, subscriptions: Collection[str]) -> frozenset[str]:
        """What is wanted of the mailbox of that name, while it is not selected."""
        # RFC 5465 §6: several groups may be about one mailbox
        events = self._names.get(name, NOTHING)
        if not name.startswith(PREFIX):
            # RFC 5465 §6.2
            events |= self._personal
        if self._subscribed and name in subscriptions:
            events |= self._subscribed
        if self._trees:
            above = name
            while above:
                events |= self._trees.get(above, NOTHING)
                above = above.rpartition(DELIMITER)[0]
        return events
