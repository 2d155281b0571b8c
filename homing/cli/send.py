"""`homing send`: a test message, by SMTP, as a mail program would send it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from homing.cli.run import UNAVAILABLE, USAGE, fail, with_access

if TYPE_CHECKING:
    from email.message import EmailMessage

    from homing.access import Access


def register(main: typer.Typer) -> None:
    """Add the command of this file."""
    main.command(
        "send",
        epilog="Examples: homing send ann@example.org · homing send ann@example.org --subject Hello --body 'Hi!'",
    )(send)


def send(
    addresses: Annotated[list[str] | None, typer.Argument(help="One or more addresses of this server.")] = None,
    more: Annotated[list[str] | None, typer.Option("--to", help="The same as an option; may be repeated.")] = None,
    sender: Annotated[str, typer.Option("--from", help="The sender; empty for the null sender.")] = "",
    subject: Annotated[str, typer.Option(help="Its subject.")] = "A test message",
    body: Annotated[str, typer.Option(help="Its text.")] = "This is a test message sent by `homing send`.\n",
    host: Annotated[str | None, typer.Option(help="Another server than the one running here.")] = None,
    port: Annotated[int | None, typer.Option(help="Its port.", min=1, max=65535)] = None,
) -> None:
    """Send a test message to the running server's SMTP port, without signing in."""
    import smtplib

    from mail.address import AddressError, parse_path

    to = [*(addresses or []), *(more or [])]
    if not to:
        fail("to whom? Give at least one address: homing send ann@example.org", USAGE)
    for address in [*to, *([sender] if sender else [])]:
        try:
            parse_path(address, allow_postmaster=True)
        except AddressError as error:
            fail(f"{address!r} is no address: {error}", USAGE)
    try:
        message = _message(sender, to, subject, body)
    except ValueError as error:
        # of an EmailMessage: a line end in a header field, octets that are no text
        fail(f"no message can have this subject or text: {error}", USAGE)
    if host is None or port is None:
        found = with_access(_smtp)
        if found is None:
            fail(
                "no server with an SMTP listener is running on this data folder: start it with `homing up`", UNAVAILABLE
            )
        host, port = host or found[0], port or found[1]
    try:
        with smtplib.SMTP(host, port, timeout=30) as server:
            refused = server.send_message(message, sender, to)
    except smtplib.SMTPRecipientsRefused as error:
        refused = error.recipients
    except (OSError, smtplib.SMTPException) as error:
        fail(f"{host}:{port} did not take the message: {error}", UNAVAILABLE)
    for address, (code, text) in refused.items():
        typer.echo(f"homing: {address} was refused: {code} {text.decode('utf-8', 'replace')}", err=True)
    for address in to:
        if address not in refused:
            typer.echo(f"Delivered to {address}.")
    if refused:
        raise typer.Exit(1)


def _message(sender: str, to: list[str], subject: str, body: str) -> EmailMessage:
    from email.message import EmailMessage
    from email.utils import formatdate, make_msgid

    message = EmailMessage()
    message["From"] = sender or "Mailer <postmaster@localhost>"
    message["To"] = ", ".join(to)
    message["Subject"] = subject
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain="homing.invalid")
    message.set_content(body)
    return message


async def _smtp(access: Access) -> tuple[str, int] | None:
    for one in access.listeners:
        if one.name == "SMTP":
            return one.host or "127.0.0.1", one.port
    return None
