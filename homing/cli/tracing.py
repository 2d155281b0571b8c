"""`homing trace`: what became of a message, in plain words."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homing.cli.run import REFUSED, as_json, console, fail, told

if TYPE_CHECKING:
    from homing.tracing.story import Story

LIST = 20
LIST_MAX = 1000


def register(main: typer.Typer) -> None:
    """Add the command of this file."""
    main.command(
        "trace",
        epilog="Examples: homing trace '<20261121.1234@example.org>' · homing trace ann@example.org · homing trace"
        " ann@example.org --account ann@example.org --days 2 · homing trace 0193f2c4a7b6… --json. Exit status 1 when"
        " nothing is found. docs/trace.md says what is recorded, and for how long.",
    )(trace)


def trace(
    text: Annotated[
        str,
        typer.Argument(
            metavar="MESSAGE-ID|ADDRESS|TRACE-ID",
            help="Also the IP address of who was refused; '' for the latest of all.",
        ),
    ],
    account: Annotated[str | None, typer.Option(help="As this account may see it.")] = None,
    days: Annotated[float | None, typer.Option(help="Of so many days back alone.", min=0)] = None,
    limit: Annotated[int, typer.Option(help="So many of the latest at most.", min=1, max=LIST_MAX)] = LIST,
    json: Annotated[bool, typer.Option("--json", help="For scripts: every trace found, whole.")] = False,
) -> None:
    """What became of a message: a table of its events, and in words what happened, why, and what to do next."""
    with told():
        stories = asyncio.run(_stories(text, account, days, limit))
    if not stories:
        fail("nothing is recorded of that: check how it is written, or the event is older than is kept", REFUSED)
    if json:
        as_json([_plain(story) for story in stories])
    elif len(stories) == 1:
        _show(stories[0])
    else:
        _list(stories)
        chosen = _chosen(len(stories))
        if chosen is None:
            more = f" There may be more: --limit {min(2 * limit, LIST_MAX)}." if len(stories) == limit else ""
            typer.echo(f"Several were found: `homing trace TRACE-ID` tells more of one of them.{more}")
        else:
            _show(stories[chosen])


async def _stories(text: str, address: str | None, days: float | None, limit: int) -> list[Story]:
    import time
    from datetime import datetime

    from homing.access import reach_mail
    from homing.tracing.finding import names_of, search
    from homing.tracing.story import tell

    now = time.time()
    zone = datetime.now().astimezone().tzinfo
    assert zone is not None
    async with reach_mail() as (access, storage):
        account = None if address is None else (await access.identity.find_account(address)).id
        since = 0.0 if days is None else now - days * 86400
        shown = await search(storage, text, account, since=since, limit=limit)
        return [
            tell(
                one.events,
                await names_of(storage, access.identity, one.events),
                now=now,
                admin=account is None,
                zone=zone,
            )
            for one in shown
        ]


def _chosen(number: int) -> int | None:
    """Which of them the person at the terminal wants; None where there is nobody to ask, or none is wanted."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    answer = str(typer.prompt("Which one (its number; nothing for none)", default="", show_default=False)).strip()
    return int(answer) - 1 if answer.isdecimal() and 1 <= int(answer) <= number else None


def _list(stories: list[Story]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("", "When", "Sender", "Recipients", "How it stands", "Trace", box=None)
    for number, story in enumerate(stories, 1):
        table.add_row(
            *(
                Text(cell)
                for cell in (
                    str(number),
                    _moment(story.ended),
                    _sender(story),
                    _short([fate.address for fate in story.fates]),
                    _short(list(dict.fromkeys(fate.state.value for fate in story.fates)) or ["refused"]),
                    story.trace,
                )
            )
        )
    console().print(table)


def _show(story: Story) -> None:
    from rich.table import Table
    from rich.text import Text

    facts = [f"Trace {story.trace}", f"from {_sender(story)}" if story.sender is not None else "", story.message_id]
    typer.echo("  ".join(fact for fact in facts if fact))
    table = Table("When", "What", "Detail", box=None)
    for line in story.lines:
        # Others' words are no markup.
        table.add_row(_moment(line.at, seconds=True), Text(line.what), Text(line.detail, overflow="fold"))
    console().print(table)
    typer.echo("")
    if len(story.fates) <= 1:
        typer.echo(story.sentence)
        return
    for fate in story.fates:
        typer.echo(fate.sentence)


def _sender(story: Story) -> str:
    return "" if story.sender is None else story.sender or "<>"


def _short(words: list[str]) -> str:
    return ", ".join(words[:2]) + (f" and {len(words) - 2} more" if len(words) > 2 else "")


def _moment(at: float, *, seconds: bool = False) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")


def _plain(story: Story) -> dict[str, Any]:
    return {
        "trace": story.trace,
        "started": story.started,
        "ended": story.ended,
        "sender": story.sender,
        "message_id": story.message_id,
        "size": story.size,
        "sentence": story.sentence,
        "recipients": [
            {
                "address": fate.address,
                "state": fate.state.value,
                "at": fate.at,
                "what": fate.what,
                "why": fate.why,
                "do": fate.do,
            }
            for fate in story.fates
        ],
        "events": [
            {"at": line.at, "kind": line.kind, "what": line.what, "detail": line.detail} for line in story.lines
        ],
    }
