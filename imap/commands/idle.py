"""IDLE: news as it happens (RFC 2177)."""

from __future__ import annotations

from imap.errors import Bad
from imap.session import SIGNED_IN, Entry, News, Reply, Session
from imap.wire import writer
from imap.wire.forms import Bare


async def idle(session: Session, form: Bare) -> Reply:
    """Tell news until the client says DONE: RFC 2177 §3."""
    out = session.out
    out.write(writer.continuation(b"idling"))
    # what happened before the client could be woken
    await session.listening.wake()
    while (line := await out.line_or_wake()) is None:
        # RFC 5465 §4: by what the client wants, where it has said so
        await session.listening.wake()
    if line.strip().upper() != b"DONE":
        raise Bad("Expected DONE")
    return Reply("Idled")


ENTRIES = (Entry("IDLE", SIGNED_IN, Bare, idle, News.IF_ANY, may_expunge=True, capability="IDLE"),)
