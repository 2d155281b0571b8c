"""`homing mailbox`: mailboxes that are shared, and with whom."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from homing.cli.run import USAGE, as_json, console, fail, told

if TYPE_CHECKING:
    from homing.access import Access
    from storage.model import Grant, Mailbox
    from storage.port import Storage

T = TypeVar("T")

app = typer.Typer(help="Mailboxes that accounts share with each other.", no_args_is_help=True)
Owner = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Whose mailbox.")]

ANYONE = "anyone"
NONE = "none"


@app.command(
    "share",
    epilog="Examples: homing mailbox share ann@example.org Team bob@example.org lrs · homing mailbox share"
    " ann@example.org News anyone lr · homing mailbox share ann@example.org Team bob@example.org none. The letters are"
    " those of RFC 4314; docs/sharing.md says what each allows.",
)
def share(
    owner: Owner,
    name: Annotated[str, typer.Argument(metavar="MAILBOX", help="Its name, such as Team/Plans.")],
    who: Annotated[str, typer.Argument(metavar="WITH", help='An account, or "anyone": all accounts.')],
    rights: Annotated[str, typer.Argument(help='Letters of lrswipkxtea, or "none".')],
) -> None:
    """Let another account do that with a mailbox, and nothing else."""
    from homing.keepers import operation
    from imap.rights import rights_of

    given = rights_of("" if rights == NONE else rights)
    if given is None:
        fail(f'{rights!r} has letters that are no rights: lrswipkxtea, or "none"', USAGE)

    async def work(access: Access, storage: Storage) -> None:
        account = await access.identity.find_account(owner)
        other = ANYONE if who == ANYONE else (await access.identity.find_account(who)).id
        # its first mailboxes, where nobody has signed in yet
        await storage.open_account(operation(), account.id)
        mailbox = await storage.mailbox(account.id, name)
        await storage.set_acl(operation(), mailbox.ref, other, given)

    _with_mail(work)
    typer.echo(f"{name} of {owner} is {'no longer ' if not given else ''}shared with {who}.")


@app.command("shares", epilog="Example: homing mailbox shares ann@example.org --json")
def shares(owner: Owner, json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False) -> None:
    """Show what an account shares, and what is shared with it."""
    from homing.keepers import operation
    from imap.rights import letters_of

    async def work(access: Access, storage: Storage) -> tuple[list[tuple[str, str, Grant]], list[tuple[str, Mailbox]]]:
        account = await access.identity.find_account(owner)
        await storage.open_account(operation(), account.id)
        names: dict[str, str] = {ANYONE: ANYONE}

        async def name_of(id: str) -> str:
            if id not in names:
                names[id] = (await access.identity.account(id)).address
            return names[id]

        given = [
            (mailbox.name, await name_of(grant.identifier), grant)
            for mailbox in (await storage.list_mailboxes(account.id)).mailboxes
            for grant in await storage.acl(mailbox.ref)
        ]
        return given, [(await name_of(one.ref.account), one) for one in await storage.shared_with(account.id)]

    given, had = _with_mail(work)
    rows = [
        (owner, name, f"not {who}" if grant.negative else who, letters_of(grant.rights)) for name, who, grant in given
    ]
    rows += [(of, mailbox.name, owner, letters_of(mailbox.rights)) for of, mailbox in had]
    if json:
        as_json([dict(zip(("owner", "mailbox", "with", "rights"), row, strict=True)) for row in rows])
        return
    from rich.table import Table

    table = Table("Owner", "Mailbox", "With", "Rights", box=None)
    for row in rows:
        table.add_row(*row)
    console().print(table)


def _with_mail(work: Callable[[Access, Storage], Awaitable[T]]) -> T:
    """Run a command's work with accounts and mail, whether the server runs or not."""
    from homing.access import reach_mail
    from storage.port import Refused

    async def go() -> T:
        async with reach_mail() as (access, storage):
            return await work(access, storage)

    with told():
        try:
            return asyncio.run(go())
        except Refused as refused:
            fail(str(refused))
