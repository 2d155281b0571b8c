"""DKIM keys of our domains.

`identity_dkim` {_id: "<domain's id> <selector>", domain: the domain's id, selector, …}: a key belongs to the domain as
it was made, so what a process leaves behind that was killed while it removed a domain belongs to no other of the name.
"""

from __future__ import annotations

from identity.adapters.mongo import queries
from identity.adapters.mongo.base import Base
from identity.adapters.mongo.documents import dkim_document, dkim_key_of
from identity.arguments import dkim_selector, domain_name
from identity.dkim import make_pair, new_selector
from identity.limits import MAX_DKIM_KEYS
from identity.model import DkimAlgorithm, DkimKey, DkimState
from identity.port import Reason, Refused


class DkimKeys(Base):
    """dkim_keys, add_dkim_key, set_dkim_state, remove_dkim_key; remove_domain, which ends a domain's keys too."""

    async def dkim_keys(self, domain: str) -> tuple[DkimKey, ...]:
        name = domain_name(domain)
        return await self._keys(name, await self._domain_id(name))

    async def add_dkim_key(
        self, domain: str, algorithm: DkimAlgorithm, state: DkimState = DkimState.PUBLISHED
    ) -> DkimKey:
        name = domain_name(domain)
        id = await self._domain_id(name)
        # About so many: processes that add at the same moment may go past it by one each.
        if len(await self._keys(name, id)) >= MAX_DKIM_KEYS:
            raise Refused(Reason.LIMIT, f"the domain has {MAX_DKIM_KEYS} DKIM keys already")
        pair, now = await make_pair(algorithm), self._clock.now()
        while True:
            selector = new_selector(algorithm, now)
            key = DkimKey(name, selector, algorithm, pair.private_key, pair.public_key, state, now, now)
            # Another key may have the selector.
            if not await self._writes.run(self._database.insert(queries.DKIM, [dkim_document(id, key)])):
                return key

    async def set_dkim_state(self, domain: str, selector: str, state: DkimState) -> DkimKey:
        name = domain_name(domain)
        id = f"{await self._domain_id(name)} {dkim_selector(selector)}"
        values = {"state": state.value, "changed_at": self._clock.now()}
        before = await self._writes.run(self._database.swap(queries.dkim_key_not_in(id, state.value), {"$set": values}))
        if before is not None:
            return dkim_key_of(name, before | values)
        found = await self._database.first(queries.dkim_key(id))
        if found is None:
            raise Refused(Reason.NO_SUCH_KEY)
        return dkim_key_of(name, found)

    async def remove_dkim_key(self, domain: str, selector: str) -> None:
        id = f"{await self._domain_id(domain_name(domain))} {dkim_selector(selector)}"
        if not await self._writes.run(self._database.delete(queries.dkim_key(id))):
            raise Refused(Reason.NO_SUCH_KEY)

    async def remove_domain(self, name: str) -> None:
        key = domain_name(name)
        id = await self._domain_id(key)
        await self._writes.run(self._remove_domain(key, id))

    async def _remove_domain(self, key: str, id: str) -> None:
        await self._names.remove_domain(key)
        await self._database.delete(queries.dkim_keys_of(id))

    async def _keys(self, name: str, id: str) -> tuple[DkimKey, ...]:
        found = await self._database.find(queries.dkim_keys_of(id))
        keys = [dkim_key_of(name, document) for document in found]
        return tuple(sorted(keys, key=lambda key: (key.created_at, key.selector)))

    async def _domain_id(self, name: str) -> str:
        document = await self._database.first(queries.domain(name))
        if document is None:
            raise Refused(Reason.NO_SUCH_DOMAIN)
        return str(document["id"])
