"""REPLACE: a new message in the place of another, which leaves in the same change."""

from __future__ import annotations

from storage.adapters.mongo import acl
from storage.adapters.mongo.append import Append
from storage.adapters.mongo.moves import Chosen, Moves, Removal
from storage.adapters.mongo.state import Document, Draft, Item, box_of, is_open
from storage.model import Appended, MailboxRef, Rights
from storage.port import Reason, Refused


class Replace:
    """Both in one commit. append: of the new message, without a quota of its own."""

    # RFC 8508 §3.2

    def __init__(
        self,
        moves: Moves,
        append: Append,
        op: str,
        ref: MailboxRef,
        uid: int,
        size: int,
        quota: int | None,
        actor: str | None = None,
    ) -> None:
        """size: of the new message. actor: another than the owner, who acts."""
        self._actor = actor
        self._moves = moves
        self._append = append
        self._op = op
        self._ref = ref
        self._uids = ((uid, uid),)
        self._size = size
        self._quota = quota
        self._removal: Removal | None = None

    async def prepare(self, base: Document) -> None:
        # What is refused anyway is not inserted first.
        self._removal = None
        if not is_open(base):
            raise Refused(Reason.NO_SUCH_MAILBOX)
        self._check_rights(base)
        self._check(Draft(base), await self._moves.present(base, self._ref, self._uids))
        await self._append.prepare(base)
        self._removal = await self._moves.removal(base, self._ref, Chosen(self._uids), op=self._op)

    def stands(self, base: Document) -> bool:
        return self._removal is not None and self._removal.stands(base) and self._append.stands(base)

    def commit(self, draft: Draft, item: Item) -> Appended:
        if self._removal is None:
            raise ValueError("nothing was prepared")
        self._check_rights(draft.doc)
        old = self._check(draft, self._removal.entries)
        appended = self._append.commit(draft, item)
        self._removal.take_away(draft, item, appended.modseq, self._moves.database.now())
        draft.put(size=draft.doc["size"] - old, messages=draft.doc["messages"] - 1)
        return appended

    def _check_rights(self, doc: Document) -> None:
        acl.check(box_of(doc, self._ref), self._actor, Rights.READ | Rights.DELETE_MESSAGES | Rights.EXPUNGE)

    def _check(self, draft: Draft, entries: list[Document]) -> int:
        """Octets of the message that leaves."""
        if not entries:
            raise Refused(Reason.NO_SUCH_MESSAGE)
        old: int = entries[0]["size"]
        draft.check_quota(self._size - old, self._quota)
        return old
