"""Logs: readable lines on a terminal, JSON elsewhere, and no secret in either.

Everybody takes `log = structlog.get_logger("smtp")` and writes `log.info("delivered", size=…)`. What nobody foresaw
(a bug) is `log.exception("…")`: it is counted by the `BugCounter` that the composition root gave to `configure`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import sys
from collections import deque
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, TextIO

import structlog

MASK = "•••"
_SECRET_KEY = re.compile(
    r"pass(word|wd|phrase)?$|secret|token|credential|authorization|api_?key|private_?key", re.IGNORECASE
)
# Wherever they appear in a text: userinfo of a URL, hashes in modular crypt format, and what pymongo writes behind its
# own words for an error, which is the server's whole answer and the documents that were to be written.
_SECRET_TEXT = re.compile(
    r"(?<=://)[^/@\s:]+:[^/@\s]+(?=@)|\$(?:argon2[id]{1,2}|2[aby]|[56])\$[^\s'\"]+|(?<=, full error: ).+"
)
_LONGEST = 4096
_END = 1024
# Some tell every connection and every command at "info"; pymongo every command at "debug", with all that is in it:
# mail, hashes, addresses.
_LIBRARIES = {
    "mail.log": logging.WARNING,
    "uvicorn.error": logging.WARNING,
    "asyncio": logging.WARNING,
    "pymongo": logging.INFO,
}


class BugCounter:
    """How many bugs (log lines with an exception at level error or above) this process has met."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, _logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if event.get("exc_info") and method in ("error", "exception", "critical", "fatal"):
            self.count += 1
        return event


class _Named:
    """Says in every line which service of a distributed server it is from."""

    def __init__(self, service: str) -> None:
        self._service = service

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("service", self._service)
        return event


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that was logged; `number` counts them from 1."""

    number: int
    text: str


class RecentLines(logging.Handler):
    """The last lines that were logged, for whoever asks later. Any thread may log; one event loop asks."""

    def __init__(self, limit: int = 2000) -> None:
        super().__init__()
        self._lines: deque[LogLine] = deque(maxlen=limit)
        self._count = 0
        self._news: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def emit(self, record: logging.LogRecord) -> None:
        self._count += 1
        self._lines.append(LogLine(self._count, self.format(record)))
        if self._loop is not None and self._news is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._news.set)

    async def after(self, number: int, wait: float) -> tuple[LogLine, ...]:
        """The lines after that number that are still held; at once if there are any, else after one or `wait`
        seconds."""
        if self._news is None:
            self._news, self._loop = asyncio.Event(), asyncio.get_running_loop()
        if self._count <= number:
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._news.wait()
        return tuple(line for line in tuple(self._lines) if line.number > number)


def mask(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide the values of keys that name a secret, and what looks like one in a text; cut what is overlong."""
    for key, value in event.items():
        if key not in ("event", "level", "logger", "timestamp") and _SECRET_KEY.search(key):
            event[key] = MASK
        elif isinstance(value, str):
            event[key] = masked(value)
        elif isinstance(value, (bytes, bytearray)):
            event[key] = f"<{len(value)} octets>"
    return event


def masked(text: str) -> str:
    """The text without credentials in URLs, password hashes and a database's documents, and of a longer one the first
    3,072 characters and the lines in its last 1,024: a trace ends with the error."""
    if len(text) <= _LONGEST:
        return _SECRET_TEXT.sub(MASK, text)
    # Where it is cut there may be a secret: it is told by what follows, and never goes on in another line.
    beginning = _SECRET_TEXT.sub(MASK, text[: 2 * _LONGEST])[: _LONGEST - _END]
    _, line_end, rest = text[-_END:].partition("\n")
    return f"{beginning}…{line_end}{_SECRET_TEXT.sub(MASK, rest)}"


def configure(
    *,
    level: str = "info",
    json: bool | None = None,
    stream: TextIO | None = None,
    bugs: BugCounter | None = None,
    recent: RecentLines | None = None,
    service: str = "",
) -> None:
    """Set up logging of the whole process, the standard library's included; once, by the composition root.

    `json` None means: JSON unless `stream` (default: standard error) is a terminal. `service`: said in every line, ""
    for a process that is the only one.
    """
    out = sys.stderr if stream is None else stream
    as_json = not out.isatty() if json is None else json
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso" if as_json else "%H:%M:%S", utc=as_json),
        *([] if bugs is None else [bugs]),
        *([_Named(service)] if service else []),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(_formatter(shared, as_json=as_json, colours=out.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    if recent is not None:
        recent.setFormatter(_formatter(shared, as_json=as_json, colours=False))
        root.addHandler(recent)
    root.setLevel(number)
    for name, least in _LIBRARIES.items():
        logging.getLogger(name).setLevel(max(number, least))


def _formatter(
    shared: list[structlog.typing.Processor], *, as_json: bool, colours: bool
) -> structlog.stdlib.ProcessorFormatter:
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if as_json
        else structlog.dev.ConsoleRenderer(
            colors=colours, exception_formatter=structlog.dev.plain_traceback, pad_event_to=24
        )
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        # The trace becomes a text first, so that it is masked too.
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            mask,
            renderer,
        ],
    )
