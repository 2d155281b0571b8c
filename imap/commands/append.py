"""APPEND: messages from the client (RFC 3501 §6.3.11), several at once (RFC 3502), or put together (RFC 4469)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from functools import partial

from imap import messagelimit
from imap.commands import announce
from imap.commands.incoming import Incoming
from imap.errors import Bad, No, try_create
from imap.later import Later
from imap.session import SIGNED_IN, Entry, News, Reply, Session
from imap.wire import writer
from imap.wire.forms import Append, AppendPart
from storage.model import Appended, Mailbox, NewMessage, Rights
from storage.port import Reason, Refused

MESSAGES = 1000
"""Messages in one APPEND."""


async def append(session: Session, form: Append) -> Reply | Later:
    """All of the messages or none: RFC 3502 §6.3.11, RFC 4315 §3."""
    incoming = Incoming(session)
    incoming.check(form.first)
    try:
        mailbox, known = await session.places.find_again(session.account, form.mailbox, Rights.INSERT)
    except Refused as error:
        raise try_create(error) from error
    ref = mailbox.ref
    quota = await session.quota(ref.account)
    if quota is not None:
        incoming.room = quota - (await session.storage.usage(ref.account)).size
    messages: list[NewMessage] = []
    part: AppendPart | None = form.first
    waits = False
    while part is not None:
        waits = part.synchronizing
        if messages and session.mask.hides("MULTIAPPEND"):
            raise Bad("MULTIAPPEND is not offered to this sign-in")
        # RFC 9738 §3.1: all of them or none
        messagelimit.check_count(len(messages) + 1, session.house.limits.messages)
        if len(messages) >= MESSAGES:
            raise No(f"One APPEND has at most {MESSAGES} messages", "LIMIT")
        messages.append(await incoming.take(part))
        part = incoming.next(part)
    told = partial(_appended, session, form.mailbox, mailbox, messages, quota, known)
    if waits:
        # who waits to be asked for each message has sent nothing that could be begun meanwhile
        await session.settle()
        return await told(session.storage.append(session.operation(), ref, messages, quota, known))
    storing = asyncio.create_task(session.storage.append(session.operation(), ref, messages, quota, known))
    return Later(storing, told, incoming.held, ref.account)


async def _appended(
    session: Session,
    name: str,
    mailbox: Mailbox,
    messages: Sequence[NewMessage],
    quota: int | None,
    known: str | None,
    storing: Awaitable[Appended],
) -> Reply:
    """known: the mailbox's name when it was found, for a command before this one."""
    try:
        try:
            done = await storing
        except Refused as error:
            if known is None or error.reason is not Reason.NO_SUCH_MAILBOX:
                raise
            # another session has deleted or renamed it meanwhile; here, where one command ends after the other
            mailbox = await session.find(name, Rights.INSERT)
            done = await session.storage.append(session.operation(), mailbox.ref, messages, quota)
    except Refused as error:
        raise try_create(error) from error
    session.wrote(done.modseq, owner=mailbox.ref.account)
    await announce.named(session, name)
    # RFC 9051 §6.3.12: who may not look into the mailbox is told nothing of it
    readable = Rights.READ in mailbox.rights
    return Reply("Appended", writer.code_appenduid(done.uidvalidity, done.uids) if readable else None)


ENTRIES = (
    Entry("APPEND", SIGNED_IN, Append, append, News.IF_ANY, may_expunge=True, capability="MULTIAPPEND", joins=True),
)
