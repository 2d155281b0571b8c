"""Google: access tokens from a refresh token, which is one POST (RFC 6749 §6)."""

from __future__ import annotations

from connectors.oauth.tokens import TokenCache, Tokens, granted
from connectors.oauth.web import Web

TOKEN_URL = "https://oauth2.googleapis.com/token"
AUTH_URL = "https://accounts.google.com/o/oauth2/v2/auth"
MAIL_SCOPE = "https://mail.google.com/"

ADVICE = (
    "Check client id and client secret; where the refresh token has expired or was revoked, make a new one "
    "(scripts/example_oauth_gmail.py shows how)."
)


class GoogleTokens(Tokens):
    """Access tokens for one refresh token; token_url may be that of any provider that works the same way."""

    provider = "Google"

    def __init__(
        self,
        client_id: str,
        client_secret: str,
        refresh_token: str,
        *,
        web: Web,
        token_url: str = TOKEN_URL,
        cache: TokenCache | None = None,
    ) -> None:
        super().__init__((token_url, client_id, client_secret, refresh_token), cache)
        self._client_id = client_id
        self._client_secret = client_secret
        self._refresh_token = refresh_token
        self._token_url = token_url
        self._web = web

    @property
    def secrets(self) -> tuple[str, ...]:
        return self._client_secret, self._refresh_token

    def _fetch(self) -> tuple[str, float]:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": self._refresh_token,
            "client_id": self._client_id,
            "client_secret": self._client_secret,
        }
        answer = self._web.request(self._token_url, form)
        fields, lives = granted(answer, self.provider, self.secrets, ADVICE)
        return str(fields["access_token"]), lives
