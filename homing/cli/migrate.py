"""`homing migrate`: from one store into another."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from homing.cli.run import REFUSED, UNAVAILABLE, console, counted, fail, told

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from homing.migrate import Outcome, Place

MIB = 1024 * 1024
PLAIN_SECONDS = 2.0
"""Between two lines about the progress, where there is no terminal to draw on."""


def register(main: typer.Typer) -> None:
    """Add the command of this file."""
    main.command(
        "migrate",
        epilog="Examples: homing migrate --from sqlite:data --to mongodb://db.example.org/homing --yes-no-server-runs ·"
        " homing migrate --from mongodb://db.example.org/homing --to sqlite:/srv/homing --yes-no-server-runs ·"
        " homing migrate --from sqlite:data --to sqlite:/srv/homing. Ended on the way, it goes on when it is run again."
        " Exit status 1 when anything differs afterwards.",
    )(migrate)


def migrate(
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="URL",
            help="sqlite:FOLDER, mongodb://HOST/NAME, or env:VARIABLE that holds one; it is not changed.",
        ),
    ],
    target: Annotated[
        str, typer.Option("--to", metavar="URL", help="The same; empty, or an unfinished migration from there.")
    ],
    no_server_runs: Annotated[
        bool,
        typer.Option("--yes-no-server-runs", help="No Homing service uses the MongoDB: nobody can lock it."),
    ] = False,
    begin_anew: Annotated[
        bool, typer.Option("--begin-anew", help="Remove what an unfinished migration has copied to the target first.")
    ] = False,
) -> None:
    """Move all accounts and mail from one store into another, then compare the two."""
    with told():
        from homing.migrate import Place
        from homing.overrides import OverridesUnavailable
        from identity.port import Unavailable as IdentityUnavailable
        from storage.port import Unavailable as StorageUnavailable

        places = Place.of(source), Place.of(target)
        try:
            outcome = asyncio.run(_run(*places, no_server_runs, begin_anew))
        except (IdentityUnavailable, OverridesUnavailable, StorageUnavailable) as error:
            fail(f"{error}: run it again later, it goes on where it stopped", UNAVAILABLE)
    _tell(outcome, places[1])
    if outcome.count or outcome.damaged_before:
        raise typer.Exit(REFUSED)


async def _run(source: Place, target: Place, nobody_runs: bool, begin_anew: bool) -> Outcome:
    from homing.migrate import migrate

    show = Drawn() if sys.stderr.isatty() else Plain()
    try:
        return await migrate(source, target, show, nobody_runs=nobody_runs, begin_anew=begin_anew)
    finally:
        show.close()


def _tell(outcome: Outcome, target: Place) -> None:
    from rich.table import Table

    table = Table("", "Source", "Target", "", box=None)
    for row in outcome.rows:
        table.add_row(row.what, row.source, row.target, "same" if row.same else "DIFFERS")
    console().print(table)
    typer.echo(f"Hashed again on the target: {outcome.bodies:,} bodies.")
    if outcome.damaged_before:
        typer.echo(
            f"{len(outcome.damaged_before):,} of them are damaged in the source too, and were copied as they are: "
            + ", ".join(outcome.damaged_before[:10])
        )
    for sentence in outcome.problems:
        typer.echo(f"DIFFERS: {sentence}")
    if outcome.count > len(outcome.problems):
        typer.echo(f"… and {counted(outcome.count - len(outcome.problems), 'difference')} more.")
    if outcome.count:
        differences = counted(outcome.count, "difference")
        typer.echo(f"{differences}: no service starts on {target.name}. Try again with --begin-anew.")
    else:
        typer.echo(f"All is the same. The house is moved to {target.name}.")


class _Pace:
    """How far something long has come, in words."""

    def __init__(self, items: str, count: int, octets: int) -> None:
        self._item, self._count, self._octets = items.removesuffix("s"), count, octets
        self.begun = time.monotonic()
        self._first: tuple[int, int] | None = None
        self.done = (0, 0)

    @property
    def share(self) -> float:
        """What is done of all, 0 to 1."""
        whole = self._octets or self._count
        return (self.done[1] if self._octets else self.done[0]) / whole if whole else 1.0

    def at(self, count: int, octets: int) -> None:
        # What an earlier run has done says nothing about the speed of this one.
        self._first = self._first or (count, octets)
        self.done = count, octets

    def whole(self) -> str:
        size = f", {self._octets / MIB:,.1f} MiB" if self._octets else ""
        return f"{counted(self._count, self._item)}{size}"

    def text(self) -> str:
        count, octets = self.done
        text = f"{count:,} of {counted(self._count, self._item)}"
        if not self._octets:
            return text
        first_count, first_octets = self._first or (0, 0)
        seconds = max(time.monotonic() - self.begun, 1e-6)
        speed, rate = (octets - first_octets) / seconds, (count - first_count) / seconds
        text += f", {octets / MIB:,.1f} of {self._octets / MIB:,.1f} MiB, {speed / MIB:,.1f} MiB/s"
        if not speed or not rate:
            return text
        left = max((self._octets - octets) / speed, (self._count - count) / rate)
        return f"{text}, {_duration(left)} left"


class Plain:
    """Progress as lines, for a log."""

    def __init__(self) -> None:
        self._what = ""
        self._pace = _Pace("", 0, 0)
        self._last = 0.0

    def begin(self, what: str, items: str, count: int, octets: int) -> None:
        self.end()
        self._what = what
        self._pace = _Pace(items, count, octets)
        self._last = self._pace.begun
        self._line(self._pace.whole())

    def at(self, count: int, octets: int) -> None:
        self._pace.at(count, octets)
        if time.monotonic() - self._last >= PLAIN_SECONDS:
            self._last = time.monotonic()
            self._line(self._pace.text())

    def end(self) -> None:
        if self._what:
            self._line(f"done in {_duration(time.monotonic() - self._pace.begun)}")
            self._what = ""

    def say(self, sentence: str) -> None:
        typer.echo(sentence, err=True)

    def close(self) -> None:
        return None

    def _line(self, text: str) -> None:
        typer.echo(f"{self._what}: {text}", err=True)


class Drawn:
    """Progress as a bar on the terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars

        columns = TextColumn("{task.description}"), BarColumn(bar_width=None), TextColumn("{task.fields[told]}")
        self._bars: Progress = Bars(*columns, console=Console(stderr=True), expand=True)
        self._bars.start()
        self._task: TaskID | None = None
        self._pace = _Pace("", 0, 0)

    def begin(self, what: str, items: str, count: int, octets: int) -> None:
        self._pace = _Pace(items, count, octets)
        self._task = self._bars.add_task(what, total=1.0, told=self._pace.whole())

    def at(self, count: int, octets: int) -> None:
        self._pace.at(count, octets)
        if self._task is not None:
            self._bars.update(self._task, completed=self._pace.share, told=self._pace.text())

    def end(self) -> None:
        if self._task is not None:
            self._bars.update(self._task, completed=1.0)
            self._task = None

    def say(self, sentence: str) -> None:
        self._bars.console.print(sentence, soft_wrap=True)

    def close(self) -> None:
        self._bars.stop()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
