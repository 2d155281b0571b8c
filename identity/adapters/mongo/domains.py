"""Domains and aliases."""

from __future__ import annotations

from identity.adapters.mongo import queries
from identity.adapters.mongo.base import Base
from identity.adapters.mongo.database import Race
from identity.adapters.mongo.documents import alias_document, alias_of, domain_document, domain_of
from identity.arguments import (
    address_name,
    after_key,
    alias_targets,
    check_catch_all,
    check_subaddress,
    domain_name,
    new_name,
    page,
)
from identity.limits import MAX_DOMAINS
from identity.model import Alias, Domain
from identity.names import Name
from identity.port import Reason, Refused
from identity.tokens import new_id


class Domains(Base):
    """domains, add_domain, update_domain; aliases, put_alias, remove_alias."""

    async def domains(self) -> tuple[Domain, ...]:
        return tuple(domain_of(document) for document in await self._database.find(queries.all_domains()))

    async def add_domain(self, name: str, catch_all: str | None = None) -> Domain:
        key = domain_name(name)
        check_catch_all(catch_all)
        domain = Domain(new_id(), name, catch_all, created_at=self._clock.now())
        # About so many: processes that add at the same moment may go past it by one each.
        if await self._database.count(queries.DOMAINS) >= MAX_DOMAINS:
            if await self._database.first(queries.domain(key)) is not None:
                raise Refused(Reason.ALREADY_EXISTS)
            raise Refused(Reason.LIMIT, f"there are {MAX_DOMAINS} domains already")
        known = await self._writes.run(self._database.insert(queries.DOMAINS, [domain_document(key, domain)]))
        if known:
            raise Refused(Reason.ALREADY_EXISTS)
        return domain

    async def update_domain(self, name: str, catch_all: str | None, subaddress: str) -> Domain:
        key = domain_name(name)
        check_catch_all(catch_all)
        check_subaddress(subaddress)
        values = {"catch_all": catch_all, "subaddress": subaddress}
        before = await self._writes.run(self._database.swap(queries.domain(key), {"$set": values}))
        if before is None:
            raise Refused(Reason.NO_SUCH_DOMAIN)
        return domain_of(before | values)

    async def aliases(self, domain: str | None = None, limit: int = 1000, after: str = "") -> tuple[Alias, ...]:
        among = None if domain is None else domain_name(domain)
        shape = queries.page_of(queries.ALIAS, among, after_key(after), page(limit))
        return tuple(alias_of(document) for document in await self._database.find(shape))

    async def put_alias(self, alias: Alias) -> None:
        name = new_name(alias.address)
        await self._writes.run(self._put(name, alias.address, alias_targets(alias)))

    async def _put(self, name: Name, address: str, targets: tuple[str, ...]) -> None:
        race = Race()
        while True:
            # A domain with an alias in it is not removed, so one that is replaced needs no look at it.
            values = {"address": address, "targets": list(targets)}
            if await self._database.update(queries.named_as(name.key, queries.ALIAS), {"$set": values}):
                return
            (refused,) = await self._names.take([alias_document(name, address, targets, self._clock.now())])
            if refused is None:
                return
            if refused.reason is not Reason.ALREADY_EXISTS:
                raise refused
            holder = await self._database.first(queries.named(name.key))
            if holder is not None and holder["kind"] == queries.ACCOUNT:
                raise Refused(Reason.ALREADY_EXISTS, "an account has the address")
            # An alias that another process made, or has removed, meanwhile.
            await race.lost()

    async def remove_alias(self, address: str) -> None:
        key = address_name(address).key
        if not await self._writes.run(self._database.delete(queries.named_as(key, queries.ALIAS))):
            raise Refused(Reason.NO_SUCH_ALIAS)
