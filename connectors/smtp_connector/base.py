"""What all providers' connectors have in common. A new one is a subclass with `provider_type` and `_authenticate()`."""

from __future__ import annotations

import smtplib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, ClassVar, Self

from connectors import config as checks
from connectors import letter, recipients, signin, submission
from connectors.exceptions import (
    ERROR_SMTP_CONNECTION_FAILED,
    AuthenticationError,
    ConfigurationError,
    ConnectionError,
    MessageError,
    SMTPConnectionFailed,
    SMTPSignInFailed,
)
from connectors.oauth.web import Web
from connectors.sending import Submitter
from connectors.submission import SendResult

__all__ = ["ERROR_SMTP_CONNECTION_FAILED", "BaseSMTPConnector"]

COMMON_KEYS = frozenset(
    {
        "provider",
        "from_email",
        "user",
        "secret",
        "credential",
        "host",
        "port",
        "timeout",
        "use_tls",
        "use_ssl",
        "verify_ssl",
        "ca_file",
        "refused_networks",
    }
)


class BaseSMTPConnector(ABC):
    """Sends mail through one provider. Connects at the first `send_email`; for one thread at a time.

    The keys of the configuration are those of docs/connectors.md. `connect()` is a template: connection, EHLO,
    STARTTLS, EHLO, then the subclass's `_authenticate()`, for which `self.smtp` is the open smtplib.SMTP and
    `self.config` the configuration.
    """

    provider_type: ClassVar[str] = ""
    """What the configuration's `provider` says to mean this class."""

    default_host: ClassVar[str] = ""
    default_port: ClassVar[int] = 587
    required: ClassVar[tuple[str, ...]] = ("from_email", "user", "secret")
    """Keys that have to be there, beside host where the class has no default for it."""

    known: ClassVar[frozenset[str] | None] = None
    """Keys that may be there; None allows any, for providers with keys of their own."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """ConfigurationError names what is missing or wrong; nothing is connected yet."""
        where = f"SMTP connector {self.provider_type or type(self).__name__!r}"
        self.config: dict[str, Any] = checks.secretive(config)
        provider = self.config.get("provider") or self.provider_type
        if provider != self.provider_type:
            raise ConfigurationError(
                f"{where}: 'provider' is {provider!r}; get_connector_by_provider finds the class for it."
            )
        if self.known is not None:
            checks.check_keys(self.config, self.known, where)
        for key in self.required:
            checks.text(self.config, key, where)
        for key in ("user", "secret", "credential"):
            checks.optional_text(self.config, key, where)
        host = checks.optional_text(self.config, "host", where) or self.default_host
        if not host:
            raise ConfigurationError(f"{where}: 'host' is missing (the provider's SMTP server); add it.")
        port = checks.port(self.config, self.default_port, where)
        try:
            self._sender = recipients.one(self.config["from_email"], "sender")
        except MessageError as error:
            raise ConfigurationError(f"{where}: 'from_email': {error}") from error
        server = submission.Server(
            host=host,
            port=port,
            timeout=checks.seconds(self.config, where),
            tls=checks.flag(self.config, "use_tls", True, where),
            implicit=checks.flag(self.config, "use_ssl", port == submission.IMPLICIT_TLS_PORT, where),
            verify=checks.flag(self.config, "verify_ssl", True, where),
            ca_file=checks.optional_text(self.config, "ca_file", where),
            refused=checks.networks(self.config, "refused_networks", where),
        )
        self._submitter = Submitter(server, self._sign_in, _connection_failed)
        self._smtp: smtplib.SMTP | None = None

    @classmethod
    def get_connector_by_provider(cls, provider: str) -> type[BaseSMTPConnector]:
        """The class whose `provider_type` this is; of several the one defined last. ConfigurationError for none."""
        classes = [one for one in _subclasses() if one.__dict__.get("provider_type")]
        found = [one for one in classes if one.provider_type == provider]
        if not found:
            names = ", ".join(sorted({one.provider_type for one in classes}))
            raise ConfigurationError(f"There is no connector for the provider {provider!r}; there are {names}.")
        return found[-1]

    @property
    def smtp(self) -> smtplib.SMTP:
        """The open connection; ERROR_SMTP_CONNECTION_FAILED when there is none."""
        if self._smtp is None:
            raise SMTPConnectionFailed("There is no connection; call connect() first.")
        return self._smtp

    @property
    def server(self) -> submission.Server:
        """Where and how it connects."""
        return self._submitter.server

    @property
    def address(self) -> str:
        """The account's own address, as MAIL has it."""
        return self._sender.wire

    @abstractmethod
    def _authenticate(self) -> None:
        """Sign in on `self.smtp`. What smtplib raises may pass; it becomes ERROR_SMTP_CONNECTION_FAILED."""

    def connect(self) -> None:
        """Connect and sign in; nothing when that is done. ERROR_SMTP_CONNECTION_FAILED for every failure."""
        self._submitter.connect()

    def _sign_in(self, smtp: smtplib.SMTP) -> None:
        self._smtp = smtp
        self._authenticate()

    def send_email(self, to_emails: str | Iterable[str], subject: str, contents: str) -> SendResult:
        """Send HTML, with a plain text made from it beside it, to one or several addresses (separated by commas).

        The result names the recipients that were refused while others were not. MessageError, ConnectionError (see its
        may_have_been_sent), AuthenticationError; those of connecting are ERROR_SMTP_CONNECTION_FAILED too.
        """
        to = recipients.several(to_emails)
        written = letter.write(self._sender, to, subject, text=None, html=contents)
        return self._submitter.send(self._sender, to, written)

    def quit_smtp(self) -> None:
        """End the connection; nothing when there is none."""
        self._smtp = None
        self._submitter.close()

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.quit_smtp()

    def __repr__(self) -> str:
        server = self._submitter.server
        return f"<{type(self).__name__} {self._sender.mailbox} via {server.host}:{server.port}>"

    def _with_token(self, credential: signin.AccessToken) -> None:
        """Sign in by XOAUTH2, for providers that have it."""
        signin.smtp(self.smtp, credential, self._submitter.server.host)

    def _web(self) -> Web:
        """How this connector reaches token endpoints."""
        server = self._submitter.server
        return Web(server.timeout, ca_file=server.ca_file)


@contextmanager
def _connection_failed() -> Iterator[None]:
    """Makes ERROR_SMTP_CONNECTION_FAILED, which is one of our four too, of every failure to connect and sign in."""
    try:
        yield
    except AuthenticationError as error:
        raise SMTPSignInFailed(str(error)) from error.__cause__ or error
    except ConnectionError as error:
        raise SMTPConnectionFailed(str(error)) from error.__cause__ or error
    except ERROR_SMTP_CONNECTION_FAILED as error:
        raise SMTPConnectionFailed(str(error) or "The provider's sign-in failed.") from error


def _subclasses() -> Iterator[type[BaseSMTPConnector]]:
    todo = [*reversed(BaseSMTPConnector.__subclasses__())]
    while todo:
        one = todo.pop()
        yield one
        todo.extend(reversed(one.__subclasses__()))
