"""One table from what the ports and the reception raise to the reply that the client gets."""

from __future__ import annotations

import identity.port
import storage.port
from smtp.wire import replies
from smtp.wire.replies import Reply


class QueueFull(Exception):
    """More messages wait to be stored than may."""


class WaitedTooLong(Exception):
    """The message's turn did not come in time; it was not handed to storage."""


class StoreBug(Exception):
    """Storage raised what no port may raise; it is logged already."""


_STORAGE: dict[storage.port.Reason, Reply] = {
    storage.port.Reason.NO_SUCH_ACCOUNT: replies.STORE_UNAVAILABLE,
    storage.port.Reason.OVER_QUOTA: replies.MAILBOX_FULL,
    storage.port.Reason.TOO_BIG: replies.MESSAGE_TOO_BIG,
    storage.port.Reason.UNKNOWN_CTE: replies.NUL_IN_MESSAGE,
    storage.port.Reason.NO_SUCH_BLOB: replies.STORE_UNAVAILABLE,
}
_IDENTITY: dict[identity.port.Reason, Reply] = {
    identity.port.Reason.BAD_CREDENTIALS: replies.AUTH_FAILED,
    identity.port.Reason.SLOW_DOWN: replies.AUTH_SLOW_DOWN,
    identity.port.Reason.DISABLED: replies.AUTH_DISABLED,
    identity.port.Reason.BAD_ADDRESS: replies.BAD_RECIPIENT,
    identity.port.Reason.NO_SUCH_ACCOUNT: replies.NO_SUCH_USER,
    identity.port.Reason.NO_SUCH_DOMAIN: replies.RELAY_DENIED,
    identity.port.Reason.LIMIT: replies.TOO_MANY_TARGETS,
}


def reply_to(error: BaseException) -> Reply | None:
    """The reply, or None for what no port may raise: a bug, which the caller logs and tells as SERVER_BUG."""
    match error:
        case storage.port.Refused():
            return _STORAGE.get(error.reason, replies.REFUSED_BY_STORE)
        case storage.port.Unavailable():
            return replies.DISK_FULL if error.full else replies.STORE_UNAVAILABLE
        case identity.port.Refused():
            return _IDENTITY.get(error.reason, replies.IDENTITY_UNAVAILABLE)
        case identity.port.Unavailable():
            return replies.IDENTITY_UNAVAILABLE
        case QueueFull():
            return replies.QUEUE_FULL
        case WaitedTooLong():
            return replies.WAITED_TOO_LONG
        case StoreBug():
            return replies.SERVER_BUG
    return None
