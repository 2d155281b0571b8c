"""Checking of configurations, and loading them from the environment where that is asked for."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Mapping
from typing import Any

from connectors.exceptions import ConfigurationError
from runtime.limits import Networks

DEFAULT_TIMEOUT = 30.0
"""Seconds that one step with a server (a connection, a command, a block of data) may take."""

MAX_TIMEOUT = 3600.0

SECRET_KEYS = frozenset(
    {"secret", "credential", "password", "client_secret", "refresh_token", "access_token", "client_assertion"}
)

GMAIL_SMTP = ("smtp.gmail.com", 587)
GMAIL_IMAP = ("imap.gmail.com", 993)
MICROSOFT_SMTP = ("smtp.office365.com", 587)


class Secretive(dict[str, Any]):
    """A dict whose repr shows *** in place of secrets."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{key!r}: {'***' if key in SECRET_KEYS else repr(value)}" for key, value in self.items())
        return "{" + shown + "}"

    __str__ = __repr__


def secretive(config: object) -> Secretive:
    """A copy of a configuration, and of the mappings in it; ConfigurationError when it is no mapping."""
    if not isinstance(config, Mapping):
        raise ConfigurationError(
            f"The configuration has to be a dict with keys like 'host', not {type(config).__name__}."
        )
    return Secretive({str(k): secretive(v) if isinstance(v, Mapping) else v for k, v in config.items()})


def check_keys(config: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """ConfigurationError for the first key that is not known, with the nearest that is."""
    for key in config:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}."
            raise ConfigurationError(f"{where}: {key!r} is no key of this configuration; {hint}")


def text(config: Mapping[str, Any], key: str, where: str, *, what: str = "") -> str:
    """The value of a required key: text that is not empty and has no control characters; else ConfigurationError."""
    value = optional_text(config, key, where)
    if value is None:
        raise ConfigurationError(f"{where}: {key!r} is missing{f' ({what})' if what else ''}; add it.")
    return value


def optional_text(config: Mapping[str, Any], key: str, where: str) -> str | None:
    """As `text`, but None for a value that is missing, None or empty."""
    value = config.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ConfigurationError(f"{where}: {key!r} has to be text, not {type(value).__name__}.")
    if any(ord(char) < 0x20 or ord(char) == 0x7F or 0xD800 <= ord(char) <= 0xDFFF for char in value):
        # A line end in a name or password could add a command of its own.
        raise ConfigurationError(f"{where}: {key!r} has a control character in it, perhaps a line end; take it out.")
    return value


def port(config: Mapping[str, Any], default: int, where: str, key: str = "port") -> int:
    """The port, 1 to 65535, a number or its digits; the default when there is none."""
    value = config.get(key)
    if value is None or value == "":
        return default
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
        raise ConfigurationError(f"{where}: {key!r} has to be a number from 1 to 65535, not {value!r}.")
    return value


def flag(config: Mapping[str, Any], key: str, default: bool, where: str) -> bool:
    """A boolean, or a word for one; the default when there is none."""
    value = config.get(key)
    if value is None or value == "":
        return default
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in ("true", "yes", "on", "1"):
        return True
    if word in ("false", "no", "off", "0"):
        return False
    raise ConfigurationError(f"{where}: {key!r} has to be true or false, not {value!r}.")


def seconds(config: Mapping[str, Any], where: str, key: str = "timeout") -> float:
    """A time-out in seconds, above 0 and at most MAX_TIMEOUT; DEFAULT_TIMEOUT when there is none."""
    value = config.get(key)
    if value is None or value == "":
        return DEFAULT_TIMEOUT
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0.0
    if isinstance(value, bool) or not 0 < number <= MAX_TIMEOUT:
        raise ConfigurationError(f"{where}: {key!r} has to be a number of seconds up to {MAX_TIMEOUT:.0f}.")
    return number


def networks(config: Mapping[str, Any], key: str, where: str) -> Networks | None:
    """Networks like "192.0.2.0/24", in a list or with commas between them; None where there are none."""
    value = config.get(key) or ()
    texts = value.replace(",", " ").split() if isinstance(value, str) else value
    try:
        return Networks(str(one) for one in texts) if texts else None
    except (ValueError, TypeError):
        raise ConfigurationError(f"{where}: {key!r} has to be a list of networks like '192.0.2.0/24'.") from None


_SMTP_NAMES = {
    "SMTP_HOST": "host",
    "SMTP_PORT": "port",
    "SMTP_USERNAME": "username",
    "SMTP_PASSWORD": "password",
    "SMTP_USE_TLS": "use_tls",
}
_IMAP_NAMES = {
    "IMAP_HOST": "host",
    "IMAP_PORT": "port",
    "IMAP_USERNAME": "username",
    "IMAP_PASSWORD": "password",
}
_GMAIL_NAMES = {"GMAIL_USERNAME": "username", "GMAIL_PASSWORD": "password"}
_GOOGLE_NAMES = {
    "GOOGLE_CLIENT_ID": "client_id",
    "GOOGLE_CLIENT_SECRET": "client_secret",
    "GOOGLE_REFRESH_TOKEN": "refresh_token",
}
_BY_KIND = {"smtp": _SMTP_NAMES, "imap": _IMAP_NAMES, "gmail": _GMAIL_NAMES, "gmail_imap": _GMAIL_NAMES}
_NEEDED = {
    "smtp": ("SMTP_HOST",),
    "imap": ("IMAP_HOST",),
    "gmail": ("GMAIL_USERNAME",),
    "gmail_imap": ("GMAIL_USERNAME",),
}


def from_env(kind: str, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The configuration of a kind of connector ("smtp", "imap", "gmail", "gmail_imap") from the environment.

    Nothing is read from the environment unless this is called. Gmail without GMAIL_PASSWORD takes GOOGLE_CLIENT_ID,
    GOOGLE_CLIENT_SECRET and GOOGLE_REFRESH_TOKEN. ConfigurationError names the variable that is missing.
    """
    env = os.environ if environ is None else environ
    if kind not in _BY_KIND:
        raise ConfigurationError(f"There is no kind {kind!r} of connector; there are {', '.join(sorted(_BY_KIND))}.")
    missing = [name for name in _NEEDED[kind] if not env.get(name)]
    if missing:
        raise ConfigurationError(f"The environment has no {missing[0]}, which the {kind!r} connector needs; set it.")
    config: dict[str, Any] = {key: env[name] for name, key in _BY_KIND[kind].items() if env.get(name)}
    if kind.startswith("gmail") and "password" not in config:
        absent = [name for name in _GOOGLE_NAMES if not env.get(name)]
        if absent:
            raise ConfigurationError(
                f"The environment has neither GMAIL_PASSWORD nor {absent[0]}: set GMAIL_PASSWORD (an app password), "
                f"or all of {', '.join(_GOOGLE_NAMES)}."
            )
        config |= {"use_oauth": True, "oauth": {key: env[name] for name, key in _GOOGLE_NAMES.items()}}
    return config
