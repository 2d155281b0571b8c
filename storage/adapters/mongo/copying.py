"""COPY, MOVE and EXPUNGE as operations: within an account one commit, between two accounts a commit of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from mail.flags import DELETED
from storage import rights
from storage.adapters.mongo.accounts import Accounts
from storage.adapters.mongo.blobs import Blobs
from storage.adapters.mongo.carry_over import CarryOver
from storage.adapters.mongo.commits import Commits
from storage.adapters.mongo.database import Database
from storage.adapters.mongo.entries import Entries
from storage.adapters.mongo.moves import Chosen, Copy, Expunge, Moves
from storage.model import Copied, Expunged, MailboxRef, Operation, Ranges, Rights
from storage.port import Reason, Refused

TO_MOVE: Final = Rights.READ | Rights.DELETE_MESSAGES | Rights.EXPUNGE
"""What who is not the owner needs on the source (RFC 6851 §4.4: as for COPY, STORE and EXPUNGE together)."""


class Copying:
    def __init__(
        self,
        database: Database,
        accounts: Accounts,
        commits: Commits,
        entries: Entries,
        moves: Moves,
        blobs: Blobs,
    ) -> None:
        self._database = database
        self._accounts = accounts
        self._commits = commits
        self._entries = entries
        self._moves = moves
        self._blobs = blobs

    async def copy(
        self, op: Operation, ref: MailboxRef, chosen: Chosen, target: str, quota: int | None, to: str | None
    ) -> Copied:
        """``Storage.copy``."""
        if to is None or to == ref.account:
            return await self._within(op, ref, chosen, target, quota, move=False)
        return await self._over(op, ref, chosen, target, quota, to, Rights.READ)

    async def move(
        self, op: Operation, ref: MailboxRef, chosen: Chosen, target: str, quota: int | None, to: str | None
    ) -> Copied:
        """``Storage.move``."""
        if to is None or to == ref.account:
            return await self._within(op, ref, chosen, target, None, move=True)
        copied = await self._over(op, ref, chosen, target, quota, to, TO_MOVE)
        if not copied.source:
            _, box = await self._accounts.place(replace(ref, actor=None))
            return replace(copied, modseq=box["modseq"])
        # Two accounts have no commit in common: the messages leave once their copies are durable, under an id that a
        # repeat of the operation has as well.
        leave = Operation(f"{op.id}-leave", op.actor)
        gone = await self._expunge(leave, ref, copied.source, TO_MOVE, 0)
        return replace(copied, modseq=gone.modseq)

    async def expunge(self, op: Operation, ref: MailboxRef, uids: Ranges) -> Expunged:
        """``Storage.expunge``."""
        return await self._expunge(op, ref, uids, Rights.EXPUNGE, DELETED)

    async def _within(
        self, op: Operation, ref: MailboxRef, chosen: Chosen, target: str, quota: int | None, *, move: bool
    ) -> Copied:
        actor = rights.writer(op, ref.account)
        return await self._commits.once(
            op,
            ref.account,
            lambda: Copy(self._moves, op.id, ref, chosen, target, quota, move=move, actor=actor),
            _plain,
            _copied,
            shared=True,
        )

    async def _over(
        self, op: Operation, ref: MailboxRef, chosen: Chosen, target: str, quota: int | None, to: str, needed: Rights
    ) -> Copied:
        if await self._accounts.find(to) is None:
            raise Refused(Reason.NO_SUCH_MAILBOX)
        return await self._commits.once(
            op,
            to,
            lambda: CarryOver(self._database, self._entries, self._blobs, op, ref, chosen, to, target, quota, needed),
            _plain,
            _copied,
            shared=True,
        )

    async def _expunge(self, op: Operation, ref: MailboxRef, uids: Ranges, needed: Rights, flagged: int) -> Expunged:
        actor = rights.writer(op, ref.account)
        return await self._commits.once(
            op,
            ref.account,
            lambda: Expunge(self._moves, op.id, ref, uids, actor, needed=needed, flagged=flagged),
            lambda expunged: [expunged.uids, expunged.modseq],
            _expunged,
            shared=True,
        )


def _plain(copied: Copied) -> list[Any]:
    return [copied.uidvalidity, copied.source, copied.target, copied.modseq]


async def _copied(known: Any) -> Copied:
    return Copied(known[0], _ranges(known[1]), _ranges(known[2]), known[3])


async def _expunged(known: Any) -> Expunged:
    return Expunged(_ranges(known[0]), known[1])


def _ranges(known: Sequence[Sequence[int]]) -> Ranges:
    return tuple((first, last) for first, last in known)
