"""`homing domain`: the domains whose mail is kept here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from homing.cli.run import as_json, console, with_access

if TYPE_CHECKING:
    from homing.access import Access
    from identity.model import Domain

app = typer.Typer(help="The domains whose mail is kept here.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="Such as example.org; other scripts than Latin are fine.")]


@app.command("add", epilog="Example: homing domain add example.org --catch-all owner@example.org")
def add(
    name: Name,
    catch_all: Annotated[str | None, typer.Option(help="The address that gets mail for unknown names.")] = None,
) -> None:
    """Take mail for a domain."""

    async def work(access: Access) -> Domain:
        return await access.identity.add_domain(name, catch_all)

    typer.echo(f"Added {with_access(work).name}.")


@app.command("list", epilog="Example: homing domain list --json")
def show(json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False) -> None:
    """Show the domains."""

    async def work(access: Access) -> tuple[Domain, ...]:
        return await access.identity.domains()

    domains = with_access(work)
    if json:
        as_json([{"name": one.name, "catch_all": one.catch_all, "subaddress": one.subaddress} for one in domains])
        return
    from rich.table import Table

    table = Table("Domain", "Catch-all", "Plus-addressing", box=None)
    for one in domains:
        table.add_row(one.name, one.catch_all or "", one.subaddress or "off")
    console().print(table)


@app.command("remove", epilog="Example: homing domain remove example.org")
def remove(name: Name) -> None:
    """Take no more mail for a domain. Its accounts and aliases are removed first."""

    async def work(access: Access) -> None:
        await access.identity.remove_domain(name)

    with_access(work)
    typer.echo(f"Removed {name}.")
