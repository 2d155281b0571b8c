"""The ports that cross the control socket, by name."""

from __future__ import annotations

from homing.overrides import OverrideRefused, Server
from identity.port import Identity, Refused, Unavailable
from runtime.portcall import PortCodec

IDENTITY = "identity"
SERVER = "server"


def identity_codec() -> PortCodec[Identity]:
    """Identity's calls as JSON."""
    return PortCodec(Identity, [Refused, Unavailable])


def server_codec() -> PortCodec[Server]:
    """The running server's own calls as JSON."""
    return PortCodec(Server, [OverrideRefused])
