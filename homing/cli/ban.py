"""`homing ban`: who may not connect."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Annotated

import typer

from homing.cli.run import USAGE, as_json, console, fail, with_access

if TYPE_CHECKING:
    from homing.access import Access
    from identity.model import Ban

app = typer.Typer(help="Addresses and networks that may not connect.", no_args_is_help=True)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
JSON = Annotated[bool, typer.Option("--json", help="For scripts.")]


@app.command("list", epilog="Example: homing ban list --json")
def show(json: JSON = False) -> None:
    """Show the bans in force, the latest first."""

    async def work(access: Access) -> tuple[Ban, ...]:
        return await access.identity.bans()

    bans = with_access(work)
    if json:
        as_json([_json(one) for one in bans])
        return
    from rich.table import Table
    from rich.text import Text

    table = Table("Id", "Target", "Since", "Until", "By", "Refused", "Reason", box=None)
    for one in bans:
        until = "until lifted" if one.until is None else _moment(one.until)
        by = one.by.value if one.times == 1 else f"{one.by.value}, {one.times} times"
        table.add_row(one.id, one.target, _moment(one.since), until, by, str(one.hits), Text(one.reason))
    console().print(table)


@app.command("add", epilog="Example: homing ban add 192.0.2.0/24 --for 7d --reason 'tries passwords'")
def add(
    target: Annotated[str, typer.Argument(help="An address, or a network such as 192.0.2.0/24.")],
    length: Annotated[
        str | None, typer.Option("--for", help="How long: 30m, 12h, 7d, 2w. Without it: until it is lifted.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for yourself.")] = "",
    json: JSON = False,
) -> None:
    """Refuse the connections of an address or a network, of all doors. Who signed in well from there within 30 days can
    still sign in."""
    from identity.model import BannedBy, NewBan

    seconds = None if length is None else _seconds(length)

    async def work(access: Access) -> Ban:
        return await access.identity.ban(NewBan(target, reason, BannedBy.ADMINISTRATOR, seconds))

    ban = with_access(work)
    if json:
        as_json(_json(ban))
        return
    until = "until the ban is lifted" if ban.until is None else f"until {_moment(ban.until)}"
    typer.echo(f"{ban.target} is banned {until} ({ban.id}). Doors that run know of it within seconds.")


@app.command("lift", epilog="Example: homing ban lift 192.0.2.7")
def lift(which: Annotated[str, typer.Argument(help="The ban's id, or its target.")]) -> None:
    """End a ban."""

    from identity.limiting.bans import target_network, target_text

    try:
        target = target_text(target_network(which))
    except ValueError:
        target = ""

    async def work(access: Access) -> Ban | None:
        found = next((one for one in await access.identity.bans() if one.id == which or one.target == target), None)
        if found is not None:
            await access.identity.lift_ban(found.id)
        return found

    ban = with_access(work)
    if ban is None:
        fail(f"there is no ban {which!r} (`homing ban list` shows them)")
    typer.echo(f"Lifted the ban of {ban.target}.")


def _seconds(length: str) -> float:
    found = re.fullmatch(r"(\d{1,6})([smhdw])", length.strip().lower())
    if found is None or not int(found[1]):
        fail(f"{length!r} is not a time such as 30m, 12h, 7d or 2w", USAGE)
    return float(int(found[1]) * _UNITS[found[2]])


def _moment(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(when))


def _json(ban: Ban) -> dict[str, object]:
    return {
        "id": ban.id,
        "target": ban.target,
        "reason": ban.reason,
        "since": ban.since,
        "until": ban.until,
        "by": ban.by.value,
        "hits": ban.hits,
        "times": ban.times,
    }
