"""Domains and aliases."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from identity.adapters.sqlite.base import Base
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

_DOMAIN = "id, name, catch_all, subaddress, created_at"


class Domains(Base):
    """domains, add_domain, update_domain, remove_domain; aliases, put_alias, remove_alias."""

    async def domains(self) -> tuple[Domain, ...]:
        return await self._read(
            lambda c: tuple(Domain(*row) for row in c.execute(f"SELECT {_DOMAIN} FROM domain ORDER BY key"))
        )

    async def add_domain(self, name: str, catch_all: str | None = None) -> Domain:
        key = domain_name(name)
        check_catch_all(catch_all)
        domain = Domain(new_id(), name, catch_all, created_at=self._clock.now())
        return await self._change(lambda c: _add(c, key, domain))

    async def update_domain(self, name: str, catch_all: str | None, subaddress: str) -> Domain:
        key = domain_name(name)
        check_catch_all(catch_all)
        check_subaddress(subaddress)

        def update(connection: sqlite3.Connection) -> tuple[Any, ...] | None:
            rows = connection.execute(
                f"UPDATE domain SET catch_all = ?, subaddress = ? WHERE key = ? RETURNING {_DOMAIN}",
                (catch_all, subaddress, key),
            ).fetchall()
            return rows[0] if rows else None

        row = await self._change(update)
        if row is None:
            raise Refused(Reason.NO_SUCH_DOMAIN)
        return Domain(*row)

    async def remove_domain(self, name: str) -> None:
        key = domain_name(name)
        await self._change(lambda c: _remove(c, key))

    async def aliases(self, domain: str | None = None, limit: int = 1000, after: str = "") -> tuple[Alias, ...]:
        among = None if domain is None else domain_name(domain)
        begin, rows = after_key(after), page(limit)
        found = await self._read(
            lambda c: c.execute(
                "SELECT address, targets FROM alias WHERE (?1 IS NULL OR domain = ?1) AND key > ?2"
                " ORDER BY key LIMIT ?3",
                (among, begin, rows),
            ).fetchall()
        )
        return tuple(Alias(address, tuple(json.loads(targets))) for address, targets in found)

    async def put_alias(self, alias: Alias) -> None:
        name = new_name(alias.address)
        targets = alias_targets(alias)
        await self._change(lambda c: _put(c, name, alias.address, targets))

    async def remove_alias(self, address: str) -> None:
        key = address_name(address).key
        if not await self._change(lambda c: c.execute("DELETE FROM alias WHERE key = ?", (key,)).rowcount):
            raise Refused(Reason.NO_SUCH_ALIAS)


def _add(connection: sqlite3.Connection, key: str, domain: Domain) -> Domain:
    (count,) = connection.execute("SELECT count(*) FROM domain").fetchone()
    if connection.execute("SELECT 1 FROM domain WHERE key = ?", (key,)).fetchone() is not None:
        raise Refused(Reason.ALREADY_EXISTS)
    if count >= MAX_DOMAINS:
        raise Refused(Reason.LIMIT, f"there are {MAX_DOMAINS} domains already")
    connection.execute(
        "INSERT INTO domain (id, key, name, catch_all, subaddress, created_at) VALUES (?, ?, ?, ?, ?, ?)",
        (domain.id, key, domain.name, domain.catch_all, domain.subaddress, domain.created_at),
    )
    return domain


def _remove(connection: sqlite3.Connection, key: str) -> None:
    if connection.execute("SELECT 1 FROM domain WHERE key = ?", (key,)).fetchone() is None:
        raise Refused(Reason.NO_SUCH_DOMAIN)
    (used,) = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM account WHERE domain = ?1 AND removed_at IS NULL)"
        " OR EXISTS (SELECT 1 FROM alias WHERE domain = ?1)",
        (key,),
    ).fetchone()
    if used:
        raise Refused(Reason.IN_USE, "accounts or aliases are in the domain")
    connection.execute("DELETE FROM domain WHERE key = ?", (key,))


def _put(connection: sqlite3.Connection, name: Name, address: str, targets: tuple[str, ...]) -> None:
    if connection.execute("SELECT 1 FROM domain WHERE key = ?", (name.domain,)).fetchone() is None:
        raise Refused(Reason.NO_SUCH_DOMAIN)
    taken = connection.execute("SELECT 1 FROM account WHERE key = ? AND removed_at IS NULL", (name.key,)).fetchone()
    if taken is not None:
        raise Refused(Reason.ALREADY_EXISTS, "an account has the address")
    connection.execute(
        "INSERT INTO alias (key, domain, address, targets) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (key) DO UPDATE SET address = excluded.address, targets = excluded.targets",
        (name.key, name.domain, address, json.dumps(targets)),
    )
