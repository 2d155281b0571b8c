"""What every command shares: reaching the ports, and telling errors as one sentence and an exit status."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn, TypeVar

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from homing.access import Access
    from identity.port import Identity, Reason

T = TypeVar("T")

REFUSED = 1
USAGE = 2
UNAVAILABLE = 69


def fail(sentence: str, status: int = REFUSED) -> NoReturn:
    """Tell why on standard error, and end with the status."""
    typer.secho(f"homing: {sentence}", fg="red" if sys.stderr.isatty() else None, err=True)
    raise typer.Exit(status)


def _hint(reason: Reason) -> str:
    """What to do about a refusal, where a command helps."""
    from identity.port import Reason

    match reason:
        case Reason.NO_SUCH_DOMAIN:
            return " (`homing domain list` shows the domains, `homing domain add` adds one)"
        case Reason.NO_SUCH_ACCOUNT:
            return " (`homing user list` shows the accounts)"
        case Reason.NO_SUCH_ALIAS:
            return " (`homing alias list` shows the aliases)"
        case Reason.ALREADY_EXISTS:
            return " (`homing user list`, `homing alias list` and `homing domain list` show what there is)"
        case _:
            return ""


async def tell_dead_ends(identity: Identity, addresses: Iterable[str]) -> None:
    """Warn of those of our domains to which mail is refused: nobody has them, or they lead in a circle."""
    from identity.model import Verdict

    for address in addresses:
        if (await identity.resolve(address)).verdict is Verdict.UNKNOWN:
            typer.echo(f"homing: {address} leads nowhere yet: mail for it is refused until it is somebody's", err=True)


@contextmanager
def told() -> Iterator[None]:
    """Turn the errors that a user can meet into a sentence and a status; a bug keeps its trace."""
    from homing.overrides import OverrideRefused, OverridesUnavailable
    from identity.port import Refused, Unavailable
    from runtime.admin import ControlUnreachable, FolderLocked
    from runtime.lifecycle import StartError
    from runtime.portcall import BadCall
    from runtime.sqlite import DatabaseUnavailable, SchemaTooNew
    from storage.port import Unavailable as StorageUnavailable

    try:
        yield
    except Refused as error:
        fail(f"{error}{_hint(error.reason)}")
    except (OverrideRefused, SchemaTooNew, BadCall) as error:
        fail(str(error))
    except StartError as error:
        fail(str(error), error.exit_code)
    except FolderLocked as error:
        fail(f"{error} Stop that process, or choose another folder with HOMING_DATA.", UNAVAILABLE)
    except TimeoutError:
        fail("the server is still busy with the work in hand", UNAVAILABLE)
    except (Unavailable, StorageUnavailable, OverridesUnavailable, DatabaseUnavailable, ControlUnreachable) as error:
        fail(f"{error}", UNAVAILABLE)


def with_access(work: Callable[[Access], Awaitable[T]]) -> T:
    """Run a command's work with the ports, whether the server runs or not."""
    from homing.access import reach

    async def go() -> T:
        async with reach() as access:
            return await work(access)

    with told():
        return asyncio.run(go())


def console() -> Console:
    """For tables: the terminal's width, or wide enough for whole lines in a pipe."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)


def size_told(octets: int) -> str:
    """A size for people, to a tenth of its unit."""
    for unit, name in ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")):
        if octets >= unit:
            return f"{octets / unit:.1f} {name}"
    return f"{octets} B"


def counted(number: int, one: str, more: str = "") -> str:
    """A number of things: "1 folder", "2,000 folders". more: the plural, where it has more than an s."""
    return f"{number:,} {one if number == 1 else more or f'{one}s'}"


def as_json(value: object) -> None:
    """Print a value for scripts."""
    import json

    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
