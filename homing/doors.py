"""The doors, SMTP and IMAP, made as the settings say."""

from __future__ import annotations

from homing import __version__
from homing.ports import Listening
from homing.process import Process
from homing.settings import Settings
from identity.limiting.gate import Gate
from identity.limiting.rules import BanRules, Offence, RateRules
from identity.port import Identity
from imap.service import ImapService, ImapSettings
from runtime.tls import Tls
from smtp.service import SmtpService
from smtp.settings import LiveSettings, SmtpSettings
from storage.port import Storage

NAMES = {
    "imap": ("IMAP", "STARTTLS"),
    "imaps": ("IMAPS", "TLS"),
}


def make_gate(process: Process, identity: Identity) -> Gate:
    """Rates and bans of all doors of the process; it starts before them. Overrides of live settings reach it from here
    on."""
    settings = process.settings
    rates, rules = gate_rules(settings)
    gate = Gate(identity, rates, rules, trusted=settings.signin.trusted, clock=process.clock, metrics=process.metrics)

    def apply(changed: Settings) -> None:
        gate.rates, gate.rules = gate_rules(changed)

    process.keeper.on_change.append(apply)
    return gate


def make_smtp(process: Process, identity: Identity, storage: Storage, tls: Tls, gate: Gate) -> SmtpService:
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
        gate=gate,
    )
    process.keeper.on_change.append(lambda changed: smtp.apply(live_of(changed)))
    return smtp


def make_imap(process: Process, identity: Identity, storage: Storage, tls: Tls, gate: Gate) -> ImapService:
    """IMAP; nothing listens yet."""
    return ImapService(
        imap_settings(process.settings),
        identity=identity,
        storage=storage,
        tls=tls.context,
        clock=process.clock,
        metrics=process.metrics,
        gate=gate,
    )


def listening(settings: Settings, *doors: SmtpService | ImapService) -> tuple[Listening, ...]:
    """Their listeners, with the ports in use."""
    found: list[Listening] = []
    for door in doors:
        if isinstance(door, SmtpService):
            found += _of_smtp(settings, door)
        else:
            for name, port in door.ports.items():
                shown, security = NAMES[name]
                if name in settings.proxy.listeners:
                    security += ", PROXY protocol"
                found.append(Listening(shown, settings.host, port, security))
    return tuple(found)


def _of_smtp(settings: Settings, door: SmtpService) -> list[Listening]:
    return [
        Listening(
            {"smtp": "SMTP", "lmtp": "LMTP", "lmtp-socket": "LMTP socket"}.get(one.name, one.name),
            one.socket or (settings.host if one.host is None else one.host),
            door.ports[one.name],
            one.security,
        )
        for one in (entrance.listener for entrance in door.entrances)
        if one.name in door.ports
    ]


def smtp_settings(settings: Settings) -> SmtpSettings:
    """The group `smtp`, with what is set once for all doors."""
    return settings.smtp.model_copy(
        update={
            "submission_port": settings.submission.port,
            "submissions_port": settings.submissions.port,
            "lmtp_port": settings.lmtp.port,
            "lmtp_socket": settings.lmtp.socket,
            "lmtp_networks": settings.lmtp.networks,
            "proxy_networks": settings.proxy.networks,
            "proxy_listeners": settings.proxy.listeners,
            "plain_auth": settings.signin.plaintext,
            "scram": settings.signin.scram,
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
        scram=settings.signin.scram,
        message_max=settings.imap.message_max,
        message_limit=settings.imap.message_limit or None,
        connections_max=settings.imap.connections_max,
        connections_per_address=settings.limits.connections_per_address,
        exempt_networks=settings.exempt,
        sessions_per_account=settings.imap.sessions_per_account,
        idle_seconds=settings.imap.idle_seconds,
        proxied=settings.proxy.listeners,
        proxy_networks=settings.proxy.networks,
        version=__version__,
        record_reads=settings.trace.reads,
        # RFC 5321 §4.5.1: that address is always there
        administrator=f"mailto:postmaster@{settings.domain}",
    )


def gate_rules(settings: Settings) -> tuple[RateRules, BanRules]:
    """The groups `rates` and `bans`."""
    rates, asked = settings.rates, settings.bans
    return RateRules(**{name: getattr(rates, name) for name in type(rates).model_fields}), BanRules(
        {
            Offence.SIGN_IN: asked.sign_ins,
            Offence.UNKNOWN_RECIPIENT: asked.recipients,
            Offence.ABUSE: asked.errors,
        },
        asked.first,
        asked.longest,
    )


def live_of(settings: Settings) -> LiveSettings:
    """What of the group `smtp` changes while running."""
    return LiveSettings(**{name: getattr(settings.smtp, name) for name in LiveSettings.model_fields})
