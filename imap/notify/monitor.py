"""What one session is told of its own accord, once its client has said NOTIFY (RFC 5465).

The monitor stands between the session and its news: of the mailbox selected it lets through what is wanted, and of
others it tells what differs between two snapshots. It is asked at the end of commands, in IDLE, and between commands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from imap.commands import announce
from imap.commands.fetch import fetch_items
from imap.notify import changes
from imap.notify.snapshots import Snapshot
from imap.notify.wanted import Wanted
from imap.session import Session
from imap.view import View
from imap.wire import write_metadata, writer
from imap.wire.forms import Attribute, Binary, Create, FetchItem, Form, OnMailbox, Rename, Section
from imap.wire.forms_metadata import SetMetadata
from imap.wire.forms_notify import FLAGS, METADATA, NAME, OF_MESSAGES, SUBSCRIPTION
from storage.model import DELIMITER, Columns, Mailbox, Ranges, Rights, Want
from storage.names import canonical, superiors
from storage.port import Refused, Unavailable

GATHER_SECONDS: Final = 0.1
"""Between two looks at mailboxes that are not selected, where no command asks for one."""
SHARE: Final = 10
GATHER_MAX_SECONDS: Final = 5.0
"""So many times as long as the last look took is waited, where that is longer, and at most so long."""
LINES_MAX: Final = 1000
"""Responses about other mailboxes that are told in one go; for more the client may ask itself."""
NEW_MAX: Final = 1000
"""New messages of the mailbox selected that are fetched in one go."""
OWN_MAX: Final = 10_000
"""Changes of the session's own that are remembered until they are seen."""
EXPUNGING: Final = frozenset(("EXPUNGE", "UID EXPUNGE", "MOVE", "UID MOVE", "REPLACE", "UID REPLACE"))
"""Commands whose own effect is told whatever is wanted."""
OWN: Final = frozenset(("CREATE", "DELETE", "RENAME", "SUBSCRIBE", "UNSUBSCRIBE", "SETMETADATA"))
"""Commands after which others' mailboxes are looked at, so that their effect is known for the session's own."""


class Monitor:
    """snapshot: of when the client said what it wants; None where nothing but the mailbox selected is of interest."""

    def __init__(self, session: Session, wanted: Wanted, snapshot: Snapshot | None) -> None:
        self._session = session
        self._wanted = wanted
        self._account = session.account
        self._told = snapshot
        self._own: set[tuple[str, int]] = set()
        self._owners: set[str] = set()
        self._next = 0.0
        self._timer: asyncio.TimerHandle | None = None
        if snapshot is not None:
            session.house.hub.snapshots.join(self._account, wanted.shared)
            self._watch(snapshot)

    @property
    def listens(self) -> bool:
        """Whether anything can be told between commands."""
        return bool(self._wanted.selected) or self._told is not None

    @property
    def fetches(self) -> bool:
        """Whether FETCH responses are among what is told."""
        return FLAGS in self._wanted.selected or bool(self._wanted.items)

    def close(self) -> None:
        """Nothing is told any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._told is not None:
            self._told = None
            self._session.house.hub.snapshots.leave(self._account, self._wanted.shared)
        for owner in self._owners:
            self._session.house.hub.leave(owner, self._session.out.notify)
        self._owners.clear()

    def wrote(self, account: str, modseq: int) -> None:
        """A change of an account's mail is this session's own."""
        if self._is_to_be_known(account, modseq) and len(self._own) < OWN_MAX:
            self._own.add((account, modseq))

    def _is_to_be_known(self, account: str, modseq: int) -> bool:
        """Might a change of the session's own still be told as news, elsewhere or of the mailbox selected?"""
        if self._told is not None and modseq > self._told.through.get(account, 0):
            return True
        view = self._session.view
        return bool(self._wanted.items) and view is not None and view.ref.account == account and modseq > view.through

    def _forget_own(self) -> None:
        self._own = {one for one in self._own if self._is_to_be_known(*one)}

    # -- telling

    async def tell(self, ask: bool, may_expunge: bool, command: str = "", form: Form | None = None) -> None:
        """At the end of a command, whose own effect is no news (RFC 5465 §5); without one, when the client is woken."""
        if command in EXPUNGING:
            await self._session.tell_news(ask, may_expunge)
        else:
            await self._tell_selected(ask, may_expunge)
        if self._told is not None:
            own = command if command in OWN else ""
            await self._tell_elsewhere(ask, own, form, urgent=bool(own) or (ask and bool(command)))

    async def between(self) -> None:
        """Between two commands: RFC 5465 §3.1, §6.1.1, §6.1.2."""
        await self.tell(ask=False, may_expunge=not self._wanted.delayed)

    async def _tell_selected(self, ask: bool, may_expunge: bool) -> None:
        view, wanted = self._session.view, self._wanted
        if view is None:
            return
        if not wanted.selected:
            if ask:
                # nothing is told of it, but that it is gone, or may not be read any more
                await self._session.end_if_gone()
            return
        if not await self._session.learn_news(ask):
            return
        if FLAGS not in wanted.selected:
            view.withhold_flags()
        last = view.last
        await self._session.write_news(may_expunge)
        if wanted.items and view.last > last and self._session.view is view:
            await self._fetch_new(view, last)
        if self._told is None:
            self._forget_own()

    async def _fetch_new(self, view: View, last: int) -> None:
        """RFC 5465 §5.2: what is asked of each new message, but of those that this session has put there."""
        session = self._session
        ranges: Ranges = ((last + 1, view.last),)
        try:
            new = await session.storage.columns(view.ref, ranges, Want.MODSEQ, NEW_MAX)
            if new.more:
                self._overflow()
            else:
                await self._fetch(view, new)
        except (Refused, Unavailable):
            # the client knows the number, and may ask itself; but not where half a line has been written
            if session.in_line:
                raise

    async def _fetch(self, view: View, new: Columns) -> None:
        # those too that storage has done, and that will be answered behind this
        own = self._own | await self._session.pending.changes()
        there = zip(new.uids, new.modseqs, strict=True)
        positions = [view.number(uid) - 1 for uid, modseq in there if (view.ref.account, modseq) not in own]
        slices = tuple((at, at + 1) for at in positions if at >= 0)
        if slices:
            await fetch_items(self._session, _quietly(self._wanted.items, view.uid_only), slices)

    async def _tell_elsewhere(self, ask: bool, own: str, form: Form | None, *, urgent: bool) -> None:
        """ask: False where what the hub has heard of is enough. own: the command that may have changed something.
        urgent: now, and not in a moment."""
        told, hub = self._told, self._session.house.hub
        assert told is not None
        heard = any(hub.modseq(owner) > told.through.get(owner, 0) for owner in self._owners)
        if not urgent and not ((heard or ask) and self._is_time()):
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        snapshot = await self._read()
        if snapshot is None or self._told is not told or snapshot is told:
            return
        self._told = snapshot
        self._watch(snapshot)
        # each once, in order
        lines: dict[bytes, None] = {}
        mine = _effect(own, form)
        happenings = hub.snapshots.between(self._account, self._wanted.shared, told, snapshot)
        # of an account with thousands of mailboxes the looks themselves are not to be the load
        self._next = max(self._next, loop.time() + min(SHARE * (loop.time() - began), GATHER_MAX_SECONDS))
        for happened in happenings:
            if not _is_own(mine, happened):
                lines.update(dict.fromkeys(self._lines(happened, told, snapshot)))
            if len(lines) > LINES_MAX:
                self._overflow()
                return
        self._forget_own()
        if lines:
            self._session.out.write(b"".join(lines))
            await self._session.out.drain()

    def _is_time(self) -> bool:
        """A busy mailbox has its others looked at now and then, not for each message."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now >= self._next:
            self._next = now + GATHER_SECONDS
            return True
        if self._timer is None:
            self._timer = loop.call_at(self._next, self._wake)
        return False

    def _wake(self) -> None:
        self._timer = None
        self._session.out.notify()

    async def _read(self) -> Snapshot | None:
        """None where it cannot be had now: later will do."""
        places = self._session.places if self._wanted.shared else None
        hub = self._session.house.hub
        try:
            return await hub.snapshots.fresh(self._account, places, hub.modseq)
        except (Refused, Unavailable):
            return None

    def _watch(self, snapshot: Snapshot) -> None:
        """Be woken by changes of all whose mailboxes are seen, and were: who shares no more may do so again."""
        owners = {self._account, *(ref.account for ref in snapshot.mailboxes)}
        for owner in owners - self._owners:
            self._session.house.hub.join(owner, snapshot.through.get(owner, 0), self._session.out.notify)
        self._owners |= owners

    def _overflow(self) -> None:
        """RFC 5465 §5.8: from here on as after NOTIFY NONE."""
        self.close()
        self._wanted = Wanted()
        self._session.out.listen(False)
        text = "More has happened than is told of its own accord"
        self._session.out.write(writer.untagged("OK", text, "NOTIFICATIONOVERFLOW"))

    # -- lines

    def _lines(self, happened: changes.Happened, old: Snapshot, new: Snapshot) -> Iterator[bytes]:
        wanted = self._wanted
        subscribed = old.subscriptions | new.subscriptions
        match happened:
            case changes.Created(mailbox, again):
                yield from self._names(mailbox.name, subscribed, new)
                events = self._events(mailbox, subscribed)
                if events and mailbox.rights & Rights.READ and (again or mailbox.uidnext > 1):
                    # RFC 5465 §5.1: another UIDVALIDITY
                    yield self._status(mailbox, events)
            case changes.Deleted(name):
                yield from self._names(name, subscribed, new)
            case changes.Renamed(mailbox, old_name):
                both = wanted.of(old_name, subscribed) | wanted.of(mailbox.name, subscribed)
                if NAME in both:
                    yield self._list(mailbox.name, new, old_name)
            case changes.Subscribed(name):
                if SUBSCRIPTION in wanted.of(name, subscribed):
                    yield self._list(name, new)
            case changes.Access(mailbox):
                # RFC 5465 §5.9
                if wanted.of(mailbox.name, subscribed):
                    yield self._list(mailbox.name, new)
            case changes.Messages(mailbox, was, events):
                asked = events & self._events(mailbox, subscribed)
                if asked and not self._caused(mailbox, old) and self._is_news(asked, was, mailbox):
                    yield self._status(mailbox, asked)
            case changes.Annotated(None, entries):
                if wanted.server:
                    # RFC 5465 §5.7
                    yield write_metadata.names("", entries, self._session.utf8)
            case changes.Annotated(mailbox, entries):
                if mailbox is not None and METADATA in wanted.of(mailbox.name, subscribed):
                    # RFC 5465 §5.6
                    yield write_metadata.names(mailbox.name, entries, self._session.utf8)

    def _events(self, mailbox: Mailbox, subscribed: frozenset[str]) -> frozenset[str]:
        """Of its messages, while it is not selected (RFC 5465 §6)."""
        view = self._session.view
        if view is not None and view.ref == mailbox.ref:
            return frozenset()
        return self._wanted.of(mailbox.name, subscribed) & OF_MESSAGES

    def _names(self, name: str, subscribed: frozenset[str], snapshot: Snapshot) -> Iterator[bytes]:
        """RFC 5465 §5.4: a mailbox that was made or deleted, and the name above it."""
        for affected in (name.rpartition(DELIMITER)[0], name):
            if affected and NAME in self._wanted.of(affected, subscribed):
                yield self._list(affected, snapshot)

    def _list(self, name: str, snapshot: Snapshot, old_name: str | None = None) -> bytes:
        mailbox = snapshot.by_name.get(name)
        attributes = announce.attributes(mailbox, snapshot.has_children(name), "\\NonExistent")
        if name in snapshot.subscriptions:
            attributes = (*attributes, "\\Subscribed")
        if mailbox is not None and not mailbox.rights & Rights.READ:
            attributes = (*attributes, "\\NoAccess")
        return writer.list_line("LIST", attributes, name, old_name=old_name, utf8=self._session.utf8)

    def _status(self, mailbox: Mailbox, events: frozenset[str]) -> bytes:
        return status_line(self._session, mailbox, events, modseq=self._session.with_modseq)

    def _is_news(self, events: frozenset[str], was: Mailbox, mailbox: Mailbox) -> bool:
        """RFC 5465 §5.1: of flags alone those are told who know modification sequences, and others where the number of
        unseen messages is another."""
        return events != {FLAGS} or self._session.with_modseq or was.unseen != mailbox.unseen

    def _caused(self, mailbox: Mailbox, old: Snapshot) -> bool:
        """Are all changes of the account since then the session's own, up to the mailbox's last one?"""
        account, last = mailbox.ref.account, mailbox.highest_modseq
        first = old.through.get(account, 0) + 1
        return last - first < len(self._own) and all(
            (account, modseq) in self._own for modseq in range(first, last + 1)
        )


def status_line(session: Session, mailbox: Mailbox, events: frozenset[str], *, modseq: bool) -> bytes:
    """STATUS with what tells of these events (RFC 5465 §3.1, §5.1, §5.2, §5.3)."""
    items: list[tuple[str, int | str]] = []
    if events - {FLAGS}:
        items += [("MESSAGES", mailbox.messages), ("UIDNEXT", mailbox.uidnext)]
    items.append(("UIDVALIDITY", mailbox.uidvalidity))
    if FLAGS in events:
        items.append(("UNSEEN", mailbox.unseen))
    if modseq:
        items.append(("HIGHESTMODSEQ", mailbox.highest_modseq))
    return writer.status(mailbox.name, items, session.utf8)


def _quietly(items: tuple[FetchItem, ...], uid_only: bool) -> tuple[FetchItem, ...]:
    """The same without setting \\Seen: nobody has read these messages. With the UID, which RFC 9051 §7.5.2 asks of a
    FETCH response that no command asked for; a UIDFETCH line has it at its head (RFC 9586 §3.3)."""
    quiet: list[FetchItem] = []
    for item in items:
        quiet.append(replace(item, peek=True) if isinstance(item, Section | Binary) else item)
    return tuple(dict.fromkeys(quiet if uid_only else (Attribute("UID"), *quiet)))


def _effect(command: str, form: Form | None) -> frozenset[tuple[str, str]]:
    """What a command of the session's own has made happen: (kind, name)."""
    match form:
        case Create(mailbox) if command == "CREATE":
            name = canonical(mailbox.removesuffix(DELIMITER))
            return frozenset(("created", one) for one in (name, *superiors(name)))
        case OnMailbox(mailbox) if command == "DELETE":
            return frozenset((("deleted", canonical(mailbox)),))
        case Rename(_, new) if command == "RENAME":
            name = canonical(new.removesuffix(DELIMITER))
            made = frozenset(("created", one) for one in (name, *superiors(name)))
            return made | {("renamed", name)}
        case OnMailbox(mailbox) if command in ("SUBSCRIBE", "UNSUBSCRIBE"):
            return frozenset((("subscribed", canonical(mailbox.removesuffix(DELIMITER))),))
        case SetMetadata(mailbox, values):
            name = canonical(mailbox)
            return frozenset((f"annotated {entry.lower()}", name) for entry, _ in values)
    return frozenset()


def _is_own(effect: frozenset[tuple[str, str]], happened: changes.Happened) -> bool:
    if not effect:
        return False
    match happened:
        case changes.Created(mailbox):
            return ("created", mailbox.name) in effect
        case changes.Deleted(name):
            return ("deleted", name) in effect
        case changes.Renamed(mailbox):
            return ("renamed", mailbox.name) in effect
        case changes.Subscribed(name):
            return ("subscribed", name) in effect
        case changes.Annotated(mailbox, entries):
            name = "" if mailbox is None else mailbox.name
            return all((f"annotated {entry}", name) in effect for entry in entries)
    return False
