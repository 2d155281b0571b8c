"""Embedded mode: identity, storage, SMTP, IMAP and REST composed in one process, over one data folder or a MongoDB."""

from __future__ import annotations

from contextlib import AsyncExitStack

from homing import http_api, masks, process
from homing.doctor import http_api as doctor_api
from homing.doctor.daily import DailyDoctor
from homing.doors import listening, make_gate, make_imap, make_smtp
from homing.figures import more_figures
from homing.first_run import make_first_logins
from homing.gauges import StorageGauges
from homing.integrations import http_api as integrations_api
from homing.integrations.making import make_integrations
from homing.keepers import (
    check_embedded,
    folder_of,
    identity_settings,
    identity_store,
    in_folder,
    open_notes,
    open_overrides,
    open_queue,
    open_resolver,
    open_storage,
    open_turns,
    patiently,
    storage_store,
)
from homing.outbound import make_outbound
from homing.overrides import SettingsKeeper
from homing.ports import CONFIG, IDENTITY, SERVER, STORAGE, Listening, config_codec, identity_codec, server_codec
from homing.process import LOCK_SECONDS, WHOLE, Process, Running
from homing.published import dkim_published
from homing.purge import PURGE_TURN_SECONDS, Purge
from homing.scrub import Scrub
from homing.settings import load_settings
from homing.sts import own_policy
from homing.tasks import add_routes, make_worker
from homing.tracing import http_api as trace_api
from homing.turns import Turn
from homing.usage import telling_used
from homing.wellknown import http_api as wellknown
from identity import admin_api as identity_admin
from identity.limiting import admin_api as bans_admin
from identity.service import IdentityService
from imap import http_api as imap_api
from runtime.admin import ControlServer, FolderLock, Served
from runtime.controlport import ServedPacked
from runtime.lifecycle import Service
from runtime.metrics import LoopLag
from smtp import http_api as smtp_api
from smtp.outbound import http_api as queue_api
from smtp.sending import Sender
from storage import wire
from storage.service import StorageService


def main() -> None:
    """Serve until SIGTERM or SIGINT. Raises StartError, FolderLocked, and the keepers' errors, before it serves."""
    process.run(_serve, ["up"])


async def _serve() -> bool:
    """Returns whether to begin again."""
    settings = load_settings().settings
    check_embedded(settings)
    async with AsyncExitStack() as stack:
        lock = FolderLock(settings.data)
        # A command may hold the folder for a moment.
        lock.acquire(wait=LOCK_SECONDS)
        stack.callback(lock.release)
        own, where = identity_store(settings), storage_store(settings)
        for part, url in (("identity", own), ("storage", where)):
            if in_folder(url) and folder_of(url).resolve() != settings.data.resolve():
                elsewhere = FolderLock(folder_of(url), part)
                elsewhere.acquire(wait=LOCK_SECONDS)
                stack.callback(elsewhere.release)
        overrides = await patiently("the store of settings", lambda: open_overrides(settings, own))
        stack.push_async_callback(overrides.close)
        keeper = SettingsKeeper(overrides, shared=not in_folder(own))
        settings = await patiently("the store of settings", keeper.open)
        bugs, recent = process.logs(settings)
        this = Process(WHOLE, settings, keeper, process.make_metrics(bugs), recent, process.console())

        tls = process.certificate(settings)
        # The keepers outlive all that use them: they end after the doors, in reverse order.
        turns = await patiently("whose turn it is", lambda: open_turns(where))
        stack.push_async_callback(turns.close)
        turn = Turn(turns)
        storage_service = StorageService(await patiently("storage", lambda: open_storage(settings, where)), turn=turn)
        storage = storage_service.storage
        stack.push_async_callback(storage_service.stop)
        await storage_service.start()
        identity_service = IdentityService(
            own,
            identity_settings(settings),
            purge=Purge(storage),
            clock=this.clock,
            turn=lambda: turn("purge", PURGE_TURN_SECONDS),
            published=dkim_published(open_resolver(settings)),
        )
        await patiently("identity", identity_service.start)
        stack.push_async_callback(identity_service.stop)
        await make_first_logins(settings, identity_service, this.console)
        identity = identity_service.identity

        scrub = Scrub(storage, turn=turn)
        this.metrics.gauge(
            "storage_damaged_blobs", "Stored messages that the last scrub found damaged", read=lambda: scrub.damaged
        )
        gate = make_gate(this, identity)
        smtp = make_smtp(this, identity, storage, tls, gate)
        imap = make_imap(this, identity, storage, tls, gate)
        notes = await patiently("the store of notes", lambda: open_notes(settings, own))
        stack.push_async_callback(notes.close)
        outbound = make_outbound(this, identity, storage, notes)
        integrations = make_integrations(this, identity, storage, gate, settings.data if in_folder(own) else None)
        queue = await patiently("the queue of tasks", lambda: open_queue(settings, storage))
        stack.push_async_callback(queue.close)
        worker = make_worker(this, queue, identity, storage)
        rest = http_api.make_rest(this, identity)
        port = settings.rest.port
        server = None if port is None else http_api.serve_rest(this, rest, port, tls)

        def listeners() -> tuple[Listening, ...]:
            return (*listening(settings, smtp, imap), *http_api.rest_listening(this, server))

        running = Running(recent, listeners)
        doctor = DailyDoctor(lambda: keeper.current, identity, notes, listeners, this.metrics, clock=this.clock)
        of_smtp = smtp_api.router(
            smtp,
            Sender(smtp.handler, smtp.figures, settings.name, settings.domain),
            rest.guard,
            counters=rest.counters,
            clock=this.clock,
            save=http_api.saving(this),
            healthy=lambda: running.ready,
            more=more_figures(storage, outbound.runner, worker, imap),
        )
        of_trace = trace_api.router(storage, identity, rest.guard, this.clock)
        rest.add([of_smtp, of_trace, imap_api.router(imap, storage, rest.guard)])
        rest.add([identity_admin.router(identity, rest.guard, telling_used(storage), masks.unknown)])
        rest.add([bans_admin.router(identity, rest.guard)])
        rest.add([integrations_api.router(integrations, identity, rest.guard)])
        rest.add([queue_api.router(storage, rest.guard, this.clock, settings.connector_names)])
        add_routes(this, rest, queue, gate)
        rest.add([wellknown.router(identity, own_policy(settings)), doctor_api.router(doctor, rest.guard)])
        control = ControlServer(
            settings.data,
            {
                IDENTITY: Served(identity_codec(), identity),
                STORAGE: ServedPacked(wire.codec(), storage),
                CONFIG: Served(config_codec(), keeper),
                SERVER: Served(server_codec(), running),
            },
        )
        services: list[Service] = [
            tls,
            LoopLag(this.metrics),
            keeper,
            scrub,
            StorageGauges(storage, this.metrics),
            gate,
            smtp,
            imap,
            *outbound.services,
            integrations.outbox,
            worker,
            doctor,
        ]
        services += [] if server is None else [server]
        return await running.run(this, [*services, control])
