"""Microsoft 365: XOAUTH2 with access tokens by client credentials of an application (msal)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectors import config as checks
from connectors import signin
from connectors.oauth import MicrosoftTokens
from connectors.oauth.microsoft import AUTHORITY, SCOPE
from connectors.smtp_connector.base import COMMON_KEYS, BaseSMTPConnector


class MicrosoftSMTPConnector(BaseSMTPConnector):
    """`user` is the client id, `secret` the client secret, `credential` the tenant id.

    `authority` and `scope` are those of Microsoft's worldwide cloud unless they are given.
    """

    provider_type = "microsoft"
    default_host, default_port = checks.MICROSOFT_SMTP
    required = ("from_email", "user", "secret", "credential")
    known = COMMON_KEYS | {"authority", "scope"}

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        where = self.provider_type
        self._tokens = MicrosoftTokens(
            self.config["user"],
            self.config["secret"],
            self.config["credential"],
            web=self._web(),
            authority=checks.optional_text(self.config, "authority", where) or AUTHORITY,
            scope=checks.optional_text(self.config, "scope", where) or SCOPE,
        )

    def _authenticate(self) -> None:
        self._with_token(signin.AccessToken(self._sender.wire, self._tokens))
