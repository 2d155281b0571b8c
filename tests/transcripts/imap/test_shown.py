"""Each command of the table and each capability that may be told has its dialogue."""

from __future__ import annotations

from pathlib import Path

from tests.transcripts.imap.shown import TABLE, advertised, shown

SHOWN = [one for path in sorted(Path(__file__).parent.glob("*.txt")) for one in shown(path)]


def test_every_command_has_its_dialogue() -> None:
    assert set(TABLE) - {one.command for one in SHOWN} == set()


def test_every_capability_has_its_dialogue() -> None:
    assert advertised() - {name for one in SHOWN for name in one.capabilities} == set()


def test_what_is_advertised_is_all_of_it() -> None:
    some = {"IMAP4rev2", "STARTTLS", "LOGINDISABLED", "AUTH=SCRAM-SHA-256", "APPENDLIMIT", "MESSAGELIMIT", "QUOTASET"}
    assert advertised() > some
