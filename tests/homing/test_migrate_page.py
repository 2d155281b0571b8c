"""docs/migrate.md shows commands that work, and the table that they print."""

from __future__ import annotations

import re
import shlex
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from homing.cli import app
from tests.mongo import dropped, mongo_url

from .conftest import ROOT
from .test_migrate import house

PAGE = (ROOT / "docs" / "migrate.md").read_text("utf-8")
COMMANDS = re.findall(r"^homing (migrate .*)$", PAGE, re.M)


def _rows(text: str) -> list[str]:
    """What the lines of a table are about."""
    found = (re.match(r" ?(\S.*?)\s+\S+\s+\S+\s+same *$", line) for line in text.splitlines())
    return [one[1] for one in found if one is not None]


@pytest.fixture
async def database() -> AsyncIterator[str]:
    url = mongo_url("mongodb")
    yield url
    await dropped(url)


def _run(words: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Result:
    monkeypatch.chdir(folder)
    return CliRunner().invoke(app, shlex.split(words))


async def test_the_commands_work_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str) -> None:
    await house(tmp_path / "data", 20)
    assert len(COMMANDS) == 3
    for words in COMMANDS:
        here = words.replace("mongodb://db.example.org/homing", database).replace("sqlite:/srv", f"sqlite:{tmp_path}")
        assert here != words or "mongodb" not in words
        done = _in_thread(here, monkeypatch, tmp_path)
        assert done.exit_code == 0, (here, done.output)
        assert _rows(done.stdout) == _rows(PAGE), done.stdout


def test_what_the_page_quotes_is_said() -> None:
    from identity.transfer import UNFINISHED as OF_IDENTITY
    from storage.transfer import UNFINISHED

    quoted = "The store is the target of an unfinished migration"
    assert quoted in PAGE
    assert UNFINISHED.startswith(quoted)
    assert OF_IDENTITY == UNFINISHED


def _in_thread(words: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Result:
    """The command has an event loop of its own, which a thread with one cannot have."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_run, words, monkeypatch, folder).result()
