"""Ids for operations and traces."""

from __future__ import annotations

import random
import time


def new_id() -> str:
    """32 hexadecimal digits that nobody else makes: 48 bits of time in milliseconds, then 80 random ones.

    They rise with time, so that neighbours in time share a page of a database's index. They are no secrets: the random
    bits are those of a generator seeded once, since asking the system for each costs 20 µs.
    """
    return f"{time.time_ns() // 1_000_000:012x}{random.getrandbits(80):020x}"
