"""`homing serve imap`: the IMAP listeners, with identity and storage reached over HTTP."""

from __future__ import annotations

from homing import http_api
from homing.admin_api import service_router
from homing.doors import listening, make_gate, make_imap
from homing.health import Health, identity_check, storage_check
from homing.ports import Listening
from homing.process import certificate
from homing.services.base import Context, Parts
from imap import http_api as imap_api
from runtime.lifecycle import Service


async def compose(context: Context) -> Parts:
    """Construct it; nothing listens yet, and the keepers need not be there."""
    this, settings = context.process, context.settings
    tls = certificate(settings)
    identity, storage = await context.remote_identity(), await context.remote_storage()
    health = Health({"identity": identity_check(identity), "storage": storage_check(storage)})
    gate = make_gate(this, identity)
    imap = make_imap(this, identity, storage, tls, gate)
    services: list[Service] = [tls, health, gate, imap]
    server = None
    if settings.imap.rest_port is not None:
        rest = http_api.make_rest(this, identity)
        routes = service_router(
            "imap",
            rest.guard,
            keeper=this.keeper,
            clock=this.clock,
            healthy=context.healthy(health),
            depends=lambda: health.states,
            again=context.running.again,
        )
        rest.add([routes, imap_api.router(imap, storage, rest.guard, path="/api/stats")])
        server = http_api.serve_rest(this, rest, settings.imap.rest_port, tls)
        services.append(server)

    def listeners() -> tuple[Listening, ...]:
        return (*listening(settings, imap), *http_api.rest_listening(this, server))

    return Parts(services, listeners)
