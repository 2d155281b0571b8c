"""Who is at the other end of a transport."""

from __future__ import annotations

import asyncio

from imap.dialogue import Peer, Tls
from runtime.limits import plain_address
from runtime.proxyheader import Client
from runtime.tls import channel_binding


def peer_of(transport: asyncio.BaseTransport, client: Client | None = None, *, proxied: bool = False) -> Peer:
    """As it is now. proxied: a proxy is at the other end; client: whom it speaks for."""
    peer, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    place = _host_port(peer) if client is None else (client.address, client.port)
    return Peer(*place, *_host_port(local), _tls_facts(transport), proxied)


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
    return Tls(tls.version() or "", cipher[0] if cipher else "", channel_binding(tls))
