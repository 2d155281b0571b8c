"""The relays that routes `connector:NAME` lead to, made as the settings say."""

from __future__ import annotations

from connectors.exceptions import ConfigurationError
from connectors.relay import Relay
from homing.settings import Settings


class Relays:
    """By name. As a service it begins by itself; at the end it closes the connections that are open."""

    def __init__(self, relays: dict[str, Relay]) -> None:
        self._relays = relays

    def get(self, name: str) -> Relay | None:
        """None where there is no connector of this name."""
        return self._relays.get(name)

    async def start(self) -> None:
        return None

    async def drain(self) -> None:
        return None

    async def stop(self) -> None:
        for one in self._relays.values():
            await one.close()


def make_relays(settings: Settings) -> Relays:
    """Nothing is connected yet. Raises ValueError with a sentence that names the connector and the key."""
    made: dict[str, Relay] = {}
    for one in settings.connectors:
        try:
            made[one.name] = Relay(
                one.name,
                one.config,
                sender=one.sender,
                connections=one.connections,
                dot_seconds=settings.outbound.data_timeout,
            )
        except ConfigurationError as error:
            raise ValueError(f"connectors.{one.name}: {str(error).rstrip('.')}") from error
    return Relays(made)
