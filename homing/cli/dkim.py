"""`homing domain dkim`: the keys that sign the mail of a domain, and the records to publish for them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from homing.cli.run import as_json, console, with_access

if TYPE_CHECKING:
    from collections.abc import Sequence

    from homing.access import Access
    from identity.model import DkimKey

app = typer.Typer(
    help="The keys that sign the mail of a domain (DKIM), and the records to publish for them.", no_args_is_help=True
)
Name = Annotated[str, typer.Argument(help="Such as example.org.")]
Json = Annotated[bool, typer.Option("--json", help="For scripts.")]
STATES = {
    "published": "publish its record: it does not sign yet",
    "active": "signs; its record has to be there",
    "retired": "signs no more; its record stays for mail on its way",
}


@app.command("list", epilog="Example: homing domain dkim list example.org")
def show(name: Name, json: Json = False) -> None:
    """Show the keys of a domain, without their private halves."""
    keys = _keys(name)
    if json:
        as_json([_plain(key) for key in keys])
        return
    if not keys:
        typer.echo(f"{name} has no DKIM keys: its mail goes unsigned. `homing domain dkim rotate {name}` makes them.")
        return
    from rich.table import Table

    table = Table("Selector", "Algorithm", "State", "Since", "What it means", box=None)
    for key in keys:
        since = datetime.fromtimestamp(key.changed_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
        table.add_row(key.selector, key.algorithm.value, key.state.value, since, STATES[key.state.value])
    console().print(table)


@app.command("records", epilog="Example: homing domain dkim records example.org >> example.org.zone")
def records(name: Name, json: Json = False) -> None:
    """Print the DNS records to publish, as lines of a zone file."""
    show_records(_keys(name), json=json)


@app.command("rotate", epilog="Example: homing domain dkim rotate example.org")
def rotate(name: Name, json: Json = False) -> None:
    """Make new keys, and print the records to publish for them.

    A domain without keys gets its first ones, which sign at once. Later ones sign after `dkim.activate_days`, once
    their records are seen in the DNS; those before them stop then, and are forgotten `dkim.retire_days` later.
    """

    async def work(access: Access) -> tuple[DkimKey, ...]:
        from identity.dkim import rotate

        return await rotate(access.identity, name)

    show_records(with_access(work), json=json)


@app.command("retire", epilog="Example: homing domain dkim retire example.org 20260101r7kqb")
def retire(name: Name, selector: Annotated[str, typer.Argument(help="As `list` shows it.")]) -> None:
    """Let a key sign no more from now on: one that may have become known to others."""

    async def work(access: Access) -> DkimKey:
        from identity.model import DkimState

        return await access.identity.set_dkim_state(name, selector, DkimState.RETIRED)

    key = with_access(work)
    typer.echo(f"{key.selector} signs no more within a minute. Take its record out of the DNS if the key is known.")


@app.command("remove", epilog="Example: homing domain dkim remove example.org 20260101r7kqb")
def remove(name: Name, selector: Annotated[str, typer.Argument(help="As `list` shows it.")]) -> None:
    """Forget a key at once. Its record is of no more use then."""

    async def work(access: Access) -> None:
        await access.identity.remove_dkim_key(name, selector)

    with_access(work)
    typer.echo(f"Removed {selector}.")


def _keys(name: str) -> tuple[DkimKey, ...]:
    async def work(access: Access) -> tuple[DkimKey, ...]:
        return await access.identity.dkim_keys(name)

    return with_access(work)


def _plain(key: DkimKey) -> dict[str, object]:
    from mail.dnsrecords import dkim_name, dkim_text

    return {
        "selector": key.selector,
        "algorithm": key.algorithm.value,
        "state": key.state.value,
        "created_at": key.created_at,
        "changed_at": key.changed_at,
        "name": dkim_name(key.selector, key.domain),
        "text": dkim_text(key.algorithm.value, key.public_key),
    }


def show_records(keys: Sequence[DkimKey], *, json: bool = False) -> None:
    """Print the records to publish for the keys."""
    if json:
        as_json([_plain(key) for key in keys])
        return
    from mail.dnsrecords import txt_line

    for key in keys:
        plain = _plain(key)
        typer.echo(txt_line(str(plain["name"]), str(plain["text"])))
