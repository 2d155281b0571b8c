"""`homing export`: an account's mail, as files."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from homing.cli.migrate import MIB, Drawn, Plain
from homing.cli.run import USAGE, counted, fail, told

if TYPE_CHECKING:
    from homing.exporting.export import Summary

KINDS = ("maildir", "mbox", "eml")


def register(main: typer.Typer) -> None:
    """Add the command of this file."""
    main.command(
        "export",
        epilog="Examples: homing export ann@example.org --to maildir:/srv/ann · homing export ann@example.org --to"
        " mbox:ann-mbox · homing export ann@example.org --to eml:ann-eml. The folder is new or empty; ended on the way,"
        " it goes on when it is run again. docs/import.md says what is in it.",
    )(write)


def write(
    address: Annotated[str, typer.Argument(metavar="ACCOUNT", help="Whose mail.")],
    place: Annotated[
        str, typer.Option("--to", metavar="PLACE", help="maildir:PATH, mbox:PATH or eml:PATH, a new or empty folder.")
    ],
) -> None:
    """Write all mail of an account into a folder, byte for byte, with an index in JSON."""
    kind, _, path = place.partition(":")
    if kind not in KINDS or not path:
        fail(f"{place!r} is no place to write to: maildir:PATH, mbox:PATH or eml:PATH", USAGE)
    folder = Path(path).expanduser()
    with told():
        from homing.exporting.index import IndexRefused
        from storage.port import Refused

        try:
            summary = asyncio.run(_run(address, kind, folder))
        except (IndexRefused, Refused) as error:
            fail(str(error))
        except TimeoutError:
            raise
        except OSError as error:
            fail(f"{error.filename or folder}: {error.strerror or error}: mend that, and run it again: it goes on")
        except KeyboardInterrupt:
            fail("ended on the way: run it again, it goes on where it stopped", 130)
    if summary.lost:
        typer.echo(
            f"{summary.lost:,} keywords are in the index alone: a Maildir has room for 26 in a folder.", err=True
        )
    typer.echo(
        f"{address}: {counted(summary.mailboxes, 'mailbox', 'mailboxes')}, {counted(summary.messages, 'message')},"
        f" {summary.octets / MIB:,.1f} MiB are in {folder}."
    )


async def _run(address: str, kind: str, folder: Path) -> Summary:
    from homing.access import reach_mail
    from homing.exporting.export import export
    from homing.keepers import operation

    show = Drawn() if sys.stderr.isatty() else Plain()
    try:
        async with reach_mail() as (access, storage):
            account = await access.identity.find_account(address)
            await storage.open_account(operation(), account.id)
            return await export(storage, account.id, account.address, kind, folder, show)
    finally:
        show.close()
