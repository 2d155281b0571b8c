"""`homing serve storage`: mail, for the other services, its upkeep, and its figures over REST."""

from __future__ import annotations

from homing import http_api
from homing.admin_api import service_router, stats_router
from homing.gauges import StorageGauges
from homing.health import Health, identity_check, storage_check
from homing.keepers import open_storage, patiently, storage_store
from homing.ports import STORAGE
from homing.scrub import Scrub
from homing.services.base import Context, Parts
from homing.services.calls import Calls
from homing.tracing import http_api as trace_api
from homing.turns import Turn
from runtime.controlport import ServedPacked
from storage import wire
from storage.port_api import port_app
from storage.service import StorageService


async def compose(context: Context) -> Parts:
    """Open the store and construct what serves it. Identity, which REST asks about tokens, need not be there."""
    this, settings = context.process, context.settings
    url = storage_store(settings)
    turn = Turn(await context.turns(url))
    storage = await patiently("storage's database", lambda: open_storage(settings, url))
    service = StorageService(storage, turn=turn)
    context.stack.push_async_callback(service.stop)
    await service.start()
    identity = await context.remote_identity()
    scrub = Scrub(storage, turn=turn)
    this.metrics.gauge(
        "storage_damaged_blobs", "Stored messages that the last scrub found damaged", read=lambda: scrub.damaged
    )
    health = Health({"database": storage_check(storage), "identity": identity_check(identity, needed=False)})
    rest = http_api.make_rest(this, identity)
    calls = Calls(this, rest, settings.storage.port, {"storage": port_app(storage, context.token)})
    rest.add(
        [
            service_router(
                "storage",
                rest.guard,
                keeper=this.keeper,
                clock=this.clock,
                healthy=context.healthy(health),
                depends=lambda: health.states,
                again=context.running.again,
            ),
            stats_router(
                "storage",
                rest.guard,
                counters=rest.counters,
                clock=this.clock,
                calls=calls.figures,
                storage=storage,
            ),
            trace_api.router(storage, identity, rest.guard, this.clock),
        ]
    )
    further = {STORAGE: ServedPacked(wire.codec(), storage)}
    return Parts([health, scrub, StorageGauges(storage, this.metrics), *calls.services], calls.listeners, further)
