"""Accounts by the thousand: import and export."""

from __future__ import annotations

from collections.abc import Sequence

from identity.adapters.mongo import queries
from identity.adapters.mongo.accounts import Accounts
from identity.adapters.mongo.documents import account_document, account_of
from identity.arguments import after_key, page
from identity.fresh import NOT_KEPT, Fresh, all_kept, checked_rows
from identity.limits import ROWS_PER_COMMIT
from identity.model import Account, ExportedAccount, ImportOutcome, NewAccount, Role
from identity.port import Reason, Refused


class Transfer(Accounts):
    """import_accounts, export_accounts."""

    async def import_accounts(self, rows: Sequence[NewAccount]) -> tuple[ImportOutcome, ...]:
        outcomes: list[ImportOutcome] = []
        for begin in range(0, len(rows), ROWS_PER_COMMIT):
            outcomes += await self._import_some(rows[begin : begin + ROWS_PER_COMMIT])
        return tuple(outcomes)

    async def _import_some(self, rows: Sequence[NewAccount]) -> list[ImportOutcome]:
        # Bad rows are found before their passwords cost anything; the write that takes the name looks again.
        checked = await self._free(_each_once(await checked_rows(rows)))
        kept = await all_kept(self._passwords, self._scram, checked)
        now = self._clock.now()
        documents = {
            place: account_document(fresh, kept[place], now)
            for place, fresh in enumerate(checked)
            if not isinstance(fresh, str)
        }
        outcomes: dict[int, Account | str] = {n: row for n, row in enumerate(checked) if isinstance(row, str)}
        if documents:
            made = await self._writes.run(self._made(list(documents.values())))
            for (place, document), refused in zip(documents.items(), made, strict=True):
                outcomes[place] = account_of(document) if refused is None else refused.text
        return [_outcome(row.address, outcomes[place]) for place, row in enumerate(rows)]

    async def _free(self, rows: list[Fresh | str]) -> list[Fresh | str]:
        fresh = {place: row for place, row in enumerate(rows) if not isinstance(row, str)}
        if fresh:
            names = [account_document(row, NOT_KEPT, 0.0) for row in fresh.values()]
            for place, refused in zip(fresh, await self._names.free(names), strict=True):
                if refused is not None:
                    rows[place] = refused.text
        return rows

    async def export_accounts(self, limit: int = 1000, after: str = "") -> tuple[ExportedAccount, ...]:
        found = await self._database.find(queries.page_of(queries.ACCOUNT, None, after_key(after), page(limit)))
        return tuple(
            ExportedAccount(
                document["address"],
                document["password_hash"],
                document["quota"],
                Role(document["role"]),
                document["display_name"],
                document["enabled"],
                tuple(document.get("mask", ())),
            )
            for document in found
        )


def _each_once(rows: list[Fresh | str]) -> list[Fresh | str]:
    """Of rows of one name the first; the server may insert many in any order."""
    names: set[str] = set()
    for place, row in enumerate(rows):
        if isinstance(row, str):
            continue
        if row.name.key in names:
            rows[place] = Refused(Reason.ALREADY_EXISTS).text
        names.add(row.name.key)
    return rows


def _outcome(address: str, outcome: Account | str) -> ImportOutcome:
    if isinstance(outcome, str):
        return ImportOutcome(address, None, outcome)
    return ImportOutcome(address, outcome, None)
