"""The command line. Each group of commands has a file; what takes long to import is imported inside the commands."""

from __future__ import annotations

import typer

from homing.cli import (
    alias,
    app_password,
    ban,
    config,
    doctor,
    domain,
    exporting,
    importing,
    migrate,
    send,
    serve,
    sharing,
    spool,
    tracing,
    user,
)

EPILOG = (
    "Exit status: 0 done · 1 refused or failed, in whole or in part · 2 wrong usage · 69 the server or the disk cannot"
    " answer now, try later · 78 the settings are wrong. Commands work with the server running or stopped."
)

app = typer.Typer(
    name="homing",
    help="A self-hosted mail server: receiving, keeping, reading and sending mail in one program.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
serve.register(app)
send.register(app)
tracing.register(app)
doctor.register(app)
config.register(app)
migrate.register(app)
importing.register(app)
exporting.register(app)
app.add_typer(domain.app, name="domain")
app.add_typer(user.app, name="user")
app.add_typer(app_password.app, name="app-password")
app.add_typer(alias.app, name="alias")
app.add_typer(sharing.app, name="mailbox")
app.add_typer(ban.app, name="ban")
app.add_typer(spool.app, name="queue")


def main() -> None:
    """The program's entry point."""
    app(prog_name="homing")
