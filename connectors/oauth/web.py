"""The one HTTP request of this room, to token endpoints: time-out, verified TLS, no redirects, a bounded answer."""

from __future__ import annotations

import http.client
import ipaddress
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

from connectors import failures
from connectors.exceptions import ConfigurationError, ConnectionError

ANSWER_MAX = 256 * 1024
"""The most bytes of an answer that are read."""


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """An answer's status, its body as text and its header fields; the repr shows the status alone."""

    status: int
    text: str
    headers: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Answer(status={self.status})"

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; {} when it is none."""
        try:
            value = json.loads(self.text)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A token endpoint has no reason to send our secrets elsewhere: a redirect is an answer like any other."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Web:
    """How token endpoints are reached: seconds to wait, and certificates to trust beside the system's.

    Their certificates are always verified, also where a mail server's is not: they are sent all our secrets.
    """

    timeout: float
    ca_file: str | None = None

    def request(
        self, url: str, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """The answer to a GET, or to a POST of the form, whatever its status.

        ConfigurationError for a URL that is none or would carry secrets in clear; ConnectionError without an answer.
        """
        parts = check_url(url)
        data = None if form is None else urllib.parse.urlencode(form).encode("ascii")
        asked = urllib.request.Request(url, data, {"Accept": "application/json", **(headers or {})})
        context = failures.context("oauth", ca_file=self.ca_file, and_system=True)
        opener = urllib.request.build_opener(_NoRedirects(), urllib.request.HTTPSHandler(context=context))
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        try:
            with _opened(opener, asked, self.timeout) as answer:
                return _read(answer)
        except urllib.error.URLError as error:
            cause = error.reason if isinstance(error.reason, OSError) else error
            raise failures.connection_error(cause, host, port) from error
        except (OSError, http.client.HTTPException) as error:
            raise failures.connection_error(error, host, port) from error


def _opened(opener: urllib.request.OpenerDirector, asked: urllib.request.Request, timeout: float) -> Any:
    try:
        return opener.open(asked, timeout=timeout)
    except urllib.error.HTTPError as error:
        # an answer like any other, with a status of 300 and above
        return error


def _read(answer: Any) -> Answer:
    body = answer.read(ANSWER_MAX + 1)
    if len(body) > ANSWER_MAX:
        raise ConnectionError(f"The token endpoint answered with more than {ANSWER_MAX} bytes. Check its URL.")
    return Answer(answer.status, body.decode("utf-8", "replace"), dict(answer.headers.items()))


def check_url(url: str) -> urllib.parse.SplitResult:
    """The parts of an endpoint's URL: https, or http on a loopback address alone; else ConfigurationError."""
    try:
        parts = urllib.parse.urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ConfigurationError(f"{url!r} is no URL: {error}.") from error
    if parts.scheme not in ("https", "http") or not parts.hostname or not url.isascii() or not url.isprintable():
        raise ConfigurationError(f"{url!r} is no URL of a token endpoint; write it like https://host/path.")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        # RFC 6749 §3.2: the token endpoint needs TLS
        raise ConfigurationError(f"{url!r} would carry secrets in clear; a token endpoint has to be https.")
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
