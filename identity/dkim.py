"""Keys that sign the mail of our domains: how one is made, and how keys follow one another.

A rotation keeps to the order in which the DNS can follow (RFC 6376 §3.1, §8.16): a new key is published, signs after
some days when every resolver can have its record, and the one before it is retired then; a retired key's record stays
while mail that it signed may be on its way, and the key is forgotten after that.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from identity.model import DkimAlgorithm, DkimKey, DkimState
from identity.port import Identity, Reason, Refused

RSA_BITS: Final = 2048
"""RFC 8301 §3.2: signers use at least 2048, and more does not fit where a record is one string."""
DAY: Final = 86400.0
_SUFFIX: Final = "abcdefghijkmnpqrstuvwxyz23456789"

Published = Callable[[DkimKey], Awaitable[bool]]
"""Is the record of a key in the DNS? May raise where that cannot be known now."""


@dataclass(frozen=True, slots=True)
class DkimRules:
    """Seconds. activate: a new key waits so long before it signs. retire: the record of a key that signs no more stays
    so long, and then the key is forgotten."""

    activate: float = 2 * DAY
    retire: float = 7 * DAY


@dataclass(frozen=True, slots=True)
class Pair:
    """private_key, public_key: as in ``DkimKey``."""

    private_key: str
    public_key: str


async def make_pair(algorithm: DkimAlgorithm) -> Pair:
    """A new key, made on a thread."""
    return await asyncio.to_thread(_make, algorithm)


def _make(algorithm: DkimAlgorithm) -> Pair:
    # Imported here: it takes a while, and no start needs it.
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

    key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
    if algorithm is DkimAlgorithm.RSA:
        key = rsa.generate_private_key(65537, RSA_BITS)
        # RFC 6376 §3.6.1: the SubjectPublicKeyInfo, as every verifier takes it.
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    else:
        key = ed25519.Ed25519PrivateKey.generate()
        # RFC 8463 §4.2: the 32 octets of the key alone.
        public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Pair(private.decode("ascii"), base64.b64encode(public).decode("ascii"))


def new_selector(algorithm: DkimAlgorithm, now: float) -> str:
    """Such as "20261121r7kqb": the day (UTC), the algorithm, and what makes it new. # RFC 6376 §3.1"""
    day = time.strftime("%Y%m%d", time.gmtime(now))
    return day + algorithm.value[0] + "".join(secrets.choice(_SUFFIX) for _ in range(4))


async def first_keys(identity: Identity, domain: str) -> tuple[DkimKey, ...]:
    """The keys of a domain; where it has none, one of each algorithm is made, and signs at once: there is no signature
    before it that could break. NO_SUCH_DOMAIN, BAD_ADDRESS."""
    keys = await identity.dkim_keys(domain)
    if keys:
        return keys
    return tuple([await identity.add_dkim_key(domain, algorithm, DkimState.ACTIVE) for algorithm in DkimAlgorithm])


async def rotate(identity: Identity, domain: str) -> tuple[DkimKey, ...]:
    """Begin a rotation: one new key of each algorithm, published and not signing yet; for a domain without keys, its
    first ones. The keys made. Refused IN_USE while the rotation before it is not over: a new key waits already."""
    keys = await identity.dkim_keys(domain)
    if not keys:
        return await first_keys(identity, domain)
    waiting = [key.selector for key in keys if key.state is DkimState.PUBLISHED]
    if waiting:
        raise Refused(Reason.IN_USE, f"a rotation is under way: {', '.join(waiting)} does not sign yet")
    return tuple([await identity.add_dkim_key(domain, algorithm) for algorithm in DkimAlgorithm])


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of a key now. state: None to forget it."""

    key: DkimKey
    state: DkimState | None


def due(keys: Sequence[DkimKey], now: float, rules: DkimRules) -> tuple[Step, ...]:
    """The steps that are due, in the order in which they are to be made: a new key signs before the old one stops."""
    steps: list[Step] = []
    for algorithm in DkimAlgorithm:
        mine = [key for key in keys if key.algorithm is algorithm]
        ripe = [key for key in mine if key.state is DkimState.PUBLISHED and now - key.changed_at >= rules.activate]
        if ripe:
            newest = max(ripe, key=lambda key: (key.created_at, key.selector))
            steps.append(Step(newest, DkimState.ACTIVE))
            steps += [Step(key, DkimState.RETIRED) for key in mine if key.state is DkimState.ACTIVE]
            steps += [Step(key, DkimState.RETIRED) for key in ripe if key is not newest]
        steps += [
            Step(key, None) for key in mine if key.state is DkimState.RETIRED and now - key.changed_at >= rules.retire
        ]
    return tuple(steps)


async def advance(
    identity: Identity, domain: str, now: float, rules: DkimRules, published: Published | None = None
) -> tuple[Step, ...]:
    """Make the steps of a domain that are due; those made. A key whose record is not seen in the DNS does not begin to
    sign, and the one before it goes on."""
    made: list[Step] = []
    held: set[DkimAlgorithm] = set()
    for step in due(await identity.dkim_keys(domain), now, rules):
        if step.key.algorithm in held and step.state is not None:
            continue
        if step.state is DkimState.ACTIVE and published is not None and not await published(step.key):
            held.add(step.key.algorithm)
            continue
        try:
            if step.state is None:
                await identity.remove_dkim_key(domain, step.key.selector)
            else:
                await identity.set_dkim_state(domain, step.key.selector, step.state)
        except Refused as error:
            # Another process has made the step.
            if error.reason is not Reason.NO_SUCH_KEY:
                raise
        else:
            made.append(step)
    return tuple(made)
