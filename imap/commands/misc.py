"""Commands of any state, and those that change nothing: CAPABILITY NOOP CHECK LOGOUT ID COMPRESS ENABLE."""

from __future__ import annotations

from imap import quirks
from imap.capability import ENABLEABLE, SPELLED
from imap.errors import Bad
from imap.session import ANY, SIGNED_IN, Entry, News, Reply, Session, State
from imap.wire import writer
from imap.wire.forms import Bare, Compress, Enable, Id

DEVICE_MAX = 64
"""Characters of a client's name that are kept."""


async def capability(session: Session, form: Bare) -> Reply:
    """RFC 3501 §6.1.1."""
    await session.look_at_offer()
    session.out.write(writer.capability(session.capabilities()))
    return Reply("Done")


async def noop(session: Session, form: Bare) -> Reply:
    """RFC 3501 §6.1.2; and CHECK, RFC 3501 §6.4.1: what is told is durable already."""
    return Reply("Done")


async def logout(session: Session, form: Bare) -> Reply:
    """RFC 3501 §6.1.3."""
    await session.leave_mailbox()
    session.out.write(writer.untagged("BYE", f"{session.house.name} says good-bye"))
    session.out.close()
    return Reply("Logged out")


async def identification(session: Session, form: Id) -> Reply:
    """RFC 2971 §3.1; what the client calls itself goes with its sign-in for people to read, and decides nothing but
    what is in `imap.quirks`."""
    said = {name.lower(): value for name, value in form.fields or ()}
    session.device = (said.get("name") or "")[:DEVICE_MAX]
    session.know_client(quirks.of(said.get("name")))
    fields: list[tuple[str, str | None]] = [("name", session.house.name)]
    if session.house.version:
        fields.append(("version", session.house.version))
    session.out.write(writer.identification(fields))
    return Reply("Done")


async def enable(session: Session, form: Enable) -> Reply:
    """RFC 5161 §3.1: names that are not known, or cannot be enabled, are passed over."""
    known = [name for name in dict.fromkeys(form.capabilities) if name in ENABLEABLE]
    news = [name for name in known if name not in session.enabled and not session.mask.hides(name)]
    session.out.write(writer.data(" ".join(("ENABLED", *(SPELLED.get(name, name) for name in news))).encode()))
    session.enable(news)
    return Reply("Done")


async def compress(session: Session, form: Compress) -> Reply | None:
    """Go on compressed: RFC 4978 §3. Only for those who have signed in, since it costs memory."""
    out = session.out
    if form.mechanism != "DEFLATE":
        raise Bad("DEFLATE is the one mechanism")
    if out.compressed:
        # RFC 4978 §3: BAD; NO, with its code, is for compression by another layer
        raise Bad("Compressed already")
    out.compress(writer.tagged(session.tag, "OK", "Compressed from here"))
    return None


ENTRIES = (
    Entry("CAPABILITY", ANY, Bare, capability),
    Entry("NOOP", ANY, Bare, noop, News.ASK, may_expunge=True),
    Entry("CHECK", State.SELECTED, Bare, noop, News.ASK, may_expunge=True),
    Entry("LOGOUT", ANY, Bare, logout),
    Entry("ID", ANY, Id, identification, News.IF_ANY, may_expunge=True, capability="ID"),
    Entry("COMPRESS", SIGNED_IN, Compress, compress, capability="COMPRESS=DEFLATE"),
    Entry("ENABLE", SIGNED_IN, Enable, enable, capability="ENABLE"),
)
