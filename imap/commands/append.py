"""APPEND: messages from the client (RFC 3501 §6.3.11), several at once (RFC 3502)."""

from __future__ import annotations

from imap.commands.store import split_flags
from imap.errors import No, try_create
from imap.session import SIGNED_IN, Entry, News, Reply, Session
from imap.wire import writer
from imap.wire.forms import Append, AppendPart
from imap.wire.parse_append import parse_append_part
from storage.model import INLINE_MAX, NewMessage, StagedBlob
from storage.port import Refused

MESSAGES = 1000
"""Messages in one APPEND."""
HELD = 2 * 1024 * 1024
"""Octets of an APPEND's messages that are held here until all have come; what comes beyond is staged."""


async def append(session: Session, form: Append) -> Reply:
    """All of the messages or none: RFC 3502 §6.3.11, RFC 4315 §3. What can be refused is so before the client is asked
    for the octets."""
    messages: list[NewMessage] = []
    held = octets = used = 0
    ref = quota = None
    part: AppendPart | None = form.first
    while part is not None:
        bits, keywords = split_flags(part.flags)
        octets += part.size
        _check(session, part, len(messages))
        if ref is None:
            try:
                ref = (await session.storage.mailbox(session.account, form.mailbox)).ref
            except Refused as error:
                raise try_create(error) from error
            quota = await session.quota()
            if quota is not None:
                used = (await session.storage.usage(session.account)).size
        if quota is not None and used + octets > quota:
            raise No("The account's quota would be exceeded", "OVERQUOTA")
        content: bytes | StagedBlob
        if part.size <= INLINE_MAX and held + part.size <= HELD:
            content = b"".join([chunk async for chunk in session.out.literal()])
            held += part.size
        else:
            content = await session.storage.stage(session.out.literal())
        internaldate = None if part.date_time is None else int(part.date_time.timestamp())
        messages.append(NewMessage(content, bits, keywords, internaldate))
        part = parse_append_part(session.out.behind_literal)
    assert ref is not None
    try:
        done = await session.storage.append(session.operation(), ref, messages, quota)
    except Refused as error:
        raise try_create(error) from error
    session.wrote(done.modseq)
    return Reply("Appended", writer.code_appenduid(done.uidvalidity, done.uids))


def _check(session: Session, part: AppendPart, before: int) -> None:
    """Raises No for a message that cannot be one."""
    if part.size > session.house.limits.message:
        # RFC 7889 §3, RFC 7888 §4
        raise No(f"Messages may have {session.house.limits.message} octets", "TOOBIG")
    if part.size == 0:
        # RFC 3502 §6.3.11: an empty literal takes the command back
        raise No("A message without octets is none")
    if before >= MESSAGES:
        raise No(f"One APPEND has at most {MESSAGES} messages", "LIMIT")


ENTRIES = (Entry("APPEND", SIGNED_IN, Append, append, News.IF_ANY, may_expunge=True, capability="MULTIAPPEND"),)
