"""How much of a client's words is taken: named limits, checked before memory is."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class WireLimits:
    """All in octets. `line`: one line with its line end. `literal`: one literal that is kept in the command.
    `command`: a command with all its lines and kept literals. `message`: one streamed literal (APPEND). `discard`: how
    much of a refused line or non-synchronizing literal is read and dropped before the answer; above it the connection
    ends (RFC 7888 §4).
    """

    line: int
    literal: int
    command: int
    message: int
    discard: int = MIB


BEFORE_SIGN_IN = WireLimits(line=8 * KIB, literal=8 * KIB, command=16 * KIB, message=8 * KIB)
SIGNED_IN = WireLimits(line=64 * KIB, literal=64 * KIB, command=256 * KIB, message=50 * MIB)

SEARCH_DEPTH = 100
"""Nesting of parentheses, NOT and OR in SEARCH."""
SECTION_DEPTH = 64
"""Numbers in a section's part path."""
LIST_ITEMS = 1000
"""Members of any parenthesised list: flags, FETCH items, header field names, STATUS items, ID fields."""
NOTIFY_GROUPS = 50
"""Groups of events in one NOTIFY."""
NOTIFY_NAMES = 1000
"""Names of mailboxes in all of them."""
LIST_ENTRIES = 100
"""Entries of METADATA in one LIST."""
LIST_PATTERNS = 100
"""Patterns in one LIST."""
MODSEQ_MAX = 2**63 - 1
"""The largest modification sequence (RFC 7162 §7)."""
SEARCH_KEYS = 5000
"""Keys in one SEARCH."""
