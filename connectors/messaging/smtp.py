"""Sending: kinds "smtp" and "gmail"."""

from __future__ import annotations

import os
import smtplib
from collections.abc import Iterable, Mapping
from typing import Any, Self

from connectors import config as checks
from connectors import letter, recipients, signin, submission
from connectors.exceptions import ConfigurationError, MessageError
from connectors.letter import Attachment
from connectors.messaging.base import COMMON_KEYS, MessagingConnector, oauth_config
from connectors.recipients import Person
from connectors.sending import Submitter
from connectors.submission import SendResult

MAX_MESSAGE_LIMIT = 1024 * 1024 * 1024


class SMTPConnector(MessagingConnector):
    """Sends through any SMTP server: STARTTLS unless `use_tls` is false, TLS from the first byte on port 465.

    `username` and `password` may both be left out, for servers that ask for no sign-in. The sender is `from_email`,
    else `username` if that is an address.
    """

    kind = "smtp"
    default_port = 587
    known = COMMON_KEYS | {"from_email", "max_attachment_bytes"}
    needs_credential = False

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        where = self._where
        self.port = checks.port(self.config, self.default_port, where)
        server = submission.Server(
            host=self.host,
            port=self.port,
            timeout=self.timeout,
            tls=checks.flag(self.config, "use_tls", True, where),
            implicit=checks.flag(self.config, "use_ssl", self.port == submission.IMPLICIT_TLS_PORT, where),
            verify=self.verify,
            ca_file=self.ca_file,
        )
        self._limit = self.config.get("max_attachment_bytes", letter.MAX_ATTACHMENT_BYTES)
        if (
            isinstance(self._limit, bool)
            or not isinstance(self._limit, int)
            or not 0 <= self._limit <= MAX_MESSAGE_LIMIT
        ):
            raise ConfigurationError(f"{where}: 'max_attachment_bytes' has to be a number up to {MAX_MESSAGE_LIMIT}.")
        self._sender = self._sender_of(where)
        self._submitter = Submitter(server, self._sign_in)

    def _sender_of(self, where: str) -> Person:
        key = "from_email" if self.config.get("from_email") else "username"
        text = checks.optional_text(self.config, key, where)
        if text is None:
            raise ConfigurationError(f"{where}: 'from_email' is missing (the sender's address); add it.")
        try:
            return recipients.one(text, "sender")
        except MessageError as error:
            raise ConfigurationError(f"{where}: give the sender's address in 'from_email'. {error}") from error

    def _sign_in(self, smtp: smtplib.SMTP) -> None:
        if self._credential is not None:
            signin.smtp(smtp, self._credential, self.host)

    def connect(self) -> None:
        self._submitter.connect()

    def disconnect(self) -> None:
        self._submitter.close()

    def is_connected(self) -> bool:
        return self._submitter.alive()

    def send_email(
        self,
        subject: str,
        recipients: str | Iterable[str],
        body: str,
        html_body: str | None = None,
        attachments: Iterable[str | os.PathLike[str] | Attachment] | None = None,
    ) -> SendResult:
        """Send a text, perhaps with HTML beside it and files, to one or several recipients (see docs/connectors.md).

        The result names the recipients that were refused while others were not. MessageError, ConnectionError (see its
        may_have_been_sent), AuthenticationError.
        """
        to = _people(recipients)
        files = letter.read_files(attachments or (), self._limit)
        written = letter.write(self._sender, to, subject, text=body, html=html_body, attachments=files)
        return self._submitter.send(self._sender, to, written)


def _people(text: str | Iterable[str]) -> tuple[Person, ...]:
    return recipients.several(text)


class GmailConnector(SMTPConnector):
    """Sends through Gmail; `username` and `password` (an app password) are enough, or OAuth2."""

    kind = "gmail"
    default_host, default_port = checks.GMAIL_SMTP
    needs_credential = True

    @classmethod
    def create_with_oauth(cls, email: str, client_id: str, client_secret: str, refresh_token: str, **more: Any) -> Self:
        """A connector that signs in with access tokens of a refresh token; more: further keys of the configuration."""
        return cls(oauth_config(email, client_id, client_secret, refresh_token, more))
