"""`homing app-password`: one password for each program that signs in as an account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from homing.cli.run import as_json, console, fail, with_access
from homing.cli.user import Address, Capabilities, mask_names, told_mask

if TYPE_CHECKING:
    from homing.access import Access
    from identity.model import AppPassword

app = typer.Typer(help="One password for each program that signs in as an account.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="What it is called, or its id.")]


async def _named(access: Access, address: str, name: str) -> AppPassword:
    account = await access.identity.find_account(address)
    found = [one for one in await access.identity.app_passwords(account.id) if name in (one.name, one.id)]
    if not found:
        fail(f"{address} has no app password that is called {name}")
    return found[0]


@app.command(
    "add",
    epilog="Examples: homing app-password add ann@example.org phone · homing app-password add ann@example.org 'old"
    " program' --mask UIDONLY --mask IMAP4REV2",
)
def add(
    address: Address,
    name: Annotated[str, typer.Argument(help='What it is called, such as "phone".')],
    mask: Annotated[
        list[str] | None, typer.Option(help="An IMAP capability that is not offered to it; may be repeated.")
    ] = None,
) -> None:
    """Make an app password. It is shown this once."""
    names = mask_names(mask)

    async def work(access: Access) -> str:
        account = await access.identity.find_account(address)
        return (await access.identity.add_app_password(account.id, name, names))[1]

    typer.echo(f"Added {name} for {address}. Password: {with_access(work)}")


@app.command("list", epilog="Example: homing app-password list ann@example.org --json")
def show(address: Address, json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False) -> None:
    """Show an account's app passwords; what is secret in them is not kept."""

    async def work(access: Access) -> tuple[AppPassword, ...]:
        account = await access.identity.find_account(address)
        return await access.identity.app_passwords(account.id)

    found = with_access(work)
    if json:
        as_json(
            [
                {
                    "id": one.id,
                    "name": one.name,
                    "created_at": one.created_at,
                    "last_used": one.last_used,
                    "mask": list(one.mask),
                }
                for one in found
            ]
        )
        return
    from datetime import UTC, datetime

    from rich.table import Table

    def day(at: float | None) -> str:
        return "never" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")

    table = Table("Name", "Id", "Made", "Last used", "Masked", box=None)
    for one in found:
        table.add_row(one.name, one.id, day(one.created_at), day(one.last_used), " ".join(one.mask))
    console().print(table)


@app.command("mask", epilog="Example: homing app-password mask ann@example.org 'old program' UIDONLY")
def mask(address: Address, name: Name, capabilities: Capabilities = None) -> None:
    """Set which IMAP capabilities are neither offered to who signs in with it nor taken from him. It holds from the
    next sign-in on."""
    names = mask_names(capabilities)

    async def work(access: Access) -> AppPassword:
        found = await _named(access, address, name)
        return await access.identity.mask_app_password(found.account, found.id, names)

    made = with_access(work)
    typer.echo(told_mask(f"{made.name} of {address}", made.mask))


@app.command("revoke", epilog="Example: homing app-password revoke ann@example.org phone")
def revoke(address: Address, name: Name) -> None:
    """End an app password and the connections that were made with it."""

    async def work(access: Access) -> None:
        found = await _named(access, address, name)
        await access.identity.revoke_app_password(found.account, found.id)

    with_access(work)
    typer.echo(f"Revoked {name} of {address}.")
