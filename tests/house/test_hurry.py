"""What the quick suite does in another way comes to the same."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from runtime.sqlite import Migration, SchemaTooNew
from storage.adapters.sqlite.schema import MIGRATIONS
from tests.hurry import UTF8, Schemas, migrate

PAGE_SIZE = 8192


def opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
    connection.execute("PRAGMA journal_mode = WAL")
    return connection


def seen(connection: sqlite3.Connection) -> list[object]:
    pragmas = ("user_version", "page_size", "journal_mode", "foreign_keys", "encoding", "integrity_check")
    return [*connection.iterdump(), *(connection.execute(f"PRAGMA {pragma}").fetchall() for pragma in pragmas)]


def test_a_copied_schema_is_the_one_that_is_made(tmp_path: Path) -> None:
    made: list[str] = []

    def make(connection: sqlite3.Connection, migrations: Sequence[Migration], name: str) -> None:
        made.append(name)
        migrate(connection, migrations, name)

    schemas = Schemas(make)
    found = []
    for name in ("first", "second", "third"):
        connection = opened(tmp_path / name)
        schemas.migrate(connection, MIGRATIONS, name)
        found.append(seen(connection))
        connection.execute("CREATE TABLE later (x)")
        connection.close()
    assert made == ["first"]
    plain = opened(tmp_path / "plain")
    migrate(plain, MIGRATIONS, "plain")
    assert found == [seen(plain)] * 3
    plain.close()
    # A database that has something in it goes the server's own way.
    older = opened(tmp_path / "older")
    migrate(older, MIGRATIONS[:1], "older")
    schemas.migrate(older, MIGRATIONS, "older")
    assert seen(older) == found[0]
    with pytest.raises(SchemaTooNew):
        schemas.migrate(older, MIGRATIONS[:1], "older")
    older.close()
    assert made == ["first", "older", "older"]


def test_utf8_has_the_characters_that_hypothesis_is_told_of() -> None:
    (_, before), (after, last) = UTF8
    for first, end in UTF8:
        text = "".join(map(chr, range(first, end + 1)))
        assert text.encode().decode() == text
    assert "".join(map(chr, range(before + 1, after))).encode(errors="ignore") == b""
    assert last == sys.maxunicode
