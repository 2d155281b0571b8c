"""`homing alias`: addresses that lead to other addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from homing.cli.run import as_json, console, tell_dead_ends, with_access

if TYPE_CHECKING:
    from homing.access import Access

app = typer.Typer(help="Addresses that lead to other addresses.", no_args_is_help=True)


@app.command("add", epilog="Example: homing alias add sales@example.org ann@example.org bob@elsewhere.net")
def add(
    address: Annotated[str, typer.Argument(help="The address that people write to.")],
    targets: Annotated[list[str], typer.Argument(help="Where its mail goes: here or to other domains.")],
) -> None:
    """Make or replace an alias to one or many addresses."""
    from identity.model import Alias

    async def work(access: Access) -> None:
        await access.identity.put_alias(Alias(address, tuple(targets)))
        await tell_dead_ends(access.identity, targets)

    with_access(work)
    typer.echo(f"{address} leads to {', '.join(targets)}.")


@app.command("list", epilog="Example: homing alias list --domain example.org")
def show(
    domain: Annotated[str | None, typer.Option(help="Of this domain only.")] = None,
    json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Show the aliases."""
    from identity.model import Alias

    async def work(access: Access) -> list[Alias]:
        found: list[Alias] = []
        while page := await access.identity.aliases(domain, 1000, found[-1].address if found else ""):
            found += page
        return found

    aliases = with_access(work)
    if json:
        as_json([{"address": one.address, "targets": list(one.targets)} for one in aliases])
        return
    from rich.table import Table

    table = Table("Address", "Leads to", box=None)
    for one in aliases:
        table.add_row(one.address, ", ".join(one.targets))
    console().print(table)


@app.command("remove", epilog="Example: homing alias remove sales@example.org")
def remove(address: Annotated[str, typer.Argument(help="The alias.")]) -> None:
    """Remove an alias."""

    async def work(access: Access) -> None:
        await access.identity.remove_alias(address)

    with_access(work)
    typer.echo(f"Removed {address}.")
