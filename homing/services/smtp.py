"""`homing serve smtp`: the SMTP listeners, with identity and storage reached over HTTP."""

from __future__ import annotations

from homing import http_api
from homing.doctor import http_api as doctor_api
from homing.doctor.daily import DailyDoctor
from homing.doors import listening, make_gate, make_smtp
from homing.figures import more_figures
from homing.health import Health, identity_check, storage_check
from homing.integrations import http_api as integrations_api
from homing.integrations.making import make_integrations
from homing.keepers import identity_service, open_notes, open_queue, patiently
from homing.outbound import make_outbound
from homing.ports import Listening
from homing.process import certificate
from homing.services.base import Context, Parts
from homing.sts import own_policy
from homing.tasks import add_routes, make_worker
from homing.tracing import http_api as trace_api
from homing.wellknown import http_api as wellknown
from runtime.lifecycle import Service
from smtp import http_api as smtp_api
from smtp.outbound import http_api as queue_api
from smtp.sending import Sender


async def compose(context: Context) -> Parts:
    """Construct it; nothing listens yet, and the keepers need not be there."""
    this, settings = context.process, context.settings
    tls = certificate(settings)
    identity, storage = await context.remote_identity(), await context.remote_storage()
    health = Health({"identity": identity_check(identity), "storage": storage_check(storage)})
    gate = make_gate(this, identity)
    smtp = make_smtp(this, identity, storage, tls, gate)
    notes = await open_notes(settings, identity_service(settings))
    context.stack.push_async_callback(notes.close)
    outbound = make_outbound(this, identity, storage, notes)
    integrations = make_integrations(this, identity, storage, gate, None)
    queue = await patiently("the queue of tasks", lambda: open_queue(settings, storage))
    context.stack.push_async_callback(queue.close)
    worker = make_worker(this, queue, identity, storage)
    doctor = DailyDoctor(
        lambda: this.keeper.current, identity, notes, lambda: listeners(), this.metrics, clock=this.clock
    )
    services: list[Service] = [tls, health, gate, smtp, *outbound.services, integrations.outbox, worker, doctor]
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
            more=more_figures(storage, outbound.runner, worker, None),
        )
        rest.add([integrations_api.router(integrations, identity, rest.guard)])
        rest.add([routes, trace_api.router(storage, identity, rest.guard, this.clock)])
        rest.add([queue_api.router(storage, rest.guard, this.clock, settings.connector_names)])
        add_routes(this, rest, queue, gate)
        rest.add([wellknown.router(identity, own_policy(settings)), doctor_api.router(doctor, rest.guard)])
        server = http_api.serve_rest(this, rest, settings.rest.port, tls)
        services.append(server)

    def listeners() -> tuple[Listening, ...]:
        return (*listening(settings, smtp), *http_api.rest_listening(this, server))

    return Parts(services, listeners)
