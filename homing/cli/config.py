"""`homing config` and `homing check`: the settings, what is in force, and whether the server could start."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from homing.cli.run import as_json, console, fail, told, with_access

if TYPE_CHECKING:
    from homing.access import Access
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

    async def work(access: Access) -> tuple[bool, tuple[Row, ...]]:
        return access.running, await access.server.settings()

    running, rows = with_access(work)
    rows = tuple(row for row in rows if not changed or row.origin != "default")
    if json:
        as_json(
            [
                {"key": row.key, "env": list(row.env), "default": row.default, "value": row.value, "origin": row.origin}
                for row in rows
            ]
        )
        return
    from rich.table import Table

    table = Table("Setting", "Environment", "Default", "In force", "From", box=None)
    for row in rows:
        table.add_row(row.key, "\n".join(row.env), row.default or "-", row.value or "-", row.origin)
    out = console()
    out.print(table)
    out.print("Of the running server." if running else "No server is running: as the next start would have them.")


@app.command("set", epilog="Example: homing config set smtp.enabled false")
def put(key: Key, value: Annotated[str, typer.Argument(help="As the environment would have it.")]) -> None:
    """Keep a value over file and environment."""

    async def work(access: Access) -> tuple[bool, bool]:
        return await access.server.set_override(key, value), access.running

    now, running = with_access(work)
    typer.echo(f"{key} = {value}, {_when(now, running)}.")


@app.command("clear", epilog="Example: homing config clear smtp.enabled")
def clear(key: Key) -> None:
    """Forget the value that was kept with `set`, or over REST."""
    from homing.overrides import forget
    from homing.settings import load_settings
    from runtime.admin import FolderLock, FolderLocked
    from runtime.config import ConfigError

    async def work(access: Access) -> tuple[bool, bool]:
        return await access.server.clear_override(key), access.running

    with told():
        # An override that a later release does not know would keep everything else from starting.
        folder = load_settings().settings.data
        try:
            with FolderLock(folder):
                if not asyncio.run(forget(folder, key)):
                    fail(f"No override of {key} is kept.")
                now, running = False, False
        except FolderLocked:
            now, running = with_access(work)
        except ConfigError as error:
            fail(str(error), error.exit_code)
    typer.echo(f"{key} is back to file, environment or default, {_when(now, running)}.")


def _when(now: bool, running: bool) -> str:
    return "in force now" if now else "at the next start" if not running else "in force when the server is restarted"


def check() -> None:
    """Look whether the server could start with these settings: files, folder, certificate, ports."""
    from homing.checkup import examine

    with told():
        findings = asyncio.run(examine())
    from rich.table import Table

    table = Table(box=None, show_header=False)
    for finding in findings:
        table.add_row("[green]ok[/]" if finding.good else "[red]wrong[/]", finding.what, finding.detail)
    console().print(table)
    if not all(finding.good for finding in findings):
        raise typer.Exit(78)
