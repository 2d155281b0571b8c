"""Calls of a port to the process that keeps it, over HTTP: the other side of `runtime.portserver`.

Calls share a pool of kept connections; long polls and streams have connections of their own, so that they never keep
the others waiting. A call that failed on its way (no connection, an answer cut short, 502, 503, 504) is tried again,
with growing pauses, until its time is over, where a repeat does no harm: the caller names those methods. Any other call
is tried again only where it surely was not begun. What fails after that is the port's Unavailable; of a call that may
have been begun it says so, since nobody knows. A call that takes too long is not tried again: the other side is busy
with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlsplit

import aiohttp
import structlog

from runtime.portcall import BadCall, PortCodec
from runtime.portframes import FRAME_MAX, LENGTH, BadFrame, Joiner
from runtime.portwire import (
    ABORTED,
    CONTENT_TYPE,
    NAME_HEADER,
    PATH,
    PIECE_MAX,
    REQUEST_MAX,
    check_token,
    port_name,
)

P = TypeVar("P")
POOL: Final = 10
TIMEOUT: Final = 30.0
TRIES_MAX: Final = 60
"""Tries of one call, whatever its time."""
PAUSE_FIRST: Final = 0.05
PAUSE_MAX: Final = 2.0
"""Seconds between two rounds of tries: they double from the first to the longest."""
CONNECT_SECONDS: Final = 3.0
KEPT_SECONDS: Final = 10.0
"""How long an idle connection is kept: less than the server keeps it, which else would close it under a call."""
NAMES_SECONDS: Final = 5
"""How long an address found for a host's name is good: processes that are added under it get work after that."""
AWAY_SECONDS: Final = 1.0
"""How long a place that could not be reached is passed over while there are others."""
COMPLAINT_SECONDS: Final = 60.0
"""Between two lines in the log about the same misconfiguration."""
STREAM_ANSWER_SECONDS: Final = 300.0
"""How long the answer to a stream may take after its last piece, for what is done with all of it."""
DETAIL_MAX: Final = 64 * 1024

log = structlog.get_logger("port")


class PortBug(Exception):
    """The other side met an error of its own: a bug, logged there with its trace."""


class PortClient(Generic[P]):
    """One per process and port; made and used on one event loop.

    url: ``http://host:port``, or several places with commas between them, which take turns. pool: connections at once.
    timeout: seconds of one call with all its tries. repeatable: the methods that may be done twice. unavailable: from a
    sentence to the port's error. Raises ValueError for a URL or token that cannot be.
    """

    def __init__(
        self,
        url: str,
        codec: PortCodec[P],
        *,
        name: str,
        token: str,
        repeatable: frozenset[str],
        unavailable: Callable[[str], Exception],
        pool: int = POOL,
        timeout: float = TIMEOUT,
    ) -> None:
        check_token(token)
        if pool < 1 or timeout <= 0:
            raise ValueError("a pool has at least one connection, and a time-out is more than 0 seconds")
        self._places = _Places(_bases(url))
        self._codec = codec
        self._name = name
        self._repeatable = repeatable
        self._unavailable = unavailable
        self._timeout = timeout
        self._headers = {
            "Authorization": f"Bearer {token}",
            NAME_HEADER: port_name(name).decode(),
            "Content-Type": "application/msgpack",
        }
        self._calls = _session(pool)
        self._long = _session(0)
        # A stream cannot be sent again, so that it never begins on a connection that the other side may be closing.
        self._streams = _session(0, force_close=True)
        self._polls: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._complained = float("-inf")

    async def close(self) -> None:
        """End the long polls, and the connections; what is in hand fails as Unavailable, whether or not it is done."""
        self._closed = True
        for poll in self._polls:
            poll.cancel()
        await asyncio.gather(*self._polls, return_exceptions=True)
        for session in (self._calls, self._long, self._streams):
            await session.close()

    async def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call it. Raises the port's errors, PortBug, and BadCall for arguments that do not fit."""
        return await self._call(self._calls, method, args, kwargs, self._timeout)

    async def poll(self, method: str, *args: Any, wait: float, idle: Any) -> Any:
        """Call a method that waits up to so many seconds for news. idle: the answer where the client is closed
        meanwhile."""
        if wait <= 0:
            return await self.call(method, *args)
        call = self._call(self._long, method, args, {}, wait + self._timeout)
        task = asyncio.create_task(call, name=f"poll {method}")
        self._polls.add(task)
        task.add_done_callback(self._polls.discard)
        try:
            return await task
        except asyncio.CancelledError:
            if self._closed and task.cancelled():
                return idle
            task.cancel()
            raise

    async def stream(self, method: str, pieces: AsyncIterable[bytes]) -> Any:
        """Call a method that takes a stream, piece by piece as they come, of at most PIECE_MAX octets each.

        Tried once: the pieces are gone after that. What the pieces raise is raised when the other side has heard that
        no more come.
        """
        self._check_open()
        pipe = _Pipe(self._timeout)
        sending = asyncio.create_task(self._send_stream(method, pipe), name=f"stream {method}")
        sending.add_done_callback(lambda _: pipe.shut())
        try:
            try:
                async for piece in pieces:
                    if not await pipe.put(piece):
                        break
            except _Stalled:
                raise
            except Exception:
                with contextlib.suppress(_Stalled):
                    await pipe.end(aborted=True)
                    await asyncio.wait({sending}, timeout=self._timeout)
                raise
            await pipe.end()
            done, _ = await asyncio.wait({sending}, timeout=max(self._timeout, STREAM_ANSWER_SECONDS))
            if not done:
                raise _Stalled
            return sending.result()
        except _Stalled:
            raise self._unavailable(f"{self._name} is away: it reads no more") from None
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send_stream(self, method: str, pipe: _Pipe) -> Any:
        pauses = _Pauses(len(self._places))
        deadline = asyncio.get_running_loop().time() + self._timeout
        while True:
            place = self._places.next()
            try:
                return await self._try(self._streams, place, method, pipe.octets())
            except _Failed as failed:
                self._places.away(place)
                late = self._closed or asyncio.get_running_loop().time() >= deadline
                if pipe.touched or late or not isinstance(failed, _NotBegun):
                    raise self._unavailable(f"{self._name} is away: {failed}") from None
            await pauses.next()

    async def _call(
        self, session: aiohttp.ClientSession, method: str, args: Sequence[Any], kwargs: dict[str, Any], seconds: float
    ) -> Any:
        self._check_open()
        body = self._codec.pack_call(method, args, kwargs)
        if len(body) > REQUEST_MAX:
            raise BadCall(f"{method}: a call has at most {REQUEST_MAX} octets")
        pauses = _Pauses(len(self._places))
        failure: Exception | None = None
        repeatable = method in self._repeatable
        # Whether a try has been made that may have done the call.
        begun = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for _ in range(TRIES_MAX):
                    place = self._places.next()
                    before, begun = begun, True
                    try:
                        return await self._try(session, place, method, body)
                    except _NotBegun as failed:
                        failure, begun = failed, before
                    except _Failed as failed:
                        failure = failed
                    if self._closed or (begun and not repeatable):
                        break
                    self._places.away(place)
                    await pauses.next()
        doubt = "; it is not known whether it was done" if begun and not repeatable else ""
        reason = failure or f"no answer within {seconds:g} seconds"
        raise self._unavailable(f"{self._name} is away: {reason}{doubt}")

    async def _try(
        self, session: aiohttp.ClientSession, place: str, method: str, body: bytes | AsyncIterator[bytes]
    ) -> Any:
        try:
            url = f"{place}{PATH}/{method}"
            async with session.post(url, data=body, headers=self._headers, allow_redirects=False) as response:
                return await self._read(method, response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise _NotBegun(_words(error)) from None
        except aiohttp.ClientError as error:
            raise _Failed(_words(error)) from None
        except RuntimeError:
            if self._closed:
                raise _Failed("the client is closed") from None
            raise

    async def _read(self, method: str, response: aiohttp.ClientResponse) -> Any:
        if response.status != 200:
            await self._explain(response)
        if response.content_type != CONTENT_TYPE:
            raise _Failed("the answer is not one of a port")
        joiner = self._codec.joiner(method)
        try:
            await self._join(joiner, response.content)
        except (asyncio.IncompleteReadError, BadFrame) as error:
            raise _Failed(f"the answer was cut ({error})") from None
        return joiner.result()

    async def _join(self, joiner: Joiner, content: aiohttp.StreamReader) -> None:
        while not joiner.done:
            length = int.from_bytes(await content.readexactly(LENGTH), "big")
            if length > FRAME_MAX:
                raise BadFrame("a frame is too long")
            joiner.feed(await content.readexactly(length))
            # Others have their turn between two frames.
            await asyncio.sleep(0)
        if await content.read(1):
            raise BadFrame("something follows the last frame")

    async def _explain(self, response: aiohttp.ClientResponse) -> None:
        """Raise what an answer means that is not 200."""
        detail = (await response.content.read(DETAIL_MAX)).decode("utf-8", "replace")[:500]
        from_port = NAME_HEADER in response.headers
        match response.status:
            case 503 if from_port:
                raise _NotBegun(f"it answers 503 {detail}")
            case 502 | 503 | 504:
                raise _Failed(f"a proxy answers {response.status}")
            case 400 | 413 if from_port:
                raise BadCall(f"{self._name} answers {response.status} {detail}")
            case 500 if from_port:
                raise PortBug(f"{self._name} answers 500 {detail}")
            case status:
                # A wrong token or URL, or another release: for whoever runs the services. Nothing was done.
                self._complain(status, detail)
                raise self._unavailable(f"{self._name} does not know this process or call ({status})")

    def _complain(self, status: int, detail: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._complained >= COMPLAINT_SECONDS:
            self._complained = now
            log.error("another service refuses this one", service=self._name, status=status, answer=detail)

    def _check_open(self) -> None:
        if self._closed:
            raise self._unavailable(f"the connection to {self._name} is closed")


class _Failed(Exception):
    """A try that may have done the call, and has no answer."""


class _NotBegun(_Failed):
    """A try that surely has not."""


class _Places:
    """Where the port is served, in turns; one that could not be reached is passed over for a moment."""

    def __init__(self, bases: Sequence[str]) -> None:
        self._bases = tuple(bases)
        self._back: dict[str, float] = {}
        self._turn = random.randrange(len(self._bases))

    def __len__(self) -> int:
        return len(self._bases)

    def next(self) -> str:
        now = asyncio.get_running_loop().time()
        for _ in self._bases:
            self._turn = (self._turn + 1) % len(self._bases)
            if self._back.get(self._bases[self._turn], now) <= now:
                break
        return self._bases[self._turn]

    def away(self, base: str) -> None:
        self._back[base] = asyncio.get_running_loop().time() + AWAY_SECONDS


class _Pauses:
    """Between tries: none while there are places that were not asked in this round, then growing ones, each between
    half and all of its length so that many callers do not come back at the same moment."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._tries = 0

    async def next(self) -> None:
        self._tries += 1
        rounds, in_round = divmod(self._tries, self._places)
        if in_round == 0:
            await asyncio.sleep(min(PAUSE_MAX, PAUSE_FIRST * 2 ** min(rounds - 1, 16)) * random.uniform(0.5, 1.0))


class _Stalled(Exception):
    """The other side takes nothing."""


class _Pipe:
    """Hands pieces from the task that has them to the one that sends them, one at a time.

    patience: seconds that a piece may wait to be taken."""

    def __init__(self, patience: float) -> None:
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue(1)
        self._patience = patience
        self._shut = asyncio.Event()
        self.touched = False

    def shut(self) -> None:
        """Nothing more is read."""
        self._shut.set()

    async def put(self, piece: bytes) -> bool:
        """Waits until there is room. False when nothing more is read. Raises _Stalled; ValueError for a piece that is
        too long."""
        if len(piece) > PIECE_MAX:
            raise ValueError(f"a piece has at most {PIECE_MAX} octets")
        return not piece or await self._put(len(piece).to_bytes(LENGTH, "big") + piece)

    async def end(self, *, aborted: bool = False) -> None:
        """No more pieces come."""
        await self._put((ABORTED if aborted else 0).to_bytes(LENGTH, "big"))
        await self._put(b"")

    async def _put(self, octets: bytes) -> bool:
        if self._shut.is_set():
            return False
        putting = asyncio.ensure_future(self._pieces.put(octets))
        shut = asyncio.ensure_future(self._shut.wait())
        try:
            waiting = {putting, shut}
            done, _ = await asyncio.wait(waiting, timeout=self._patience, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise _Stalled
            return putting in done
        finally:
            putting.cancel()
            shut.cancel()

    async def octets(self) -> AsyncIterator[bytes]:
        """All that is put, to its end. Once, after which it is `touched`."""
        while octets := await self._pieces.get():
            self.touched = True
            yield octets


def _session(limit: int, *, force_close: bool = False) -> aiohttp.ClientSession:
    """limit: connections at once, 0 for as many as are asked for. force_close: each serves one request."""
    connector = aiohttp.TCPConnector(
        limit=limit,
        keepalive_timeout=None if force_close else KEPT_SECONDS,
        force_close=force_close,
        ttl_dns_cache=NAMES_SECONDS,
    )
    return aiohttp.ClientSession(
        connector=connector,
        # The time of a call is watched over all its tries, by `asyncio.timeout`.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
    )


def _bases(url: str) -> list[str]:
    parts = urlsplit(url)
    # Not the URL itself in the text: some hold a password.
    wrong = ValueError("the URL of a service looks like http://host:port")
    if parts.scheme != "http" or parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise wrong
    bases = [f"http://{place}" for place in parts.netloc.split(",")]
    for base in bases:
        one = urlsplit(base)
        try:
            if not one.hostname or one.port is None:
                raise wrong
        except ValueError:
            raise wrong from None
    return bases


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
