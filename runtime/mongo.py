"""One MongoDB client of one process: how it is opened, how sure a write is, and which errors mean "try later".

- A write is answered only when a majority of the replica set has it in its journal, and a read sees only such writes
  (read concern majority, from the primary). A server that is no replica set (a lone mongod, or one that only speaks
  MongoDB's protocol) is asked for its own journal, and has neither majority nor change streams: `Mongo.replica_set`.
- Every operation ends within OPERATION_SECONDS, the driver's own retries and the choice of a server included. A server
  that hangs is thus told as a time-out, and when it wakes the same client goes on: nothing has to be restarted.
- After a time-out nobody knows whether the write was done; whoever repeats it needs an operation id.

Change streams are opened on what is here: `mongo.database.watch(...)`, `mongo.database["account"].watch(...)`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qsl, urlsplit

import pymongo
import pymongo.lock
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from pymongo import AsyncMongoClient, ReadPreference
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
)
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

T = TypeVar("T")
Document = dict[str, Any]
DATABASE = "homing"
"""The database's name, where the URL has none."""
SCHEMES = ("mongodb://", "mongodb+srv://")
SELECT_SECONDS = 5.0
"""How long the opening waits for a server that can take operations."""
CONNECT_SECONDS = 5.0
"""How long a connection attempt, and each of the driver's own looks at a server, may take."""
OPERATION_SECONDS = 10.0
"""How long any operation may take, with all its retries and the wait for a server (an election, say)."""
INDEX_SECONDS = 3600.0
"""How long the making of one index may take: it reads the whole collection."""
LONE: Mapping[str, Any] = {"retryWrites": False}
"""What the client of a server that is no replica set is told. Such a server knows no repeated writes, which the driver
(pymongo 4.20) sees only when it has a connection for the repeat: it then raises the first error as if this one had
failed, takes the server for unknown, closes all connections, and tries again, every half second until the operation's
time is over. A write is repeated when its connection pool was closed while it waited, so that each one brings about
others: under load a client did not come back from a pause of a server that was long well again."""
TEXT_LIMIT = 200
"""Characters of the driver's words that an error carries on: its whole view of the cluster follows them."""

# https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml: what a server says that goes down, is
# about to be, or is not yet the primary, has no room, was told to give up, or has lost a cursor by a restart. The
# driver retries some of these once by itself, and what it then raises is the second of them.
_UNAVAILABLE = frozenset(
    {
        6,  # HostUnreachable
        7,  # HostNotFound
        13,  # Unauthorized: the rights of this program's user are not given yet, or were taken away
        18,  # AuthenticationFailed: likewise
        24,  # LockTimeout
        43,  # CursorNotFound
        46,  # LockBusy
        50,  # MaxTimeMSExpired
        63,  # StaleShardVersion
        64,  # WriteConcernTimeout
        79,  # UnknownReplWriteConcern
        89,  # NetworkTimeout
        91,  # ShutdownInProgress
        100,  # UnsatisfiableWriteConcern
        112,  # WriteConflict
        133,  # FailedToSatisfyReadPreference
        134,  # ReadConcernMajorityNotAvailableYet
        150,  # StaleEpoch
        175,  # QueryPlanKilled
        189,  # PrimarySteppedDown
        202,  # NetworkInterfaceExceededTimeLimit
        237,  # CursorKilled
        262,  # ExceededTimeLimit
        365,  # TemporarilyUnavailable
        462,  # IngressRequestRateLimitExceeded
        9001,  # SocketException
        10058,  # LegacyNotPrimary
        10107,  # NotWritablePrimary
        11600,  # InterruptedAtShutdown
        11601,  # Interrupted
        11602,  # InterruptedDueToReplStateChange
        13388,  # StaleConfig
        13435,  # NotPrimaryNoSecondaryOk
        13436,  # NotPrimaryOrSecondary
        14031,  # OutOfDiskSpace
    }
)
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
_LABELS = ("RetryableWriteError", "TransientTransactionError", "RetryableError", "SystemOverloadedError")


async def _wait_for(waiting: Awaitable[T], seconds: float | None) -> T:
    """asyncio.wait_for as it is since Python 3.12: it waits in the task that called it."""
    async with asyncio.timeout(seconds):
        return await waiting


if sys.version_info < (3, 12):
    # The driver waits for a server, and for a connection, by asyncio.wait_for on a Condition. Before Python 3.12 that
    # is done in a task of its own, which takes the lock again as it ends. A caller cancelled just then goes on without
    # it, and releases a lock that somebody else holds: that one meets a RuntimeError, and the task takes the lock for
    # good, so that the client never answers again. The half seconds of the driver's waiting and an end of whole
    # seconds made this likely in every outage. https://github.com/python/cpython/pull/98518
    pymongo.lock.wait_for = _wait_for  # type: ignore[assignment, attr-defined]  # a name that it imports


class MongoUnavailable(Exception):
    """The database cannot be had now. Try later; the driver's own error is the `__cause__`."""


@dataclass(frozen=True, slots=True)
class Index:
    """An index of a collection.

    keys: fields with 1 (rising) or -1 (falling), the most significant first. sparse: holds only documents that have
    the field (of one field alone: with several, servers differ in what is left out).
    """

    keys: tuple[tuple[str, Literal[1, -1]], ...]
    unique: bool
    name: str
    sparse: bool


@dataclass(frozen=True, slots=True)
class Mongo:
    """A client and the one database that is used of it.

    database: its reads and writes have the concerns told above. replica_set: majority writes and change streams are
    there (a replica set, or a sharded cluster of such).
    """

    database: AsyncDatabase[Document]
    replica_set: bool

    async def ping(self) -> None:
        """Ask the server for an answer; raises MongoUnavailable."""
        with told_unavailable(MongoUnavailable):
            await self.database.command("ping")

    async def close(self) -> None:
        """Close all connections; what is under way on them fails. May be called twice."""
        await self.database.client.close()


async def open_mongo(url: str, *, app: str = "homing") -> Mongo:
    """Connect to `mongodb://[user:password@]host[:port][,…]/[database][?options]`.

    app: the name under which the server's own logs and figures show this program. An option of the URL wins over the
    times above, never over the concerns. Raises MongoUnavailable when no server answers within SELECT_SECONDS or it
    does not let this user in, and ValueError for a URL that is none, or a server too old for the driver.
    """
    if not url.startswith(SCHEMES):
        raise ValueError("not a MongoDB URL: it begins with mongodb:// or mongodb+srv://")
    client = _client(url, app)
    try:
        # the time for an operation is the driver's time for choosing a server too, and here that would be long
        with told_unavailable(MongoUnavailable), pymongo.timeout(client.options.server_selection_timeout):
            hello = await client.admin.command("hello")
    except ConfigurationError as error:
        await client.close()
        raise ValueError(f"MongoDB: {_words(error)}") from error
    except BaseException:
        await client.close()
        raise
    many = "setName" in hello or hello.get("msg") == "isdbgrid"
    if not many:
        await client.close()
        client = _client(url, app, **LONE)
    database: AsyncDatabase[Document] = client.get_default_database(
        DATABASE,
        codec_options=CodecOptions(tz_aware=True, tzinfo=UTC, uuid_representation=UuidRepresentation.STANDARD),
        read_preference=ReadPreference.PRIMARY,
        write_concern=WriteConcern(w="majority", j=True) if many else WriteConcern(w=1, j=True),
        read_concern=ReadConcern("majority") if many else ReadConcern(),
    )
    return Mongo(database, many)


def _client(url: str, app: str, **sure: Any) -> AsyncMongoClient[Document]:
    """A client that connects when it is first used. sure: options that the URL cannot change. ValueError."""
    try:
        return AsyncMongoClient(url, tz_aware=True, **_options(url, app) | sure)
    except (PyMongoError, ValueError, TypeError) as error:
        # What the driver quotes of a URL that it took apart wrongly can be the password.
        raise ValueError(f"not a MongoDB URL: {_QUOTED.sub('…', _words(error))}") from None


def _options(url: str, app: str) -> dict[str, Any]:
    """What the client is told, less what the URL says itself."""
    wanted = {
        "appname": app,
        "serverSelectionTimeoutMS": SELECT_SECONDS * 1000,
        "connectTimeoutMS": CONNECT_SECONDS * 1000,
        "timeoutMS": OPERATION_SECONDS * 1000,
    }
    said = {name.lower() for name, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True)}
    return {name: value for name, value in wanted.items() if name.lower() not in said}


@contextlib.contextmanager
def told_unavailable(kind: Callable[[str], Exception]) -> Iterator[None]:
    """Raise `kind(text)` for what the driver raises in this block when the database cannot be had now.

    That is: no server, no connection, no primary, no time left, a write that did not reach the majority, a server that
    is going down, full, or lets this program's user in no more. The driver's error is the `__cause__`. All else passes
    as it is: DuplicateKeyError, a BulkWriteError of duplicates, and mistakes of the program.
    """
    try:
        yield
    except PyMongoError as error:
        if not is_unavailable(error):
            raise
        raise kind(f"MongoDB: {_words(error)}") from error


def is_unavailable(error: PyMongoError) -> bool:
    """Whether the driver's error means that the database cannot be had now (see `told_unavailable`)."""
    if isinstance(error, ConnectionFailure | ExecutionTimeout | WriteConcernError):
        return True
    if isinstance(error, BulkWriteError) and _bulk_unavailable(error.details):
        return True
    if isinstance(error, OperationFailure) and error.code in _UNAVAILABLE:
        return True
    return any(error.has_error_label(label) for label in _LABELS)


def _bulk_unavailable(details: Mapping[str, Any]) -> bool:
    # a write that is done but not on the majority is not durable, whatever else was refused beside it
    if details.get("writeConcernErrors"):
        return True
    return any(told.get("code") in _UNAVAILABLE for told in details.get("writeErrors", ()))


def _words(error: Exception) -> str:
    """The beginning of an error's words, without the driver's times and view of the cluster, and without the server's
    whole answer, in which there can be documents that were to be written."""
    text = str(error)
    for rest in (", full error: ", " (configured timeouts:", ", Timeout: "):
        text = text.split(rest)[0]
    text = text.strip()
    return f"{type(error).__name__}: {text[:TEXT_LIMIT]}" if text else type(error).__name__


async def ensure_indexes(database: AsyncDatabase[Document], wanted: Mapping[str, Sequence[Index]]) -> None:
    """Make the indexes (by collection) that are not there yet, and the collections too; safe from many processes.

    Raises MongoUnavailable, and pymongo's OperationFailure when there is an index of that name or those keys with
    other options, or documents that a unique index does not allow.
    """
    for collection, indexes in wanted.items():
        for index in indexes:
            # one a command: a command's time is then one index's, and FerretDB 1.24 breaks off at two it has already
            with told_unavailable(MongoUnavailable), pymongo.timeout(INDEX_SECONDS):
                await database[collection].create_index(list(index.keys), name=index.name, **_index_options(index))


def _index_options(index: Index) -> dict[str, Any]:
    # said only where wanted: a server may tell {"unique": false} from nothing
    options = {"unique": index.unique, "sparse": index.sparse}
    return {name: value for name, value in options.items() if value}
