"""What sends through integrations, made as the settings say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from homing.integrations.book import Book
from homing.integrations.outbox import Outbox
from homing.integrations.vault import Vault, open_vault
from homing.process import Process
from identity.limiting.gate import Gate
from identity.port import Identity
from storage.port import Storage


@dataclass(frozen=True, slots=True)
class Integrations:
    """outbox: a service, too."""

    vault: Vault
    book: Book
    outbox: Outbox


def make_integrations(
    process: Process, identity: Identity, storage: Storage, gate: Gate, folder: Path | None
) -> Integrations:
    """folder: where the key may be kept, of a server that is all in one process with its accounts in a folder. Raises
    StartError."""
    settings = process.settings
    present, old = (
        None if one is None else one.get_secret_value() for one in (settings.secrets.key, settings.secrets.old)
    )
    vault = open_vault(present, old, folder)
    book = Book(identity, vault, settings.sending.rules)
    return Integrations(vault, book, Outbox(book, storage, gate, process.clock))
