"""`homing doctor`: what mail depends on, found beside wanted."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from homing.cli.run import USAGE, as_json, console, fail, told

if TYPE_CHECKING:
    from homing.access import Access
    from homing.doctor.finding import Finding, Report
    from homing.ports import Listening

SECONDS = 30.0
STATUS = {"ok": 0, "warn": 1, "bad": 2}
WORDS = {"ok": "ok", "warn": "look", "bad": "BAD", "skipped": "–"}
COLOURS = {"ok": "green", "warn": "yellow", "bad": "bold red", "skipped": "dim"}
SERVER = "The server"


def register(main: typer.Typer) -> None:
    """Add the command of this file."""
    main.command(
        "doctor",
        epilog="Examples: homing doctor · homing doctor --domain example.org --only mx,spf,dkim · homing doctor --json."
        " Exit status: 0 all is well (what was skipped does not count) · 1 there are warnings · 2 something is bad, or"
        " wrong usage · 69 identity cannot answer now · 78 the settings are wrong. docs/doctor.md tells what each check"
        " means.",
    )(doctor)


def doctor(
    domain: Annotated[str | None, typer.Option(help="Of this domain of ours alone, besides the server itself.")] = None,
    only: Annotated[
        str | None, typer.Option(help="These checks alone, separated by commas, such as mx,spf,certificate.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for all of it.", min=1, max=600)] = SECONDS,
    every: Annotated[bool, typer.Option("--all", help="Also show what was not looked at, and why.")] = False,
    json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Look at DNS records, addresses, ports, the certificate, clock and disk: what was found, what is wanted, and the
    record to publish where they differ. Works with the server running or stopped."""
    from homing.doctor.examine import CHECKS

    chosen = CHECKS if only is None else tuple(word for word in re.split(r"[\s,]+", only) if word)
    if unknown := [one for one in chosen if one not in CHECKS]:
        fail(f"there is no check {unknown[0]!r}; there are {', '.join(CHECKS)}", USAGE)
    with told():
        report = asyncio.run(_examine(domain, chosen, timeout))
    if json:
        as_json(report.plain())
    else:
        _show(report, every)
    if status := STATUS[report.state.value]:
        raise typer.Exit(status)


async def _examine(domain: str | None, only: Sequence[str], seconds: float) -> Report:
    from homing.access import reach
    from homing.doctor.examine import examine
    from homing.doctor.wanted import in_force, make_setup
    from homing.keepers import open_resolver

    async with reach() as access:
        settings = await in_force(access.settings, access.config)
        setup = await make_setup(settings, access.identity, domain)
        listeners = await _listeners(access)
        return await examine(settings, setup, open_resolver(settings), listeners, only=only, seconds=seconds)


async def _listeners(access: Access) -> tuple[Listening, ...] | None:
    """What runs on this machine; None where nothing does, as far as is known."""
    from homing import sockets
    from homing.access import Where
    from homing.ports import SERVER as PORT
    from homing.ports import server_codec
    from runtime.admin import ControlUnreachable

    if access.where is Where.RUNNING:
        return access.listeners
    found: list[Listening] = []
    for one in sockets.found(access.settings.data, sockets.DOORS):
        try:
            async with asyncio.timeout(2), one.client() as client:
                found += await client.port(PORT, server_codec()).listeners()
        except (ControlUnreachable, TimeoutError):
            # The socket of a process that was killed is still there.
            continue
    return tuple(found) or None


def _show(report: Report, every: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    out = console()
    for title, findings in _groups(report.findings):
        shown = [one for one in findings if every or one.state.value != "skipped"]
        if not shown:
            continue
        table = Table("", "Check", "Of", "Found", "Wanted", title=title, title_justify="left", box=None, pad_edge=False)
        for one in shown:
            state = one.state.value
            cells = (one.check, one.subject, one.found, one.wanted)
            table.add_row(Text(WORDS[state], COLOURS[state]), *(Text(cell, overflow="fold") for cell in cells))
        out.print(table)
        out.print()
    for one in report.findings:
        if one.state.value in ("bad", "warn"):
            _advise(one)
    skipped = report.counts()["skipped"]
    if skipped and not every:
        typer.echo(f"{skipped} {'check was' if skipped == 1 else 'checks were'} skipped; --all tells which, and why.")
    typer.echo(_summary(report))


def _groups(findings: Sequence[Finding]) -> list[tuple[str, list[Finding]]]:
    from homing.doctor.examine import OF_DOMAINS

    groups: dict[str, list[Finding]] = {}
    for one in findings:
        title = one.subject.partition("._domainkey.")[2] or one.subject if one.check in OF_DOMAINS else SERVER
        groups.setdefault(title, []).append(one)
    return sorted(groups.items(), key=lambda group: (group[0] == SERVER, group[0]))


def _advise(one: Finding) -> None:
    """In words, and as whole lines that can be copied."""
    typer.secho(f"{one.check}, {one.subject}: ", bold=True, nl=False)
    typer.echo(one.why or f"wanted: {one.wanted}")
    for line in one.paste:
        typer.echo(f"    {line}")
    typer.echo()


def _summary(report: Report) -> str:
    counts = report.counts()
    parts = [f"{counts['ok']} good", f"{counts['warn']} to look at", f"{counts['bad']} bad"]
    return f"{', '.join(parts)} ({report.seconds:.1f} s)."
