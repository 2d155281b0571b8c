"""`homing worker`: sends the tasks of the asynchronous sending API, with identity and storage reached over HTTP."""

from __future__ import annotations

from connectors.tasks import http_api as tasks_api
from homing import http_api
from homing.admin_api import service_router
from homing.health import Health, identity_check, queue_check, storage_check
from homing.keepers import open_queue, patiently
from homing.ports import Listening
from homing.services.base import Context, Parts
from homing.tasks import make_worker
from runtime.lifecycle import Service


async def compose(context: Context) -> Parts:
    """Construct it; nothing is claimed yet, and the keepers need not be there."""
    this, settings = context.process, context.settings
    identity, storage = await context.remote_identity(), await context.remote_storage()
    queue = await patiently("the queue of tasks", lambda: open_queue(settings, storage))
    context.stack.push_async_callback(queue.close)
    health = Health(
        {"identity": identity_check(identity), "storage": storage_check(storage), "queue": queue_check(queue)}
    )
    # Who starts a worker wants tasks to be sent, whatever the other processes of these settings leave to it.
    worker = make_worker(this, queue, identity, storage, concurrency=max(1, settings.queue.concurrency))
    services: list[Service] = [health, worker]
    server = None
    if settings.worker.port is not None:
        rest = http_api.make_rest(this, identity)
        routes = service_router(
            "worker",
            rest.guard,
            keeper=this.keeper,
            clock=this.clock,
            healthy=context.healthy(health),
            depends=lambda: health.states,
            again=context.running.again,
        )
        rest.add([routes, tasks_api.figures_router(worker, rest.guard)])
        server = http_api.serve_rest(this, rest, settings.worker.port, None)
        services.append(server)

    def listeners() -> tuple[Listening, ...]:
        return http_api.rest_listening(this, server, keeper=True)

    return Parts(services, listeners)
