"""`homing serve smtp`: the SMTP listeners, with identity and storage reached over HTTP."""

from __future__ import annotations

from homing import http_api
from homing.doors import listening, make_smtp
from homing.figures import more_figures
from homing.health import Health, identity_check, storage_check
from homing.ports import Listening
from homing.process import certificate
from homing.services.base import Context, Parts
from runtime.lifecycle import Service
from smtp import http_api as smtp_api
from smtp.sending import Sender


async def compose(context: Context) -> Parts:
    """Construct it; nothing listens yet, and the keepers need not be there."""
    this, settings = context.process, context.settings
    tls = certificate(settings)
    identity, storage = await context.remote_identity(), await context.remote_storage()
    health = Health({"identity": identity_check(identity), "storage": storage_check(storage)})
    smtp = make_smtp(this, identity, storage, tls)
    services: list[Service] = [tls, health, smtp]
    server = None
    if settings.rest.port is not None:
        rest = http_api.make_rest(this, identity)
        routes = smtp_api.router(
            smtp,
            Sender(smtp.handler, smtp.figures, settings.name, settings.domain),
            rest.guard,
            counters=rest.counters,
            clock=this.clock,
            save=http_api.saving(this),
            healthy=context.healthy(health),
            depends=lambda: health.states,
            more=more_figures(storage, None),
        )
        rest.add([routes])
        server = http_api.serve_rest(this, rest, settings.rest.port, tls)
        services.append(server)

    def listeners() -> tuple[Listening, ...]:
        return (*listening(settings, smtp), *http_api.rest_listening(this, server))

    return Parts(services, listeners)
