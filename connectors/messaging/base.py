"""What the messaging connectors have in common: the configuration, and the connection's life."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, ClassVar, Self

from connectors import config as checks
from connectors.exceptions import ConfigurationError
from connectors.oauth import GoogleTokens, MicrosoftTokens, Tokens
from connectors.oauth.google import TOKEN_URL
from connectors.oauth.microsoft import AUTHORITY, SCOPE
from connectors.oauth.web import Web
from connectors.signin import AccessToken, Credential, Password

COMMON_KEYS = frozenset(
    {
        "host",
        "port",
        "username",
        "password",
        "use_tls",
        "use_ssl",
        "timeout",
        "verify_ssl",
        "ca_file",
        "use_oauth",
        "oauth",
    }
)
_OAUTH_KEYS = frozenset({"client_id", "client_secret", "refresh_token", "token_url", "tenant_id", "authority", "scope"})


class MessagingConnector(ABC):
    """A connection to one account on one server; for one thread at a time. Methods connect when that is not done."""

    kind: ClassVar[str] = ""
    default_host: ClassVar[str] = ""
    known: ClassVar[frozenset[str]] = COMMON_KEYS
    needs_credential: ClassVar[bool] = True

    def __init__(self, config: Mapping[str, Any]) -> None:
        """ConfigurationError names what is missing, wrong or unknown; nothing is connected yet."""
        self.config: dict[str, Any] = checks.secretive(config)
        self._where = f"connector {self.kind!r}"
        checks.check_keys(self.config, self.known, self._where)
        host = checks.optional_text(self.config, "host", self._where) or self.default_host
        if not host:
            raise ConfigurationError(f"{self._where}: 'host' is missing (the server's name); add it.")
        self.host = host
        self.timeout = checks.seconds(self.config, self._where)
        self.verify = checks.flag(self.config, "verify_ssl", True, self._where)
        self.ca_file = checks.optional_text(self.config, "ca_file", self._where)
        self._credential = self._credentials()

    def _credentials(self) -> Credential | None:
        where = self._where
        oauth = self.config.get("oauth")
        if checks.flag(self.config, "use_oauth", False, where):
            user = checks.text(self.config, "username", where, what="the account's address")
            if not isinstance(oauth, Mapping):
                raise ConfigurationError(
                    f"{where}: 'oauth' is missing (client_id, client_secret, refresh_token); add it."
                )
            return AccessToken(user, self._tokens(oauth))
        if oauth is not None:
            raise ConfigurationError(
                f"{where}: 'oauth' is there but 'use_oauth' is not true; set it, or take 'oauth' out."
            )
        username = checks.optional_text(self.config, "username", where)
        password = checks.optional_text(self.config, "password", where)
        if not self.needs_credential and username is None and password is None:
            return None
        checks.text(self.config, "username", where)
        checks.text(self.config, "password", where, what="or 'use_oauth' with 'oauth'")
        assert username is not None
        assert password is not None
        return Password(username, password)

    def _tokens(self, oauth: Mapping[str, Any]) -> Tokens:
        where = f"{self._where}: 'oauth'"
        checks.check_keys(oauth, _OAUTH_KEYS, where)
        client_id = checks.text(oauth, "client_id", where)
        client_secret = checks.text(oauth, "client_secret", where)
        web = Web(self.timeout, ca_file=self.ca_file)
        if oauth.get("tenant_id"):
            return MicrosoftTokens(
                client_id,
                client_secret,
                checks.text(oauth, "tenant_id", where),
                web=web,
                authority=checks.optional_text(oauth, "authority", where) or AUTHORITY,
                scope=checks.optional_text(oauth, "scope", where) or SCOPE,
            )
        return GoogleTokens(
            client_id,
            client_secret,
            checks.text(oauth, "refresh_token", where, what="or 'tenant_id' for Microsoft"),
            web=web,
            token_url=checks.optional_text(oauth, "token_url", where) or TOKEN_URL,
        )

    @abstractmethod
    def connect(self) -> None:
        """Connect and sign in; nothing when that is done. ConnectionError, AuthenticationError."""

    @abstractmethod
    def disconnect(self) -> None:
        """End the connection; nothing when there is none."""

    @abstractmethod
    def is_connected(self) -> bool:
        """Whether there is a connection and the server answers on it now."""

    @contextmanager
    def connection(self) -> Iterator[Self]:
        """A block with this connector connected, and disconnected at its end."""
        self.connect()
        try:
            yield self
        finally:
            self.disconnect()

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.config.get('username') or 'nobody'} on {self.host}>"


def oauth_config(
    email: str, client_id: str, client_secret: str, refresh_token: str, more: Mapping[str, Any]
) -> dict[str, Any]:
    """The configuration that `create_with_oauth` stands for; token_url among more goes where it belongs."""
    rest = dict(more)
    oauth = {"client_id": client_id, "client_secret": client_secret, "refresh_token": refresh_token}
    if "token_url" in rest:
        oauth["token_url"] = rest.pop("token_url")
    return {"username": email, "use_oauth": True, "oauth": oauth, **rest}
