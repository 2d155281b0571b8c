"""Operations: each happens once.

Whoever begins one inserts its document under a claim of its own; a repeat finds it. With an outcome in it the repeat
has its answer. Without one the first may still be at it, or dead: after some patience the repeat takes the claim, then
raises the account's epoch (so that the first can commit no more), carries out what the first had committed, and looks
once more. The other way round: a writer that meets an epoch later than the one that it read *before* it claimed asks
whether the claim is still its own.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from bson import ObjectId

from storage.adapters.mongo import queries
from storage.adapters.mongo.accounts import Accounts
from storage.adapters.mongo.database import Database
from storage.adapters.mongo.state import Document
from storage.limits import OPERATION_AGE
from storage.port import Unavailable

PATIENCE: Final = 1.0
"""Seconds that a repeat gives the first before it takes over."""
TRIED_SECONDS: Final = 60.0
"""How long a repeat goes on after its patience, while others take the operation over before it."""
LOOK: Final = 0.05
"""Seconds between two looks meanwhile."""
GIVEN_UP_MAX: Final = 10_000
"""Claims of this process that came to nothing, which are remembered so that nobody waits for them."""


class ClaimLost(Exception):
    """Another took this operation over: its outcome will be found."""


@dataclass(slots=True)
class Claim:
    """The right to carry an operation out. nonce: names this beginning of it, under whoever's claim; an outcome is
    written to no other. epochs: of the accounts that it is about, as they were before it was claimed. parts: of a
    delivery that was committed by another and is to be finished."""

    op: str
    nonce: ObjectId
    mine: ObjectId
    epochs: dict[str, int]
    parts: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """An operation that has its outcome already: JSON."""

    outcome: str


class Operations:
    def __init__(self, database: Database, accounts: Accounts, patience: float = PATIENCE) -> None:
        self._database = database
        self._accounts = accounts
        self._patience = patience
        self._given_up: OrderedDict[ObjectId, None] = OrderedDict()

    async def find(self, op: str) -> Any | None:
        """The outcome of an operation that was done within the hour; None when it was not."""
        doc = await self._database.first(queries.operation(op))
        return None if doc is None or self._old(doc) else doc.get("outcome")

    async def ended(self, ops: Sequence[str]) -> dict[str, Any]:
        """The outcomes of those of the operations that were done within the hour."""
        found = await self._database.find(queries.operations(ops)) if ops else []
        return {doc["_id"]: doc["outcome"] for doc in found if "outcome" in doc and not self._old(doc)}

    async def claim(self, op: str, account: str) -> Claim | Ended:
        """Begin an operation on one account, or take it over from the dead."""
        (found,) = await self.claim_all([(op, (account,))], {account: await self._accounts.epoch(account)})
        return found

    async def claim_all(
        self, ops: Sequence[tuple[str, Sequence[str]]], epochs: Mapping[str, int]
    ) -> list[Claim | Ended]:
        """Begin operations, each on some accounts. epochs: of all these accounts, read before this call."""
        claims = [self._new(op, {account: epochs[account] for account in accounts}) for op, accounts in ops]
        known = await self._database.insert(
            "operation", [self._document(claim, accounts) for claim, (_, accounts) in zip(claims, ops, strict=True)]
        )
        found: list[Claim | Ended] = list(claims)
        # Together: each may have to wait for a process that died, which had all of them.
        again = await asyncio.gather(*[self._again(*ops[place]) for place in sorted(known)], return_exceptions=True)
        for place, claim in zip(sorted(known), again, strict=True):
            if isinstance(claim, BaseException):
                # The caller gets none of them, so nobody need wait for those that were to be had.
                for one in (*found, *again):
                    if isinstance(one, Claim):
                        self.give_up(one)
                raise claim
            found[place] = claim
        return found

    async def check(self, claim: Claim, account: str, epoch: int) -> bool:
        """Whether the account has another epoch than it had; raises ClaimLost unless the claim stands all the same."""
        if claim.epochs[account] == epoch:
            return False
        if not await self._still_held(claim.op, claim.mine):
            raise ClaimLost
        claim.epochs[account] = epoch
        return True

    async def release(self, claims: Iterable[Claim]) -> None:
        """Forget operations that were refused: a repeat is tried anew."""
        for claim in claims:
            await self._database.delete(queries.claimed(claim.op, claim.mine))

    def give_up(self, claim: Claim) -> None:
        """This process has stopped trying, perhaps without an outcome: a repeat need not wait for it."""
        self._given_up[claim.mine] = None
        while len(self._given_up) > GIVEN_UP_MAX:
            self._given_up.popitem(last=False)

    async def take(self, doc: Mapping[str, Any]) -> Claim | Ended | None:
        """Take an operation, whose document this is, from its holder and shut the holder out of its accounts; None
        when another was quicker. What the holder had committed is carried out."""
        op, mine = doc["_id"], ObjectId()
        update = {"$set": {"claim": mine, "created": self._database.now()}}
        if not await self._database.swap(queries.held(op, doc["claim"]), update):
            return None
        epochs = {account: await self._accounts.fence(account) for account in doc["accounts"]}
        # After the epochs: whoever takes it from now on raises them again.
        held = await self._still_held(op, mine)
        now = await self._database.first(queries.operation(op))
        if now is None or now["claim"] != mine:
            return None
        if "outcome" in now:
            return Ended(now["outcome"])
        return Claim(op, now["nonce"], mine, epochs, now.get("parts")) if held else None

    async def _still_held(self, op: str, claim: ObjectId) -> bool:
        """Whether the operation is this claimant's and has no outcome. Asked by a write that changes nothing: a new
        primary may for a moment answer reads from before what the old one had acknowledged, never writes."""
        return await self._database.swap(queries.held(op, claim), {"$set": {"claim": claim}})

    async def _again(self, op: str, accounts: Sequence[str]) -> Claim | Ended:
        """An operation that was begun before."""
        give_up = monotonic() + self._patience
        deadline = give_up + TRIED_SECONDS
        holder: ObjectId | None = None
        looks = 0
        while True:
            doc = await self._database.first(queries.operation(op))
            if doc is None:
                claim = self._new(op, {account: await self._accounts.epoch(account) for account in accounts})
                if not await self._database.insert("operation", [self._document(claim, accounts)]):
                    return claim
                await asyncio.sleep(random.uniform(0, LOOK))
            elif "outcome" in doc:
                if not self._old(doc):
                    return Ended(doc["outcome"])
                await self._database.delete(queries.claim(op, doc["claim"]))
            elif doc["claim"] != holder and holder is not None:
                # Somebody has just taken it over.
                holder, give_up = doc["claim"], monotonic() + self._patience
            elif not looks or (monotonic() < give_up and doc["claim"] not in self._given_up):
                holder = doc["claim"]
                await asyncio.sleep(LOOK if looks else 0)
                looks += 1
                for account in doc["accounts"]:
                    await self._accounts.find(account)
            elif (taken := await self.take(doc)) is not None:
                return taken
            else:
                await asyncio.sleep(random.uniform(0, LOOK))
            if monotonic() > deadline:
                raise Unavailable("the operation is being tried by others")

    def _old(self, doc: Mapping[str, Any]) -> bool:
        return bool(doc["created"] < self._database.now() - OPERATION_AGE)

    def _new(self, op: str, epochs: dict[str, int]) -> Claim:
        nonce = ObjectId()
        return Claim(op, nonce, nonce, epochs)

    def _document(self, claim: Claim, accounts: Sequence[str]) -> Document:
        return {
            "_id": claim.op,
            "nonce": claim.nonce,
            "claim": claim.mine,
            "created": self._database.now(),
            "accounts": list(accounts),
        }
