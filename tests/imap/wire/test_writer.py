"""Responses, byte for byte."""

from __future__ import annotations

import time

import pytest

from imap.wire import writer
from imap.wire.numset import Ranges
from mail.flags import ALL, ANSWERED, SEEN


def test_status_lines() -> None:
    assert writer.tagged("a", "OK", "done") == b"a OK done\r\n"
    assert writer.tagged("a", "NO", "no such", "TRYCREATE") == b"a NO [TRYCREATE] no such\r\n"
    assert writer.untagged("BYE", "so\r\nlong", "ALERT") == b"* BYE [ALERT] so??long\r\n"
    assert writer.untagged("BAD", "[x") == b"* BAD x\r\n"
    assert writer.untagged("OK", "") == b"* OK .\r\n"
    assert len(writer.tagged("a", "BAD", "é" * 5000)) < 1000
    assert writer.continuation() == b"+ \r\n"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", b'""'),
        ("abc", b"abc"),
        ("a b", b'"a b"'),
        ('a"\\', b'"a\\"\\\\"'),
        ("nil", b'"nil"'),
        ("é", b"{2}\r\n\xc3\xa9"),
        (b"a\r\nb", b"{4}\r\na\r\nb"),
        ("x" * 1001 + "(", b"{1002}\r\n" + b"x" * 1001 + b"("),
    ],
)
def test_astring(value: str | bytes, expected: bytes) -> None:
    assert writer.astring(value) == expected


def test_strings() -> None:
    assert writer.string("abc") == b'"abc"'
    assert writer.nstring(None) == b"NIL"
    assert writer.nstring("NIL") == b'"NIL"'
    assert writer.mailbox("Entwürfe") == b"Entw&APw-rfe"
    assert writer.mailbox("a b") == b'"a b"'


def test_lines() -> None:
    assert writer.data(b"FLAGS ()") == b"* FLAGS ()\r\n"
    assert writer.numbered(3, b"EXISTS") == b"* 3 EXISTS\r\n"
    assert writer.expunges([5, 3]) == b"* 5 EXPUNGE\r\n* 3 EXPUNGE\r\n"
    assert writer.search([]) == b"* SEARCH\r\n"
    assert writer.search([1, 20]) == b"* SEARCH 1 20\r\n"
    assert writer.capability(["IMAP4rev1", "IDLE"]) == b"* CAPABILITY IMAP4rev1 IDLE\r\n"
    assert writer.list_line("LIST", ["\\HasNoChildren"], "a b") == b'* LIST (\\HasNoChildren) "/" "a b"\r\n'
    assert writer.list_line("LSUB", [], "x", None) == b"* LSUB () NIL x\r\n"
    assert writer.status("INBOX", [("MESSAGES", 3), ("UIDNEXT", 9)]) == b"* STATUS INBOX (MESSAGES 3 UIDNEXT 9)\r\n"
    assert writer.identification(None) == b"* ID NIL\r\n"
    assert writer.identification([("name", "Homing"), ("os", None)]) == b'* ID ("name" "Homing" "os" NIL)\r\n'


def test_codes() -> None:
    assert writer.code_appenduid(7, [1, 2, 3, 9]) == "APPENDUID 7 1:3,9"
    assert writer.code_copyuid(7, ((1, 3),), Ranges.numbers([8, 9, 11]).ranges) == "COPYUID 7 1:3 8:9,11"


def test_flags() -> None:
    assert writer.flags(0) == b"()"
    assert writer.flags(SEEN | ANSWERED) == b"(\\Answered \\Seen)"
    assert writer.flags(0, ("a", "b")) == b"(a b)"
    assert writer.flags(SEEN, ("a",), recent=True) == b"(\\Seen \\Recent a)"
    assert writer.flag_list(["\\Seen", "x"]) == b"(\\Seen x)"


def test_ten_thousand_flags_are_quick() -> None:
    rows = [(n, n + 5, n & ALL, ("work",) if n % 3 == 0 else (), n % 7 == 0) for n in range(1, 10_001)]
    times = []
    for _ in range(5):
        began = time.process_time()
        octets = writer.fetch_flags(rows, with_uid=True)
        times.append(time.process_time() - began)
    # 5 ms on a quiet machine; the bound allows for a busy one
    assert min(times) < 0.05
    assert octets.count(b"\r\n") == 10_000
    assert octets.startswith(b"* 1 FETCH (UID 6 FLAGS (\\Seen))\r\n* 2 FETCH (UID 7 FLAGS (\\Answered))\r\n")
    assert writer.fetch_flags([(1, 9, 0, (), True)], with_uid=False) == b"* 1 FETCH (FLAGS (\\Recent))\r\n"


def test_threads() -> None:
    def written(heads: list[int], children: dict[int, list[int]]) -> bytes:
        # nodes from 100 on are dummies
        return b"".join(writer.thread(heads, children, lambda node: node if node < 100 else 0))

    assert written([], {}) == b"* THREAD\r\n"
    # RFC 5256 §4
    below = {3: [6], 6: [4, 44], 4: [23], 44: [7], 7: [96]}
    assert written([2, 3], below) == b"* THREAD (2)(3 6 (4 23)(44 7 96))\r\n"
    assert written([100], {100: [3, 5]}) == b"* THREAD ((3)(5))\r\n"
    assert written([100, 9], {100: [3, 5], 3: [4]}) == b"* THREAD ((3 4)(5))(9)\r\n"
    chain = {n: [n + 1] for n in range(1, 99)}
    assert written([1], chain) == b"* THREAD (%b)\r\n" % b" ".join(b"%d" % n for n in range(1, 100))


def test_results_of_extended_searches() -> None:
    assert writer.esearch("a1", False, []) == b'* ESEARCH (TAG "a1")\r\n'
    assert writer.esearch("a1", True, [b"MIN 2", b"COUNT 3"]) == b'* ESEARCH (TAG "a1") UID MIN 2 COUNT 3\r\n'
