"""What the doors ask about names: is it ours, where does it lead, who may send as it."""

from __future__ import annotations

import asyncio
import json
import sqlite3

from identity.adapters.sqlite.base import REMEMBERED_TARGETS, Base
from identity.adapters.sqlite.memo import MISSING
from identity.adapters.sqlite.rows import Tables, find
from identity.arguments import address_name
from identity.limits import CHANGES_AT_ONCE, MAX_WAIT
from identity.model import Account, Change, ChangeKind, Changes, Resolution
from identity.names import BadName, Name, domain_key
from identity.port import Reason, Refused
from identity.resolve import TooWide, recipient, resolve


class Questions(Base):
    """domain_exists, resolve, may_send_as, account, changes_since."""

    async def domain_exists(self, domain: str) -> bool:
        known = self._ours.get(domain)
        if known is not MISSING:
            return known
        generation = self._ours.generation
        try:
            key = domain_key(domain)
        except BadName:
            return False
        exists = await self._read(lambda c: Tables(c).rule(key) is not None)
        self._ours.put(domain, exists, generation)
        return exists

    async def resolve(self, address: str) -> Resolution:
        known = self._resolved.get(address)
        if known is not MISSING:
            return known
        generation = self._resolved.generation
        try:
            name = recipient(address, self._settings.default_domain)
        except BadName as error:
            raise Refused(Reason.BAD_ADDRESS, str(error)) from None
        resolution = await self._read(lambda c: _resolve(c, name))
        if len(resolution.local) + len(resolution.remote) <= REMEMBERED_TARGETS:
            self._resolved.put(address, resolution, generation)
        return resolution

    async def may_send_as(self, account: str, address: str) -> bool:
        asked = (account, address)
        known = self._senders.get(asked)
        if known is not MISSING:
            return known
        generation = self._senders.generation
        name = address_name(address)
        resolution = await self._read(lambda c: _resolve(c, name, catch_all=False))
        may = any(target.account == account for target in resolution.local)
        self._senders.put(asked, may, generation)
        return may

    async def account(self, account: str) -> Account:
        return await self._read(lambda c: find(c, account))

    async def changes_since(self, seq: int, wait: float) -> Changes:
        deadline = asyncio.get_running_loop().time() + min(wait, MAX_WAIT)
        while True:
            # Taken before the look, so that what commits after it is heard.
            news = self._news
            changes = await self._read(lambda c: _changes(c, seq))
            left = deadline - asyncio.get_running_loop().time()
            if seq <= 0 or changes.changes or changes.reset or left <= 0 or self._closed:
                return changes
            try:
                await asyncio.wait_for(news.wait(), left)
            except TimeoutError:
                return changes


def _resolve(connection: sqlite3.Connection, name: Name, *, catch_all: bool = True) -> Resolution:
    try:
        return resolve(name, Tables(connection), catch_all=catch_all)
    except TooWide:
        raise Refused(Reason.LIMIT, "the address leads to too many others") from None


def _changes(connection: sqlite3.Connection, seq: int) -> Changes:
    (present,) = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'change'").fetchone()
    if seq <= 0:
        return Changes(present, ())
    (oldest,) = connection.execute("SELECT min(seq) FROM change").fetchone()
    if seq > present or seq + 1 < (present + 1 if oldest is None else oldest):
        # Older than the history, or of another store (one put back from a copy).
        return Changes(present, (), reset=True)
    rows = connection.execute(
        "SELECT seq, account, kind, revoked FROM change WHERE seq > ? ORDER BY seq LIMIT ?", (seq, CHANGES_AT_ONCE)
    ).fetchall()
    changes = tuple(
        Change(at, account, ChangeKind(kind), tuple(json.loads(revoked))) for at, account, kind, revoked in rows
    )
    return Changes(changes[-1].seq if changes else seq, changes)
