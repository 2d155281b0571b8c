"""What can be set about sending through accounts' own integrations."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import SecretStr, field_validator

from homing.integrations.book import Rules
from homing.integrations.vault import parse_key
from runtime.config import Group, OptionalPath, OptionalSecret, OptionalText, Words, setting
from runtime.limits import Networks


class Secrets(Group):
    """The keys that secrets of others, stored by accounts, are sealed with (AES-256-GCM). See sending-api.md."""

    key: OptionalSecret = setting(
        None,
        "32 octets in base64, the same for all services: it seals, and opens what it has sealed. Empty: in one process"
        " on SQLite the file secrets.key in the data folder, made when the first secret is stored; otherwise none can"
        " be stored or used.",
    )
    old: OptionalSecret = setting(
        None, "Keys of before, separated by commas: they open, until all is sealed with the present one."
    )

    @field_validator("key", "old")
    @classmethod
    def _are_keys(cls, value: SecretStr | None) -> SecretStr | None:
        for text in re.split(r"[\s,]+", value.get_secret_value()) if value is not None else ():
            if text:
                parse_key(text)
        return value


class Sending(Group):
    """Sending through accounts' own integrations, `POST /smtp/send-email`. See sending-api.md."""

    refused: Words = setting(
        ("169.254.0.0/16", "fe80::/10"),
        "Networks in which the servers of integrations, and the mail hosts of other domains, may not be (relays of the"
        " settings may). Who has accounts of strangers adds loopback and the private networks: what an account stores,"
        " or writes to, is connected to from here.",
    )
    plaintext: Literal["loopback", "always"] = setting(
        "loopback", "Where integrations may do without TLS: at servers on this machine, or everywhere."
    )
    timeout: float = setting(30.0, "Seconds that one step with a server may take.", gt=0, le=600)
    total_timeout: float = setting(
        120.0, "Seconds after which a request is answered, whatever came of it.", gt=0, le=3600
    )
    concurrency: int = setting(
        16,
        "Messages that are being sent at the same time; those of one account at most a quarter of them.",
        ge=1,
        le=256,
    )
    per_account: int = setting(20, "Messages of one account that are being sent, or wait for it.", ge=1, le=1000)
    ca_file: OptionalPath = setting(None, "PEM file of the authorities to trust instead of the system's.")
    token_url: OptionalText = setting(None, "The token endpoint of integrations with Gmail. Empty: Google's.")
    authority: OptionalText = setting(None, "The authority of integrations with Microsoft. Empty: Microsoft's.")
    scope: OptionalText = setting(None, "The scope of Microsoft's tokens. Empty: that of Outlook.")

    @field_validator("refused")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            Networks(value)
        except ValueError as error:
            raise ValueError(f"is not a list of networks such as 192.0.2.0/24: {error}") from None
        return value

    @property
    def rules(self) -> Rules:
        """As what sends is told them."""
        return Rules(
            refused=self.refused,
            plaintext=self.plaintext == "always",
            ca_file=None if self.ca_file is None else str(self.ca_file),
            token_url=self.token_url,
            authority=self.authority,
            scope=self.scope,
            seconds=self.timeout,
            total=self.total_timeout,
            sends=self.concurrency,
            waiting=max(200, self.per_account),
            of_account=self.per_account,
        )
