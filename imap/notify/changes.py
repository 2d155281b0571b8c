"""What happened between two snapshots (RFC 5465 §5). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imap.wire.forms_notify import EXPUNGE, FLAGS, NEW
from storage.metadata import may_read
from storage.model import DELIMITER, Mailbox, Rights

if TYPE_CHECKING:
    from imap.notify.snapshots import Snapshot


@dataclass(frozen=True, slots=True)
class Renamed:
    """A mailbox has another name; of those below it, which moved along, nothing is said (RFC 5465 §5.4). old_name: as
    the client knows it, once it has been told of what came before."""

    mailbox: Mailbox
    old_name: str


@dataclass(frozen=True, slots=True)
class Created:
    """A mailbox is there, or is there for the account, that was not. again: another had the name before."""

    mailbox: Mailbox
    again: bool


@dataclass(frozen=True, slots=True)
class Deleted:
    """There is no mailbox of that name any more; perhaps a name for those below it."""

    name: str


@dataclass(frozen=True, slots=True)
class Messages:
    """Of its messages some came, went or have other flags. events: out of OF_MESSAGES. was: as it was before."""

    mailbox: Mailbox
    was: Mailbox
    events: frozenset[str]


@dataclass(frozen=True, slots=True)
class Access:
    """A mailbox of another can be read that could not be, or cannot any more."""

    mailbox: Mailbox


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The name has come to the subscribed ones, or left them."""

    name: str


@dataclass(frozen=True, slots=True)
class Annotated:
    """Annotations of a mailbox (None: of the server) were set or removed. entries: sorted."""

    mailbox: Mailbox | None
    entries: tuple[str, ...]


Happened = Renamed | Created | Deleted | Access | Messages | Subscribed | Annotated


def between(old: Snapshot, new: Snapshot) -> Iterator[Happened]:
    """In an order in which it can be told: names first, then what is in the mailboxes."""
    before = old.mailboxes
    pairs = [(before.get(ref), mailbox) for ref, mailbox in new.mailboxes.items()]
    # nearly always the names are what they were
    if len(before) != len(pairs) or any(was is None or was.name != now.name for was, now in pairs):
        yield from _names(old, new)
    for name in sorted(old.subscriptions ^ new.subscriptions):
        yield Subscribed(name)
    for was, now in pairs:
        if was is None:
            continue
        if was.rights != now.rights and (was.rights ^ now.rights) & Rights.READ:
            yield Access(now)
        elif now.highest_modseq != was.highest_modseq and now.rights & Rights.READ:
            yield Messages(now, was, _events(was, now))
    if old.marks is not new.marks:
        yield from _annotated(old, new)


def _names(old: Snapshot, new: Snapshot) -> Iterator[Happened]:
    for ref, mailbox in old.mailboxes.items():
        if ref not in new.mailboxes and mailbox.name not in new.by_name:
            yield Deleted(mailbox.name)
    for ref, mailbox in new.mailboxes.items():
        if ref not in old.mailboxes:
            yield Created(mailbox, again=mailbox.name in old.by_name)
    # RFC 5465 §5.4: whoever is told of a name knows that those below it moved along
    told: dict[str, str] = {}
    for name, was in sorted(old.by_name.items()):
        now = new.mailboxes.get(was.ref)
        if now is not None and (believed := _moved(name, told)) != now.name:
            told[name] = now.name
            yield Renamed(now, believed)
    if len(told) > 1:
        # one after the other they may not lead where all of them at once have led: then those below are named too
        yield from _below({*told, *told.values()}, set(told.values()), new)


def _below(roots: set[str], listed: set[str], new: Snapshot) -> Iterator[Happened]:
    for name, mailbox in new.by_name.items():
        above = name
        while above and name not in listed:
            if above in roots:
                yield Created(mailbox, again=False)
                break
            above = above.rpartition(DELIMITER)[0]


def _moved(name: str, told: dict[str, str]) -> str:
    """The name after these changes of names."""
    above = name
    while DELIMITER in above:
        above = above.rpartition(DELIMITER)[0]
        if above in told:
            return told[above] + name[len(above) :]
    return name


def _events(was: Mailbox, now: Mailbox) -> frozenset[str]:
    came = now.uidnext - was.uidnext
    events = set()
    if came:
        events.add(NEW)
    if now.messages != was.messages + came:
        events.add(EXPUNGE)
    # What came or went may hide a change of flags: where it can be one it is told as one.
    if not events or now.unseen != was.unseen or now.deleted != was.deleted:
        events.add(FLAGS)
    return frozenset(events)


def _annotated(old: Snapshot, new: Snapshot) -> Iterator[Annotated]:
    changed: dict[str, set[str]] = {}
    for key in old.marks.keys() | new.marks.keys():
        if old.marks.get(key) != new.marks.get(key):
            changed.setdefault(key[0], set()).add(key[1])
    # of a mailbox whose annotations cannot be read any more, or can again, none has changed
    by_id = {
        ref.mailbox: mailbox
        for ref, mailbox in new.mailboxes.items()
        if (was := old.mailboxes.get(ref)) is None or (may_read(was.rights) and may_read(mailbox.rights))
    }
    for mailbox, entries in sorted(changed.items()):
        if not mailbox:
            yield Annotated(None, tuple(sorted(entries)))
        elif mailbox in by_id:
            yield Annotated(by_id[mailbox], tuple(sorted(entries)))
