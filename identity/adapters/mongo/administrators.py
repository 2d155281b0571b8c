"""There is always an enabled administrator, whoever takes the role from whom at the same moment.

One small document lists the enabled administrators that can be counted on: ``listed``, a part of those that there are.
Who is to stop being one is first taken off the list, by compare-and-set, and noted under ``leaving`` with the revision
of the account that the change was made from; that is refused for the last one listed. Then the account is changed, then
the note dropped. Who becomes one is listed after the account has changed.

- A note left by a process that died is settled by whoever needs the list: the account's revision goes up, so that the
  dead one's change can no longer come, and the account itself then says whether it is listed again.
- An administrator who is not listed because the process died before is found by the index when somebody would be
  refused for want of others.
- Listing compares the revision of the list as it was *before* the account was read. So nobody is listed whose leaving
  began in between.
"""

from __future__ import annotations

from typing import Any, Final

import structlog

from identity.adapters.mongo import queries
from identity.adapters.mongo.database import Database, Patience, Race
from identity.port import Reason, Refused, Unavailable
from identity.tokens import new_id
from runtime.mongo import Document

log = structlog.get_logger("identity")

LEAVE_SECONDS: Final = 1.0
"""How long the process that noted a leaving is given to end it."""
MAX_LOOKED_AT: Final = 1000
"""Administrators looked at to find one that is not listed."""

_EMPTY: Final[Document] = {"_id": queries.ADMINISTRATORS, "rev": 0, "listed": [], "leaving": {}}


class Administrators:
    """See the module."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def leave(self, account: str, rev: int) -> str:
        """Take an account off the list that is about to be changed from this revision on; what `left` takes then.
        Raises Refused IN_USE for the last one."""
        token = new_id()
        race, patience = Race(), Patience(LEAVE_SECONDS)
        while True:
            state = await self._state()
            if account in state["leaving"]:
                await self._wait_for(account, state, race, patience)
                continue
            listed = [other for other in state["listed"] if other != account]
            if not listed:
                await self._find_another(account, state, race, patience)
                continue
            leaving = state["leaving"] | {account: {"token": token, "rev": rev}}
            if await self._set(state, listed=listed, leaving=leaving):
                return token
            await race.lost()

    async def left(self, account: str, token: str) -> None:
        """The account was changed: it is no administrator."""
        race = Race()
        while True:
            state = await self._state()
            if state["leaving"].get(account, {}).get("token") != token:
                return
            if await self._set(state, leaving=_without(state["leaving"], account)):
                return
            await race.lost()

    async def left_soon(self, account: str, token: str) -> None:
        """As `left`; where it cannot be noted now, whoever needs the list settles it."""
        try:
            await self.left(account, token)
        except Unavailable as error:
            log.warning("the list of administrators waits", account=account, reason=str(error))

    async def join_soon(self, account: str) -> None:
        """As `join`; where it cannot be listed now, it is found when it is needed."""
        try:
            await self.join(account)
        except Unavailable as error:
            log.warning("the list of administrators waits", account=account, reason=str(error))

    async def settle(self, account: str) -> None:
        """Undo or end a leaving that nobody goes on with: the account says which."""
        race = Race()
        while True:
            state = await self._state()
            note = state["leaving"].get(account)
            if note is None:
                return
            document = await self._database.first(queries.by_id(account))
            if document is not None and _is_one(document) and document["rev"] == note["rev"]:
                # Now the change that was noted finds another revision, should it still come.
                await self._database.update(
                    queries.account_at(account, note["rev"]), {"$set": {"rev": note["rev"] + 1}}
                )
                continue
            listed = set(state["listed"]) | ({account} if _is_one(document) else set())
            if await self._set(state, listed=sorted(listed), leaving=_without(state["leaving"], account)):
                return
            await race.lost()

    async def join(self, account: str) -> None:
        """List an account that has become one."""
        race, patience = Race(), Patience(LEAVE_SECONDS)
        while True:
            state = await self._state()
            if account in state["leaving"]:
                await self._wait_for(account, state, race, patience)
                continue
            if account in state["listed"] or not _is_one(await self._database.first(queries.by_id(account))):
                return
            if await self._set(state, listed=sorted({*state["listed"], account})):
                return
            await race.lost()

    async def _find_another(self, account: str, state: Document, race: Race, patience: Patience) -> None:
        """Make the list longer than this account. Raises Refused IN_USE when there is no other."""
        for other in state["leaving"]:
            await self._wait_for(other, state, race, patience)
            return
        for document in await self._database.find(queries.administrators(MAX_LOOKED_AT)):
            if document["_id"] != account and document["_id"] not in state["listed"]:
                await self.join(document["_id"])
                await race.lost()
                return
        if (await self._state())["rev"] == state["rev"]:
            raise Refused(Reason.IN_USE, "the last enabled administrator stays one")

    async def _wait_for(self, account: str, state: Document, race: Race, patience: Patience) -> None:
        if patience.is_over((account, state["leaving"][account]["token"])):
            await self.settle(account)
        else:
            await race.lost()

    async def _state(self) -> Document:
        return await self._database.first(queries.state()) or _EMPTY

    async def _set(self, state: Document, **values: Any) -> bool:
        """Replace what was read. False: it has changed since."""
        if state["rev"] == 0:
            return not await self._database.insert(queries.STATE, [state | values | {"rev": 1}])
        return await self._database.update(queries.state_at(state["rev"]), {"$set": values | {"rev": state["rev"] + 1}})


def _is_one(document: Document | None) -> bool:
    return document is not None and "admin" in document


def _without(leaving: dict[str, Any], account: str) -> dict[str, Any]:
    return {other: note for other, note in leaving.items() if other != account}
