"""All that an account can see of mailboxes, as it was at a moment: what NOTIFY compares with what it has told.

One read serves all sessions of the process that listen for an account: who needs a later state than there is waits for
the read in hand to end, and then shares the next one with whoever waits too.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from imap.notify.changes import Happened, between
from imap.places import Places
from storage.model import DELIMITER, Mailbox, MailboxList, MailboxRef
from storage.port import Storage

Marks = Mapping[tuple[str, str], int]
"""Of annotations: (mailbox, entry) → the modseq of its last change."""


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """mailboxes: by their refs. by_name: the same, under the names that the account knows them by; names: those,
    sorted. marks: of all annotations that it may read; with mailbox "" of its own. through: the modseq of each account
    that mailboxes are of, up to which all changes are in it."""

    mailboxes: Mapping[MailboxRef, Mailbox]
    by_name: Mapping[str, Mailbox]
    names: tuple[str, ...]
    subscriptions: frozenset[str]
    annotated: int
    marks: Marks
    through: Mapping[str, int]

    def has_children(self, name: str) -> bool:
        """Is a mailbox below this name?"""
        at = bisect_left(self.names, name + DELIMITER)
        return at < len(self.names) and self.names[at].startswith(name + DELIMITER)


class _Account:
    """begun: reads begun so far; latest_read: which of them `latest` comes of. compared: what was compared last, and
    what came of it."""

    def __init__(self) -> None:
        self.users = 0
        self.lock = asyncio.Lock()
        self.begun = 0
        self.latest_read = 0
        self.latest: Snapshot | None = None
        self.compared: tuple[Snapshot, Snapshot, tuple[Happened, ...]] | None = None


class Snapshots:
    """Of one process."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._accounts: dict[tuple[str, bool], _Account] = {}

    def join(self, account: str, shared: bool) -> None:
        """Somebody listens for the account, until `leave`: while anybody does, the last read is remembered. shared:
        for mailboxes of others too."""
        self._accounts.setdefault((account, shared), _Account()).users += 1

    def leave(self, account: str, shared: bool) -> None:
        """The end of a `join`."""
        known = self._accounts[account, shared]
        known.users -= 1
        if not known.users:
            del self._accounts[account, shared]

    async def fresh(self, account: str, shared: Places | None, known: Callable[[str], int]) -> Snapshot:
        """A state that was read after this call began. shared: names mailboxes of others, where they are of interest.
        known: how far an account is known to have come. Raises the ports' errors. Only for accounts that were
        joined."""
        state = self._accounts[account, shared is not None]
        begun = state.begun
        async with state.lock:
            if state.latest is not None and state.latest_read > begun:
                return state.latest
            state.begun += 1
            number = state.begun
            latest = await self._read(account, shared, known, state.latest)
            state.latest, state.latest_read = latest, number
            return latest

    def between(self, account: str, shared: bool, old: Snapshot, new: Snapshot) -> tuple[Happened, ...]:
        """What happened between two states of an account that was joined. Sessions mostly ask for the same two."""
        state = self._accounts[account, shared]
        if state.compared is None or state.compared[0] is not old or state.compared[1] is not new:
            state.compared = (old, new, tuple(between(old, new)))
        return state.compared[2]

    async def _read(
        self, account: str, shared: Places | None, known: Callable[[str], int], before: Snapshot | None
    ) -> Snapshot:
        owners = () if before is None else before.through
        through = {owner: known(owner) for owner in (account, *owners)}
        listed = await self._storage.list_mailboxes(account)
        others = () if shared is None else await shared.shared(account)
        mailboxes = {one.ref: one for one in (*listed.mailboxes, *others)}
        for one in mailboxes.values():
            through[one.ref.account] = max(through.get(one.ref.account, 0), one.highest_modseq)
        through[account] = max(through[account], listed.annotated)
        marks = await self._marks(account, listed, others, before)
        by_name = {one.name: one for one in mailboxes.values()}
        return Snapshot(
            mailboxes, by_name, tuple(sorted(by_name)), listed.subscriptions, listed.annotated, marks, through
        )

    async def _marks(
        self, account: str, listed: MailboxList, others: Sequence[Mailbox], before: Snapshot | None
    ) -> Marks:
        if before is not None and before.annotated == listed.annotated and not others:
            return before.marks
        refs: dict[str, list[MailboxRef]] = {}
        if listed.annotated:
            refs[account] = [MailboxRef(account, ""), *(one.ref for one in listed.mailboxes)]
        for mailbox in others:
            refs.setdefault(mailbox.ref.account, []).append(mailbox.ref)
        marks: dict[tuple[str, str], int] = {}
        for some in refs.values():
            found = await self._storage.annotations(some, values=False)
            marks.update({(one.mailbox, one.entry): one.modseq for one in found})
        return marks
