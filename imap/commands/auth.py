"""Signing in: STARTTLS LOGIN AUTHENTICATE."""

from __future__ import annotations

from identity.sasl import Challenge, Credentials, Failed, Fault, Outcome, mechanism
from imap.errors import Bad, No
from imap.session import Entry, Reply, Session, State
from imap.wire import writer
from imap.wire.forms import Authenticate, Bare, Login
from imap.wire.parser import decode_base64


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
    if not session.may_sign_in:
        raise No("Use TLS before you sign in", "PRIVACYREQUIRED")
    exchange = mechanism(form.mechanism)
    if exchange is None:
        raise No("That mechanism is not offered", "CANNOT")
    if form.initial is not None and not exchange.client_first:
        # RFC 4959 §3
        raise Bad("That mechanism has no initial response")
    outcome: Outcome = exchange.step(form.initial)
    while isinstance(outcome, Challenge):
        line = await session.out.continuation(outcome.encoded)
        outcome = Failed(Fault.CANCELLED) if line == b"*" else exchange.step(decode_base64(line))
    match outcome:
        case Credentials(name, secret, "password"):
            return await session.sign_in(name, secret)
        case Failed(Fault.NOT_PERMITTED):
            # RFC 5530 §3
            raise No("Nobody acts for another here", "AUTHORIZATIONFAILED")
        case Failed(fault):
            raise Bad(f"Sign-in: {fault.value}")
        case _:
            raise No("That mechanism is not offered", "CANNOT")


ENTRIES = (
    Entry("STARTTLS", State.NOT_AUTHENTICATED, Bare, start_tls),
    Entry("LOGIN", State.NOT_AUTHENTICATED, Login, login),
    Entry("AUTHENTICATE", State.NOT_AUTHENTICATED, Authenticate, authenticate),
)
