"""What is wanted, from the settings, identity and this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

from homing.doctor.machine import own_addresses, read_certificate
from homing.doctor.setup import Certificate, OurDomain, Setup
from homing.ports import Config
from homing.settings import Settings, load_settings
from homing.sts import own_policy, policy_record
from identity.port import Identity, Reason, Refused
from mail.address import AddressError, domain_key
from runtime.config import MASK
from smtp.outbound.routetext import ANY

OVERRIDE = "override"
"""The origin of a setting that is saved (``runtime.config.Row``)."""


async def make_setup(settings: Settings, identity: Identity, only: str | None = None) -> Setup:
    """only: of this domain of ours alone. Raises identity's errors (NO_SUCH_DOMAIN for one that is not ours), and
    StartError for settings that cannot be used."""
    names = [one.name for one in await identity.domains()]
    if only is not None:
        try:
            key = domain_key(only)
        except AddressError as error:
            raise Refused(Reason.BAD_ADDRESS, f"{only!r} is not a domain: {error}") from error
        names = [name for name in names if domain_key(name) == key]
        if not names:
            raise Refused(Reason.NO_SUCH_DOMAIN)
    domains = [OurDomain(domain_key(name), await identity.dkim_keys(name)) for name in sorted(names)]
    policy = own_policy(settings)
    certificate, why = await asyncio.to_thread(_certificate, settings)
    here = await asyncio.to_thread(own_addresses)
    configured = settings.doctor.addresses
    return Setup(
        hostname=_key(settings.name),
        domains=tuple(domains),
        addresses=configured or here,
        configured=bool(configured),
        policy=policy,
        policy_record="" if policy is None else policy_record(policy),
        certificate=certificate,
        no_certificate=why,
        relay=_relay(settings),
    )


async def in_force(settings: Settings, config: Config) -> Settings:
    """The settings of a command, with what is saved over them where the server keeps it. config: of the server, or of
    its store. Raises StartError, OverridesUnavailable."""
    rows = await config.settings()
    # A secret is masked, and of no use here.
    saved = {row.key: row.value for row in rows if row.origin == OVERRIDE and MASK not in row.value}
    return load_settings(overrides=saved).settings if saved else settings


def _key(name: str) -> str:
    try:
        return domain_key(name)
    except AddressError:
        return name.lower()


def certificate_file(settings: Settings) -> Path:
    """Where the certificate is, or will be."""
    return settings.tls.cert or settings.data / "tls" / "cert.pem"


def _certificate(settings: Settings) -> tuple[Certificate | None, str]:
    file, own = certificate_file(settings), settings.tls.cert is None
    try:
        return read_certificate(file, settings.name, settings.outbound.roots, own=own), ""
    except FileNotFoundError:
        if own:
            return None, "this machine has no certificate yet: the first start makes one"
        return None, f"{file} is not there"
    except (OSError, ValueError) as error:
        return None, f"{file} cannot be read: {error}"


def _relay(settings: Settings) -> str:
    """The smarthost of all mail on its way out, without its password."""
    route = settings.outbound.table.get(ANY, "mx")
    if route == "mx":
        return ""
    if route.startswith("connector:"):
        return route
    return urlsplit(route).hostname or "a relay"
