"""The identity port for other services, below `/port/`: see `runtime.portserver` for who may and how."""

from __future__ import annotations

from identity import wire
from identity.port import Identity
from runtime.portserver import PortApp


def port_app(identity: Identity, token: str) -> PortApp[Identity]:
    """The application that serves `identity` to who has the token. ValueError for a token that is too short."""
    return PortApp(wire.codec(), identity, token, name=wire.NAME, polls=wire.POLLS)
