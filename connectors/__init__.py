"""Other people's mail servers: sending and reading through them. A library; it needs no running server.

`create_connector` makes the messaging connectors; `connectors.smtp_connector` has the providers' connectors with one
configuration for all. See docs/connectors.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectors.config import from_env
from connectors.exceptions import (
    AuthenticationError,
    ConfigurationError,
    ConnectionError,
    MessageError,
)
from connectors.letter import Attachment
from connectors.messaging import GmailConnector, GmailIMAPConnector, IMAPConnector, MessagingConnector, SMTPConnector
from connectors.submission import Refusal, SendResult

__all__ = [
    "Attachment",
    "AuthenticationError",
    "ConfigurationError",
    "ConnectionError",
    "MessageError",
    "Refusal",
    "SendResult",
    "create_connector",
    "from_env",
]

KINDS: dict[str, type[MessagingConnector]] = {
    one.kind: one for one in (SMTPConnector, GmailConnector, IMAPConnector, GmailIMAPConnector)
}


def create_connector(kind: str, config: Mapping[str, Any] | None = None, **keys: Any) -> Any:
    """A connector of a kind ("smtp", "gmail", "imap", "gmail_imap"), from a configuration, keys by name, or both.

    Nothing is connected yet, and nothing is read from the environment: `from_env(kind)` gives a configuration from
    there. ConfigurationError names what is missing, wrong or unknown.
    """
    made = KINDS.get(kind)
    if made is None:
        raise ConfigurationError(f"There is no kind {kind!r} of connector; there are {', '.join(sorted(KINDS))}.")
    return made({**(config or {}), **keys})
