"""Accounts elsewhere through which accounts of ours send.

`identity_integration` {_id: the account's id, rev, items: […]}: all of one account in one document, which is changed by
compare-and-set on its revision (new with each change), so that one of them at most is the default. Without any there is
no document.
"""

from __future__ import annotations

from collections.abc import Callable

from identity import integrations
from identity.adapters.mongo import queries
from identity.adapters.mongo.accounts import Accounts
from identity.adapters.mongo.database import Race
from identity.integrations import COLUMNS, Held
from identity.model import Integration, IntegrationSettings
from identity.tokens import new_id
from runtime.mongo import Document

_PAGE = 200


class Integrations(Accounts):
    """integrations, add_integration, change_integration, set_default_integration, remove_integration, sealed_with; and
    the removal of accounts, which ends theirs."""

    async def integrations(self, account: str) -> tuple[Integration, ...]:
        await self._find(account)
        return held_of(account, await self._database.first(queries.integrations(account)))

    async def add_integration(self, account: str, settings: IntegrationSettings) -> Integration:
        integrations.check(settings)
        now = self._clock.now()
        made = Integration(new_id(), account, settings, False, 1, now, now)
        return (await self._turn(account, lambda held: integrations.added(held, made)))[-1]

    async def change_integration(
        self, account: str, id: str, revision: int, settings: IntegrationSettings
    ) -> Integration:
        integrations.check(settings)
        now = self._clock.now()
        after = await self._turn(account, lambda held: integrations.changed(held, id, revision, settings, now))
        return integrations.found(after, id)

    async def set_default_integration(self, account: str, id: str) -> Integration:
        return integrations.found(await self._turn(account, lambda held: integrations.made_default(held, id)), id)

    async def remove_integration(self, account: str, id: str) -> None:
        await self._turn(account, lambda held: integrations.without(held, id))

    async def sealed_with(self) -> tuple[tuple[str, int], ...]:
        keys: list[str] = []
        after = ""
        while page := await self._database.find(queries.integrations_after(after, _PAGE)):
            keys += [item["key"] for document in page for item in document["items"]]
            after = page[-1]["_id"]
        return integrations.counted(keys)

    async def remove_account(self, account: str) -> None:
        await super().remove_account(account)
        await self._writes.run(self._database.delete(queries.integrations(account)))

    async def finish_removal(self, account: str) -> None:
        # Again: the process that marked it may have died in between.
        if account in await self.removed_accounts():
            await self._writes.run(self._database.delete(queries.integrations(account)))
        await super().finish_removal(account)

    async def _turn(self, account: str, turn: Callable[[Held], Held]) -> Held:
        """Put what the turn makes of the account's in their place. It may be asked several times, and raise Refused."""
        return await self._writes.run(self._turn_now(account, turn))

    async def _turn_now(self, account: str, turn: Callable[[Held], Held]) -> Held:
        race = Race()
        while True:
            await self._find(account)
            document = await self._database.first(queries.integrations(account))
            after = turn(held_of(account, document))
            if document is None:
                if not await self._database.insert(queries.INTEGRATIONS, [document_of(account, after)]):
                    return after
            elif not after:
                if await self._database.delete(queries.integrations_at(account, document["rev"])):
                    return after
            else:
                change = {name: value for name, value in document_of(account, after).items() if name != "_id"}
                if await self._database.update(queries.integrations_at(account, document["rev"]), {"$set": change}):
                    return after
            await race.lost()


def held_of(account: str, document: Document | None) -> Held:
    """The values of a document of the collection."""
    if document is None:
        return ()
    return tuple(integrations.integration_of(account, [item[name] for name in COLUMNS]) for item in document["items"])


def document_of(account: str, held: Held) -> Document:
    """A document of the collection, its revision a new one."""
    items = [dict(zip(COLUMNS, integrations.plain(one), strict=True)) for one in held]
    return {"_id": account, "rev": new_id(), "items": items}
