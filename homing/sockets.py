"""The control sockets of the processes over one data folder: `control.sock` of the one that runs all services, and
`run/SERVICE-HOST-PID.sock` of each process of a distributed server."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from runtime.admin import SOCKET_NAME, ControlClient, make_folder

FOLDER = "run"
SUPERVISOR = "supervisor"
WORKER = "worker"
DOORS = ("smtp", "imap", WORKER)
"""What the keepers outlive: the doors, and who sends the tasks that came in by them."""
KEEPERS = ("storage", "identity")
ORDER = (*KEEPERS, *DOORS)
"""Keepers begin first, and end last."""


@dataclass(frozen=True, slots=True)
class Socket:
    """Where a process may be called. service: "" for the one that runs all."""

    service: str
    folder: Path
    name: str

    def client(self) -> ControlClient:
        """To be used as a context manager; a socket whose process was killed is still there, and does not answer."""
        return ControlClient(self.folder, self.name)


def whole(data: Path) -> Socket:
    """Of the process that runs all services, whether it is there or not."""
    return Socket("", data, SOCKET_NAME)


def found(data: Path, services: Iterable[str] = ()) -> list[Socket]:
    """Of the processes that run the services named, or any; in no order that means anything."""
    wanted = set(services)
    return [
        Socket(service, path.parent, path.name)
        for path in sorted((data / FOLDER).glob("*-*.sock"))
        for service in [path.name.partition("-")[0]]
        if not wanted or service in wanted
    ]


def prepare(data: Path, service: str, pid: int) -> Socket:
    """Where this process is to listen. Removes what killed processes of the same service have left. Raises
    StartError."""
    folder = data / FOLDER
    make_folder(data)
    make_folder(folder)
    for old in found(data, [service]):
        if not _answers(old.folder / old.name):
            with contextlib.suppress(OSError):
                (old.folder / old.name).unlink()
    # Containers that share a folder have names of their own, and all the same process ids.
    return Socket(service, folder, f"{service}-{socket.gethostname()}-{pid}.sock")


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        trial.setblocking(False)
        try:
            trial.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            # Too long a path, too busy a process: whatever it is, it is not known to be dead.
            return True
        return True
