"""Tasks in Redis: a stream with a consumer group, and what a stream lacks beside it (``redis_scripts``).

Redis must write what it is told to its disk before it answers (``appendonly yes``, ``appendfsync always``), and must
not forget what it holds when its memory is full: else an accepted task could be lost. Each connection asks for that
when it is made, so that a Redis which comes back with other settings is given nothing more.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final, cast

import redis.asyncio as redis
from redis import exceptions
from redis.asyncio.connection import AbstractConnection

from connectors.tasks.adapters import redis_scripts as scripts
from connectors.tasks.model import (
    CLAIM_MAX,
    CONTENT_MAX,
    KEY_SECONDS,
    REASON_MAX,
    RESULT_SECONDS,
    WAIT_MAX,
    WAITING_MAX,
    Claimed,
    NewTask,
    Status,
    Task,
)
from connectors.tasks.port import Reason, Refused, Unavailable
from runtime.ids import new_id

PREFIX: Final = "{homing:tasks}:"
"""Before all names: what stands in braces keeps them together where Redis is a cluster."""
OLDEST: Final = (7, 0)
TIMEOUT: Final = 10.0
"""Seconds for one answer."""
POLL: Final = 1.0
"""Seconds after which a waiting claim looks whether a lease has run out."""
_SETTINGS: Final = ("appendonly", "appendfsync", "maxmemory", "maxmemory-policy")
_PASSING: Final = (
    "BUSY",
    "CLUSTERDOWN",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "NOGROUP",
    "NOREPLICAS",
    "OOM",
    "READONLY",
)
"""How answers begin of a Redis that cannot do it now."""


class RedisTasks:
    """Made by `open_redis`. waiting_max: tasks without an end that one account may have. ahead: seconds by which the
    queue's clock is ahead of Redis's."""

    def __init__(
        self,
        client: redis.Redis,
        *,
        prefix: str = PREFIX,
        waiting_max: int = WAITING_MAX,
        ahead: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._waiting_max = waiting_max
        self._ahead = ahead
        self._closed = asyncio.Event()
        register = client.register_script
        self._put, self._task, self._claim = register(scripts.PUT), register(scripts.TASK), register(scripts.CLAIM)
        self._extend, self._settle = register(scripts.EXTEND), register(scripts.SETTLE)
        self._cancel, self._sweep = register(scripts.CANCEL), register(scripts.SWEEP_STEP)

    async def prepare(self) -> None:
        """Make the stream and its group where there are none."""
        with _told():
            try:
                await self._client.xgroup_create(f"{self._prefix}ready", scripts.GROUP, id="0", mkstream=True)
            except exceptions.ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    # -- who sends

    async def put(self, task: NewTask, key: str) -> str:
        if len(task.content) > CONTENT_MAX:
            raise Refused(Reason.TOO_BIG, f"A message has at most {CONTENT_MAX} octets.")
        said, told = await self._run(
            self._put,
            new_id(),
            f"{task.account}\0{key}",
            _ms(KEY_SECONDS),
            self._waiting_max,
            task.account,
            task.sender,
            task.to,
            task.content,
            task.trace,
            task.digest,
        )
        if said == b"many":
            raise Refused(
                Reason.TOO_MANY,
                f"{_text(told)} tasks of this account wait; at most {self._waiting_max} may. Try again later.",
            )
        return _text(told)

    async def task(self, id: str, account: str | None) -> Task:
        found = await self._run(self._task, id, _ms(RESULT_SECONDS))
        if found is None or (account is not None and _text(found[0]) != account):
            raise Refused(Reason.NO_SUCH_TASK, "There is no such task.")
        owner, to, status, attempts, reason, doubtful, digest = map(_text, found)
        return Task(id, owner, to, Status(status), int(attempts), reason, doubtful == "1", digest)

    async def cancel(self, id: str, account: str | None) -> None:
        said = _text(await self._run(self._cancel, id, account or "", _ms(RESULT_SECONDS)))
        if said == "missing":
            raise Refused(Reason.NO_SUCH_TASK, "There is no such task.")
        if said == "busy":
            raise Refused(Reason.BEING_SENT, "The task is being sent at this moment.")
        if said != Status.CANCELLED.value:
            raise Refused(Reason.ENDED, f"The task has ended: {said}.")

    async def waiting(self) -> int:
        with _told():
            # The count of all together stands under no account.
            return int(await cast(Awaitable[Any], self._client.hget(f"{self._prefix}waiting", "")) or 0)

    # -- who works

    async def claim(self, limit: int, lease: float, wait: float = 0.0) -> tuple[Claimed, ...]:
        limit = max(1, min(limit, CLAIM_MAX))
        loop = asyncio.get_running_loop()
        until = loop.time() + min(wait, WAIT_MAX)
        name = uuid.uuid4().hex
        while True:
            if self._closed.is_set():
                raise Unavailable("the queue is closed")
            found, last, due = await self._run(self._claim, limit, _ms(lease), name)
            if found:
                return tuple(_claimed(one, name) for one in found)
            left = until - loop.time()
            if left <= 0:
                return ()
            await self._news(last, min([left, POLL, *([int(due) / 1000] if due else [])]))

    async def _news(self, last: bytes, seconds: float) -> None:
        """Return when something has become ready after ``last``, at the end of so many seconds, or of the queue."""
        reading = asyncio.ensure_future(
            self._client.xread({f"{self._prefix}ready": last}, count=1, block=max(1, int(seconds * 1000)))
        )
        closed = asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait({reading, closed}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                with _told():
                    reading.result()
        finally:
            reading.cancel()
            closed.cancel()
            await asyncio.gather(reading, closed, return_exceptions=True)

    async def extend(self, leases: Mapping[str, str], lease: float) -> frozenset[str]:
        if not leases:
            return frozenset()
        kept = await self._run(self._extend, _ms(lease), *(part for pair in leases.items() for part in pair))
        return frozenset(map(_text, kept))

    async def content(self, id: str) -> bytes:
        with _told():
            found = await cast(Awaitable[Any], self._client.hget(f"{self._prefix}t:{id}", "content"))
        if found is None:
            raise Refused(Reason.NO_SUCH_TASK, "There is no such task.")
        return bytes(found)

    async def succeed(self, claimed: Claimed, *, doubtful: bool = False) -> None:
        await self._end(claimed, Status.SUCCESS.value, doubtful=doubtful)

    async def fail(self, claimed: Claimed, reason: str, *, attempted: bool = True, doubtful: bool = False) -> None:
        await self._end(claimed, Status.FAILED.value, reason, attempted=attempted, doubtful=doubtful)

    async def retry(self, claimed: Claimed, delay: float, reason: str, *, doubtful: bool = False) -> None:
        await self._end(claimed, "retry", reason, delay=delay, doubtful=doubtful)

    async def give_back(self, claimed: Claimed, delay: float = 0.0, *, doubtful: bool = False) -> None:
        await self._end(claimed, "back", delay=delay, attempted=False, doubtful=doubtful)

    async def _end(
        self,
        claimed: Claimed,
        what: str,
        reason: str = "",
        *,
        attempted: bool = True,
        doubtful: bool = False,
        delay: float = 0.0,
    ) -> None:
        said = await self._run(
            self._settle,
            claimed.task.id,
            claimed.lease,
            what,
            reason[:REASON_MAX],
            int(doubtful),
            int(attempted),
            _ms(delay),
            _ms(RESULT_SECONDS),
        )
        if said != b"ok":
            raise Refused(Reason.LEASE_LOST, "The task has ended, or is under another lease.")

    # -- upkeep

    async def sweep(self) -> bool:
        return int(await self._run(self._sweep, _ms(RESULT_SECONDS))) >= scripts.SWEEP

    async def close(self) -> None:
        self._closed.set()
        await self._client.aclose()

    async def _run(self, script: Any, *arguments: str | int | bytes) -> Any:
        octets = [one.encode("utf-8", "surrogatepass") if isinstance(one, str) else one for one in arguments]
        with _told():
            try:
                return await script(keys=[self._prefix], args=[_ms(self._ahead()), *octets])
            except exceptions.ResponseError as error:
                if "NOGROUP" in str(error):
                    # Somebody has emptied it: the next try finds it ready.
                    await self.prepare()
                raise


def client_of(url: str) -> redis.Redis:
    """Of the Redis at the URL, which is not asked yet. ValueError for a URL that cannot be used."""
    try:
        # A blocking read ends well before the time for an answer does.
        return redis.Redis.from_url(
            url,
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            health_check_interval=30,
            redis_connect_func=_connected,
        )
    except (ValueError, exceptions.RedisError) as error:
        raise ValueError("queue.url is not a URL of Redis, such as redis://localhost:6379/0") from error


async def open_redis(url: str, *, waiting_max: int = WAITING_MAX) -> RedisTasks:
    """The queue in the Redis at the URL (redis://, rediss://). Raises Unavailable while Redis does not answer;
    ValueError, with a sentence without the URL's password, for a URL that cannot be used and for a Redis that would
    lose tasks."""
    client = client_of(url)
    tasks = RedisTasks(client, waiting_max=waiting_max)
    try:
        await _check(client)
        await tasks.prepare()
    except BaseException:
        await tasks.close()
        raise
    return tasks


class _WouldLose(exceptions.RedisError):
    """A Redis that is set so that accepted tasks could be lost. The text is a sentence, to be told."""


async def _check(client: redis.Redis) -> None:
    """ValueError for a Redis that would lose tasks, or is too old."""
    with _told():
        try:
            about = await client.info("server")
        except _WouldLose as error:
            raise ValueError(str(error)) from error
    version = str(about.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < OLDEST:
        raise ValueError(f"the Redis of queue.url is {version}: {OLDEST[0]}.{OLDEST[1]} or later is needed")


async def _connected(connection: AbstractConnection) -> None:
    """What each new connection begins with, also that to a Redis which was started anew. Raises _WouldLose."""
    await connection.on_connect()
    await connection.send_command("CONFIG", "GET", *_SETTINGS)
    try:
        said = await connection.read_response()
    except exceptions.ResponseError as error:
        if str(error).startswith(_PASSING):
            raise
        raise _WouldLose(
            "the Redis of queue.url does not tell its settings (CONFIG GET is refused), so that it is not known whether"
            " it keeps what it has accepted: allow CONFIG GET, with appendonly yes and appendfsync always, or leave"
            " queue.url empty"
        ) from error
    pairs = said.items() if isinstance(said, dict) else zip(said[::2], said[1::2], strict=True)
    _check_settings({_text(name): _text(value) for name, value in pairs})


def _check_settings(found: Mapping[str, str]) -> None:
    wrong = [
        f"{name} is {found.get(name, 'unknown')}"
        for name, wanted in (("appendonly", "yes"), ("appendfsync", "always"))
        if found.get(name) != wanted
    ]
    if wrong:
        raise _WouldLose(
            f"the Redis of queue.url would lose accepted tasks when it or its machine dies ({', '.join(wrong)}): set"
            " `appendonly yes` and `appendfsync always` in redis.conf, or at once with CONFIG SET, so that a task is on"
            " the disk before it is accepted; or leave queue.url empty, and tasks are kept beside the mail"
        )
    if found.get("maxmemory", "0") != "0" and found.get("maxmemory-policy") != "noeviction":
        raise _WouldLose(
            f"the Redis of queue.url would throw away accepted tasks when its memory is full (maxmemory-policy is"
            f" {found.get('maxmemory-policy')}): set `maxmemory-policy noeviction`"
        )


def _claimed(found: list[bytes], lease: str) -> Claimed:
    id, account, to, attempts, reason, doubtful, digest, sender, trace, size, lost = map(_text, found)
    task = Task(id, account, to, Status.PENDING, int(attempts), reason, doubtful == "1", digest)
    return Claimed(task, lease, sender, trace, int(size), int(lost))


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogatepass")


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """A Redis that cannot answer now as Unavailable; programming errors pass."""
    try:
        yield
    except _WouldLose as error:
        raise Unavailable(str(error)) from error
    except (exceptions.ConnectionError, exceptions.TimeoutError, TimeoutError, OSError) as error:
        raise Unavailable(f"Redis does not answer ({type(error).__name__})") from error
    except exceptions.ResponseError as error:
        if not str(error).startswith(_PASSING):
            raise
        raise Unavailable(f"Redis cannot do it now: {error}") from error
