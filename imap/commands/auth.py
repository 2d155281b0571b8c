"""Signing in: STARTTLS LOGIN AUTHENTICATE."""

from __future__ import annotations

from identity.sasl import Conversation, Ended, Exchange, Fault, mechanism
from imap.errors import Bad, No
from imap.session import Entry, Reply, Session, State
from imap.wire import writer
from imap.wire.forms import Authenticate, Bare, Login


async def start_tls(session: Session, form: Bare) -> Reply | None:
    """Go on in TLS: RFC 3501 §6.2.1."""
    out = session.out
    if not out.can_start_tls:
        raise Bad("TLS is in use already, or not to be had here")
    await out.start_tls(writer.tagged(session.tag, "OK", "Begin the TLS handshake"))
    # RFC 3501 §6.2.1: nothing that was said before TLS counts
    session.device = ""
    return None


async def login(session: Session, form: Login) -> Reply:
    """Name and password in the command: RFC 3501 §6.2.3."""
    return await session.sign_in(form.user, form.password)


async def authenticate(session: Session, form: Authenticate) -> Reply:
    """SASL: RFC 3501 §6.2.2, with the initial response of RFC 4959 §3."""
    session.check_may_sign_in()
    chosen = mechanism(form.mechanism, session.ground)
    if chosen is None:
        raise No("That mechanism is not offered", "CANNOT")
    if form.initial is not None and not chosen.client_first:
        # RFC 4959 §3
        raise Bad("That mechanism has no initial response")
    said = Conversation(Exchange(chosen), session.house.identity, session.origin, session.out.continuation)
    try:
        return await session.sign_in_by(said.run(chosen.step(form.initial)), lambda: (said.name, said.secret))
    except Ended as error:
        match error.fault:
            case Fault.NOT_PERMITTED:
                # RFC 5530 §3
                raise No("Nobody acts for another here", "AUTHORIZATIONFAILED") from None
            case Fault.REFUSED:
                raise No("Signing in was refused", "AUTHENTICATIONFAILED") from None
            case Fault.NOT_BASE64:
                raise Bad("Expected a line of base64") from None
            case fault:
                raise Bad(f"Sign-in: {fault.value}") from None


ENTRIES = (
    Entry("STARTTLS", State.NOT_AUTHENTICATED, Bare, start_tls),
    Entry("LOGIN", State.NOT_AUTHENTICATED, Login, login),
    Entry("AUTHENTICATE", State.NOT_AUTHENTICATED, Authenticate, authenticate),
)
