"""What a process prints when it is ready: one table of all that it serves, and where it keeps its data."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from homing.ports import Listening
from homing.settings import Settings


def show(settings: Settings, listeners: Sequence[Listening], console: Console, name: str) -> None:
    """Print the table."""
    title = name.capitalize() if name == "homing" else f"Homing: {name}"
    table = Table("Service", "Port", "Security", title=title, title_justify="left", box=None, pad_edge=False)
    for one in listeners:
        # A Unix socket has a path and no port.
        table.add_row(one.name, str(one.port or one.host), one.security)
    table.add_section()
    table.add_row("Address", "", settings.host or "all addresses of this machine")
    table.add_row("Domain", "", settings.domain)
    table.add_row("Data folder", "", str(settings.data.absolute()))
    console.print(table, highlight=False)
