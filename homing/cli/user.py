"""`homing user`: the accounts."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from homing.cli.run import USAGE, as_json, console, counted, fail, size_told, with_access

if TYPE_CHECKING:
    from homing.access import Access
    from identity.model import Account

app = typer.Typer(help="The accounts.", no_args_is_help=True)
Address = Annotated[str, typer.Argument(help="Whole (ann@example.org), or a name of the default domain.")]
FromStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]
Capabilities = Annotated[
    list[str] | None, typer.Argument(help="Names as CAPABILITY tells them; none takes the mask away.")
]
Quota = Annotated[str | None, typer.Option(help='How much mail it may keep, such as "5 GiB"; no limit when left out.')]


def _password(stdin: bool) -> str:
    if stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        fail("there is no terminal to ask for the password: use --password-stdin", USAGE)
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


def _octets(text: str | None) -> int | None:
    from runtime.config import size

    octets = size(text)
    if octets is not None and not isinstance(octets, int):
        fail(f'{text!r} is not a size such as "500 MiB" or "5G"', USAGE)
    return octets


def _size(octets: int) -> str:
    """The largest unit that says it exactly, so that it can be given back as it is shown."""
    for unit, name in ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")):
        if octets and octets % unit == 0:
            return f"{octets // unit} {name}"
    return str(octets)


@app.command(
    "add",
    epilog="Examples: homing user add ann@example.org · echo $SECRET | homing user add bob@example.org"
    " --password-stdin --quota '5 GiB' · homing user add kiosk@example.org --generate",
)
def add(
    address: Address,
    password_stdin: FromStdin = False,
    generate: Annotated[bool, typer.Option(help="Make a password and print it.")] = False,
    quota: Quota = None,
    name: Annotated[str, typer.Option(help="The person's name.")] = "",
    admin: Annotated[bool, typer.Option("--admin", help="May administer the server.")] = False,
) -> None:
    """Make an account."""
    from identity.model import NewAccount, Role

    octets = _octets(quota)
    password = secrets.token_urlsafe(15) if generate else _password(password_stdin)
    new = NewAccount(address, password, quota=octets, role=Role.ADMIN if admin else Role.USER, display_name=name)

    async def work(access: Access) -> Account:
        return await access.identity.add_account(new)

    made = with_access(work)
    typer.echo(f"Added {made.address}." + (f" Password: {password}" if generate else ""))


@app.command(
    "import",
    epilog="The file has a line for each account: address,password[,quota]; or a first line that names the columns"
    " (address, password, quota, role, display_name, enabled, mask), as `homing user export` writes it. A password that"
    " is an argon2id, bcrypt or sha512-crypt hash is taken as it is, also with Dovecot's {SCHEME} in front; others are"
    " refused; {PLAIN} before a password that looks like a hash. Example: homing user import people.csv",
)
def import_accounts(
    file: Annotated[Path, typer.Argument(help='A CSV file in UTF-8; "-" for standard input.')],
) -> None:
    """Make thousands of accounts at once. Lines that cannot be used are told, and disturb no other."""
    from homing.cli.accounts import import_file

    outcome = with_access(lambda access: import_file(access, file))
    for problem in outcome.problems:
        typer.echo(problem, err=True)
    typer.echo(f"Added {outcome.made} of {outcome.made + outcome.failed} accounts.")
    if outcome.failed:
        raise typer.Exit(1)


@app.command("export", epilog="Example: homing user export accounts.csv")
def export(
    file: Annotated[Path, typer.Argument(help='Where to, made with mode 0600; "-" for standard output.')] = Path("-"),
) -> None:
    """Write all accounts, with password hashes, in the form that `import` takes."""
    from homing.cli.accounts import export_file

    number = with_access(lambda access: export_file(access, file))
    typer.echo(f"Exported {counted(number, 'account')}.", err=True)


@app.command("list", epilog="Example: homing user list --domain example.org --json")
def show(
    domain: Annotated[str | None, typer.Option(help="Of this domain only.")] = None,
    json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Show the accounts, and how much of its quota each uses."""
    from identity.model import Role

    async def work(access: Access) -> tuple[list[Account], list[int | None]]:
        found: list[Account] = []
        while page := await access.identity.accounts(domain, 1000, found[-1].address if found else ""):
            found += page
        return found, await _used(access, found)

    accounts, used = with_access(work)
    if json:
        as_json(
            [
                {
                    "id": one.id,
                    "address": one.address,
                    "display_name": one.display_name,
                    "role": one.role.value,
                    "quota": one.quota,
                    "used": octets,
                    "enabled": one.enabled,
                    "mask": list(one.mask),
                }
                for one, octets in zip(accounts, used, strict=True)
            ]
        )
        return
    from rich.table import Table

    table = Table("Address", "Name", "Role", "Quota", "Used", "State", box=None)
    for one, octets in zip(accounts, used, strict=True):
        table.add_row(
            one.address,
            one.display_name,
            "administrator" if one.role is Role.ADMIN else "user",
            "" if one.quota is None else _size(one.quota),
            _share(octets, one.quota),
            "" if one.enabled else "disabled",
        )
    console().print(table)


async def _used(access: Access, accounts: list[Account]) -> list[int | None]:
    """Octets that each keeps. Who cannot ask storage still sees the accounts."""
    from homing.access import mail_of
    from homing.usage import used_octets
    from runtime.admin import ControlUnreachable
    from storage.port import Unavailable

    try:
        async with mail_of(access) as storage:
            return [*await used_octets(storage, [one.id for one in accounts])]
    except (Unavailable, ControlUnreachable) as error:
        typer.echo(f"homing: how much is used cannot be told now: {error}", err=True)
        return [None] * len(accounts)


def _share(used: int | None, quota: int | None) -> str:
    """What is used, and of a quota how much of it in per cent: 100 is full, and mail that came on the way may make it
    more."""
    if used is None:
        return "?"
    return size_told(used) + (f" ({100 * used // quota} %)" if quota else "")


@app.command("passwd", epilog="Example: echo $SECRET | homing user passwd ann@example.org --password-stdin")
def passwd(address: Address, password_stdin: FromStdin = False) -> None:
    """Set a new password; connections made with the old one end."""
    password = _password(password_stdin)

    async def work(access: Access) -> None:
        account = await access.identity.find_account(address)
        await access.identity.set_password(account.id, password)

    with_access(work)
    typer.echo(f"The password of {address} is changed.")


def _enable(address: str, enabled: bool) -> None:
    async def work(access: Access) -> None:
        account = await access.identity.find_account(address)
        await access.identity.update_account(account.id, enabled=enabled)

    with_access(work)
    typer.echo(f"{address} is {'enabled' if enabled else 'disabled'}.")


@app.command("disable", epilog="Example: homing user disable ann@example.org")
def disable(address: Address) -> None:
    """Refuse its sign-ins and end its connections; mail for it is still kept."""
    _enable(address, False)


@app.command("enable", epilog="Example: homing user enable ann@example.org")
def enable(address: Address) -> None:
    """Allow its sign-ins again."""
    _enable(address, True)


@app.command("quota", epilog="Examples: homing user quota ann@example.org '5 GiB' · homing user quota bob@example.org")
def quota(
    address: Address, limit: Annotated[str | None, typer.Argument(help="No limit when left out.")] = None
) -> None:
    """Set how much mail an account may keep."""
    octets = _octets(limit)

    async def work(access: Access) -> None:
        account = await access.identity.find_account(address)
        await access.identity.update_account(account.id, quota=octets, no_quota=octets is None)

    with_access(work)
    typer.echo(f"{address} may keep {limit or 'any amount of mail'}.")


@app.command(
    "mask",
    epilog="Examples: homing user mask ann@example.org UIDONLY COMPRESS=DEFLATE · homing user mask ann@example.org"
    " (nothing is masked any more)",
)
def mask(address: Address, capabilities: Capabilities = None) -> None:
    """Set which IMAP capabilities are neither offered to its sign-ins nor taken from them, for a program that breaks on
    them. It holds from the next sign-in on."""
    names = mask_names(capabilities)

    async def work(access: Access) -> Account:
        account = await access.identity.find_account(address)
        return await access.identity.update_account(account.id, mask=names)

    typer.echo(told_mask(address, with_access(work).mask))


def mask_names(names: list[str] | None) -> list[str]:
    """Of a mask. Ends the command for one that masks nothing, misspelt perhaps."""
    from homing.masks import unknown

    wrong = unknown(names or ())
    if wrong is not None:
        fail(wrong, USAGE)
    return names or []


def told_mask(what: str, mask: tuple[str, ...]) -> str:
    """One sentence."""
    return f"Masked for {what}: {' '.join(mask) or 'nothing'}."


@app.command("remove", epilog="Example: homing user remove ann@example.org --yes")
def remove(address: Address, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Remove an account and all its mail."""
    if not yes:
        if not sys.stdin.isatty():
            fail("there is no terminal to ask whether you mean it: use --yes", USAGE)
        typer.confirm(f"Remove {address} with all its mail, for good?", abort=True)

    async def work(access: Access) -> None:
        account = await access.identity.find_account(address)
        await access.identity.remove_account(account.id)

    with_access(work)
    typer.echo(f"Removed {address}; a running server frees its mail in the background.")
