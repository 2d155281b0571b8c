"""Accounts at other providers through which mail is sent on, as the settings name them: `[connectors.NAME]`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SecretStr

from runtime.config import Group, OptionalPath, OptionalSecret, OptionalText, Port


class ConnectorSettings(Group):
    """One account. The keys are those of the connectors library (docs/connectors.md), and two of the server's own."""

    name: str = Field(
        description="As routes call it, `connector:NAME`: the table's own name, not a key within it.",
        pattern=r"^[a-z0-9][a-z0-9._\-]{0,31}$",
    )
    provider: Literal["basic", "gmail", "microsoft"] = Field(
        default="basic", description="How to sign in: basic by name and password, at any SMTP host."
    )
    from_email: str = Field(description="The account's own address.", min_length=3)
    user: str = Field(
        description="The SMTP user name (basic), or the client id of OAuth2 (gmail, microsoft).", min_length=1
    )
    secret: SecretStr = Field(description="The password, or the client secret.", min_length=1)
    credential: OptionalSecret = Field(
        default=None, description="The refresh token (gmail), or the tenant id (microsoft)."
    )
    host: OptionalText = Field(default=None, description="The provider's SMTP server. Needed for basic.")
    port: Port = Field(
        default=None, description="Its port. Empty: 587, with STARTTLS; 465 is TLS from the first octet."
    )
    timeout: float = Field(
        default=30.0,
        description="Seconds that one step may take, but for the reply to a whole message (`outbound.data_timeout`).",
        gt=0,
        le=3600,
    )
    use_tls: bool = Field(default=True, description="False sends all in clear, for servers on this machine.")
    use_ssl: bool | None = Field(default=None, description="TLS from the first octet. Empty: on port 465.")
    verify_ssl: bool = Field(default=True, description="False lets anyone on the way read along.")
    ca_file: OptionalPath = Field(
        default=None, description="PEM file of the authorities to trust instead of the system's."
    )
    token_url: OptionalText = Field(default=None, description="The token endpoint (gmail). Empty: Google's.")
    authority: OptionalText = Field(default=None, description="The authority (microsoft). Empty: Microsoft's.")
    scope: OptionalText = Field(default=None, description="The scope of tokens (microsoft). Empty: that of Outlook.")
    sender: Literal["keep", "account"] = Field(
        default="keep",
        description="The envelope's sender as the provider is told it. account: `from_email`, for providers that take"
        " no other; then it gets the provider's notices. The message is never changed.",
    )
    connections: int = Field(
        default=3, description="Connections at the same time, by each process; further messages wait.", ge=1, le=50
    )

    @property
    def config(self) -> dict[str, Any]:
        """As the connectors library takes it, in clear."""
        found: dict[str, Any] = {}
        for key in type(self).model_fields:
            value = getattr(self, key)
            if key in ("name", "sender", "connections") or value is None:
                continue
            found[key] = value.get_secret_value() if isinstance(value, SecretStr) else value
        return found | ({"ca_file": str(self.ca_file)} if self.ca_file is not None else {})
