"""GETQUOTA, GETQUOTAROOT and SETQUOTA (RFC 9208 §7)."""

from __future__ import annotations

from imap.wire.errors import BadSyntax
from imap.wire.forms import GetQuota, OnMailbox, SetQuota
from imap.wire.tokens import Scanner

LARGEST = 2**63 - 1
"""The largest limit and usage (RFC 9208 §7: number64)."""


def parse_get_quota(scanner: Scanner) -> GetQuota:
    """``root``."""
    scanner.space()
    return GetQuota(scanner.text("a quota root"))


def parse_get_quota_root(scanner: Scanner) -> OnMailbox:
    """``mailbox``."""
    scanner.space()
    return OnMailbox(scanner.mailbox())


def parse_set_quota(scanner: Scanner) -> SetQuota:
    """``root (STORAGE 512 MESSAGE 100)``, or ``root ()``."""
    scanner.space()
    root = scanner.text("a quota root")
    scanner.space()
    limits = scanner.parenthesised(lambda: _limit(scanner), empty=True)
    if len({name for name, _ in limits}) < len(limits):
        raise BadSyntax("a resource stands there twice")
    return SetQuota(root, tuple(limits))


def _limit(scanner: Scanner) -> tuple[str, int]:
    name = scanner.word("the name of a resource")
    scanner.space()
    return name, scanner.number("a limit", LARGEST)
