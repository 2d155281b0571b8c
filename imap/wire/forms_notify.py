"""What a client said with NOTIFY (RFC 5465); conventions as in `imap.wire.forms`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from imap.wire.forms import FetchItem

NEW: Final = "MessageNew"
EXPUNGE: Final = "MessageExpunge"
FLAGS: Final = "FlagChange"
NAME: Final = "MailboxName"
SUBSCRIPTION: Final = "SubscriptionChange"
METADATA: Final = "MailboxMetadataChange"
SERVER_METADATA: Final = "ServerMetadataChange"
EVENTS: Final = (NEW, EXPUNGE, FLAGS, NAME, SUBSCRIPTION, METADATA, SERVER_METADATA)
"""RFC 5465 §5: all that are known here; annotations of messages (AnnotationChange) there are none."""
OF_MESSAGES: Final = frozenset((NEW, EXPUNGE, FLAGS))

Filter = Literal["SELECTED", "SELECTED-DELAYED", "INBOXES", "PERSONAL", "SUBSCRIBED", "SUBTREE", "MAILBOXES"]


@dataclass(frozen=True, slots=True)
class EventGroup:
    """Which events of which mailboxes (RFC 5465 §6). `names`: of SUBTREE and MAILBOXES. `events`: out of EVENTS, empty
    for NONE. `items`: what MessageNew asks to be fetched, of SELECTED and SELECTED-DELAYED alone."""

    of: Filter
    names: tuple[str, ...]
    events: frozenset[str]
    items: tuple[FetchItem, ...] = ()


@dataclass(frozen=True, slots=True)
class Notify:
    """NOTIFY (RFC 5465 §3.1): SET with its groups, or () for NONE. `status`: the client asks how its mailboxes are."""

    groups: tuple[EventGroup, ...]
    status: bool = False
