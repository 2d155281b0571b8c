"""The trace headers that we write: Received in the blob that all recipients share, Return-Path and Delivered-To before
it in each recipient's own prefix (RFC 5321 §4.4)."""

from __future__ import annotations

from mail import compose
from smtp.session import Session
from storage.model import PREFIX_MAX

HOPS_MAX = 100
"""Received fields with which a message is taken for one in a loop (RFC 5321 §6.3)."""


def protocol(session: Session, smtputf8: bool) -> str:
    """The word after "with" in Received (RFC 3848 §1, RFC 6531 §4.3)."""
    if not session.extended:
        # RFC 3848 has no word for SMTP without EHLO under TLS.
        return "SMTP"
    secured = "S" if session.tls is not None else ""
    signed = "A" if session.principal is not None else ""
    if session.rules.kind == "lmtp":
        return ("UTF8LMTP" if smtputf8 else "LMTP") + secured
    return ("UTF8SMTP" if smtputf8 else "ESMTP") + secured + signed


def received(session: Session, hostname: str, trace: str, now: float, *, smtputf8: bool = False) -> bytes:
    """The Received field of a message that came over SMTP, without "for": recipients share it."""
    return compose.received(
        helo=session.helo,
        client=session.peer,
        by=hostname,
        protocol=protocol(session, smtputf8),
        id=trace,
        date=int(now),
        tls=f"{session.tls.version} {session.tls.cipher}" if session.tls is not None else None,
    )


def received_http(peer: str, hostname: str, trace: str, now: float) -> bytes:
    """The Received field of a message that came over REST; peer is the caller's IP address."""
    return compose.received(helo="", client=peer, by=hostname, protocol="HTTP", id=trace, date=int(now))


def prefix(sender: str, address: str) -> bytes:
    """Return-Path and Delivered-To of one recipient. Addresses are bounded by params.PATH_MAX, so it has at most
    PREFIX_MAX octets; ValueError for longer ones."""
    made = compose.return_path(sender) + compose.delivered_to(address)
    if len(made) > PREFIX_MAX:
        raise ValueError("the addresses are too long for a prefix")
    return made


def hops(header: bytes) -> int:
    """Received fields in a header block."""
    lowered = header.lower()
    return lowered.count(b"\nreceived:") + lowered.startswith(b"received:")
