"""LIST's wildcards: what they mean, and that no pattern is slow."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imap.commands.pattern import MailboxPattern, Pattern
from tests.hurry import examples


@pytest.mark.parametrize(
    ("reference", "pattern", "name", "matches"),
    [
        ("", "*", "a/b/c", True),
        ("", "%", "a", True),
        ("", "%", "a/b", False),
        ("", "%/%", "a/b", True),
        ("", "*%", "a/b", True),
        ("", "a*c", "a/b/c", True),
        ("", "a%c", "a/b/c", False),
        ("a/", "%", "a/b", True),
        ("", "inbox", "INBOX", True),
        ("", "InB%", "INBOX", True),
        ("", "inbox/%", "INBOX/x", True),
        ("", "inboxes", "INBOXES", False),
        ("", "WORK", "Work", False),
        ("", "a.c", "abc", False),
        ("", "", "", True),
        ("", "Grü%", "Grüße", True),
    ],
)
def test_examples(reference: str, pattern: str, name: str, matches: bool) -> None:
    assert MailboxPattern(reference, pattern).matches(name) is matches


@given(st.text("ab/*%", max_size=12), st.text("ab/", max_size=12))
@settings(max_examples=examples(200))
def test_like_the_regular_expression(pattern: str, name: str) -> None:
    expression = "".join({"*": ".*", "%": "[^/]*"}.get(char, re.escape(char)) for char in pattern)
    assert Pattern(pattern).matches(name) == (re.fullmatch(expression, name) is not None)


def test_no_pattern_is_slow() -> None:
    name = "a" * 1024
    for text in ("%a" * 500 + "b", "*a%" * 300 + "b", "*" * 8000 + "b", "x" * 60_000):
        begin = time.process_time()
        pattern = Pattern(text)
        assert not pattern.matches(name)
        # A search that goes back over its choices would not end at all.
        assert time.process_time() - begin < 5


def test_what_only_looks_like_inbox_is_not() -> None:
    for pattern in ("\u0131nbox", "\u0131*", "\u0131nbox/%"):
        assert not MailboxPattern("", pattern).matches("INBOX")
        assert not MailboxPattern("", pattern).matches("INBOX/a")
