"""`homing import`: an account's mail, from where it has been until now."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homing.cli.migrate import MIB, Drawn, Plain
from homing.cli.run import REFUSED, UNAVAILABLE, USAGE, console, counted, fail, told

if TYPE_CHECKING:
    from connectors.pull.source import Source
    from homing.importing.bring import Done, Planned
    from homing.importing.check import Outcome

SECRET = "IMAP_PASSWORD"
"""The variable of the environment that may hold the password at the source."""
SPELT = {
    "'ca_file'": "--ca-file",
    "'verify_ssl': False": "--no-verify",
    "'host' and 'port'": "the place",
    "'host', 'port' and the firewall, or set a longer 'timeout'": "the place and the firewall",
    "'host'": "the place",
    "('use_ssl': True, port 993); 'use_tls': False sends everything in clear, for servers on this machine": "(imaps://)",
}
"""What the command has in place of a key of the connectors."""


def register(main: typer.Typer) -> None:
    """Add the command of this file."""
    main.command(
        "import",
        epilog="Examples: homing import ann@example.org --from imaps://ann@mail.example.net · homing import"
        " ann@example.org --from gmail:ann@gmail.com --dry-run · homing import ann@example.org --from"
        " maildir:/home/ann/Maildir. Run again, it goes on where it ended, and brings what is new. Exit status 1 when"
        " anything differs afterwards. docs/import.md says more.",
    )(bring)


def bring(
    address: Annotated[str, typer.Argument(metavar="ACCOUNT", help="Whose mail it becomes.")],
    place: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="PLACE",
            help="imaps://USER@HOST[:PORT], imap://USER@HOST[:PORT], gmail:ADDRESS, microsoft:ADDRESS, maildir:PATH or"
            " mbox:PATH; it is not changed.",
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look, tell what would be done, and do nothing.")] = False,
    password_stdin: Annotated[
        bool,
        typer.Option(
            "--password-stdin",
            help=f"Read the password there from standard input; else it is {SECRET} of the environment, or asked for.",
        ),
    ] = False,
    ca_file: Annotated[
        Path | None, typer.Option("--ca-file", help="Certificates to trust in place of the system's.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Check the certificate of the server there.")
    ] = True,
) -> None:
    """Bring an account's mail home: from an IMAP server, a Maildir or mbox files."""
    from connectors.exceptions import AuthenticationError, ConfigurationError, ConnectionError, MessageError
    from storage.port import Reason, Refused

    more: dict[str, Any] = {} if verify else {"verify_ssl": False}
    if ca_file is not None:
        more["ca_file"] = str(ca_file)
    again = "run it again, it goes on where it stopped"
    with told():
        from connectors.failures import spelt
        from connectors.pull.places import open_source

        try:
            source = open_source(place, lambda: _password(password_stdin), more=more)
            try:
                found = asyncio.run(_run(address, source, dry_run))
            finally:
                source.close()
        except ConfigurationError as error:
            fail(spelt(str(error), SPELT), USAGE)
        except (AuthenticationError, MessageError) as error:
            fail(spelt(str(error), SPELT))
        except ConnectionError as error:
            fail(f"{spelt(str(error), SPELT)} Then {again}", UNAVAILABLE)
        except Refused as error:
            more_room = " (`homing user quota` gives it more room)" if error.reason is Reason.OVER_QUOTA else ""
            fail(f"{error.text}{more_room}: mend that, and {again}")
        except TimeoutError:
            raise
        except OSError as error:
            fail(f"{error.filename or place}: {error.strerror or error}")
        except KeyboardInterrupt:
            fail(f"ended on the way: {again}", 130)
    if found:
        raise typer.Exit(REFUSED)


def _password(stdin: bool) -> str:
    if stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if os.environ.get(SECRET):
        return os.environ[SECRET]
    if not sys.stdin.isatty():
        fail(f"there is no terminal to ask for the password: use --password-stdin, or set {SECRET}", USAGE)
    return str(typer.prompt("Password there", hide_input=True))


async def _run(address: str, source: Source, dry_run: bool) -> bool:
    """Whether anything is not as it should be."""
    from homing.access import reach_mail
    from homing.importing.bring import Import
    from homing.importing.check import check
    from homing.importing.ledger import open_ledger, there_is
    from homing.keepers import operation

    show = Drawn() if sys.stderr.isatty() else Plain()
    try:
        async with reach_mail() as (access, storage):
            account = await access.identity.find_account(address)
            data = access.settings.data
            known = there_is(data, account.id, source.name)
            ledger = await open_ledger(data, account.id, source.name) if known or not dry_run else None
            try:
                await storage.open_account(operation(), account.id)
                work = Import(storage, account.id, account.quota, source, ledger, show)
                plan = await work.plan()
                for sentence in source.notes:
                    show.say(sentence)
                if dry_run or ledger is None:
                    show.close()
                    _tell_plan(plan)
                    return False
                done = await work.run(plan)
                outcome = await check(storage, account.id, source, ledger, plan, show)
            finally:
                if ledger is not None:
                    await ledger.close()
    finally:
        show.close()
    _tell(done, outcome, address)
    return outcome.count > 0


def _tell_plan(plan: list[Planned]) -> None:
    from rich.table import Table

    table = Table("Folder", "Goes to", box=None)
    for heading in ("Messages", "MiB", "New", "MiB", "Flags changed"):
        table.add_column(heading, justify="right")
    for one in plan:
        table.add_row(
            *(one.folder.name, one.target, f"{one.messages:,}", f"{one.octets / MIB:,.1f}"),
            *(f"{one.new:,}", f"{one.new_octets / MIB:,.1f}", f"{one.changed:,}"),
        )
    table.add_row(
        *("all", "", f"{sum(one.messages for one in plan):,}", f"{sum(one.octets for one in plan) / MIB:,.1f}"),
        *(f"{sum(one.new for one in plan):,}", f"{sum(one.new_octets for one in plan) / MIB:,.1f}"),
        f"{sum(one.changed for one in plan):,}",
    )
    console().print(table)
    typer.echo("Nothing was done: it was a dry run.")


def _tell(done: Done, outcome: Outcome, address: str) -> None:
    from rich.table import Table

    table = Table("Folder", "Mailbox", box=None)
    for heading in ("Messages", "Here", "Octets", "Octets here", "Same Message-ID", "Same date"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for one in outcome.rows:
        table.add_row(
            *(one.folder, one.mailbox, f"{one.messages:,}", f"{one.here:,}", f"{one.octets:,}", f"{one.octets_here:,}"),
            *(f"{one.same_ids:,}", f"{one.same_dates:,}", "same" if one.same else "DIFFERS"),
        )
    console().print(table)
    typer.echo(f"Brought {counted(done.brought, 'message')}, and changed the flags of {done.changed:,}.")
    flags = sum(one.other_flags for one in outcome.rows)
    if flags:
        typer.echo(f"{flags:,} messages have other flags here than there: what was changed here stays.")
    for sentence in outcome.problems:
        typer.echo(f"DIFFERS: {sentence}")
    if outcome.count > len(outcome.problems):
        typer.echo(f"… and {counted(outcome.count - len(outcome.problems), 'difference')} more.")
    if outcome.count:
        typer.echo(f"{counted(outcome.count, 'difference')}.")
    else:
        typer.echo(f"All is the same. {address} has it.")
