"""Getting a refresh token: the URL where a person consents, and the exchange of the code they get (RFC 6749 §4.1)."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from connectors import config as checks
from connectors.exceptions import ConfigurationError
from connectors.oauth.google import AUTH_URL, MAIL_SCOPE, TOKEN_URL
from connectors.oauth.tokens import granted
from connectors.oauth.web import Web, check_url

REDIRECT_URI = "http://localhost"
"""Where the browser ends up unless another address is given; the code is in the address that it then shows."""

ADVICE = "Codes are good once and for a few minutes: make a new URL, open it, and exchange the code at once."


class OAuth2Manager:
    """Makes refresh tokens with a client id and secret; Google's endpoints unless others are given."""

    def __init__(
        self,
        client_id: str,
        client_secret: str,
        scopes: str | Iterable[str] = (MAIL_SCOPE,),
        *,
        redirect_uri: str = REDIRECT_URI,
        auth_url: str = AUTH_URL,
        token_url: str = TOKEN_URL,
        timeout: float = checks.DEFAULT_TIMEOUT,
        ca_file: str | None = None,
    ) -> None:
        """ConfigurationError names what is missing or wrong."""
        given = {"client_id": client_id, "client_secret": client_secret, "redirect_uri": redirect_uri}
        self.client_id = checks.text(given, "client_id", "OAuth2Manager")
        self._client_secret = checks.text(given, "client_secret", "OAuth2Manager")
        self.redirect_uri = checks.text(given, "redirect_uri", "OAuth2Manager")
        self.scopes = tuple(scopes.split() if isinstance(scopes, str) else scopes)
        if not self.scopes:
            raise ConfigurationError(f"OAuth2Manager: 'scopes' is empty; for mail it is {MAIL_SCOPE}.")
        check_url(auth_url)
        check_url(token_url)
        self._auth_url = auth_url
        self._token_url = token_url
        self._web = Web(checks.seconds({"timeout": timeout}, "OAuth2Manager"), ca_file=ca_file)
        self.state = ""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **more: Any) -> OAuth2Manager:
        """With GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET; ConfigurationError names the one that is missing."""
        env = os.environ if environ is None else environ
        for name in ("GOOGLE_CLIENT_ID", "GOOGLE_CLIENT_SECRET"):
            if not env.get(name):
                raise ConfigurationError(f"The environment has no {name}; set it.")
        return cls(env["GOOGLE_CLIENT_ID"], env["GOOGLE_CLIENT_SECRET"], **more)

    def generate_oauth_url(self, login_hint: str | None = None) -> str:
        """The URL to open in a browser; login_hint is the address of the account that is to consent.

        `state` is new with each URL and comes back with the code: a web page that gets it compares (RFC 6749 §10.12).
        """
        self.state = secrets.token_urlsafe(24)
        query = {
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "response_type": "code",
            "scope": " ".join(self.scopes),
            # Google gives a refresh token for these two alone
            "access_type": "offline",
            "prompt": "consent",
            "state": self.state,
        }
        if login_hint:
            query["login_hint"] = login_hint
        return self._auth_url + ("&" if "?" in self._auth_url else "?") + urlencode(query)

    def exchange_code_for_tokens(self, code: str) -> dict[str, Any]:
        """The endpoint's answer for a code: refresh_token, access_token, expires_in, scope …

        AuthenticationError when the code is refused, or when no refresh token comes with it.
        """
        form = {
            "grant_type": "authorization_code",
            "code": checks.text({"code": code}, "code", "OAuth2Manager").strip(),
            "client_id": self.client_id,
            "client_secret": self._client_secret,
            "redirect_uri": self.redirect_uri,
        }
        answer = self._web.request(self._token_url, form)
        fields, _ = granted(answer, "The provider", (self._client_secret, form["code"]), ADVICE)
        return checks.secretive(fields)

    def __repr__(self) -> str:
        return f"OAuth2Manager(client_id={self.client_id!r})"
