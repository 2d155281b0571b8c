"""Names and the domains that they are in: taken once, and only in a domain that is there.

Accounts and aliases are documents of one collection under one unique index, so a name is had once. A new one is first
*reserved*: inserted with its name, as a kind that nobody reads. Then its domain is looked at, and then it becomes what
it was made for, which commits it and finds nothing where the reservation was taken away.

A domain is removed in the opposite order: it is marked ``closing``, reservations in it are taken away, and it goes when
no account or alias is left, else the mark is taken off. Who reserves after the mark sees it, who reserved before is
seen: of a removal and an addition at the same moment one is refused, or the removal comes first.

What a process left that died is ended by whoever meets it, after a moment's patience: a reservation is taken away (the
dead one's change then finds nothing), a mark is taken off (the removal then finds another mark than its own). The
upkeep takes away reservations that nobody meets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from identity.adapters.mongo import queries
from identity.adapters.mongo.database import Database, Patience, Race
from identity.adapters.mongo.documents import taken
from identity.port import Reason, Refused
from identity.tokens import new_id
from runtime.mongo import Document

FINISH_SECONDS: Final = 1.0
"""How long the process that reserved a name, or closes a domain, is given to end that."""


class Names:
    """See the module."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def free(self, documents: Sequence[Document]) -> list[Refused | None]:
        """For each document to come: why its name cannot be had now, if so (NO_SUCH_DOMAIN, ALREADY_EXISTS)."""
        there = await self._domains(documents)
        held = await self._held(documents)
        return [
            Refused(Reason.NO_SUCH_DOMAIN)
            if document["domain"] not in there
            else Refused(Reason.ALREADY_EXISTS)
            if document["key"] in held and held[document["key"]]["kind"] != queries.RESERVED
            else None
            for document in documents
        ]

    async def take(self, documents: Sequence[Document]) -> list[Refused | None]:
        """Make what the documents stand for, each for itself: None for one that is made, else why not
        (NO_SUCH_DOMAIN, ALREADY_EXISTS)."""
        outcomes: list[Refused | None] = [None] * len(documents)
        waiting = dict(enumerate(documents))
        race, patience = Race(), Patience(FINISH_SECONDS)
        while True:
            for place, outcome in (await self._take_some(waiting, patience)).items():
                outcomes[place] = outcome
                del waiting[place]
            if not waiting:
                return outcomes
            await race.lost()

    async def _take_some(self, waiting: dict[int, Document], patience: Patience) -> dict[int, Refused | None]:
        """One round: the outcome of each that has one now, by its place."""
        done: dict[int, Refused | None] = {}
        places = list(waiting)
        clashes = await self._database.insert(queries.NAMES, [waiting[place] for place in places])
        held = await self._held([waiting[places[clash]] for clash in clashes]) if clashes else {}
        reserved = {}
        for n, place in enumerate(places):
            document = waiting[place]
            holder = held.get(document["key"])
            if n not in clashes or (holder is not None and holder["_id"] == document["_id"]):
                reserved[place] = document
            elif holder is not None and holder["kind"] != queries.RESERVED:
                done[place] = Refused(Reason.ALREADY_EXISTS)
            elif holder is not None and patience.is_over(holder["_id"]):
                await self._database.delete(queries.of_kind(holder["_id"], queries.RESERVED))
        there = await self._domains(list(reserved.values())) if reserved else {}
        for place, document in list(reserved.items()):
            domain = there.get(document["domain"])
            if domain is not None and "closing" not in domain:
                continue
            del reserved[place]
            await self._database.delete(queries.of_kind(document["_id"], queries.RESERVED))
            if domain is None:
                done[place] = Refused(Reason.NO_SUCH_DOMAIN)
            elif patience.is_over(domain["closing"]):
                await self._open_again(document["domain"], domain["closing"])
        done |= await self._commit(reserved)
        return done

    async def _commit(self, reserved: dict[int, Document]) -> dict[int, Refused | None]:
        if not reserved:
            return {}
        documents = reserved.values()
        changes = [(queries.of_kind(one["_id"], queries.RESERVED), taken(one)) for one in documents]
        if await self._database.update_each(changes) == len(changes):
            return dict.fromkeys(reserved)
        made: set[str] = set()
        for kind in (queries.ACCOUNT, queries.ALIAS):
            made |= {
                one["_id"] for one in await self._database.find(queries.by_ids([o["_id"] for o in documents], kind))
            }
        return {place: None for place, document in reserved.items() if document["_id"] in made}

    async def remove_domain(self, domain: str) -> None:
        """Raises Refused IN_USE, NO_SUCH_DOMAIN."""
        race, patience, token = Race(), Patience(FINISH_SECONDS), new_id()
        while True:
            if await self._database.update(queries.open_domain(domain), {"$set": {"closing": token}}):
                # Also where it deletes nothing: it is answered when the majority has all that was committed before it,
                # and so the read after it misses none.
                await self._database.delete(queries.reservations_in(domain))
                if await self._database.first(queries.any_in(domain)) is not None:
                    await self._open_again(domain, token)
                    raise Refused(Reason.IN_USE, "accounts or aliases are in the domain")
                if await self._database.delete(queries.closing_domain(domain, token)):
                    return
            else:
                found = await self._database.first(queries.domain(domain))
                if found is None:
                    raise Refused(Reason.NO_SUCH_DOMAIN)
                if "closing" in found and patience.is_over(found["closing"]):
                    await self._open_again(domain, found["closing"])
                    continue
            await race.lost()

    async def _open_again(self, domain: str, token: str) -> None:
        await self._database.update(queries.closing_domain(domain, token), {"$unset": {"closing": ""}})

    async def _domains(self, documents: Sequence[Document]) -> dict[str, Document]:
        keys = sorted({document["domain"] for document in documents})
        return {found["_id"]: found for found in await self._database.find(queries.domains_of(keys))}

    async def _held(self, documents: Sequence[Document]) -> dict[str, Document]:
        keys = sorted({document["key"] for document in documents})
        return {found["key"]: found for found in await self._database.find(queries.named_any(keys))}
