"""Gmail and Google Workspace: XOAUTH2 with access tokens from a refresh token (scope https://mail.google.com/)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectors import config as checks
from connectors import signin
from connectors.oauth import GoogleTokens
from connectors.oauth.google import TOKEN_URL
from connectors.smtp_connector.base import COMMON_KEYS, BaseSMTPConnector


class GmailSMTPConnector(BaseSMTPConnector):
    """`user` is the client id, `secret` the client secret, `credential` the refresh token of `from_email`'s account.

    `token_url` is Google's token endpoint unless it is given.
    """

    provider_type = "gmail"
    default_host, default_port = checks.GMAIL_SMTP
    required = ("from_email", "user", "secret", "credential")
    known = COMMON_KEYS | {"token_url"}

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self._tokens = GoogleTokens(
            self.config["user"],
            self.config["secret"],
            self.config["credential"],
            web=self._web(),
            token_url=checks.optional_text(self.config, "token_url", self.provider_type) or TOKEN_URL,
        )

    def _authenticate(self) -> None:
        self._with_token(signin.AccessToken(self._sender.wire, self._tokens))
