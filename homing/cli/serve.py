"""`homing up`, `serve`, `down`, `restart`, `logs` and `version`: the server as a whole."""

from __future__ import annotations

import asyncio
import contextlib
from enum import StrEnum
from typing import Annotated

import typer

from homing.cli.run import USAGE, fail, told


class Service(StrEnum):
    """What can be served."""

    ALL = "all"
    SMTP = "smtp"
    IMAP = "imap"
    IDENTITY = "identity"
    STORAGE = "storage"


def register(main: typer.Typer) -> None:
    """Add the commands of this file."""
    main.command(
        "up",
        epilog="Examples: homing up · HOMING_DOMAIN=example.org HOMING_SMTP_PORT=25 homing up. Once every listener"
        " answers it prints `ready` on a line of its own; SIGTERM or Ctrl-C drains and ends it, a second one at once.",
    )(up)
    main.command("serve", epilog="Example: homing serve all")(serve)
    main.command("down", epilog="Example: homing down")(down)
    main.command("restart", epilog="Example: homing restart")(restart)
    main.command("logs", epilog="Example: homing logs --follow")(logs)
    main.command("version")(version)


def up() -> None:
    """Start the whole server in the foreground."""
    with told():
        from homing.embedded import main

        main()


def serve(
    services: Annotated[
        list[Service],
        typer.Argument(help="all is the same as `homing up`."),
    ],
) -> None:
    """Start one service, or several, as a process of its own."""
    if services != [Service.ALL]:
        fail(
            f"{' '.join(services)} as a process of its own comes with distributed mode, which this release does not"
            " have yet; `homing up` (or `homing serve all`) runs all services in one process",
            USAGE,
        )
    up()


def down() -> None:
    """Drain and end the server that runs on this data folder, and wait until it has ended."""
    from homing.control import end

    with told():
        if not asyncio.run(end()):
            fail("no server runs on this data folder")
    typer.echo("Ended.")


def restart(
    services: Annotated[
        list[Service] | None,
        typer.Argument(help="All run in one process, so it is all of them that restart."),
    ] = None,
) -> None:
    """Drain the running server and begin again in its place, with new settings and code; its data stays."""
    from homing.control import restart

    with told():
        if not asyncio.run(restart()):
            fail("no server runs on this data folder")
    typer.echo("Restarted.")


def logs(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")] = False,
) -> None:
    """Show the running server's last log lines."""
    from homing.control import lines

    async def show() -> None:
        async for line in lines(follow):
            typer.echo(line)

    with told(), contextlib.suppress(KeyboardInterrupt):
        asyncio.run(show())


def version() -> None:
    """Show the version."""
    import platform

    from homing import __version__
    from runtime.sqlite import SQLITE_VERSION

    typer.echo(f"homing {__version__} (Python {platform.python_version()}, SQLite {SQLITE_VERSION})")
