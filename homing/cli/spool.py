"""`homing queue`: mail that waits to be sent to other servers."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from homing.cli.run import USAGE, as_json, console, fail, size_told, told, with_access

if TYPE_CHECKING:
    from rich.text import Text

    from homing.access import Access
    from storage.model import SpoolAction, SpoolDomain, SpoolItem
    from storage.port import Storage

T = TypeVar("T")

app = typer.Typer(help="Mail that waits to be sent to other servers.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="For scripts.")]
Items = Annotated[list[str] | None, typer.Argument(help="Ids, as `homing queue list` shows them.")]
OfDomain = Annotated[str | None, typer.Option("--domain", help="All that waits for this domain.")]
All = Annotated[bool, typer.Option("--all", help="All that waits.")]
LIST = 100
MANY = 1000


def _with_storage(work: Callable[[Storage], Awaitable[T]]) -> T:
    """Run a command's work with storage, whether the server runs or not."""
    import asyncio

    from homing.access import reach_mail

    async def go() -> T:
        async with reach_mail() as (_, storage):
            return await work(storage)

    with told():
        return asyncio.run(go())


def _shown(value: str) -> Text:
    """Strangers' words, which neither style nor move what is around them."""
    from rich.text import Text

    from homing.tracing.finding import printable

    return Text(printable(value))


def _key(domain: str) -> str:
    from mail.address import AddressError, domain_key

    try:
        return domain_key(domain)
    except AddressError as error:
        fail(f"{domain!r} is not a domain: {error}", USAGE)


@app.command("list", epilog="Examples: homing queue list · homing queue list --domain example.net --json")
def show(
    domain: Annotated[str | None, typer.Option(help="For this domain only.")] = None,
    limit: Annotated[int, typer.Option(help="So many at most.", min=1, max=100_000)] = LIST,
    json: Json = False,
) -> None:
    """Show what waits, the oldest first."""
    key = None if domain is None else _key(domain)

    async def work(storage: Storage) -> list[SpoolItem]:
        found: list[SpoolItem] = []
        while len(found) < limit:
            after = found[-1].id if found else ""
            page = await storage.spool(None, min(MANY, limit - len(found)), after, key)
            if not page:
                break
            found += page
        return found

    items = _with_storage(work)
    if json:
        as_json([_plain(one) for one in items])
        return
    from rich.table import Table

    table = Table("Id", "State", "Age", "Next", "Tries", "Size", "From", "To", "Last", box=None)
    now = time.time()
    for one in items:
        to = one.recipients[0].address + (f" +{len(one.recipients) - 1}" if len(one.recipients) > 1 else "")
        table.add_row(
            one.id,
            _state(one, now),
            _span(now - one.queued_at),
            _next(one, now),
            str(one.attempts),
            size_told(one.size),
            _shown(one.sender or "<>"),
            _shown(to),
            _shown(one.last[:80]),
        )
    out = console()
    out.print(table)
    if not items:
        out.print("Nothing waits.")
    elif len(items) == limit:
        out.print(f"There may be more: --limit {2 * limit}, or `homing queue domains`.")


@app.command("domains", epilog="Example: homing queue domains --json")
def domains(json: Json = False) -> None:
    """Show how much waits for each domain."""

    async def work(storage: Storage) -> list[SpoolDomain]:
        found: list[SpoolDomain] = []
        while page := await storage.spool_domains(MANY, found[-1].domain if found else ""):
            found += page
        return found

    rows = _with_storage(work)
    if json:
        as_json(
            [
                {
                    "domain": one.domain,
                    "items": one.items,
                    "held": one.held,
                    "size": one.size,
                    "oldest": one.oldest,
                    "next_attempt": one.next_attempt,
                }
                for one in rows
            ]
        )
        return
    from rich.table import Table

    table = Table("Domain", "Messages", "Held", "Size", "Oldest", "Next", box=None)
    now = time.time()
    for one in sorted(rows, key=lambda row: -row.items):
        upcoming = "" if one.next_attempt is None else _until(one.next_attempt - now)
        table.add_row(one.domain, str(one.items), str(one.held), size_told(one.size), _span(now - one.oldest), upcoming)
    out = console()
    out.print(table)
    if not rows:
        out.print("Nothing waits.")


@app.command(
    "show", epilog="Example: homing queue show S00000000002a. `homing trace` with its trace id tells the rest."
)
def one(id: Annotated[str, typer.Argument(help="As `homing queue list` shows it.")], json: Json = False) -> None:
    """Show all about one message."""
    item = _with_storage(lambda storage: _item(storage, id))
    if item is None:
        fail(f"there is no message {id!r} in the queue (`homing queue list` shows them)")
    if json:
        as_json(_plain(item))
        return
    from rich.table import Table

    now = time.time()
    table = Table(box=None, show_header=False)
    for name, value in (
        ("id", item.id),
        ("state", _state(item, now)),
        ("from", item.sender or "<>"),
        ("domain", item.domain),
        *(("to", recipient.address) for recipient in item.recipients),
        ("size", size_told(item.size)),
        ("accepted", f"{_moment(item.queued_at)} ({_span(now - item.queued_at)} ago)"),
        ("tries", str(item.attempts)),
        ("next try", "when it is released" if item.held else _moment(item.next_attempt)),
        ("route", item.route or "as its domain leads"),
        ("last answer", item.last or "none yet"),
        ("sender told", "not yet" if item.told_at is None else _moment(item.told_at)),
        ("trace", item.trace),
    ):
        table.add_row(name, _shown(value))
    console().print(table)


@app.command("retry", epilog="Examples: homing queue retry S00000000002a · homing queue retry --domain example.net")
def retry(items: Items = None, domain: OfDomain = None, all_: All = False) -> None:
    """Try it now."""
    _change("retry", items, domain, all_, "Is tried now")


@app.command("hold", epilog="Example: homing queue hold --domain example.net")
def hold(items: Items = None, domain: OfDomain = None, all_: All = False) -> None:
    """Keep it until it is released."""
    _change("hold", items, domain, all_, "Held")


@app.command("release", epilog="Example: homing queue release --all")
def release(items: Items = None, domain: OfDomain = None, all_: All = False) -> None:
    """End the hold."""
    _change("release", items, domain, all_, "Released")


@app.command("drop", epilog="Example: homing queue drop S00000000002a --yes")
def drop(
    items: Items = None,
    domain: OfDomain = None,
    all_: All = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take it away, for good and without a word to its sender. What is being sent at this moment stays."""
    import sys

    if not yes:
        if not sys.stdin.isatty():
            fail("there is no terminal to ask whether you mean it: use --yes", USAGE)
        typer.confirm("Drop mail for good, without a word to its senders?", abort=True)
    _change("drop", items, domain, all_, "Dropped")


@app.command(
    "route",
    epilog="Examples: homing queue route smtp+tls://relay.example.net:587 S00000000002a · homing queue route mx"
    " --domain example.net · homing queue route default --all",
)
def route(
    route: Annotated[
        str,
        typer.Argument(
            help="mx, smtp://host:port, smtp+tls://host:port, smtps://host:port, connector:name; default: where the"
            " domain leads by the settings."
        ),
    ],
    items: Items = None,
    domain: OfDomain = None,
    all_: All = False,
) -> None:
    """Send it by another way from now on."""
    from smtp.outbound.queueing import BadRoute, check_route

    connectors = _connectors() if route.strip().startswith("connector:") else frozenset()
    try:
        checked = None if route == "default" else check_route(route, connectors)
    except BadRoute as error:
        fail(f"the route, which stands before the ids, cannot be used: {error}", USAGE)
    _change("route", items, domain, all_, "Routed", checked)


def _connectors() -> frozenset[str]:
    """The names of those that are in force."""
    import json

    async def work(access: Access) -> frozenset[str]:
        (value,) = (row.value for row in await access.config.settings() if row.key == "connectors")
        return frozenset(one["name"] for one in json.loads(value or "[]"))

    return with_access(work)


def _change(
    action: str, items: list[str] | None, domain: str | None, all_: bool, word: str, route: str | None = None
) -> None:
    from smtp.outbound import queueing
    from storage.model import SpoolAction

    if sum((bool(items), domain is not None, all_)) != 1:
        fail("say which: ids, --domain, or --all", USAGE)
    key = None if domain is None else _key(domain)
    kind: SpoolAction = SpoolAction(action)

    async def work(storage: Storage) -> tuple[str, ...]:
        if items:
            return await queueing.change(storage, items, kind, route)
        return await queueing.change_all(storage, key, kind, route)

    done = _with_storage(work)
    missing = [one for one in dict.fromkeys(items or []) if one not in done]
    typer.echo(f"{word}: {len(done)} {'message' if len(done) == 1 else 'messages'}.")
    if missing:
        why = " or are being sent at this moment" if kind is SpoolAction.DROP else ""
        fail(f"these are not in the queue{why}: {', '.join(missing)}")


async def _item(storage: Storage, id: str) -> SpoolItem | None:
    from storage.port import Reason, Refused

    try:
        return await storage.spool_item(id, None)
    except Refused as error:
        if error.reason is not Reason.NO_SUCH_ITEM:
            raise
        return None


def _state(item: SpoolItem, now: float) -> str:
    from smtp.outbound.queueing import state

    return state(item, now)


def _plain(item: SpoolItem) -> dict[str, object]:
    return {
        "id": item.id,
        "trace": item.trace,
        "state": _state(item, time.time()),
        "sender": item.sender,
        "domain": item.domain,
        "recipients": [one.address for one in item.recipients],
        "size": item.size,
        "queued_at": item.queued_at,
        "next_attempt": item.next_attempt,
        "attempts": item.attempts,
        "route": item.route,
        "told_at": item.told_at,
        "last": item.last,
        "account": item.account,
    }


def _next(item: SpoolItem, now: float) -> str:
    return "" if item.held else _until(item.next_attempt - now)


def _until(seconds: float) -> str:
    return "now" if seconds <= 0 else f"in {_span(seconds)}"


def _span(seconds: float) -> str:
    for unit, name in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= unit:
            return f"{seconds / unit:.0f}{name}"
    return f"{max(0, round(seconds))}s"


def _moment(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
