"""What clients ask for in their lists of messages, as docs/imap-clients.md tells it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from imap.commands import sections
from imap.wire.forms import Section
from mail import headers
from storage.model import Want

_DOCUMENT = Path(__file__).parents[3] / "docs" / "imap-clients.md"
_PAGE = _DOCUMENT.read_text("utf-8").partition("\n## Lists of messages")[2]
_ROW = re.compile(r"^\| ([^|]+) \| `([^`]+)` \|$", re.MULTILINE)
_HEADING = "| client | asks for, besides |"
KEPT = {client: fields.split() for client, fields in _ROW.findall(_PAGE.partition(_HEADING)[0])}
MORE = {client: fields.split() for client, fields in _ROW.findall(_PAGE.partition(_HEADING)[2])}


def test_the_page_names_them() -> None:
    assert len(KEPT) == 7
    assert len(MORE) == 3


@pytest.mark.parametrize("client", KEPT)
def test_a_list_is_made_of_what_is_kept_beside_the_messages(client: str) -> None:
    section = Section(True, (), "HEADER.FIELDS", tuple(KEPT[client]), None, b"")
    assert sections.from_usual(section)
    assert sections.wants(section) == Want.HEADERS | Want.PREFIX
    assert sections.column(section) is not None


def test_nothing_is_kept_that_nobody_asks_for() -> None:
    asked = {field.upper().encode() for fields in KEPT.values() for field in fields}
    # Which of several addresses a message came to, and how much it matters, are for lists of less known clients.
    assert set(headers.USUAL) - asked == {b"DELIVERED-TO", b"IMPORTANCE"}


@pytest.mark.parametrize("client", MORE)
def test_what_others_ask_for_besides_is_not_kept(client: str) -> None:
    assert not any(headers.is_usual(field.encode()) for field in MORE[client])
