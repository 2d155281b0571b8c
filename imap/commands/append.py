"""APPEND: a message from the client (RFC 3501 §6.3.11)."""

from __future__ import annotations

from imap.commands.store import split_flags
from imap.errors import No, try_create
from imap.session import SIGNED_IN, Entry, News, Reply, Session
from imap.wire import writer
from imap.wire.forms import Append
from storage.model import INLINE_MAX, NewMessage, StagedBlob
from storage.port import Refused


async def append(session: Session, form: Append) -> Reply:
    """RFC 3501 §6.3.11, RFC 4315 §3: what can be refused is so before the client is asked for the octets."""
    bits, keywords = split_flags(form.flags)
    if form.size > session.house.limits.message:
        # RFC 7888 §4, RFC 4469 §4.2
        raise No(f"Messages may have {session.house.limits.message} octets", "TOOBIG")
    if form.size == 0:
        # RFC 3502 §6.3.11: an empty literal takes the command back
        raise No("A message without octets is none")
    try:
        mailbox = await session.storage.mailbox(session.account, form.mailbox)
    except Refused as error:
        raise try_create(error) from error
    quota = await session.quota()
    if quota is not None and (await session.storage.usage(session.account)).size + form.size > quota:
        raise No("The account's quota would be exceeded", "OVERQUOTA")
    content: bytes | StagedBlob
    if form.size <= INLINE_MAX:
        content = b"".join([chunk async for chunk in session.out.literal()])
    else:
        content = await session.storage.stage(session.out.literal())
    internaldate = None if form.date_time is None else int(form.date_time.timestamp())
    message = NewMessage(content, bits, keywords, internaldate)
    try:
        done = await session.storage.append(session.operation(), mailbox.ref, (message,), quota)
    except Refused as error:
        raise try_create(error) from error
    session.wrote(done.modseq)
    return Reply("Appended", writer.code_appenduid(done.uidvalidity, done.uids))


ENTRIES = (Entry("APPEND", SIGNED_IN, Append, append, News.IF_ANY, may_expunge=True),)
