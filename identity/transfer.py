"""Moving all of identity: its records as plain data, and what each kind of store does to give and to take them.

No service uses this; ``identity.migrate`` does, on a store that nothing else has open. What crosses is what an
administrator or a user would miss: domains and their DKIM keys, accounts (removed ones whose mail is not purged yet
among them), app passwords, integrations (sealed as they are), aliases, the keys of SCRAM and the secret that their
salts are made by. What does not: bearer tokens (who has one signs in again), guess counters, known devices, counts of
rates and the bans of rules (they come again by themselves), bans of an administrator (`homing ban list --json` has
them), and the history of changes that ends connections (there are none after a move).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple, Protocol

UNFINISHED: Final = (
    "The store is the target of an unfinished migration: run `homing migrate` again, which goes on where it stopped."
)
"""Why no service starts on it: the StartError of who opens it for that."""


class TransferRefused(Exception):
    """The store cannot be moved from, or to. The text is one sentence for the administrator."""


class DomainRecord(NamedTuple):
    """key: the name as A-labels in lower case."""

    key: str
    id: str
    name: str
    catch_all: str | None
    subaddress: str
    created_at: float


class AppPasswordRecord(NamedTuple):
    """hash: as it is kept, never the secret. mask: its names with a space between."""

    id: str
    name: str
    hash: bytes
    created_at: float
    last_used: float | None
    scram_iterations: int = 0
    scram_keys: bytes = b""
    mask: str = ""

    def __repr__(self) -> str:
        return f"AppPasswordRecord({self.id!r}, {self.name!r})"


class AccountRecord(NamedTuple):
    """key, domain: of the address, as names are compared; the key of a removed one, whose name is free again, is ""
    (its row stays until its mail is gone). role: a value of ``Role``. password_version: the version since which the
    present password holds. removed_at: when it was marked as removed, else None. scram_iterations, scram_keys: as
    ``ScramKeys`` has them. mask: its names with a space between. apps: by id."""

    id: str
    key: str
    domain: str
    address: str
    display_name: str
    role: str
    quota: int | None
    enabled: bool
    version: int
    password_hash: str
    password_version: int
    created_at: float
    removed_at: float | None
    scram_iterations: int = 0
    scram_keys: bytes = b""
    mask: str = ""
    apps: tuple[AppPasswordRecord, ...] = ()

    def __repr__(self) -> str:
        return f"AccountRecord({self.id!r}, {self.address!r})"


class AliasRecord(NamedTuple):
    """key: of the address; domain: of the key."""

    key: str
    domain: str
    address: str
    targets: tuple[str, ...]


class DkimRecord(NamedTuple):
    """id: the domain's id, a space, the selector. algorithm, state: values of their enums. Keys move as they are, so
    that the records in the DNS stay right."""

    id: str
    domain: str
    selector: str
    algorithm: str
    private_key: str
    public_key: str
    state: str
    created_at: float
    changed_at: float

    def __repr__(self) -> str:
        return f"DkimRecord({self.id!r})"


class IntegrationsRecord(NamedTuple):
    """All of one account. items: each as ``identity.integrations.plain`` has it; the sealed ones stay as they are, and
    are opened with the same key as before."""

    account: str
    items: tuple[tuple[str | int | float | bool | bytes, ...], ...]

    def __repr__(self) -> str:
        return f"IntegrationsRecord({self.account!r})"


class SecretRecord(NamedTuple):
    """What a store alone knows. The target's own, of the same name, gives way: nothing was made by it yet."""

    name: str
    value: bytes

    def __repr__(self) -> str:
        return f"SecretRecord({self.name!r})"


Record = DomainRecord | AccountRecord | AliasRecord | DkimRecord | IntegrationsRecord | SecretRecord


class Kind(Enum):
    """What there is, in the order in which it is copied: what a record names comes before it."""

    DOMAINS = "domains"
    ACCOUNTS = "accounts"
    ALIASES = "aliases"
    DKIM_KEYS = "DKIM keys"
    INTEGRATIONS = "accounts with integrations"
    SECRETS = "keys of the store"


class Marker(NamedTuple):
    """What the new store remembers of an unfinished move. source: a digest of the old store when it began. place: as
    ``put`` last kept it, "" at the beginning."""

    source: str
    place: str


class Transfer(Protocol):
    """A store as something to be moved. Errors: TransferRefused, and the port's Unavailable."""

    async def page(self, kind: Kind, after: str, limit: int) -> Sequence[Record]:
        """The next records of a kind in order of their first field, after the one given ("" for the beginning)."""

    async def marker(self) -> Marker | None:
        """The unfinished move to this store, if there is one."""

    async def begin(self, source: str) -> None:
        """Mark the store as the target of a move. TransferRefused when it holds anything, or a marker."""

    async def put(self, records: Sequence[Record], place: str) -> None:
        """Take records of one kind and remember the place. What was taken before is taken again without doubling."""

    async def finish(self) -> None:
        """All is there: forget the marker. From now on services start on the store."""

    async def erase(self) -> None:
        """Remove all that an unfinished move has brought, marker included. TransferRefused when there is none."""

    async def close(self) -> None:
        """Let go of the store."""
