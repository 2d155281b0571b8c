"""An account's integrations: kept in identity, their secrets sealed here, so that identity never sees them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from connectors.exceptions import ConfigurationError
from connectors.smtp_connector.base import BaseSMTPConnector
from homing.integrations.failures import Cause, NotSent
from homing.integrations.vault import Sealed, Vault
from identity.model import Integration, IntegrationSettings, Provider, Security
from identity.port import Identity, Reason, Refused
from runtime.limits import is_loopback

CLASSES: Final = {Provider.SMTP: "basic", Provider.GMAIL: "gmail", Provider.MICROSOFT: "microsoft"}
"""The connectors' names of providers."""
SECRET_MAX: Final = 4096
"""Characters of a password, client secret, refresh token or tenant id."""


class BadIntegration(Exception):
    """What was given is no integration that can be used. The text is one sentence, without secrets."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What integrations may be, and how they are used. refused: networks in which their servers may not be. plaintext:
    whether TLS may be left out for servers that are not this machine. ca_file: authorities that are trusted instead of
    the system's. token_url, authority, scope: other token endpoints than Google's and Microsoft's. seconds: that one
    step with a server may take; total: the whole of one call. sends, waiting: messages that are being sent, and that
    wait for it, all accounts together; of_account: both of one account."""

    refused: Sequence[str] = ()
    plaintext: bool = False
    ca_file: str | None = None
    token_url: str | None = None
    authority: str | None = None
    scope: str | None = None
    seconds: float = 30.0
    total: float = 120.0
    sends: int = 16
    waiting: int = 200
    of_account: int = 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """An integration as somebody wants it, secrets in clear: what is None stays as it was, or has its default."""

    name: str | None = None
    provider: Provider | None = None
    from_email: str | None = None
    user: str | None = None
    host: str | None = None
    port: int | None = None
    security: Security | None = None
    verify: bool | None = None
    secret: str | None = field(default=None, repr=False)
    credential: str | None = field(default=None, repr=False)


class Book:
    """Adds, changes and opens integrations; the rest goes to identity as it is."""

    def __init__(self, identity: Identity, vault: Vault, rules: Rules) -> None:
        self.rules = rules
        self._identity = identity
        self._vault = vault

    async def add(self, account: str, wanted: Wanted) -> Integration:
        """Raises BadIntegration, SecretsUnreadable, and identity's errors."""
        for name, value in (("name", wanted.name), ("from_email", wanted.from_email), ("user", wanted.user)):
            if not value:
                raise BadIntegration(f"{name} is missing.")
        provider = wanted.provider or Provider.SMTP
        bare = IntegrationSettings("", provider, "", "", "", 0, Security.STARTTLS, True, "", b"")
        settings = _with(bare, wanted)
        secrets = _secrets(wanted)
        self._check(settings, secrets)
        return await self._identity.add_integration(account, await self._sealed(account, settings, secrets))

    async def change(self, account: str, id: str, wanted: Wanted) -> Integration:
        """Where its secrets would be told to another server, or as another user, they have to be given anew: who has
        a token alone does not get at them. Raises as ``add``."""
        old = await self.find(account, id)
        settings = _with(old.settings, wanted)
        secrets = _secrets(wanted)
        if _about(account, settings) != _about(account, old.settings):
            if "secret" not in secrets:
                raise BadIntegration(
                    "provider, user, host, port, security and verify say to whom the secret is told: give secret"
                    " (and credential) anew together with a change of them."
                )
        elif "secret" not in secrets or (settings.provider is not Provider.SMTP and "credential" not in secrets):
            secrets = self.secrets(old) | secrets
        self._check(settings, secrets)
        sealed = await self._sealed(account, settings, secrets)
        return await self._identity.change_integration(account, old.id, old.revision, sealed)

    async def find(self, account: str, id: str) -> Integration:
        """By id. Raises Refused NO_SUCH_INTEGRATION, and identity's errors."""
        for one in await self._identity.integrations(account):
            if one.id == id:
                return one
        raise Refused(Reason.NO_SUCH_INTEGRATION)

    async def chosen(self, account: str, name: str | None) -> Integration:
        """The one of a name or id, or the default. Never another one. Raises NotSent, and identity's errors."""
        held = await self._identity.integrations(account)
        if name is not None:
            for one in held:
                if name in (one.id, one.settings.name):
                    return one
            raise NotSent(Cause.NO_SUCH_INTEGRATION, f"There is no integration {name!r}.")
        for one in held:
            if one.default:
                return one
        if held:
            raise NotSent(
                Cause.NO_INTEGRATION,
                "None of your integrations is the default: choose one by PUT /smtp/integrations/{id}/default, or name"
                " one as integration.",
            )
        raise NotSent(
            Cause.NO_INTEGRATION, "You have no integration to send through: add one by POST /smtp/integrations."
        )

    def secrets(self, one: Integration) -> dict[str, str]:
        """Its secrets in clear. Raises SecretsUnreadable."""
        settings = one.settings
        return self._vault.open(Sealed(settings.key, settings.sealed), _about(one.account, settings))

    async def renew(self, one: Integration) -> None:
        """Seal its secrets with the present key, if they are not. Who changes it at the same moment goes first."""
        if self._vault.present in (None, one.settings.key):
            return
        sealed = await self._sealed(one.account, one.settings, self.secrets(one))
        try:
            await self._identity.change_integration(one.account, one.id, one.revision, sealed)
        except Refused as error:
            if error.reason not in (Reason.IN_USE, Reason.NO_SUCH_INTEGRATION, Reason.NO_SUCH_ACCOUNT):
                raise

    def config(self, one: IntegrationSettings, secrets: Mapping[str, str]) -> dict[str, Any]:
        """As the connectors take it."""
        rules = self.rules
        config: dict[str, Any] = {
            "provider": CLASSES[one.provider],
            "from_email": one.from_email,
            "user": one.user,
            "host": one.host or None,
            "port": one.port or None,
            "timeout": rules.seconds,
            "use_tls": one.security is not Security.NONE,
            "use_ssl": one.security is Security.TLS,
            "verify_ssl": one.verify,
            "ca_file": rules.ca_file,
            "refused_networks": list(rules.refused) or None,
            **secrets,
        }
        match one.provider:
            case Provider.GMAIL:
                config["token_url"] = rules.token_url
            case Provider.MICROSOFT:
                config |= {"authority": rules.authority, "scope": rules.scope}
            case Provider.SMTP:
                pass
        return {key: value for key, value in config.items() if value is not None}

    async def _sealed(
        self, account: str, settings: IntegrationSettings, secrets: Mapping[str, str]
    ) -> IntegrationSettings:
        sealed = await self._vault.seal(secrets, _about(account, settings))
        return replace(settings, key=sealed.key, sealed=sealed.octets)

    def _check(self, settings: IntegrationSettings, secrets: Mapping[str, str]) -> None:
        """Would a connector take it?"""
        if settings.security is Security.NONE and not self.rules.plaintext and not _is_here(settings.host):
            raise BadIntegration(
                "security none would carry the secret in clear: it is for servers on this machine (see the setting"
                " sending.plaintext)."
            )
        try:
            kind = BaseSMTPConnector.get_connector_by_provider(CLASSES[settings.provider])
            kind(self.config(settings, secrets))
        except ConfigurationError as error:
            raise BadIntegration(str(error)) from None


def _with(old: IntegrationSettings, wanted: Wanted) -> IntegrationSettings:
    given = {
        name: value
        for name in ("name", "provider", "from_email", "user", "host", "port", "security", "verify")
        if (value := getattr(wanted, name)) is not None
    }
    if isinstance(given.get("from_email"), str):
        given["from_email"] = given["from_email"].strip()
    if isinstance(given.get("host"), str):
        given["host"] = given["host"].strip().lower()
    if given.get("port") == 465 and "security" not in given and old.security is Security.STARTTLS:
        # RFC 8314 §7.3
        given["security"] = Security.TLS
    return replace(old, **given)


def _secrets(wanted: Wanted) -> dict[str, str]:
    found = {name: getattr(wanted, name) for name in ("secret", "credential")}
    for name, value in found.items():
        if value is not None and len(value) > SECRET_MAX:
            raise BadIntegration(f"{name} is longer than {SECRET_MAX} characters.")
    return {name: value for name, value in found.items() if value}


def _is_here(host: str) -> bool:
    return host == "localhost" or (bool(host) and is_loopback(host))


def _about(account: str, one: IntegrationSettings) -> str:
    """To whom the secrets are told, and whose they are."""
    where = [account, one.provider.value, one.user, one.host, one.port, one.security.value, one.verify]
    return json.dumps(where)
