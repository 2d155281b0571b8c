"""Access tokens and the one HTTP request; the consent URL and the exchange of its code."""

from __future__ import annotations

import threading
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from connectors.config import from_env
from connectors.exceptions import AuthenticationError, ConfigurationError, ConnectionError
from connectors.messaging.oauth_utils import OAuth2Manager
from connectors.messaging.smtp import GmailConnector
from connectors.oauth import GoogleTokens, MicrosoftTokens, TokenCache
from connectors.oauth.tokens import EARLY, MAX_TOKENS, lifetime
from connectors.oauth.web import ANSWER_MAX, Web
from tests.connectors.certs import Certs
from tests.connectors.servers import Line, Listening, TokenServer
from tests.live import free_ports


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def google(tokens: TokenServer, certs: Certs, **more: Any) -> GoogleTokens:
    web = Web(5, ca_file=str(certs.ca))
    return GoogleTokens("client-1", "client-secret-1", "refresh-1", web=web, token_url=tokens.token_url, **more)


def test_a_token_is_kept_until_a_minute_before_its_end(tokens: TokenServer, certs: Certs) -> None:
    clock = Clock()
    source = google(tokens, certs, cache=TokenCache(clock))
    assert source.token() == source.token() == "access-1"
    clock.now += 3600 - EARLY - 1
    assert source.token() == "access-1"
    clock.now += 1
    assert source.token() == "access-2"
    source.forget("access-1")
    assert source.token() == "access-2", "another one was refused"
    source.forget("access-2")
    assert source.token() == "access-3"


def test_threads_fetch_once(tokens: TokenServer, certs: Certs) -> None:
    source = google(tokens, certs, cache=TokenCache())
    got: list[str] = []
    threads = [threading.Thread(target=lambda: got.append(source.token())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert got == ["access-1"] * 8


def test_a_failed_fetch_is_not_kept(tokens: TokenServer, certs: Certs) -> None:
    source = google(tokens, certs, cache=TokenCache())
    tokens.state.refuse = "invalid_grant"
    with pytest.raises(AuthenticationError):
        source.token()
    tokens.state.refuse = ""
    assert source.token() == "access-1"


def test_the_cache_is_bounded() -> None:
    cache = TokenCache()
    for n in range(MAX_TOKENS + 10):
        assert cache.get(str(n), lambda n=n: (f"t{n}", 3600)) == f"t{n}"  # type: ignore[misc]
    assert len(cache._kept) == MAX_TOKENS
    assert "t" not in repr(next(iter(cache._kept.values()))).replace("Token", "")


@pytest.mark.parametrize(
    ("value", "wanted"), [(3599, 3599.0), ("3599", 3599.0), (None, 3600.0), (-1, 3600.0), (True, 3600.0), ([], 3600.0)]
)
def test_lifetime(value: object, wanted: float) -> None:
    assert lifetime(value) == wanted


def test_no_answer(certs: Certs, tokens: TokenServer) -> None:
    web = Web(5, ca_file=str(certs.ca))
    with pytest.raises(ConnectionError, match="Nothing listens"):
        web.request(f"https://127.0.0.1:{free_ports(1)[0]}/token", {})
    with pytest.raises(ConnectionError, match="certificate"):
        Web(5).request(tokens.token_url, {})
    with pytest.raises(ConnectionError, match="certificate"):
        GmailConnector.create_with_oauth(
            "a@test.example", "c", "s", "r", token_url=tokens.token_url, verify_ssl=False
        )._credential.tokens.token()
    with pytest.raises(ConnectionError, match="was not found"):
        web.request("https://no-such-host.invalid/token", {})
    for url in (
        "http://oauth2.example/token",
        "ftp://127.0.0.1/x",
        "token",
        "https://",
        "https://h:x/",
        "https://h/\n",
    ):
        with pytest.raises(ConfigurationError):
            web.request(url, {})


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"<html>", b'{"access_token": ""}', b'{"access_token": "a\\r\\nb"}', b"\xff"]
)
def test_answers_that_are_none(tokens: TokenServer, certs: Certs, raw: bytes) -> None:
    tokens.state.raw = raw
    with pytest.raises(ConnectionError, match="gives no tokens"):
        google(tokens, certs).token()


def test_an_endpoint_that_says_nothing(certs: Certs) -> None:
    class Silent(Listening):
        def serve(self, line: Line) -> None:
            line.read()
            if self.connections == 2:
                line.write("HTTP/1.1 400 Bad Request\r\nContent-Length: 5\r\n")
            line.wait_for_the_end()

    with Silent(certs.context(), implicit=True) as server:
        web = Web(0.3, ca_file=str(certs.ca))
        for _ in range(2):
            with pytest.raises(ConnectionError, match="did not answer in time"):
                web.request(f"https://127.0.0.1:{server.port}/token", {})


def test_answer_too_long_and_redirects(tokens: TokenServer, certs: Certs) -> None:
    tokens.state.raw = b" " * (ANSWER_MAX + 1)
    with pytest.raises(ConnectionError, match="more than"):
        google(tokens, certs).token()
    tokens.state.raw = None
    tokens.state.redirect = tokens.authority + "/elsewhere"
    with pytest.raises(ConnectionError, match="HTTP 302"):
        google(tokens, certs).token()
    assert len(tokens.state.forms) == 2
    assert tokens.state.asked == [], "secrets follow no redirect"


@pytest.mark.parametrize("raw", [b"", b"[]", b"<html>", b'{"access_token": ""}'])
def test_microsofts_answers_that_are_none(tokens: TokenServer, certs: Certs, raw: bytes) -> None:
    web = Web(5, ca_file=str(certs.ca))
    source = MicrosoftTokens("client-1", "client-secret-1", "tenant-1", web=web, authority=tokens.authority)
    tokens.state.raw = raw
    with pytest.raises((ConnectionError, ConfigurationError, AuthenticationError)):
        source.token()
    tokens.state.raw = None
    assert source.token() == "access-1"
    assert "client-secret" not in repr(source)


def test_microsofts_authority_has_to_be_https() -> None:
    with pytest.raises(ConfigurationError, match="https"):
        MicrosoftTokens("c", "s", "t", web=Web(5), authority="http://127.0.0.1")


def test_consent_url_and_exchange(tokens: TokenServer, certs: Certs) -> None:
    manager = OAuth2Manager(
        "client-1",
        "client-secret-1",
        ["https://mail.google.com/", "email"],
        token_url=tokens.token_url,
        ca_file=str(certs.ca),
    )
    url = urlsplit(manager.generate_oauth_url(login_hint="alice@test.example"))
    assert f"{url.scheme}://{url.netloc}{url.path}" == "https://accounts.google.com/o/oauth2/v2/auth"
    query = {key: values[0] for key, values in parse_qs(url.query).items()}
    assert query["scope"] == "https://mail.google.com/ email"
    assert query["client_id"] == "client-1"
    assert query["access_type"] == "offline"
    assert query["prompt"] == "consent"
    assert query["response_type"] == "code"
    assert query["state"] == manager.state
    assert query["login_hint"] == "alice@test.example"
    got = manager.exchange_code_for_tokens("code-1")
    assert got["refresh_token"] == "refresh-1"
    assert got["access_token"] == "access-1"
    assert "refresh-1" not in repr(got) + repr(manager)
    assert tokens.state.forms[-1]["redirect_uri"] == manager.redirect_uri
    with pytest.raises(AuthenticationError, match=r"Malformed auth code.*make a new URL"):
        manager.exchange_code_for_tokens("code-2")
    for wrong in ("", "a\nb"):
        with pytest.raises(ConfigurationError, match="'code'"):
            manager.exchange_code_for_tokens(wrong)
    with pytest.raises(ConfigurationError, match="'client_id'"):
        OAuth2Manager("", "s")
    with pytest.raises(ConfigurationError, match="'scopes'"):
        OAuth2Manager("c", "s", [])


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    env = {"SMTP_HOST": "h", "SMTP_PORT": "2525", "SMTP_USERNAME": "u", "SMTP_PASSWORD": "p", "SMTP_USE_TLS": "false"}
    assert from_env("smtp", env) == {
        "host": "h",
        "port": "2525",
        "username": "u",
        "password": "p",
        "use_tls": "false",
    }
    env = {"IMAP_HOST": "h", "IMAP_PORT": "993", "IMAP_USERNAME": "u", "IMAP_PASSWORD": "p"}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert from_env("imap") == {"host": "h", "port": "993", "username": "u", "password": "p"}
    gmail = {"GMAIL_USERNAME": "u", "GMAIL_PASSWORD": "p"}
    assert from_env("gmail", gmail) == from_env("gmail_imap", gmail) == {"username": "u", "password": "p"}
    google = {"GOOGLE_CLIENT_ID": "c", "GOOGLE_CLIENT_SECRET": "s", "GOOGLE_REFRESH_TOKEN": "r"}
    assert from_env("gmail", {"GMAIL_USERNAME": "u"} | google) == {
        "username": "u",
        "use_oauth": True,
        "oauth": {"client_id": "c", "client_secret": "s", "refresh_token": "r"},
    }
    assert OAuth2Manager.from_env(google).client_id == "c"
    for kind, given, missing in (
        ("smtp", {}, "SMTP_HOST"),
        ("imap", {"IMAP_PORT": "1"}, "IMAP_HOST"),
        ("gmail", {}, "GMAIL_USERNAME"),
        ("gmail", {"GMAIL_USERNAME": "u"}, "GMAIL_PASSWORD nor GOOGLE_CLIENT_ID"),
        ("pop", {}, "'pop'"),
    ):
        with pytest.raises(ConfigurationError, match=missing):
            from_env(kind, given)
    with pytest.raises(ConfigurationError, match="GOOGLE_CLIENT_ID"):
        OAuth2Manager.from_env({})
