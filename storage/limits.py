"""Every bound of the store, by name. Doors keep tighter ones of their own; these hold whoever asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

BLOB_MAX: Final = 512 * 1024 * 1024
"""Octets of one message."""
CHUNK: Final = 256 * 1024
"""Octets of one stored piece of a message; the last may be shorter."""
NAME_OCTETS: Final = 1024
"""Octets of a mailbox name in UTF-8."""
NAME_LEVELS: Final = 64
"""Levels of a mailbox name."""
MAILBOXES_PER_ACCOUNT: Final = 5_000
SUBSCRIPTIONS_PER_ACCOUNT: Final = 10_000
KEYWORDS_PER_ACCOUNT: Final = 1_000
"""Different keywords an account may ever have used."""
GRANTS_PER_MAILBOX: Final = 100
"""Entries of a mailbox's access control list."""
GRANTS_PER_ACCOUNT: Final = 10_000
"""Entries of all lists of an account's mailboxes."""
SHARED_MAILBOXES: Final = 5_000
"""Mailboxes of others that one account is shown."""
ENTRY_NAME_OCTETS: Final = 256
"""Octets of the name of an annotation's entry."""
ANNOTATIONS_PER_MAILBOX: Final = 100
"""Entries of a mailbox (or an account itself) that are shared, and as many that are one account's own."""
ANNOTATED_OCTETS: Final = 256 * 1024
"""Octets of their names and values together."""
ANNOTATIONS_PER_ACCOUNT: Final = 10_000
"""Entries of an account's mailboxes and itself, whoever set them."""
ANNOTATED_OCTETS_PER_ACCOUNT: Final = 16 * 1024 * 1024
ANNOTATED_AT_ONCE: Final = 16
"""Mailboxes whose annotations one call reads with their values."""
USAGES_AT_ONCE: Final = 1_000
"""Accounts of which one call tells what they use."""
UID_MAX: Final = 0xFFFF_FFFF
"""RFC 3501 §2.3.1.1: a uid is a 32-bit value."""
VANISHED_PER_MAILBOX: Final = 100_000
"""Ranges of expunged uids remembered; beyond, ``changes`` tells an old client every uid that is not there."""

PAGE_ENTRIES: Final = 16_384
"""Entries in one page, whatever was asked."""
PAGE_ROWS: Final = 2_048
"""Rows in one page, whatever was asked."""
PAGE_OCTETS: Final = 1024 * 1024
"""Octets of stored forms after which a page of rows ends."""

ACCEPT_BATCH: Final = 64
"""Deliveries of one call that are described and committed together."""
STAGED_AT_ONCE: Final = 4
"""Chunks of a staged body that are written in one commit."""
STAGED_IN_MEMORY: Final = 2 * 1024 * 1024
"""Octets of a staged body that are still in memory when it is described; a longer one is read again."""
AT_ONCE: Final = 32 * 1024
"""Octets of a message that is described on the event loop itself: 0.1 to 0.2 ms of work, while the way to a thread and
back costs as much again and the wait for the interpreter's lock several times that."""
TOGETHER: Final = 16
"""Such messages that are described in one turn of the event loop: together they take three quarters of the time."""
AT_ONCE_BOUNDARIES: Final = 64
"""Lines that may be MIME boundaries in such a message; one with more is described on a thread: 32 KiB of nothing but
boundaries are 60 ms of work."""
BIG_PARSES: Final = 2
"""Bodies over INLINE_MAX that are held whole in memory at a time to be described."""
INGEST_THREADS: Final = 2

OPERATION_AGE: Final = 3600.0
"""Seconds for which the outcome of an operation is kept."""
EVENT_AGE: Final = 30 * 86400.0
"""Seconds for which trace events are kept."""
EVENT_ROWS: Final = 2_000_000
"""Rows of trace events (one row: the events of one call) that are kept."""
EVENT_OCTETS: Final = 1024 * 1024 * 1024
"""Octets of trace events that are kept, about."""
EVENTS_PER_TRACE: Final = 10_000
"""Rows that are read for one trace."""
FIND_TRACES: Final = 1_000
"""Traces that one call finds, whatever was asked."""
FIND_STEPS: Final = 20_000
"""Rows of trace events, or keys of them, that one call looks at: what a common address has beyond is not found."""

SPOOL_PAGE: Final = 1_000
"""Items or domains of the spool in one page, whatever was asked."""
SPOOL_CHANGES: Final = 1_000
"""Items that one ``change_spool`` or ``extend`` names."""
SPOOL_RESULT: Final = 4096
"""Characters of what is kept of an item that has ended."""
SPOOL_RESULT_AGE: Final = 86400.0
"""Seconds for which that is kept."""
CLAIM_MAX: Final = 1_000
"""Items that one ``claim`` takes, whatever was asked."""
CLAIM_TEXT: Final = 16 * 1024
"""Octets of a message up to which it comes with the claim."""
CLAIM_POLL: Final = 1.0
"""Seconds after which a waiting claim looks whether another process has left it something."""

SWEEP_ENTRIES: Final = 500
"""Entries, emails, operations or events that one step of the sweep touches."""
SWEEP_CHUNKS: Final = 64
"""Chunks that one step of the sweep deletes: 16 MiB."""
WATCH_MAX: Final = 60.0
"""Seconds that one ``watch`` waits at most."""
SWEEP_SECONDS: Final = 60.0
"""Seconds between two rounds of the sweep that found nothing more to do."""
PURGE_STEPS: Final = 20
"""Steps of SWEEP_ENTRIES that one call of ``purge_account`` makes."""
EVENTS_PER_CALL: Final = 10_000
"""Events that are committed together by ``record``."""


@dataclass(frozen=True, slots=True)
class TraceLimits:
    """What is kept of trace events beside EVENT_ROWS, as the settings say. age: seconds; size: octets, about."""

    age: float = EVENT_AGE
    size: int = EVENT_OCTETS
