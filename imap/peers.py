"""Who is at the other end of a transport."""

from __future__ import annotations

import asyncio

from imap.dialogue import Peer, Tls
from runtime.limits import plain_address


def peer_of(transport: asyncio.BaseTransport) -> Peer:
    """As it is now."""
    peer, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    return Peer(*_host_port(peer), *_host_port(local), _tls_facts(transport))


def _host_port(name: object) -> tuple[str, int]:
    """From a socket's name; a Unix socket has neither."""
    if isinstance(name, tuple) and len(name) >= 2:
        return plain_address(str(name[0])), int(name[1])
    return "", 0


def _tls_facts(transport: asyncio.BaseTransport) -> Tls | None:
    tls = transport.get_extra_info("ssl_object")
    if tls is None:
        return None
    cipher = tls.cipher()
    return Tls(tls.version() or "", cipher[0] if cipher else "")
