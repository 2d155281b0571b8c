"""The list of what RFC 9051 requires names tests that are there, or says why there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))
try:
    import rfc9051
finally:
    sys.path.pop(0)

LIST = rfc9051.read(ROOT / "docs" / "rfc9051.toml")


def test_the_list_is_sound() -> None:
    assert list(rfc9051.faults(LIST, ROOT)) == []


def test_all_chapters_are_there() -> None:
    assert {one.section[0] for one in LIST} == set("234567")
    assert len(LIST) > 200


def test_counts_are_at_the_head() -> None:
    head = (ROOT / "docs" / "rfc.md").read_text("utf-8").partition("\n## ")[0]
    assert rfc9051.counts(LIST) in head


HERE = "tests/house/test_rfc9051.py::test_the_list_is_sound"
DIALOGUE = "tests/transcripts/imap/any_state.txt"


@pytest.mark.parametrize(
    ("section", "keyword", "tests", "reason", "fault"),
    [
        ("6.1.1", "MUST", (HERE + "[a-b]", DIALOGUE + "#a1 a2"), "", ""),
        ("6.1.1", "MUST NOT", (), "client", ""),
        ("8", "MUST", (HERE,), "", "not a section"),
        ("6.1.1", "SHOULD", (HERE,), "", "no keyword"),
        ("6.1.1", "MUST", (), "", "or a reason"),
        ("6.1.1", "MUST", (HERE,), "client", "or a reason"),
        ("6.1.1", "MUST", (), "missing:", "is no reason"),
        ("6.1.1", "MUST", (HERE + "x",), "", "there is no"),
        ("6.1.1", "MUST", ("tests/nowhere.py::test_x",), "", "there is no"),
        ("6.1.1", "MUST", (DIALOGUE + "#a1 z9",), "", "there is no"),
        ("6.1.1", "MUST", (DIALOGUE,), "", "there is no"),
    ],
)
def test_what_is_wrong_is_found(section: str, keyword: str, tests: tuple[str, ...], reason: str, fault: str) -> None:
    one = rfc9051.Requirement(section, keyword, "x", tests, reason)
    found = list(rfc9051.faults([one], ROOT))
    assert (len(found) == 1 and fault in found[0]) if fault else found == []


def test_order_and_repeats_are_looked_at() -> None:
    one = rfc9051.Requirement("6.10", "MUST", "x", reason="client")
    earlier = rfc9051.Requirement("6.9", "MUST", "x", reason="client")
    assert "twice" in next(rfc9051.faults([one, one], ROOT))
    assert "out of order" in next(rfc9051.faults([one, earlier], ROOT))
