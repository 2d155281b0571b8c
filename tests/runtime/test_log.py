from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pymongo.logger
import pytest
import structlog
from pymongo.errors import BulkWriteError

from runtime.log import MASK, BugCounter, RecentLines, configure, masked


@pytest.fixture(autouse=True)
def undo() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, config = root.handlers[:], root.level, structlog.get_config()
    yield
    structlog.configure(**config)
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_away_from_a_terminal() -> None:
    stream = io.StringIO()
    configure(stream=stream)
    structlog.get_logger("smtp").info("delivered", size=7, content=b"12345")
    logging.getLogger("other").warning("from %s", "afar")
    first, second = lines(stream)
    assert (first["event"], first["size"], first["logger"], first["level"]) == ("delivered", 7, "smtp", "info")
    assert first["content"] == "<5 octets>"
    assert (second["event"], second["level"]) == ("from afar", "warning")


def test_the_service_is_said_in_every_line() -> None:
    stream = io.StringIO()
    configure(stream=stream, service="imap")
    structlog.get_logger("smtp").info("delivered")
    logging.getLogger("other").warning("from afar")
    assert [line["service"] for line in lines(stream)] == ["imap", "imap"]


def test_levels() -> None:
    stream = io.StringIO()
    configure(stream=stream, level="warning")
    structlog.get_logger("smtp").info("unseen")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("json_form", [True, False])
def test_no_secret_is_told(json_form: bool) -> None:
    stream = io.StringIO()
    configure(stream=stream, json=json_form)
    log = structlog.get_logger("identity")
    log.info(
        "sign-in",
        password="hunter2",
        access_token="hunter2",
        url="mongodb://me:hunter2@db/x",
        note="hash $argon2id$v=19$m=1,t=1$hunter2 seen",
    )
    try:
        raise ValueError("of smtp://me:hunter2@host")
    except ValueError:
        log.exception("bad")
    assert "hunter2" not in stream.getvalue()
    assert MASK in stream.getvalue()


def test_no_document_of_the_database_is_told() -> None:
    stream = io.StringIO()
    configure(stream=stream, level="debug")
    loggers = [one for one in vars(pymongo.logger).values() if isinstance(one, logging.Logger)]
    assert {"pymongo.command", "pymongo.connection", "pymongo.topology"} <= {one.name for one in loggers}
    for one in loggers:
        one.debug("Command started: {'insert': 'account', 'documents': [{'subject': 'hunter2'}]}")
    assert stream.getvalue() == ""
    refused = BulkWriteError({"writeErrors": [{"index": 0, "code": 11000, "op": {"subject": "hunter2"}}]})
    try:
        raise refused
    except BulkWriteError:
        structlog.get_logger("storage").exception("bad")
    assert "hunter2" not in stream.getvalue()
    assert "BulkWriteError: batch op errors occurred" in stream.getvalue()


def test_long_texts_are_cut() -> None:
    assert len(masked("x" * 100_000)) < 5000


def test_of_a_long_trace_the_error_is_left() -> None:
    lines = "".join(f'  File "a.py", line {number}, in call\n' for number in range(1000))
    text = masked(f"Traceback (most recent call last):\n{lines}RuntimeError: of mongodb://user:word@host/")
    assert text.startswith("Traceback (most recent call last):\n")
    assert text.endswith(f"\nRuntimeError: of mongodb://{MASK}@host/")
    assert len(text) < 5000


@pytest.mark.parametrize("at", range(4070, 4100))
def test_no_secret_shows_where_a_text_is_cut(at: int) -> None:
    """Neither where its beginning ends nor where its end begins."""
    url = "mongodb://user:secretword@host/"
    for text in (f"{'x' * (at - 1010)}{url}{'y' * 9000}", f"{'x' * 9000}{url}{'y' * (at - 3072)}\nlast"):
        assert "secret" not in masked(text)
        assert "word@" not in masked(text)


def test_bugs_are_counted() -> None:
    bugs = BugCounter()
    configure(stream=io.StringIO(), bugs=bugs)
    log = structlog.get_logger("x")
    log.error("no exception")
    log.info("fine")
    try:
        raise ValueError
    except ValueError:
        log.exception("one")
        log.error("two", exc_info=True)
    assert bugs.count == 2


async def test_recent_lines_are_held_and_waited_for() -> None:
    recent = RecentLines(limit=3)
    configure(stream=io.StringIO(), recent=recent)
    log = structlog.get_logger("x")
    for number in range(5):
        log.info("line", n=number, password="hunter2")
    held = await recent.after(0, 0)
    assert [line.number for line in held] == [3, 4, 5]
    assert "hunter2" not in held[0].text
    assert await recent.after(5, 0.01) == ()
    waiting = asyncio.create_task(recent.after(5, 120))
    await asyncio.sleep(0)
    await asyncio.to_thread(log.warning, "news")
    (line,) = await asyncio.wait_for(waiting, 60)
    assert (line.number, json.loads(line.text)["event"]) == (6, "news")
