"""NOTIFY: what the client is told of its own accord (RFC 5465)."""

from __future__ import annotations

from imap.notify.monitor import Monitor, status_line
from imap.notify.snapshots import Snapshot
from imap.notify.wanted import Wanted
from imap.session import SIGNED_IN, Entry, Reply, Session
from imap.wire import writer
from imap.wire.forms import Attribute
from imap.wire.forms_notify import FLAGS, OF_MESSAGES, Notify
from storage.model import Rights

PIECE = 256
"""Responses that are written in one go."""


async def notify(session: Session, form: Notify) -> Reply:
    """RFC 5465 §3.1: what was wanted before is so no longer."""
    wanted = Wanted(form.groups)
    snapshot = await _first(session, wanted) if wanted.elsewhere else None
    if Attribute("MODSEQ") in wanted.items:
        # RFC 7162 §3.1
        session.tell_modseq()
    if session.view is not None:
        session.view.resume_flags()
    if form.groups:
        # RFC 5465 §3.1: SET implies a NOOP
        await session.tell_news(ask=True, may_expunge=True)
    if snapshot is not None:
        await _tell_state(session, form, wanted, snapshot)
    session.listening.begin(Monitor(session, wanted, snapshot))
    return Reply("Noted")


async def _first(session: Session, wanted: Wanted) -> Snapshot:
    """What later ones are compared with."""
    hub = session.house.hub
    places = session.places if wanted.shared else None
    hub.snapshots.join(session.account, wanted.shared)
    try:
        return await hub.snapshots.fresh(session.account, places, hub.modseq)
    finally:
        hub.snapshots.leave(session.account, wanted.shared)


async def _tell_state(session: Session, form: Notify, wanted: Wanted, snapshot: Snapshot) -> None:
    written: list[bytes] = []
    for ref, mailbox in snapshot.mailboxes.items():
        events = wanted.of(mailbox.name, snapshot.subscriptions)
        if events and not mailbox.rights & Rights.READ:
            # RFC 5465 §3.1
            written.append(writer.list_line("LIST", ("\\NoAccess",), mailbox.name, utf8=session.utf8))
        elif form.status and events & OF_MESSAGES and (session.view is None or session.view.ref != ref):
            written.append(status_line(session, mailbox, events & OF_MESSAGES, modseq=FLAGS in events))
        if len(written) >= PIECE:
            session.out.write(b"".join(written))
            written.clear()
            await session.out.drain()
    session.out.write(b"".join(written))


ENTRIES = (Entry("NOTIFY", SIGNED_IN, Notify, notify, capability="NOTIFY"),)
