"""Microsoft: access tokens by client credentials, through msal (RFC 6749 §4.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectors import failures
from connectors.exceptions import ConfigurationError, ConnectionError
from connectors.oauth.tokens import TokenCache, Tokens, lifetime, refusal
from connectors.oauth.web import Answer, Web, check_url

AUTHORITY = "https://login.microsoftonline.com"
SCOPE = "https://outlook.office365.com/.default"

ADVICE = (
    "Check tenant id, client id and client secret (it may have expired), and that the application has the permission "
    "SMTP.SendAsApp or IMAP.AccessAsApp with an administrator's consent."
)


class _HttpResponse:
    """An answer as msal wants it."""

    def __init__(self, answer: Answer) -> None:
        self.status_code = answer.status
        self.text = answer.text
        self.headers = dict(answer.headers)

    def raise_for_status(self) -> None:
        if self.status_code >= 400:
            raise ConnectionError(f"Microsoft's token endpoint is not well: HTTP {self.status_code}. Try again later.")


class _HttpClient:
    """msal's requests, made by our one HTTP function."""

    def __init__(self, web: Web) -> None:
        self._web = web

    def post(
        self,
        url: str,
        params: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        **_kwargs: Any,
    ) -> _HttpResponse:
        return _HttpResponse(self._web.request(url, data or {}, headers))

    def get(
        self,
        url: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        **_kwargs: Any,
    ) -> _HttpResponse:
        return _HttpResponse(self._web.request(url, None, headers))

    def close(self) -> None:
        """Nothing is kept open."""


class MicrosoftTokens(Tokens):
    """Access tokens of an application (client) in a tenant; authority is where both live."""

    provider = "Microsoft"

    def __init__(
        self,
        client_id: str,
        client_secret: str,
        tenant_id: str,
        *,
        web: Web,
        authority: str = AUTHORITY,
        scope: str = SCOPE,
        cache: TokenCache | None = None,
    ) -> None:
        """ConfigurationError for an authority or tenant that cannot be part of a URL."""
        super().__init__((authority, scope, client_id, client_secret, tenant_id), cache)
        if "/" in tenant_id or "?" in tenant_id or "#" in tenant_id:
            raise ConfigurationError("The tenant id is a UUID or a domain name of the tenant; check 'credential'.")
        self._authority = f"{authority.rstrip('/')}/{tenant_id}"
        if check_url(self._authority).scheme != "https":
            raise ConfigurationError(f"{authority!r}: an authority of Microsoft has to be https.")
        self._client_id = client_id
        self._client_secret = client_secret
        self._scope = scope
        self._web = web

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self._client_secret,)

    def _fetch(self) -> tuple[str, float]:
        # Imported here: it takes a quarter of a second, and basic and Gmail connectors never need it.
        import msal  # type: ignore[import-untyped]  # it ships no types

        try:
            # One application a fetch: the token is kept by our cache, so that a refused one is not given out again.
            application = msal.ConfidentialClientApplication(
                self._client_id,
                client_credential=self._client_secret,
                authority=self._authority,
                instance_discovery=False,
                http_client=_HttpClient(self._web),
            )
            fields = application.acquire_token_for_client(scopes=[self._scope])
        except msal.exceptions.MsalError as error:
            raise ConnectionError("Microsoft's token endpoint is not well. Try again later.") from error
        except ValueError as error:
            # what msal makes of a tenant that there is not: its discovery answers 400
            text = failures.said(str(error).partition("Error:")[0], self.secrets)
            raise ConfigurationError(
                f"Microsoft knows no such tenant. {text} Check 'credential' (the tenant id)."
            ) from error
        except (KeyError, AttributeError, TypeError) as error:
            # what msal makes of a discovery document that is none
            raise ConnectionError(f"What answers at {self._authority} is not Microsoft. Check 'authority'.") from error
        token = fields.get("access_token")
        if isinstance(token, str) and token and token.isascii() and token.isprintable():
            return token, lifetime(fields.get("expires_in"))
        if "error" not in fields:
            raise ConnectionError(f"What answers at {self._authority} gives no tokens. Check 'authority'.")
        raise refusal(self.provider, str(fields.get("error")), fields.get("error_description"), self.secrets, ADVICE)
