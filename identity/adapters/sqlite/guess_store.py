"""Guess counters and usual devices in identity.db."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from identity import guesspolicy as policy
from identity.guesses import Charge, Standing
from identity.guesspolicy import Counter
from identity.limits import MAX_COUNTERS, MAX_DEVICES
from identity.port import Unavailable
from runtime.sqlite import Database, DatabaseUnavailable

_SWEPT = 20
# Charges between two looks at how many there are.
_LOOKED = 256


class SqliteGuessStore:
    """The `guesses.GuessStore` of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._charges = 0

    async def standing(self, keys: Sequence[str], name: str, place: str) -> Standing:
        def read(connection: sqlite3.Connection) -> Standing:
            counters = {}
            for key in keys:
                row = connection.execute("SELECT level, at FROM guess_counter WHERE key = ?", (key,)).fetchone()
                if row is not None:
                    counters[key] = Counter(*row)
            seen = connection.execute(
                "SELECT seen_at FROM usual_device WHERE name = ? AND place = ?", (name, place)
            ).fetchone()
            return Standing(counters, None if seen is None else seen[0])

        try:
            return await self._database.read(read)
        except DatabaseUnavailable as error:
            raise Unavailable(str(error)) from error

    async def charge(self, charges: Sequence[Charge], now: float) -> None:
        if charges:
            self._charges += 1
            full = self._charges % _LOOKED == 0
            await self._write(lambda c: _charge(c, charges, now, full=full))

    async def remember(self, name: str, place: str, now: float) -> None:
        await self._write(lambda c: _remember(c, name, place, now))

    async def _write(self, job: Callable[[sqlite3.Connection], None]) -> None:
        try:
            await self._database.write(job)
        except DatabaseUnavailable as error:
            raise Unavailable(str(error)) from error


def _charge(connection: sqlite3.Connection, charges: Sequence[Charge], now: float, *, full: bool) -> None:
    for charge in charges:
        row = connection.execute("SELECT level, at FROM guess_counter WHERE key = ?", (charge.key,)).fetchone()
        counter = policy.charged(None if row is None else Counter(*row), charge.rule, now, charge.weight)
        connection.execute(
            "INSERT INTO guess_counter (key, level, at, forgotten_at) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE"
            " SET level = excluded.level, at = excluded.at, forgotten_at = excluded.forgotten_at",
            (charge.key, counter.level, counter.at, policy.forgotten_at(counter, charge.rule)),
        )
    connection.execute(
        "DELETE FROM guess_counter WHERE key IN"
        " (SELECT key FROM guess_counter WHERE forgotten_at <= ? ORDER BY forgotten_at LIMIT ?)",
        (now, _SWEPT),
    )
    if full:
        connection.execute(
            "DELETE FROM guess_counter WHERE key IN"
            " (SELECT key FROM guess_counter ORDER BY forgotten_at DESC LIMIT -1 OFFSET ?)",
            (MAX_COUNTERS,),
        )


def _remember(connection: sqlite3.Connection, name: str, place: str, now: float) -> None:
    connection.execute(
        "INSERT INTO usual_device (name, place, seen_at) VALUES (?, ?, ?)"
        " ON CONFLICT (name, place) DO UPDATE SET seen_at = excluded.seen_at",
        (name, place, now),
    )
    connection.execute(
        "DELETE FROM usual_device WHERE name = ?1 AND place IN"
        " (SELECT place FROM usual_device WHERE name = ?1 ORDER BY seen_at DESC LIMIT -1 OFFSET ?2)",
        (name, MAX_DEVICES),
    )
    connection.execute(
        "DELETE FROM usual_device WHERE (name, place) IN"
        " (SELECT name, place FROM usual_device WHERE seen_at <= ? ORDER BY seen_at LIMIT ?)",
        (now - policy.USUAL_SECONDS, _SWEPT),
    )
