"""`homing serve NAME`: one service as a process of its own."""

from __future__ import annotations

from collections.abc import Callable

from homing import process
from homing.keepers import identity_store, storage_store
from homing.services.base import SUPERVISED, Compose, serve
from homing.settings import Settings


def main(name: str, *, supervised: bool) -> None:
    """Serve until SIGTERM or SIGINT. Raises StartError, FolderLocked, and the keepers' errors, before it serves."""
    store, compose = _parts(name)
    command = ["serve", name, *([SUPERVISED] if supervised else [])]
    process.run(lambda: serve(name, store, compose, supervised=supervised), command)


def _parts(name: str) -> tuple[Callable[[Settings], str] | None, Compose]:
    """Where the service keeps its data, if any, and how it is composed. Each imports its own rooms alone."""
    match name:
        case "smtp":
            from homing.services import smtp

            return None, smtp.compose
        case "imap":
            from homing.services import imap

            return None, imap.compose
        case "identity":
            from homing.services import identity

            return identity_store, identity.compose
        case "worker":
            from homing.services import worker

            return None, worker.compose
        case _:
            from homing.services import storage

            return storage_store, storage.compose
