"""Showing, once, the logins that the first run made."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console
from rich.panel import Panel

from identity.service import FirstRun

FILE_NAME = "first-run.txt"


def show(made: FirstRun, console: Console, folder: Path) -> Path | None:
    """On the terminal where there is one; else in a file of mode 0600 in the data folder, whose path is returned."""
    text = (
        f"Administrator: {made.admin}\n"
        f"Password:      {made.admin_password or 'as given by HOMING_ADMIN_PASSWORD'}\n\n"
        f"A first user:  {made.user}\n"
        f"Password:      {made.user_password}\n"
    )
    if console.is_terminal:
        console.print(Panel(text.strip(), title="Shown this once: write it down", expand=False), highlight=False)
        return None
    path = folder / FILE_NAME
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(f"{text}\nShown this once: read it, and remove this file.\n")
    return path
