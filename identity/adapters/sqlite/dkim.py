"""DKIM keys of our domains."""

from __future__ import annotations

import sqlite3
from functools import partial
from typing import Any

from identity.adapters.sqlite.base import Base
from identity.arguments import dkim_selector, domain_name
from identity.dkim import make_pair, new_selector
from identity.limits import MAX_DKIM_KEYS
from identity.model import DkimAlgorithm, DkimKey, DkimState
from identity.port import Reason, Refused

_KEY = "selector, algorithm, private_key, public_key, state, created_at, changed_at"


class DkimKeys(Base):
    """dkim_keys, add_dkim_key, set_dkim_state, remove_dkim_key."""

    async def dkim_keys(self, domain: str) -> tuple[DkimKey, ...]:
        name = domain_name(domain)
        return await self._read(lambda c: _keys(c, name))

    async def add_dkim_key(
        self, domain: str, algorithm: DkimAlgorithm, state: DkimState = DkimState.PUBLISHED
    ) -> DkimKey:
        name = domain_name(domain)
        # Asked before the key is made, which costs most.
        await self._read(lambda c: _room(c, name))
        pair, now = await make_pair(algorithm), self._clock.now()
        while True:
            selector = new_selector(algorithm, now)
            key = DkimKey(name, selector, algorithm, pair.private_key, pair.public_key, state, now, now)
            if await self._write(partial(_add, key=key)):
                return key

    async def set_dkim_state(self, domain: str, selector: str, state: DkimState) -> DkimKey:
        name, now = domain_name(domain), self._clock.now()
        return await self._write(lambda c: _set(c, name, dkim_selector(selector), state, now))

    async def remove_dkim_key(self, domain: str, selector: str) -> None:
        name = domain_name(domain)
        await self._write(lambda c: _remove(c, name, dkim_selector(selector)))


def _domain(connection: sqlite3.Connection, name: str) -> str:
    row = connection.execute("SELECT id FROM domain WHERE key = ?", (name,)).fetchone()
    if row is None:
        raise Refused(Reason.NO_SUCH_DOMAIN)
    return str(row[0])


def _keys(connection: sqlite3.Connection, name: str) -> tuple[DkimKey, ...]:
    rows = connection.execute(
        f"SELECT {_KEY} FROM dkim_key WHERE domain = ? ORDER BY created_at, selector", (_domain(connection, name),)
    )
    return tuple(_key_of(name, row) for row in rows)


def _key_of(name: str, row: tuple[Any, ...]) -> DkimKey:
    selector, algorithm, private, public, state, created_at, changed_at = row
    return DkimKey(name, selector, DkimAlgorithm(algorithm), private, public, DkimState(state), created_at, changed_at)


def _room(connection: sqlite3.Connection, name: str) -> str:
    """The domain's id, when it may have one more."""
    id = _domain(connection, name)
    (count,) = connection.execute("SELECT count(*) FROM dkim_key WHERE domain = ?", (id,)).fetchone()
    if count >= MAX_DKIM_KEYS:
        raise Refused(Reason.LIMIT, f"the domain has {MAX_DKIM_KEYS} DKIM keys already")
    return id


def _add(connection: sqlite3.Connection, key: DkimKey) -> bool:
    """Whether it was added: False where another key has the selector."""
    id = _room(connection, key.domain)
    added = connection.execute(
        f"INSERT INTO dkim_key (id, domain, {_KEY}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        (
            f"{id} {key.selector}",
            id,
            key.selector,
            key.algorithm.value,
            key.private_key,
            key.public_key,
            key.state.value,
            key.created_at,
            key.changed_at,
        ),
    )
    return added.rowcount > 0


def _set(connection: sqlite3.Connection, name: str, selector: str, state: DkimState, now: float) -> DkimKey:
    id = f"{_domain(connection, name)} {selector}"
    connection.execute(
        "UPDATE dkim_key SET state = ?, changed_at = ? WHERE id = ? AND state <> ?", (state.value, now, id, state.value)
    )
    row = connection.execute(f"SELECT {_KEY} FROM dkim_key WHERE id = ?", (id,)).fetchone()
    if row is None:
        raise Refused(Reason.NO_SUCH_KEY)
    return _key_of(name, row)


def _remove(connection: sqlite3.Connection, name: str, selector: str) -> None:
    id = f"{_domain(connection, name)} {selector}"
    if not connection.execute("DELETE FROM dkim_key WHERE id = ?", (id,)).rowcount:
        raise Refused(Reason.NO_SUCH_KEY)
