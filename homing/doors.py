"""The doors, SMTP and IMAP, made as the settings say."""

from __future__ import annotations

from homing import __version__
from homing.ports import Listening
from homing.process import Process
from homing.settings import Settings
from identity.port import Identity
from imap.service import ImapService, ImapSettings
from runtime.tls import Tls
from smtp.service import SmtpService
from smtp.settings import LiveSettings, SmtpSettings
from storage.port import Storage

NAMES = {
    "smtp": ("SMTP", "STARTTLS"),
    "submission": ("submission", "STARTTLS, sign-in required"),
    "submissions": ("submissions", "TLS, sign-in required"),
    "imap": ("IMAP", "STARTTLS"),
    "imaps": ("IMAPS", "TLS"),
}


def make_smtp(process: Process, identity: Identity, storage: Storage, tls: Tls) -> SmtpService:
    """SMTP; nothing listens yet. Overrides of live settings reach it from here on."""
    settings = process.settings
    smtp = SmtpService(
        smtp_settings(settings),
        host=settings.host,
        hostname=settings.name,
        domain=settings.domain,
        identity=identity,
        storage=storage,
        tls=tls.context,
        clock=process.clock,
        metrics=process.metrics,
    )
    process.keeper.on_change = lambda changed: smtp.apply(live_of(changed))
    return smtp


def make_imap(process: Process, identity: Identity, storage: Storage, tls: Tls) -> ImapService:
    """IMAP; nothing listens yet."""
    return ImapService(
        imap_settings(process.settings),
        identity=identity,
        storage=storage,
        tls=tls.context,
        clock=process.clock,
        metrics=process.metrics,
    )


def listening(settings: Settings, *doors: SmtpService | ImapService) -> tuple[Listening, ...]:
    """Their listeners, with the ports in use."""
    return tuple(
        Listening(NAMES[name][0], settings.host, port, NAMES[name][1])
        for door in doors
        for name, port in door.ports.items()
    )


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
