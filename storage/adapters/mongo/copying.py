"""COPY, MOVE and EXPUNGE as operations: within an account one commit, between two accounts a commit of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import structlog

from mail.flags import DELETED
from storage import rights
from storage.adapters.mongo import queries
from storage.adapters.mongo.accounts import Accounts
from storage.adapters.mongo.blobs import Blobs
from storage.adapters.mongo.carry_over import CarryOver
from storage.adapters.mongo.commits import Commits
from storage.adapters.mongo.database import Change, Database
from storage.adapters.mongo.entries import Entries
from storage.adapters.mongo.moves import Chosen, Copy, Expunge, Moves
from storage.adapters.mongo.state import Document
from storage.model import Copied, Expunged, MailboxRef, Operation, Ranges, Rights
from storage.port import Reason, Refused

TO_MOVE: Final = Rights.READ | Rights.DELETE_MESSAGES | Rights.EXPUNGE
"""What who is not the owner needs on the source (RFC 6851 §4.4: as for COPY, STORE and EXPUNGE together)."""
_LEFT: Final = {"$unset": {"undone": "", "leave": ""}}

log = structlog.get_logger("storage")


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
        return await self._over(op, ref, chosen, target, quota, to, Rights.READ, leave=False)

    async def move(
        self, op: Operation, ref: MailboxRef, chosen: Chosen, target: str, quota: int | None, to: str | None
    ) -> Copied:
        """``Storage.move``."""
        if to is None or to == ref.account:
            return await self._within(op, ref, chosen, target, None, move=True)
        # Two accounts have no commit in common: the messages leave once their copies are durable. Until they have, the
        # first operation is undone, and the sweep, too, finishes it.
        copied = await self._over(op, ref, chosen, target, quota, to, TO_MOVE, leave=True)
        try:
            modseq = await self._leave(op, ref, copied.source)
        except Refused:
            # Who is told so may count on it.
            await self._database.update([Change(queries.operation(op.id), _LEFT)])
            raise
        await self._database.update([Change(queries.operation(op.id), _LEFT)])
        return replace(copied, modseq=modseq)

    async def finish(self, found: Document) -> None:
        """Let the messages leave that this operation has moved to another account, if it was committed; it was found
        undone, and nobody can commit it any more."""
        leave = found["leave"]
        if "outcome" in found:
            op, ref = Operation(found["_id"], leave["actor"]), MailboxRef(leave["account"], leave["mailbox"])
            copied = await _copied(json.loads(found["outcome"]))
            try:
                await self._leave(op, ref, copied.source)
            except Refused as refusal:
                # The mailbox is gone, or no longer open to who moved them: then they stay where they are.
                log.warning("moved messages stay in both places", op=op.id, reason=refusal.text)
        await self._database.update([Change(queries.leaving(found["_id"], leave["id"]), _LEFT)])

    async def _leave(self, op: Operation, ref: MailboxRef, uids: Ranges) -> int:
        """Under an id that every repeat has as well: the modseq that the mailbox comes to have."""
        if not uids:
            _, box = await self._accounts.place(replace(ref, actor=None))
            return int(box["modseq"])
        leave = Operation(f"{op.id}-leave", op.actor)
        return (await self._expunge(leave, ref, uids, TO_MOVE, 0)).modseq

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
        self,
        op: Operation,
        ref: MailboxRef,
        chosen: Chosen,
        target: str,
        quota: int | None,
        to: str,
        needed: Rights,
        *,
        leave: bool,
    ) -> Copied:
        if await self._accounts.find(to) is None:
            raise Refused(Reason.NO_SUCH_MAILBOX)

        def work() -> CarryOver:
            database, entries, blobs = self._database, self._entries, self._blobs
            return CarryOver(database, entries, blobs, op, ref, chosen, to, target, quota, needed, leave=leave)

        return await self._commits.once(op, to, work, _plain, _copied, shared=True)

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
