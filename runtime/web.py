"""Fetching from, and posting to, web servers of strangers over HTTPS: small, bounded, and by our own resolver."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

CONNECTIONS_MAX: Final = 20
"""At the same time, all hosts together; more wait."""
PORT: Final = 443
AGENT: Final = "Homing"

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""From a host's name to its IP addresses; raises OSError, or anything else, where there are none."""


class Trouble(Enum):
    """REACH: no address, no connection, no answer in time. TLS: the certificate or the handshake. STATUS: an answer
    that is not 200 (redirects are not followed). CONTENT: too long, or cut short."""

    REACH = "reach"
    TLS = "tls"
    STATUS = "status"
    CONTENT = "content"


class WebError(Exception):
    """The text is one sentence without line ends."""

    def __init__(self, trouble: Trouble, text: str) -> None:
        super().__init__(" ".join(text.split()))
        self.trouble = trouble


@dataclass(frozen=True, slots=True)
class Fetched:
    """kind: the media type in lower case, without parameters. body: at most as long as was asked for."""

    kind: str
    body: bytes


def trust(roots: Path | None = None) -> ssl.SSLContext:
    """A context that verifies servers by the system's certification authorities, or by those of a PEM file alone.
    Raises OSError (ssl.SSLError is one) for a file that cannot be used."""
    context = ssl.create_default_context(cafile=None if roots is None else str(roots))
    # RFC 8996 §3
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # RFC 9525 §2, RFC 8461 §4.1: the names in subjectAltName alone.
    context.hostname_checks_common_name = False
    return context


class Web:
    """One per process, on one event loop.

    resolve: asked for every host. roots: PEM file of certification authorities, None for the system's. port: where
    https:// without a port leads; anything but 443 is for tests.
    """

    def __init__(self, resolve: Resolve, *, roots: Path | None = None, port: int = PORT) -> None:
        self._resolve = resolve
        self._roots = roots
        self._port = port
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def get(self, url: str, *, size_max: int, seconds: float) -> Fetched:
        """The body of an https: URL, at most so many octets, within so many seconds. Raises WebError."""
        return await self._ask("GET", url, None, {}, size_max, seconds, (200,))

    async def post(self, url: str, body: bytes, kind: str, *, seconds: float) -> None:
        """Hand a body over; what is answered is not read. Raises WebError."""
        await self._ask("POST", url, body, {"Content-Type": kind}, 0, seconds, (200, 201, 202, 204))

    async def _ask(
        self,
        method: str,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str],
        size_max: int,
        seconds: float,
        good: tuple[int, ...],
    ) -> Fetched:
        try:
            if urlsplit(url).scheme != "https":
                raise WebError(Trouble.REACH, f"{url!r} is no https: URL")
        except ValueError as error:
            raise WebError(Trouble.REACH, f"{url!r} is no URL") from error
        try:
            async with (
                asyncio.timeout(seconds),
                # RFC 8461 §3.3: redirects are not followed.
                self._opened().request(method, url, data=body, headers=headers, allow_redirects=False) as answer,
            ):
                if answer.status not in good:
                    raise WebError(Trouble.STATUS, f"the server answered {answer.status}")
                if method != "GET":
                    return Fetched("", b"")
                found = b""
                while octets := await answer.content.read(size_max + 1 - len(found)):
                    found += octets
                    if len(found) > size_max:
                        raise WebError(Trouble.CONTENT, f"the answer is longer than {size_max} octets")
                return Fetched(answer.content_type.lower(), found)
        except TimeoutError as error:
            raise WebError(Trouble.REACH, f"no answer within {seconds:g} seconds") from error
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError) as error:
            raise WebError(Trouble.TLS, _words(error)) from error
        except aiohttp.ClientPayloadError as error:
            raise WebError(Trouble.CONTENT, "the answer was cut short") from error
        except (aiohttp.ClientError, ValueError, OSError) as error:
            raise WebError(Trouble.REACH, _words(error)) from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=CONNECTIONS_MAX,
                ssl=trust(self._roots),
                resolver=_Resolver(self._resolve, self._port),
                use_dns_cache=False,
                force_close=True,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                # No cookie of one host is another's business, nor is a proxy of the environment ours.
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                # A body is taken as it comes: aiohttp would ask for a compressed one by itself.
                headers={"User-Agent": AGENT, "Accept-Encoding": "identity"},
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
            )
        return self._session


class _Resolver(AbstractResolver):
    def __init__(self, resolve: Resolve, port: int) -> None:
        self._resolve = resolve
        self._port = port

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        try:
            addresses = await self._resolve(host)
        except Exception as error:
            # What a resolver raises is its own; aiohttp knows OSError.
            raise OSError(f"{host}: {_words(error)}") from error
        found: list[ResolveResult] = []
        for address in addresses:
            of = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
            if family in (socket.AF_UNSPEC, of):
                found.append(
                    ResolveResult(
                        hostname=host,
                        host=address,
                        port=self._port if port == PORT else port,
                        family=of,
                        proto=0,
                        flags=socket.AI_NUMERICHOST,
                    )
                )
        if not found:
            raise OSError(f"{host} has no address")
        return found

    async def close(self) -> None:
        return None


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
