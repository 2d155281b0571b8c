"""What an account's integrations come to by each change, whatever store keeps them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from typing import Any, Final

from identity.arguments import address_name
from identity.limits import MAX_INTEGRATION_NAME, MAX_INTEGRATION_TEXT, MAX_INTEGRATIONS, MAX_SEALED
from identity.model import Integration, IntegrationSettings, Provider, Security
from identity.port import Reason, Refused

Held = tuple[Integration, ...]
"""All of one account, in the order of their making."""

SETTINGS: Final = tuple(one.name for one in fields(IntegrationSettings))
COLUMNS: Final = ("id", "is_default", "revision", "created_at", "changed_at", *SETTINGS)
"""The names of what ``plain`` gives."""


def check(settings: IntegrationSettings) -> None:
    """Raises Refused LIMIT, BAD_ADDRESS."""
    for name, most in (
        ("name", MAX_INTEGRATION_NAME),
        ("from_email", MAX_INTEGRATION_TEXT),
        ("user", MAX_INTEGRATION_TEXT),
        ("host", MAX_INTEGRATION_TEXT),
        ("key", MAX_INTEGRATION_NAME),
    ):
        value = str(getattr(settings, name))
        if len(value) > most or not (value.isprintable() or not value):
            raise Refused(Reason.LIMIT, f"{name} has at most {most} printable characters")
        if not value and name != "host":
            raise Refused(Reason.LIMIT, f"{name} is empty")
    if not 0 <= settings.port <= 65535:
        raise Refused(Reason.LIMIT, "a port is a number up to 65535")
    if len(settings.sealed) > MAX_SEALED:
        raise Refused(Reason.LIMIT, f"the secrets of an integration have at most {MAX_SEALED} octets")
    written = settings.from_email.strip()
    # RFC 5322 §3.4: with a display name the address is in brackets.
    address_name(written[written.rfind("<") + 1 : -1] if written.endswith(">") else written)


def added(held: Held, made: Integration) -> Held:
    """Raises Refused ALREADY_EXISTS, LIMIT."""
    _free(held, made.settings.name)
    if len(held) >= MAX_INTEGRATIONS:
        raise Refused(Reason.LIMIT, f"an account has at most {MAX_INTEGRATIONS} integrations")
    return (*held, replace(made, default=not held))


def changed(held: Held, id: str, revision: int, settings: IntegrationSettings, now: float) -> Held:
    """Raises Refused NO_SUCH_INTEGRATION, IN_USE, ALREADY_EXISTS."""
    old = found(held, id)
    if old.revision != revision:
        raise Refused(Reason.IN_USE, "the integration was changed by somebody else meanwhile")
    if settings.name != old.settings.name:
        _free(held, settings.name)
    new = replace(old, settings=settings, revision=revision + 1, changed_at=now)
    return tuple(new if one.id == id else one for one in held)


def made_default(held: Held, id: str) -> Held:
    """Raises Refused NO_SUCH_INTEGRATION."""
    found(held, id)
    return tuple(replace(one, default=one.id == id) for one in held)


def without(held: Held, id: str) -> Held:
    """Raises Refused NO_SUCH_INTEGRATION."""
    found(held, id)
    return tuple(one for one in held if one.id != id)


def found(held: Held, id: str) -> Integration:
    """Raises Refused NO_SUCH_INTEGRATION."""
    for one in held:
        if one.id == id:
            return one
    raise Refused(Reason.NO_SUCH_INTEGRATION)


def _free(held: Held, name: str) -> None:
    if any(one.settings.name == name for one in held):
        raise Refused(Reason.ALREADY_EXISTS, "an integration has the name")


def counted(keys: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """How often each is among them, in order of name."""
    return tuple(sorted(Counter(keys).items()))


def plain(one: Integration) -> tuple[Any, ...]:
    """As values that every store keeps, in the order of COLUMNS."""
    settings = one.settings
    values = [getattr(settings, name) for name in SETTINGS]
    kept = [value.value if isinstance(value, Provider | Security) else value for value in values]
    return (one.id, one.default, one.revision, one.created_at, one.changed_at, *kept)


def integration_of(account: str, row: Sequence[Any]) -> Integration:
    """Back from ``plain``."""
    id, default, revision, created_at, changed_at, *kept = row
    values = dict(zip(SETTINGS, kept, strict=True))
    values |= {
        "provider": Provider(values["provider"]),
        "security": Security(values["security"]),
        "verify": bool(values["verify"]),
        "sealed": bytes(values["sealed"]),
    }
    return Integration(id, account, IntegrationSettings(**values), bool(default), revision, created_at, changed_at)
