"""From the name of a place to a source of mail."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

from connectors.config import from_env
from connectors.exceptions import ConfigurationError
from connectors.messaging import GmailIMAPConnector, IMAPConnector
from connectors.pull.imap import ImapSource
from connectors.pull.maildir import MaildirSource
from connectors.pull.mbox import MboxSource
from connectors.pull.source import Source

OUTLOOK: Final = "outlook.office365.com"
FORMS: Final = (
    "imaps://USER@HOST[:PORT], imap://USER@HOST[:PORT], gmail:ADDRESS, microsoft:ADDRESS, maildir:PATH, mbox:PATH"
)
PORTS: Final = {"imap": 143, "imaps": 993}
MICROSOFT_NAMES: Final = {
    "MICROSOFT_CLIENT_ID": "client_id",
    "MICROSOFT_CLIENT_SECRET": "client_secret",
    "MICROSOFT_TENANT_ID": "tenant_id",
}


def open_source(
    place: str,
    password: Callable[[], str],
    *,
    more: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Source:
    """A source of mail; nothing is connected yet.

    password: asked where one is needed. more: further keys of a connector's configuration (`verify_ssl`, `ca_file`,
    `timeout`, …). environ: where Gmail's and Microsoft's OAuth2 clients are named (GOOGLE_CLIENT_ID,
    GOOGLE_CLIENT_SECRET and GOOGLE_REFRESH_TOKEN; MICROSOFT_CLIENT_ID, MICROSOFT_CLIENT_SECRET and
    MICROSOFT_TENANT_ID), or GMAIL_PASSWORD. Raises ConfigurationError.
    """
    env = os.environ if environ is None else environ
    kind, _, rest = place.partition(":")
    match kind.lower():
        case "maildir" if rest:
            return MaildirSource(Path(rest).expanduser())
        case "mbox" if rest:
            return MboxSource(Path(rest).expanduser())
        case "imap" | "imaps":
            return _imap(place, password, more or {})
        case "gmail" if rest:
            return _source(GmailIMAPConnector({**_gmail(rest, password, env), **(more or {})}))
        case "microsoft" if rest:
            return _source(IMAPConnector({**_microsoft(rest, password, env), **(more or {})}))
    raise ConfigurationError(f"{place!r} is no place to bring mail from; there are {FORMS}.")


def _imap(place: str, password: Callable[[], str], more: Mapping[str, Any]) -> Source:
    parts = urlsplit(place)
    if parts.password is not None:
        raise ConfigurationError(
            "A password in the place is seen by all who see the list of processes: leave it out, it is asked for."
        )
    if not parts.username or not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ConfigurationError(f"{place!r}: such a place looks like imaps://user@host or imaps://user@host:993.")
    ssl = parts.scheme == "imaps"
    config = {
        "host": parts.hostname,
        "port": _port(parts) or PORTS[parts.scheme],
        "use_ssl": ssl,
        "username": unquote(parts.username),
        "password": password(),
    }
    return _source(IMAPConnector({**config, **more}))


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError as error:
        raise ConfigurationError(f"{parts.netloc!r} has no port from 1 to 65535.") from error


def _gmail(address: str, password: Callable[[], str], env: Mapping[str, str]) -> dict[str, Any]:
    """An app password or an OAuth2 client of the environment; a password that is asked for where it has neither."""
    if env.get("GMAIL_PASSWORD") or env.get("GOOGLE_REFRESH_TOKEN"):
        return from_env("gmail_imap", {**env, "GMAIL_USERNAME": address})
    return {"username": address, "password": password()}


def _microsoft(address: str, password: Callable[[], str], env: Mapping[str, str]) -> dict[str, Any]:
    config: dict[str, Any] = {"host": OUTLOOK, "username": address}
    if not any(env.get(name) for name in MICROSOFT_NAMES):
        return {**config, "password": password()}
    absent = [name for name in MICROSOFT_NAMES if not env.get(name)]
    if absent:
        raise ConfigurationError(f"The environment has no {absent[0]}: set all of {', '.join(MICROSOFT_NAMES)}.")
    return {**config, "use_oauth": True, "oauth": {key: env[name] for name, key in MICROSOFT_NAMES.items()}}


def _source(connector: IMAPConnector) -> Source:
    return ImapSource(connector.server, connector.credential)
