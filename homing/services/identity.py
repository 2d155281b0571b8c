"""`homing serve identity`: accounts, sign-in and saved settings, for the other services and over REST."""

from __future__ import annotations

from typing import Any

from homing import http_api, masks
from homing.admin_api import service_router, stats_router
from homing.first_run import make_first_logins
from homing.health import Health, identity_check, storage_check
from homing.keepers import identity_settings, identity_store, open_notes, open_resolver, patiently
from homing.ports import IDENTITY, NOTES, SETTINGS, identity_codec, notes_codec, overrides_codec
from homing.published import dkim_published
from homing.purge import PURGE_TURN_SECONDS, Purge
from homing.services.base import Context, Parts
from homing.services.calls import Calls
from homing.turns import Turn
from homing.usage import telling_used
from identity import admin_api as identity_admin
from identity.limiting import admin_api as bans_admin
from identity.port_api import port_app
from identity.service import IdentityService
from runtime.admin import Served
from runtime.portserver import PortApp


async def compose(context: Context) -> Parts:
    """Open the accounts, make the first logins where there are none, and construct what serves them. Storage, which
    the purge of removed accounts asks, need not be there."""
    this, settings = context.process, context.settings
    url = identity_store(settings)
    storage = await context.remote_storage()
    turn = Turn(await context.turns(url))
    service = IdentityService(
        url,
        identity_settings(settings),
        purge=Purge(storage),
        clock=this.clock,
        turn=lambda: turn("purge", PURGE_TURN_SECONDS),
        published=dkim_published(open_resolver(settings)),
    )
    await patiently("identity's database", service.start)
    context.stack.push_async_callback(service.stop)
    identity = service.identity
    await patiently("identity's database", lambda: make_first_logins(settings, service, this.console))
    notes = await patiently("the store of notes", lambda: open_notes(settings, url))
    context.stack.push_async_callback(notes.close)
    health = Health({"database": identity_check(identity), "storage": storage_check(storage, needed=False)})
    rest = http_api.make_rest(this, identity)
    ports: dict[str, PortApp[Any]] = {
        "identity": port_app(identity, context.token),
        SETTINGS: PortApp(overrides_codec(), context.overrides, context.token, name=SETTINGS),
        NOTES: PortApp(notes_codec(), notes, context.token, name=NOTES),
    }
    calls = Calls(this, rest, settings.identity.port, ports)
    rest.add(
        [
            identity_admin.router(identity, rest.guard, telling_used(storage), masks.unknown),
            bans_admin.router(identity, rest.guard),
            service_router(
                "identity",
                rest.guard,
                keeper=this.keeper,
                clock=this.clock,
                healthy=context.healthy(health),
                depends=lambda: health.states,
                again=context.running.again,
            ),
            stats_router("identity", rest.guard, counters=rest.counters, clock=this.clock, calls=calls.figures),
        ]
    )

    return Parts([health, *calls.services], calls.listeners, {IDENTITY: Served(identity_codec(), identity)})
