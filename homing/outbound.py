"""Sending mail on, made as the settings say: the runner of the spool, and all that it sends by."""

from __future__ import annotations

from dataclasses import dataclass

from homing.keepers import EXIT_CONFIG, open_resolver
from homing.process import Process
from homing.relays import make_relays
from homing.settings import Settings
from identity.port import Identity
from runtime.dns import Resolver
from runtime.lifecycle import Service, StartError
from runtime.web import Fetched, Web
from smtp.outbound.dkim import Signer
from smtp.outbound.local import LocalFirst
from smtp.outbound.mtasts import FETCH_SECONDS, POLICY_MAX, StsPolicies
from smtp.outbound.notes import Notes
from smtp.outbound.remote import smtp_transport
from smtp.outbound.runner import Runner
from smtp.outbound.tlspolicy import TlsPolicies
from smtp.outbound.tlsrpt import POST_SECONDS, Reporter, TlsReports
from storage.port import Storage


@dataclass(frozen=True, slots=True)
class Outbound:
    """What sends mail on. services: in the order in which they start."""

    runner: Runner
    resolver: Resolver
    services: tuple[Service, ...]


class _WebLife:
    """What fetches policies, and posts reports, as a service: it begins by itself."""

    def __init__(self, web: Web, sts: StsPolicies | None) -> None:
        self._web = web
        self._sts = sts

    async def start(self) -> None:
        return None

    async def drain(self) -> None:
        return None

    async def stop(self) -> None:
        if self._sts is not None:
            await self._sts.close()
        await self._web.close()


def make_outbound(process: Process, identity: Identity, storage: Storage, notes: Notes) -> Outbound:
    """Sending; nothing is claimed yet. notes: what processes that send remember together. Overrides of live settings
    reach the runner from here on. Raises StartError for settings that cannot be used."""
    settings = process.settings
    try:
        return _made(process, settings, identity, storage, notes)
    except (ValueError, OSError) as error:
        raise StartError(
            f"Mail cannot be sent with the settings of outbound, connectors and dns: {error}.", exit_code=EXIT_CONFIG
        ) from error


def _made(process: Process, settings: Settings, identity: Identity, storage: Storage, notes: Notes) -> Outbound:
    own, clock = settings.outbound, process.clock
    resolver = open_resolver(settings)

    async def addresses(host: str) -> tuple[str, ...]:
        return (await resolver.addresses(host)).values

    web = Web(addresses, roots=own.roots, port=own.https_port)

    async def get(url: str) -> Fetched:
        return await web.get(url, size_max=POLICY_MAX, seconds=FETCH_SECONDS)

    async def post(url: str, body: bytes, kind: str) -> None:
        await web.post(url, body, kind, seconds=POST_SECONDS)

    reports = None
    if own.tls_reports:
        reporter = Reporter(
            own.organization or settings.domain, own.report_contact or f"postmaster@{settings.domain}", settings.domain
        )
        reports = TlsReports(
            reporter, resolver=resolver, notes=notes, storage=storage, identity=identity, post=post, clock=clock
        )
    sts = StsPolicies(resolver, get, notes, clock) if own.mta_sts else None
    policies = TlsPolicies(
        resolver if own.dane else None,
        sts,
        report=None if reports is None else reports.note,
        roots=own.roots,
        clock=clock,
    )
    relays = make_relays(settings)
    transport = smtp_transport(own, resolver, policies, settings.name, relays.get, settings.sending.refused)
    runner = Runner(
        own,
        storage=storage,
        identity=identity,
        transport=LocalFirst(transport, identity, storage, clock),
        signer=Signer(identity, clock),
        clock=clock,
        metrics=process.metrics,
        hostname=settings.name,
        domain=settings.domain,
    )
    process.keeper.on_change.append(lambda changed: runner.apply(changed.outbound))
    services: tuple[Service, ...] = (_WebLife(web, sts), relays, *(() if reports is None else (reports,)), runner)
    return Outbound(runner, resolver, services)
