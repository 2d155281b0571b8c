"""Access tokens: where they come from is a `Tokens`, how long they are kept is the cache's."""

from __future__ import annotations

import hashlib
import threading
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from connectors import failures
from connectors.exceptions import AuthenticationError, ConnectionError
from connectors.oauth.web import Answer

EARLY = 60.0
"""Seconds before its end at which a token counts as expired, so that it does not expire on its way."""

DEFAULT_LIFETIME = 3600.0
"""Seconds that a token lives whose answer does not say (RFC 6749 §5.1: expires_in is recommended, not required)."""

MAX_TOKENS = 1_000


@dataclass(frozen=True, slots=True, repr=False)
class Token:
    """An access token and the moment (of the cache's clock, seconds) at which it expires; never shown by repr."""

    value: str
    expires: float

    def __repr__(self) -> str:
        return "Token(***)"


class TokenCache:
    """Access tokens by the credentials they were given for, at most MAX_TOKENS; safe to use from several threads.

    Two threads that want the same token at once fetch it once.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Token] = OrderedDict()
        self._fetching: dict[str, threading.Lock] = {}

    def get(self, key: str, fetch: Callable[[], tuple[str, float]]) -> str:
        """The token kept under this key, or what fetch gives: a token and the seconds it lives."""
        with self._lock:
            if (found := self._valid(key)) is not None:
                return found
            turn = self._fetching.setdefault(key, threading.Lock())
        with turn:
            with self._lock:
                if (found := self._valid(key)) is not None:
                    return found
            try:
                value, lifetime = fetch()
                with self._lock:
                    self._kept[key] = Token(value, self._clock() + max(lifetime - EARLY, lifetime / 2))
                    self._kept.move_to_end(key)
                    while len(self._kept) > MAX_TOKENS:
                        self._kept.popitem(last=False)
                return value
            finally:
                with self._lock:
                    self._fetching.pop(key, None)

    def forget(self, key: str, value: str) -> None:
        """Drop the token under this key if it still is this one."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None and kept.value == value:
                del self._kept[key]

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()

    def _valid(self, key: str) -> str | None:
        kept = self._kept.get(key)
        return kept.value if kept is not None and self._clock() < kept.expires else None


# Scripts make a connector for each message, so a cache in the connector would fetch a token for each.
_PROCESS_CACHE = TokenCache()


def forget_all() -> None:
    """Drop every access token that this process keeps."""
    _PROCESS_CACHE.clear()


class Tokens(ABC):
    """A source of access tokens for one set of credentials. A subclass says how one is fetched."""

    provider = ""
    """How texts for people call the provider."""

    def __init__(self, credentials: tuple[str, ...], cache: TokenCache | None = None) -> None:
        """credentials: all that the token depends on, endpoint and secrets; kept here as a digest only."""
        self._cache = _PROCESS_CACHE if cache is None else cache
        self._key = hashlib.sha256("\0".join((type(self).__name__, *credentials)).encode("utf-8")).hexdigest()

    def token(self) -> str:
        """A token that has not expired: the one kept, or a new one.

        AuthenticationError when the provider refuses, ConnectionError when it cannot be reached.
        """
        return self._cache.get(self._key, self._fetch)

    def forget(self, token: str) -> None:
        """Do not give out this token again: a server has refused it."""
        self._cache.forget(self._key, token)

    @abstractmethod
    def _fetch(self) -> tuple[str, float]:
        """A new access token and the seconds it lives."""

    @property
    @abstractmethod
    def secrets(self) -> tuple[str, ...]:
        """What may not be in any text."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(***)"


def granted(answer: Answer, provider: str, secrets: tuple[str, ...], advice: str) -> tuple[dict[str, object], float]:
    """The fields of a token endpoint's answer and the seconds the access token lives (RFC 6749 §5).

    AuthenticationError, with what the endpoint said and the advice, when it refused; ConnectionError when it is not
    well or the answer is none.
    """
    fields = answer.json()
    token = fields.get("access_token")
    if answer.status == 200 and isinstance(token, str) and token and token.isascii() and token.isprintable():
        return fields, lifetime(fields.get("expires_in"))
    if answer.status == 429 or answer.status >= 500:
        raise ConnectionError(f"{provider}'s token endpoint is not well: HTTP {answer.status}. Try again later.")
    error = fields.get("error")
    if isinstance(error, str) and answer.status >= 400:
        raise refusal(provider, error, fields.get("error_description"), secrets, advice)
    raise ConnectionError(
        f"What answers as {provider}'s token endpoint gives no tokens: HTTP {answer.status}. Check its URL."
    )


def refusal(
    provider: str, error: str, description: object, secrets: tuple[str, ...], advice: str
) -> AuthenticationError:
    """The AuthenticationError for a refusal of a token endpoint (RFC 6749 §5.2)."""
    words = f"{error}: {description}" if isinstance(description, str) and description else error
    return AuthenticationError(f"{provider} gave no access token: {failures.said(words, secrets)}. {advice}")


def lifetime(value: object) -> float:
    """Seconds that a token lives, from expires_in as the endpoint wrote it."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 10**9:
        return float(value)
    return DEFAULT_LIFETIME
