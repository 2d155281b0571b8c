"""In-memory stand-ins for the two ports, with switches for trouble."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterable, Sequence
from typing import Any

from identity.model import Change, ChangeKind, Changes, Origin, Principal, Resolution, Role, Target, Verdict
from identity.port import Reason as IdentityReason
from identity.port import Refused as IdentityRefused
from identity.port import Unavailable as IdentityUnavailable
from storage.model import Accepted, Delivery, Event, Operation, StagedBlob, StoredAt, Usage
from storage.port import Reason, Refused, Unavailable


class FakeIdentity:
    """example.org is ours. aliases: address -> targets, ours or others'."""

    def __init__(self) -> None:
        self.passwords = {"alice@example.org": "wonder", "bob@example.org": "builder", "root@example.org": "admin"}
        self.quotas: dict[str, int] = {}
        self.aliases: dict[str, tuple[str, ...]] = {}
        self.away = False
        self.guesses = 0
        self.resolved = 0
        self.log: list[Change] = []
        self.news = asyncio.Event()

    def principal(self, address: str, credential: str = "password") -> Principal:
        role = Role.ADMIN if address.startswith("root@") else Role.USER
        return Principal("A" + address.split("@")[0], address, role, None, credential, 1)

    async def authenticate(self, name: str, password: str, origin: Origin) -> Principal:
        if self.away:
            raise IdentityUnavailable("away")
        address = name if "@" in name else f"{name}@example.org"
        if self.passwords.get(address) != password:
            self.guesses += 1
            if self.guesses > 20:
                raise IdentityRefused(IdentityReason.SLOW_DOWN, retry_after=5)
            raise IdentityRefused(IdentityReason.BAD_CREDENTIALS)
        return self.principal(address)

    async def authenticate_token(self, name: str, access: str, origin: Origin) -> Principal:
        raise IdentityRefused(IdentityReason.BAD_CREDENTIALS)

    async def still_valid(self, principal: Principal) -> bool:
        return True

    async def may_send_as(self, account: str, address: str) -> bool:
        own = f"{account[1:]}@example.org"
        return address.lower() == own or own in self.aliases.get(address, ())

    async def resolve(self, address: str) -> Resolution:
        self.resolved += 1
        if self.away:
            raise IdentityUnavailable("away")
        address = address.lower()
        local, _, domain = address.rpartition("@")
        if domain != "example.org":
            return Resolution(Verdict.NOT_OURS)
        if address in self.aliases:
            inside = tuple(t for t in self.aliases[address] if t.endswith("@example.org"))
            outside = tuple(t for t in self.aliases[address] if not t.endswith("@example.org"))
            return Resolution(Verdict.LOCAL, tuple(self._target(t) for t in inside), outside)
        if local == "postmaster":
            return Resolution(Verdict.LOCAL, (self._target("root@example.org"),))
        user, _, detail = local.partition("+")
        own = f"{user}@example.org"
        if own in self.passwords:
            return Resolution(Verdict.LOCAL, (self._target(own, detail),))
        return Resolution(Verdict.UNKNOWN)

    def _target(self, address: str, detail: str = "") -> Target:
        return Target("A" + address.split("@")[0], address, self.quotas.get(address), detail)

    def change(self, account: str, *revoked: str) -> None:
        self.log.append(Change(len(self.log) + 1, account, ChangeKind.CREDENTIALS, revoked))
        self.news.set()

    async def changes_since(self, seq: int, wait: float) -> Changes:
        if seq == 0:
            return Changes(len(self.log) + 1000, ())
        after = seq - 1000
        if len(self.log) <= after:
            self.news.clear()
            try:
                async with asyncio.timeout(wait):
                    await self.news.wait()
            except TimeoutError:
                pass
        return Changes(len(self.log) + 1000, tuple(self.log[after:]))


class FakeStorage:
    """delivered: (delivery, whole blob) in order of commit. keep=False forgets bodies, for benches."""

    def __init__(self, keep: bool = True) -> None:
        self.delivered: list[tuple[Delivery, bytes]] = []
        self.accounts: set[str] = set()
        self.staged: dict[str, bytes] = {}
        self.recorded: list[Event] = []
        self.used: dict[str, int] = {}
        self.batches: list[int] = []
        self.trouble: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.keep = keep
        self.count = 0
        self._ids = itertools.count(1)

    async def open_account(self, op: Operation, account: str) -> None:
        self.accounts.add(account)

    async def usage(self, account: str) -> Usage:
        return Usage(self.used.get(account, 0), 0)

    async def stage(self, chunks: AsyncIterable[bytes]) -> StagedBlob:
        whole = bytearray()
        async for chunk in chunks:
            assert len(chunk) <= 256 * 1024
            if self.gate is not None:
                await self.gate.wait()
            if self.trouble is not None:
                raise self.trouble
            whole += chunk
        name = f"G{next(self._ids)}"
        self.staged[name] = bytes(whole)
        return StagedBlob(name, len(whole), hashlib.sha256(whole).digest())

    async def accept(self, deliveries: Sequence[Delivery]) -> Sequence[Accepted | Refused | Unavailable]:
        self.batches.append(len(deliveries))
        if self.gate is not None:
            await self.gate.wait()
        if self.trouble is not None:
            raise self.trouble
        return [self._accept(delivery) for delivery in deliveries]

    def _accept(self, delivery: Delivery) -> Accepted | Refused:
        self.count += 1
        for one in delivery.local:
            if one.account not in self.accounts:
                return Refused(Reason.NO_SUCH_ACCOUNT)
            assert len(one.prefix) <= 1024
        content = delivery.content
        if isinstance(content, bytes):
            assert len(content) <= 256 * 1024
        if self.keep:
            body = content if isinstance(content, bytes) else self.staged.pop(content.id)
            self.delivered.append((delivery, body))
        stored = tuple(StoredAt(one.account, "M1", 1, self.count, f"E{self.count}") for one in delivery.local)
        return Accepted(stored, ("S1",) if delivery.remote else ())

    async def record(self, events: Sequence[Event]) -> None:
        self.recorded.extend(events)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)
