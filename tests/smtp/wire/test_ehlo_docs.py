"""docs/smtp.md shows the EHLO table as it is."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path

from smtp.wire.ehlo import EXTENSIONS, Extension

PAGE = Path(__file__).resolve().parents[3] / "docs" / "smtp.md"


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in sorted(words))


def _row(one: Extension) -> list[str]:
    return [one.keyword, one.where, _code(one.mail), _code(one.rcpt), _code(one.commands), f"`{one.by}`"]


def test_the_page_has_the_table() -> None:
    lines = PAGE.read_text("utf-8").splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("| keyword |")) + 2
    shown = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start : start + len(EXTENSIONS)]]
    assert shown == [_row(one) for one in EXTENSIONS]
    assert not lines[start + len(EXTENSIONS)].startswith("|")


def test_who_does_it_is_there() -> None:
    for one in EXTENSIONS:
        importlib.import_module(one.by)
