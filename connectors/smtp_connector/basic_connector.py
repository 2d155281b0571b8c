"""Any SMTP host, by user name and password: SendGrid, Amazon SES, a company's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectors import config as checks
from connectors import signin
from connectors.smtp_connector.base import COMMON_KEYS, BaseSMTPConnector


class BasicSMTPConnector(BaseSMTPConnector):
    """`user` and `secret` are the SMTP user name and password; `host` is required; `credential` is ignored."""

    provider_type = "basic"
    known = COMMON_KEYS

    def _authenticate(self) -> None:
        credential = signin.Password(self.config["user"], self.config["secret"])
        signin.smtp(self.smtp, credential, self._submitter.server.host)


class SMTPConnector(BasicSMTPConnector):
    """The name that old code has: a basic connector, or the one that the configuration's `provider` names."""

    def __new__(cls, config: Mapping[str, Any]) -> Any:
        provider = checks.secretive(config).get("provider") or cls.provider_type
        if cls is SMTPConnector and provider != cls.provider_type:
            return cls.get_connector_by_provider(provider)(config)
        return super().__new__(cls)
