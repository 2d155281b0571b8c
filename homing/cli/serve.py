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
    WORKER = "worker"


def register(main: typer.Typer) -> None:
    """Add the commands of this file."""
    main.command(
        "up",
        epilog="Examples: homing up · HOMING_DOMAIN=example.org HOMING_SMTP_PORT=25 homing up. Once every listener"
        " answers it prints `ready` on a line of its own; SIGTERM or Ctrl-C drains and ends it, a second one at once.",
    )(up)
    main.command(
        "serve",
        epilog="Examples: homing serve imap · homing serve smtp imap identity storage · homing serve all."
        " HOMING_SERVICE_TOKEN is the same for all services, IDENTITY_URL and STORAGE_URL say where the doors reach the"
        " keepers, and MONGODB_URL where the keepers keep their data. SIGTERM or Ctrl-C drains and ends it.",
    )(serve)
    main.command(
        "worker",
        epilog="Examples: homing worker · SMTP_HOST=smtp.example.net SMTP_USER=me SMTP_PASS=secret homing worker. As"
        " many as are wanted: beside `homing up`, over its data folder; or, with HOMING_SERVICE_TOKEN, as `homing serve"
        " worker`, on any machines that reach identity and storage.",
    )(worker)
    main.command("down", epilog="Example: homing down")(down)
    main.command("restart", epilog="Examples: homing restart · homing restart imap")(restart)
    main.command("logs", epilog="Examples: homing logs --follow · homing logs smtp")(logs)
    main.command("version")(version)


def up() -> None:
    """Start the whole server in the foreground."""
    with told():
        from homing.embedded import main

        main()


def serve(
    services: Annotated[
        list[Service],
        typer.Argument(help="One runs in this process; each of several in a child of it. all is `homing up`."),
    ],
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
) -> None:
    """Start one service, or several, as processes of their own."""
    names = [service.value for service in services]
    if Service.ALL in services:
        if len(services) > 1:
            fail("all stands for the whole server in one process, and by itself", USAGE)
        up()
    elif len(set(names)) < len(names):
        fail(
            "each service is named once: a second process of one has ports of its own, and is started by itself", USAGE
        )
    elif len(names) == 1:
        with told():
            from homing.distributed import main

            main(names[0], supervised=supervised)
    else:
        with told():
            from homing.supervisor import main as supervise

            status = supervise(names)
        if status:
            raise typer.Exit(status)


def worker() -> None:
    """Start a process that sends the tasks of the asynchronous sending API, and nothing else."""
    with told():
        from homing.services import beside
        from homing.settings import load_settings

        if beside.is_beside(load_settings().settings):
            beside.main()
        else:
            from homing.distributed import main

            main(Service.WORKER.value, supervised=False)


def down() -> None:
    """Drain and end the server that runs on this data folder, all its processes, and wait until it has ended."""
    from homing.control import end

    with told():
        if not asyncio.run(end()):
            fail("no server runs on this data folder")
    typer.echo("Ended.")


def restart(
    services: Annotated[
        list[Service] | None,
        typer.Argument(help="Those that are processes of their own; where one process runs all, it is all of them."),
    ] = None,
) -> None:
    """Drain what runs and begin again in its place, with new settings and code; its data stays."""
    from homing.control import restart

    names = [service.value for service in services or () if service is not Service.ALL]
    with told():
        if not asyncio.run(restart(names)):
            fail(f"no {' or '.join(names) or 'server'} runs on this data folder; POST /api/restart asks one elsewhere")
    typer.echo("Restarted.")


def logs(
    services: Annotated[list[Service] | None, typer.Argument(help="Of these services alone.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")] = False,
) -> None:
    """Show the last log lines of what runs on this data folder."""
    from homing.control import lines

    names = [service.value for service in services or () if service is not Service.ALL]

    async def show() -> None:
        async for line in lines(follow, names):
            typer.echo(line)

    with told(), contextlib.suppress(KeyboardInterrupt):
        asyncio.run(show())


def version() -> None:
    """Show the version."""
    import platform

    from homing import __version__
    from runtime.sqlite import SQLITE_VERSION

    typer.echo(f"homing {__version__} (Python {platform.python_version()}, SQLite {SQLITE_VERSION})")
