"""`homing config` and `homing check`: the settings, what is in force, and whether the server could start."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from homing.cli.run import as_json, console, fail, told, with_access

if TYPE_CHECKING:
    from homing.access import Access, Where
    from runtime.config import Row

app = typer.Typer(invoke_without_command=True)
Key = Annotated[str, typer.Argument(help="Such as smtp.max_workers.")]


def register(main: typer.Typer) -> None:
    """Add the commands of this file."""
    main.add_typer(
        app,
        name="config",
        help="The settings in force, where each came from, and overrides.",
        epilog="Examples: homing config · homing config set smtp.max_workers 8 · homing config clear smtp.max_workers",
    )
    main.command("check", epilog="Example: HOMING_CONFIG=homing.toml homing check")(check)


@app.callback()
def show(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    changed: Annotated[bool, typer.Option("--changed", help="Only what is not at its default.")] = False,
) -> None:
    """Show the settings in force, of the running server if there is one. Secrets are masked."""
    if context.invoked_subcommand is not None:
        return

    async def work(access: Access) -> tuple[Where, tuple[Row, ...]]:
        return access.where, await access.config.settings()

    where, rows = with_access(work)
    rows = tuple(row for row in rows if not changed or row.origin != "default")
    if json:
        as_json(
            [
                {"key": row.key, "env": list(row.env), "default": row.default, "value": row.value, "origin": row.origin}
                for row in rows
            ]
        )
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table("Setting", "Environment", "Default", "In force", "From", box=None)
    for row in rows:
        table.add_row(row.key, "\n".join(row.env), escape(row.default or "-"), escape(row.value or "-"), row.origin)
    out = console()
    out.print(table)
    out.print(
        {
            "running": "Of the running server.",
            "stopped": "No server is running: as the next start would have them.",
            "shared": "As a service would have them that starts now, with this file and environment.",
        }[where.value]
    )


@app.command("set", epilog="Example: homing config set smtp.enabled false")
def put(key: Key, value: Annotated[str, typer.Argument(help="As the environment would have it.")]) -> None:
    """Keep a value over file and environment."""

    async def work(access: Access) -> tuple[bool, Where]:
        return await access.config.set_override(key, value), access.where

    typer.echo(f"{key} = {value}, {_when(*with_access(work))}.")


@app.command("clear", epilog="Example: homing config clear smtp.enabled")
def clear(key: Key) -> None:
    """Forget the value that was kept with `set`, or over REST."""
    from homing.access import overrides
    from homing.overrides import forget

    async def work(access: Access) -> tuple[bool, Where]:
        return await access.config.clear_override(key), access.where

    async def plainly() -> bool | None:
        # An override that a later release does not know would keep everything else from starting.
        async with overrides() as store:
            return None if store is None else await forget(store, key)

    with told():
        removed = asyncio.run(plainly())
    if removed is None:
        when = _when(*with_access(work))
    elif removed:
        when = "in force at the next start, and what changes while running within 5 seconds"
    else:
        fail(f"No override of {key} is kept.")
    typer.echo(f"{key} is back to file, environment or default, {when}.")


def _when(now: bool, where: Where) -> str:
    match where.value:
        case "running":
            return "in force now" if now else "in force when the server is restarted"
        case "stopped":
            return "in force at the next start"
        case _:
            return "in force everywhere within 5 seconds" if now else "in force where a service is restarted"


def check() -> None:
    """Look whether the server could start with these settings: files, folder, certificate, ports."""
    from homing.checkup import examine

    with told():
        findings = asyncio.run(examine())
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False)
    for finding in findings:
        table.add_row("[green]ok[/]" if finding.good else "[red]wrong[/]", finding.what, escape(finding.detail))
    console().print(table)
    if not all(finding.good for finding in findings):
        raise typer.Exit(78)
