"""`homing trace` on the data folder of a server that is stopped."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from click.testing import Result

from homing.settings import Settings
from runtime.clock import SystemClock
from storage.connect import connect
from storage.model import Event

Homing = Callable[..., Result]


def record(folder: Path, events: Sequence[Event]) -> None:
    async def work() -> None:
        storage = await connect(f"sqlite://{folder}")
        await storage.record(events)
        await storage.close()  # type: ignore[attr-defined]

    asyncio.run(work())


def refused(trace: str, address: str) -> list[Event]:
    now = SystemClock().now()
    return [
        Event(trace, now, "connect", None, {"peer": "192.0.2.7", "listener": "smtp"}),
        Event(trace, now, "rcpt", None, {"address": address, "reply": "550 5.1.1 [b]No[/b] such user here"}),
        Event(trace, now, "refused", None, {"reply": "given up by the client", "size": 0}),
    ]


def test_strangers_words_do_not_move_the_cursor(homing: Homing, tmp_path: Path) -> None:
    now = SystemClock().now()
    homing("trace", "nobody@example.org", status=1)
    name = "ann\x1b]0;owned\x07\x1b[2J\r\nroot\x9b31m\u202eevil"
    record(
        tmp_path / "data",
        [
            Event("aa11", now, "connect", None, {"peer": "192.0.2.7", "listener": "smtp", "helo": "h\x1b[1m"}),
            Event("aa11", now, "auth", None, {"name": name, "mechanism": "PLAIN", "reply": "535 5.7.8 No"}),
        ],
    )
    for arguments in (("aa11",), ("aa11", "--json")):
        said = homing("trace", *arguments).output
        assert "owned" in said
        assert "evil" in said
        assert not set(said) & {*map(chr, range(10)), *map(chr, range(11, 32)), "\x7f", "\x9b", "\u202e"}
        assert "\\u001b" not in said
        assert "\nroot" not in said


def test_the_stopped_server_tells_it(homing: Homing, tmp_path: Path) -> None:
    done = homing("trace", "nobody@example.org", status=1)
    assert "nothing is recorded of that" in done.output
    record(tmp_path / "data", [*refused("t1", "nobody@example.org"), *refused("t2", "noone@example.org")])
    told = homing("trace", "Nobody@Example.org").output
    assert "Refused: this server did not take the message for nobody@example.org before it was sent" in told
    # Others' words are no markup.
    assert "[b]No[/b] such user here" in told
    several = homing("trace", "192.0.2.7").output
    assert "Several were found" in several
    assert "t1" in several
    assert "t2" in several
    (one,) = json.loads(homing("trace", "t2", "--json").output)
    assert [event["kind"] for event in one["events"]] == ["connect", "rcpt", "refused"]
    assert one["recipients"][0]["address"] == "noone@example.org"
    assert homing("trace", "192.0.2.7", "--days", "0", status=1).exit_code == 1


def test_help_has_examples_and_wrong_usage_a_status_of_its_own(homing: Homing) -> None:
    told = homing("trace", "--help").output
    assert "Examples:" in told
    assert "--account" in told
    homing("trace", status=2)
    homing("trace", "x", "--account", "nobody@localhost", status=1)


def test_the_defaults_are_those_that_are_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "trace.md").read_text("utf-8")
    trace = Settings().trace
    assert (trace.days, trace.size_max, trace.reads) == (30.0, 1024**3, False)
    for row in ("| `trace.days` | 30 |", "| `trace.size_max` | 1 GiB |", "| `trace.reads` | false |"):
        assert row in page
