"""The doors of embedded mode: SMTP, IMAP and the one REST application, made and wired together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from homing import __version__
from homing import http_api as homing_api
from homing.overrides import Listening, OverrideRefused, SettingsKeeper
from homing.settings import Settings
from identity import admin_api as identity_admin
from identity import http_api as identity_api
from identity.model import Principal
from identity.port import Identity
from imap import http_api as imap_api
from imap.service import ImapService, ImapSettings
from runtime.clock import Clock, SystemClock
from runtime.lifecycle import Service
from runtime.metrics import Metrics
from runtime.rest import Guard, Problem, RequestCounters, RestServer, make_app
from runtime.tls import Tls
from smtp import http_api as smtp_api
from smtp.sending import Sender
from smtp.service import SmtpService
from smtp.settings import LiveSettings, SmtpSettings
from storage.port import Refused as StorageRefused
from storage.port import Storage
from storage.port import Unavailable as StorageUnavailable

NAMES = {
    "smtp": ("SMTP", "STARTTLS"),
    "submission": ("submission", "STARTTLS, sign-in required"),
    "submissions": ("submissions", "TLS, sign-in required"),
    "imap": ("IMAP", "STARTTLS"),
    "imaps": ("IMAPS", "TLS"),
}

log = structlog.get_logger("homing")


@dataclass(slots=True)
class Doors:
    """`services` in the order in which they start. `is_ready` is set by whoever runs them."""

    services: Sequence[Service]
    smtp: SmtpService
    imap: ImapService
    rest: RestServer | None
    host: str
    rest_security: str
    is_ready: Callable[[], bool] = field(default=lambda: False)

    def listeners(self) -> tuple[Listening, ...]:
        """All that listens, with the ports in use."""
        found = [
            Listening(NAMES[name][0], self.host, port, NAMES[name][1])
            for name, port in (*self.smtp.ports.items(), *self.imap.ports.items())
        ]
        if self.rest is not None:
            found.append(Listening("REST", self.host, self.rest.port, self.rest_security))
        return tuple(found)


def make_doors(
    settings: Settings,
    identity: Identity,
    storage: Storage,
    tls: Tls,
    metrics: Metrics,
    keeper: SettingsKeeper,
) -> Doors:
    """Construct all of them; nothing listens yet. Overrides of live settings reach them from here on."""
    clock = SystemClock()
    smtp = SmtpService(
        smtp_settings(settings),
        host=settings.host,
        hostname=settings.name,
        domain=settings.domain,
        identity=identity,
        storage=storage,
        tls=tls.context,
        clock=clock,
        metrics=metrics,
    )
    imap = ImapService(
        imap_settings(settings), identity=identity, storage=storage, tls=tls.context, clock=clock, metrics=metrics
    )
    keeper.on_change = lambda changed: smtp.apply(live_of(changed))
    services: list[Service] = [smtp, imap]
    doors = Doors(services, smtp, imap, None, settings.host, "HTTPS, /docs" if settings.rest.tls else "HTTP, /docs")
    if settings.rest.port is not None:
        doors.rest = _rest(settings, identity, storage, doors, tls, metrics, keeper, clock)
        services.append(doors.rest)
    return doors


def smtp_settings(settings: Settings) -> SmtpSettings:
    """The group `smtp`, with what is set once for all doors."""
    return settings.smtp.model_copy(
        update={
            "submission_port": settings.submission.port,
            "submissions_port": settings.submissions.port,
            "plain_auth": settings.signin.plaintext,
            "exempt_networks": settings.exempt,
            "connections_per_address": settings.limits.connections_per_address,
        }
    )


def imap_settings(settings: Settings) -> ImapSettings:
    """What IMAP is told."""
    return ImapSettings(
        host=settings.host,
        port=settings.imap.port,
        tls_port=settings.imaps.port,
        plain_sign_in=settings.signin.plaintext,
        message_max=settings.imap.message_max,
        connections_max=settings.imap.connections_max,
        connections_per_address=settings.limits.connections_per_address,
        exempt_networks=settings.exempt,
        sessions_per_account=settings.imap.sessions_per_account,
        idle_seconds=settings.imap.idle_seconds,
        version=__version__,
    )


def live_of(settings: Settings) -> LiveSettings:
    """What of the group `smtp` changes while running."""
    return LiveSettings(**{name: getattr(settings.smtp, name) for name in LiveSettings.model_fields})


def _rest(
    settings: Settings,
    identity: Identity,
    storage: Storage,
    doors: Doors,
    tls: Tls,
    metrics: Metrics,
    keeper: SettingsKeeper,
    clock: Clock,
) -> RestServer:
    counters = RequestCounters()
    app = make_app(
        title="Homing",
        version=__version__,
        counters=counters,
        problems={**identity_api.problems(), **_problems()},
        on_bug=lambda error: log.error("a REST request met a bug", exc_info=error),
        max_body=settings.rest.max_body,
    )
    guard: Guard[Principal] = Guard(
        identity_api.verifier(identity), is_admin=identity_api.is_admin, allow_plain=settings.rest.insecure
    )

    async def save(values: Mapping[str, str]) -> None:
        await keeper.change(values)

    of_smtp = smtp_api.router(
        doors.smtp,
        Sender(doors.smtp.handler, doors.smtp.figures, settings.name, settings.domain),
        guard,
        counters=counters,
        clock=clock,
        save=save,
        healthy=lambda: doors.is_ready(),
        more=homing_api.more_figures(doors.imap, storage),
    )
    for routes in (
        homing_api.router(guard, metrics),
        of_smtp,
        imap_api.router(doors.imap, storage, guard),
        identity_api.router(identity, guard, clock),
        identity_admin.router(identity, guard),
    ):
        app.include_router(routes)
    return RestServer(app, host=settings.host, port=settings.rest.port or 0, tls=tls if settings.rest.tls else None)


def _problems() -> dict[type[Exception], Callable[[Exception], Problem]]:
    return {
        StorageUnavailable: lambda _error: Problem(503, "Storage cannot answer now; try again.", 5.0),
        StorageRefused: lambda error: Problem(422, str(error)),
        OverrideRefused: lambda error: Problem(422, str(error)),
    }
