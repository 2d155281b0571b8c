"""What the doors ask about names: is it ours, where does it lead, who may send as it. Nothing is remembered: what any
process changed holds in the next answer of all."""

from __future__ import annotations

import asyncio

from identity.adapters.mongo import queries
from identity.adapters.mongo.base import Base
from identity.adapters.mongo.database import Database
from identity.adapters.mongo.documents import holder_of
from identity.arguments import address_name
from identity.limits import MAX_WAIT
from identity.model import Changes, Resolution
from identity.names import BadName, Name, domain_key, without_detail
from identity.port import Reason, Refused
from identity.resolve import Holder, Rule, TooWide, recipient, resolve
from runtime.mongo import Document

KEYS_AT_ONCE = 1000
# The character that most domains have, asked for ahead of the domain's own rule.
_USUAL_SEPARATOR = "+"


class Questions(Base):
    """domain_exists, resolve, may_send_as, changes_since."""

    async def domain_exists(self, domain: str) -> bool:
        try:
            key = domain_key(domain)
        except BadName:
            return False
        return await self._database.first(queries.domain(key)) is not None

    async def resolve(self, address: str) -> Resolution:
        try:
            name = recipient(address, self._settings.default_domain)
        except BadName as error:
            raise Refused(Reason.BAD_ADDRESS, str(error)) from None
        return await self._resolve(name)

    async def may_send_as(self, account: str, address: str) -> bool:
        resolution = await self._resolve(address_name(address), catch_all=False)
        return any(target.account == account for target in resolution.local)

    async def changes_since(self, seq: int, wait: float) -> Changes:
        return await self._news.since(seq, min(wait, MAX_WAIT))

    async def _resolve(self, name: Name, *, catch_all: bool = True) -> Resolution:
        read = Read(name)
        while True:
            # Each round reads one level of aliases, all its names at once, and then goes the way again from its start.
            await read.fetch(self._database)
            try:
                resolution = resolve(name, read, catch_all=catch_all)
            except TooWide:
                if read.is_whole:
                    raise Refused(Reason.LIMIT, "the address leads to too many others") from None
                continue
            if read.is_whole:
                return resolution


class Read:
    """The `resolve.Directory` of what was read for one question. What was not is noted, and said to be unknown."""

    def __init__(self, name: Name) -> None:
        self._domains: dict[str, Rule | None] = {}
        self._names: dict[str, Document | None] = {}
        self._administrator: list[Holder | None] = []
        # Asked for ahead, all in one go: who most addresses lead to.
        self._no_domains: set[str] = {name.domain}
        self._no_names: set[str] = {name.key}
        if (cut := without_detail(name, _USUAL_SEPARATOR)) is not None:
            self._no_names.add(cut[0].key)
        self._no_administrator = False

    @property
    def is_whole(self) -> bool:
        """Was all that was asked read?"""
        return not (self._no_domains or self._no_names or self._no_administrator)

    async def fetch(self, database: Database) -> None:
        """Read what was missed."""
        domains, names = sorted(self._no_domains), sorted(self._no_names)
        shapes = [queries.domains_of(domains[at : at + KEYS_AT_ONCE]) for at in range(0, len(domains), KEYS_AT_ONCE)]
        shapes += [queries.named_any(names[at : at + KEYS_AT_ONCE]) for at in range(0, len(names), KEYS_AT_ONCE)]
        if self._no_administrator:
            shapes.append(queries.administrators(1))
        found = await asyncio.gather(*(database.find(shape) for shape in shapes))
        self._domains |= dict.fromkeys(domains)
        self._names |= dict.fromkeys(names)
        if self._no_administrator:
            self._administrator = [None]
        for shape, documents in zip(shapes, found, strict=True):
            for document in documents:
                if shape.collection == queries.DOMAINS:
                    self._domains[document["_id"]] = Rule(document["catch_all"], document["subaddress"])
                elif shape.index == "admin":
                    self._administrator = [holder_of(document)]
                else:
                    self._names[document["key"]] = document
        self._no_domains, self._no_names, self._no_administrator = set(), set(), False

    def rule(self, domain: str) -> Rule | None:
        if domain not in self._domains:
            self._no_domains.add(domain)
        return self._domains.get(domain)

    def holder(self, key: str) -> Holder | None:
        document = self._name(key)
        return holder_of(document) if document is not None and document["kind"] == queries.ACCOUNT else None

    def targets(self, key: str) -> tuple[str, ...] | None:
        document = self._name(key)
        return tuple(document["targets"]) if document is not None and document["kind"] == queries.ALIAS else None

    def administrator(self) -> Holder | None:
        self._no_administrator = not self._administrator
        return self._administrator[0] if self._administrator else None

    def _name(self, key: str) -> Document | None:
        if key not in self._names:
            self._no_names.add(key)
        return self._names.get(key)
