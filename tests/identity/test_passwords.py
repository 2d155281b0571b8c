from __future__ import annotations

import asyncio
import threading

import pytest

from identity.passwords import LibpassHasher, Passwords, accepted_hash
from identity.port import Reason, Refused, Unavailable
from identity.settings import PasswordSettings

CHEAP = PasswordSettings(memory_kib=64, iterations=1, lanes=1, threads=2, waiting=3)
SALT = "$argon2id$v=19$m={m},t={t},p={p}$MTIzNDU2Nzg$" + "A" * 43
GOOD = [
    SALT.format(m=19456, t=2, p=1),
    "{ARGON2ID}" + SALT.format(m=65536, t=3, p=4),
    "$2b$12$" + "a" * 21 + "." + "a" * 31,
    "{BLF-CRYPT}$2y$10$" + "a" * 21 + "." + "a" * 31,
    "$6$abcdefgh$" + "a" * 86,
    "{SHA512-CRYPT}$6$rounds=1000000$abcdefgh$" + "a" * 86,
]
BAD = [
    "",
    "clear",
    "{PLAIN}clear",
    "$1$abc$" + "a" * 22,
    "$5$abc$" + "a" * 43,
    SALT.format(m=19456, t=2, p=1).replace("argon2id", "argon2i"),
    SALT.format(m=9_999_999, t=2, p=1),
    SALT.format(m=262144, t=9, p=1),
    SALT.format(m=19456, t=0, p=1),
    SALT.format(m=64, t=1, p=16),
    SALT.format(m=19456, t=2, p=99),
    SALT.format(m=19456, t=2, p=1) + "\n",
    "$2b$31$" + "a" * 53,
    "$2b$03$" + "a" * 53,
    "$2x$10$" + "a" * 53,
    "$2b$10$" + "a" * 52,
    "$6$rounds=999999999$abcdefgh$" + "a" * 86,
    "$6$rounds=10$abcdefgh$" + "a" * 86,
    "$6$abcdefghabcdefghx$" + "a" * 86,
]


@pytest.mark.parametrize("hash", GOOD)
def test_accepted(hash: str) -> None:
    kept = accepted_hash(hash)
    assert kept == hash[hash.index("$") :]
    if "m=65536" not in hash and "1000000" not in hash:
        assert LibpassHasher(CHEAP).verify("x", kept) is False


@pytest.mark.parametrize("hash", BAD)
def test_not_accepted(hash: str) -> None:
    with pytest.raises(Refused) as caught:
        accepted_hash(hash)
    assert caught.value.reason is Reason.BAD_PASSWORD
    assert not hash or hash not in caught.value.text


def test_default_cost_is_in_the_hash() -> None:
    assert LibpassHasher(PasswordSettings()).hash("x").startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_bcrypt_reads_seventy_two_octets() -> None:
    hasher = LibpassHasher(CHEAP)
    hash = "$2b$04$y6sgilIpQPhe5bUFpdvZ1ewu33awYb7F4DG98xbonr5t.qvbUMSWy"
    assert hasher.verify("x", hash)
    assert not hasher.verify("y" * 200, hash)
    assert hasher.needs_update(hash)


def test_cheaper_argon2_is_made_anew() -> None:
    hash = LibpassHasher(CHEAP).hash("x")
    assert not LibpassHasher(CHEAP).needs_update(hash)
    assert LibpassHasher(PasswordSettings()).needs_update(hash)


class Stuck:
    """A hasher that works until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.threads: set[str] = set()

    def hash(self, password: str) -> str:
        return "dummy"

    def verify(self, password: str, hash: str) -> bool:
        self.threads.add(threading.current_thread().name)
        assert self.go.wait(60)
        return True

    def needs_update(self, hash: str) -> bool:
        return False


async def test_the_pool_is_bounded_and_not_the_loop() -> None:
    stuck = Stuck()
    passwords = Passwords(CHEAP, stuck)
    await passwords.open()
    waiting = [asyncio.create_task(passwords.verify("x", "hash")) for _ in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await passwords.verify("x", "hash")
    # one that is given up still holds its place until its thread is done
    waiting[0].cancel()
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await passwords.verify("x", "hash")
    stuck.go.set()
    assert await asyncio.gather(*waiting[1:]) == [True] * 4
    assert await passwords.verify("x", "hash")
    assert threading.current_thread().name not in stuck.threads
    await passwords.close()


async def test_nothing_but_a_usable_password_of_a_real_hash_is_right() -> None:
    stuck = Stuck()
    stuck.go.set()
    passwords = Passwords(CHEAP, stuck)
    await passwords.open()
    assert await passwords.verify("x", "hash")
    assert not await passwords.verify("x", None)
    for bad in ("", "\0", "x" * 1025, "\ud800"):
        assert not await passwords.verify(bad, "hash")
    await passwords.close()
