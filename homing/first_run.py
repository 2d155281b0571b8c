"""The logins that the first run makes, shown once."""

from __future__ import annotations

import os
from pathlib import Path

import structlog
from rich.console import Console
from rich.panel import Panel

from homing.settings import Settings, admin_password
from identity.dkim import first_keys
from identity.service import FirstRun, IdentityService
from runtime.admin import make_folder

FILE_NAME = "first-run.txt"

log = structlog.get_logger("homing")


def show(made: FirstRun, console: Console, folder: Path) -> Path | None:
    """On the terminal where there is one; else in a file of mode 0600 in the data folder, whose path is returned."""
    logins = []
    if made.admin is not None:
        password = made.admin_password or "as given by HOMING_ADMIN_PASSWORD"
        logins.append(f"Administrator: {made.admin}\nPassword:      {password}\n")
    if made.user is not None:
        logins.append(f"A first user:  {made.user}\nPassword:      {made.user_password}\n")
    text = "\n".join(logins)
    if console.is_terminal:
        console.print(Panel(text.strip(), title="Shown this once: write it down", expand=False), highlight=False)
        return None
    make_folder(folder)
    path = folder / FILE_NAME
    # Added to what is there: another process may have told there what it made, at the same moment.
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    os.fchmod(file, 0o600)
    with os.fdopen(file, "a", encoding="utf-8") as told:
        told.write(f"{text}\nShown this once: read it, and remove this file.\n")
    return path


async def make_first_logins(settings: Settings, names: IdentityService, console: Console) -> None:
    """On the first run make the domain and its first accounts, and show their passwords once."""
    made = await names.ensure_first_run(settings.domain, admin_password(settings))
    if made is None:
        if not await names.identity.domain_exists(settings.domain):
            log.warning("the default domain is none of ours: homing domain add", domain=settings.domain)
        return
    # Shown at once: whatever fails later in this start, the passwords are not made again.
    path = show(made, console, settings.data)
    if path is not None:
        console.print(f"First run: the administrator's login and one user's are in {path}", soft_wrap=True)
    # Its mail is signed from the first day on.
    await first_keys(names.identity, settings.domain)
