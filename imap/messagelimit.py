"""How many messages one command works on, where an administrator has set a limit (RFC 9738).

The messages of the highest UIDs are worked on. (In what order within these, no client can tell from the outcome.)
"""

from __future__ import annotations

from imap.errors import No
from imap.view import Slices, View
from imap.wire import writer
from imap.wire.forms import And, InSet, SearchKey
from imap.wire.numset import NumSet


def count(slices: Slices) -> int:
    """How many messages there are."""
    return sum(stop - start for start, stop in slices)


def highest(view: View, slices: Slices, most: int | None) -> tuple[Slices, str | None]:
    """The messages that a command works on, and the response code where these are not all (RFC 9738 §3.1)."""
    if most is None or count(slices) <= most:
        return slices, None
    kept: list[tuple[int, int]] = []
    room = most
    for start, stop in reversed(slices):
        if not room:
            break
        kept.append((max(start, stop - room), stop))
        room -= kept[-1][1] - kept[-1][0]
    kept.reverse()
    return tuple(kept), code(most, view.uids[kept[0][0]])


def code(most: int, uid: int | None = None) -> str:
    """uid: the lowest one that was worked on."""
    return f"MESSAGELIMIT {most}" if uid is None else f"MESSAGELIMIT {most} {uid}"


def check_all(view: View, slices: Slices, most: int | None) -> None:
    """Raises No for more messages than a command that does all or nothing works on."""
    told = highest(view, slices, most)[1]
    if told is not None:
        raise No(f"One command has at most {most} messages", told)


def check_count(messages: int, most: int | None) -> None:
    """As `check_all`, of messages that have no UID yet, or that were counted by the client."""
    if most is not None and messages > most:
        raise No(f"One command has at most {most} messages", code(most))


def untold(told: str) -> bytes:
    """The response code where the tagged line has another one (RFC 9738 §3.1)."""
    return writer.untagged("NO", "Not all of the messages were worked on", told)


def sets(key: SearchKey) -> list[tuple[NumSet, bool]]:
    """The sets of messages, with whether they are of UIDs, that all which a search finds are in: what has to be
    searched at most."""
    keys = key.keys if isinstance(key, And) else (key,)
    return [(one.numset, one.uid) for one in keys if isinstance(one, InSet)]
