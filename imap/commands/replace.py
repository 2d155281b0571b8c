"""REPLACE: a new message in the place of another (RFC 8508)."""

from __future__ import annotations

from imap.commands.copymove import of_two
from imap.commands.incoming import Incoming
from imap.errors import Bad, No, try_create
from imap.session import Entry, News, Reply, Session, State
from imap.view import View
from imap.wire import writer
from imap.wire.forms import Replace
from storage.model import Rights, Want
from storage.port import Refused


async def replace(session: Session, form: Replace) -> Reply:
    """Append and expunge in one change, or do nothing: RFC 8508 §3.2, §3.4."""
    view = session.writable
    uid = _uid(view, form)
    incoming = Incoming(session)
    incoming.check(form.part)
    try:
        mailbox = await session.find(form.mailbox, Rights.INSERT)
    except Refused as error:
        raise try_create(error) from error
    target = mailbox.ref
    old = await session.storage.columns(view.ref, ((uid, uid),), Want.SIZE)
    if not old.uids:
        # RFC 5530 §3
        raise No("The message has been expunged", "EXPUNGEISSUED")
    quota = await session.quota(target.account)
    if quota is not None:
        incoming.room = max(quota - (await session.storage.usage(target.account)).size, 0) + old.sizes[0]
    message = await incoming.take(form.part)
    if incoming.next(form.part) is not None:
        # RFC 8508 §4: MULTIAPPEND has no part in it
        raise Bad("REPLACE has one message")
    try:
        done = await session.storage.replace(session.operation(), view.ref, uid, target, message, quota)
    except Refused as error:
        raise await of_two(session, form.mailbox, error) from error
    session.wrote(done.modseq)
    # RFC 8508 §4.3: before the EXPUNGE, so that the client knows what has come in its place
    # RFC 9051 §6.3.12: which is told to nobody who may not look into the mailbox
    code = writer.code_appenduid(done.uidvalidity, done.uids) if mailbox.rights & Rights.READ else None
    session.out.write(writer.untagged("OK", "The replacement is there", code))
    return Reply("Replaced", await session.highest_modseq(done.modseq))


def _uid(view: View, form: Replace) -> int:
    """Raises No, Bad where there is no such message."""
    if form.number is None:
        if not len(view):
            raise No("There is no message")
        return view.uids[-1]
    if form.uid:
        if not view.number(form.number):
            raise No("There is no message of that UID")
        return form.number
    if form.number > len(view):
        raise Bad("There is no message of that number")
    return view.uids[form.number - 1]


ENTRIES = (
    Entry("REPLACE", State.SELECTED, Replace, replace, News.IF_ANY, may_expunge=True, capability="REPLACE"),
    Entry("UID REPLACE", State.SELECTED, Replace, replace, News.IF_ANY, may_expunge=True),
)
