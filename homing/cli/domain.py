"""`homing domain`: the domains whose mail is kept here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from homing.cli import dkim
from homing.cli.run import USAGE, as_json, console, fail, tell_dead_ends, with_access

if TYPE_CHECKING:
    from homing.access import Access
    from homing.doctor.records import Needed
    from identity.model import Domain

app = typer.Typer(help="The domains whose mail is kept here.", no_args_is_help=True)
app.add_typer(dkim.app, name="dkim")
Name = Annotated[str, typer.Argument(help="Such as example.org; other scripts than Latin are fine.")]


@app.command("add", epilog="Example: homing domain add example.org --catch-all owner@example.org")
def add(
    name: Name,
    catch_all: Annotated[str | None, typer.Option(help="The address that gets mail for unknown names.")] = None,
) -> None:
    """Take mail for a domain, make the keys that sign its mail, and print the records to publish."""

    async def work(access: Access) -> tuple[Domain, Needed]:
        from identity.dkim import first_keys

        added = await access.identity.add_domain(name, catch_all)
        await tell_dead_ends(access.identity, () if catch_all is None else (catch_all,))
        await first_keys(access.identity, name)
        return added, await _needed(access, name)

    domain, needed = with_access(work)
    typer.echo(f"Added {domain.name}. Publish these records (`homing doctor --domain {domain.name}` looks for them):")
    _show_zone(needed)


@app.command(
    "records",
    epilog="Examples: homing domain records example.org · homing domain records example.org --zone >> example.org.zone",
)
def records(
    name: Name,
    zone: Annotated[bool, typer.Option("--zone", help="As lines of a zone file.")] = False,
    json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Show the DNS records that a domain and its server need."""
    if zone and json:
        fail("either --zone or --json", USAGE)
    needed = with_access(lambda access: _needed(access, name))
    if json:
        as_json({"records": [one.plain() for one in needed.records], "missing": list(needed.missing)})
    elif zone:
        _show_zone(needed)
    else:
        _show_fields(needed)


async def _needed(access: Access, name: str) -> Needed:
    from homing.doctor.records import needed
    from homing.doctor.wanted import in_force, make_setup

    setup = await make_setup(await in_force(access.settings, access.config), access.identity, name)
    (domain,) = setup.domains
    return needed(setup, domain)


def _show_zone(needed: Needed) -> None:
    """With what each is for as a comment, so that the whole can go into the file."""
    for one in needed.records:
        typer.echo(f"; {one.about}")
        typer.echo(one.line())
    for sentence in needed.missing:
        typer.echo(f"; {sentence}")


def _show_fields(needed: Needed) -> None:
    """As the forms of most providers ask for them, each value whole on one line."""
    for one in needed.records:
        typer.secho(one.about[:1].upper() + one.about[1:], bold=True)
        typer.echo(f"  name   {one.name}\n  type   {one.kind}\n  value  {one.data}\n")
    for sentence in needed.missing:
        typer.echo(f"Not among them. {sentence}.")


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
