"""Signing mail of our domains with DKIM (RFC 6376, RFC 8301, RFC 8463).

Signed is what our own accounts and this server itself have written, under the domain of its From field where that is
ours; mail of others that passes through is left alone. Every active key signs, Ed25519 first. The header is hashed in
relaxed, the body in simple form: relays change the folding of a field, and who keeps bodies as they are (all that speak
8BITMIME or CHUNKING) keeps the signature, while a long body is hashed in slices as it comes from storage.

The canonical forms and the choice of fields are dkimpy's. The RSA operation is OpenSSL's: dkimpy's own takes twenty
times as long, all of it without letting another thread run.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import dkim  # type: ignore[import-untyped]
import structlog
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from dkim.canonicalization import Relaxed  # type: ignore[import-untyped]

from identity.model import DkimAlgorithm, DkimKey, DkimState
from identity.port import Identity, Reason, Refused
from mail import addresslist
from mail.address import AddressError, domain_key
from runtime.clock import Clock, SystemClock
from smtp.outbound.transport import Letter, Unsigned

SLICE: Final = 256 * 1024
"""Octets that are read, and hashed in one go."""
HEADER_MAX: Final = 256 * 1024
"""Octets of a header that is signed; a message with a longer one goes unsigned."""
KEYS_SECONDS: Final = 60.0
"""How long the keys of a domain are remembered: a change of keys is in force everywhere after that."""
DOMAINS_MAX: Final = 1000
FROM_KEPT: Final = 400
AUTHORS_KEPT: Final = 2000
"""From fields of so many octets, and so many of them, are not read anew for each message."""
AUTHORS_MAX: Final = 10_000
"""Accounts with an address of whom it is remembered, as long as keys are, whether the address is theirs."""

SIGNED: Final = (
    b"from", b"sender", b"reply-to", b"subject", b"date", b"message-id", b"to", b"cc", b"mime-version",
    b"content-type", b"content-transfer-encoding", b"content-id", b"content-description", b"in-reply-to",
    b"references", b"resent-date", b"resent-from", b"resent-sender", b"resent-to", b"resent-cc",
    b"resent-message-id", b"list-id", b"list-help", b"list-unsubscribe", b"list-unsubscribe-post",
    b"list-subscribe", b"list-post", b"list-owner", b"list-archive", b"autocrypt", b"tls-required",
    b"tls-report-domain", b"tls-report-submitter",
)  # fmt: skip
"""Fields that are signed where they are there. # RFC 6376 §5.4.1, RFC 8058 §4, RFC 8460 §3, RFC 8689 §3"""
OVERSIGNED: Final = (b"from", b"sender", b"reply-to", b"subject", b"date", b"message-id", b"to", b"cc",
                     b"mime-version", b"content-type", b"content-transfer-encoding")  # fmt: skip
"""Fields that are signed once more than they are there, so that nobody can add one. # RFC 6376 §5.4.2"""

_FIELD: Final = re.compile(rb"([!-9;-~]+)[ \t]*:(.*)", re.DOTALL)
_FROM: Final = re.compile(rb"(?:\A|(?<=\r\n))from[ \t]*:(.*?\r\n)(?![ \t])", re.IGNORECASE | re.DOTALL)
_FOLD: Final = re.compile(rb"\r\n(?=[ \t])")

Read = Callable[[int, int], Awaitable[bytes]]
Key = rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

log = structlog.get_logger("dkim")


@dataclass(frozen=True, slots=True)
class Head:
    """The header of a message. fields: name and value as they stand, each value with its CRLF. body: where the body
    begins."""

    fields: tuple[tuple[bytes, bytes], ...]
    body: int


@dataclass(frozen=True, slots=True)
class _Ready:
    selector: str
    algorithm: DkimAlgorithm
    key: Key


@dataclass(frozen=True, slots=True)
class _Work:
    """What one thread signs without asking anybody. now: t=, in Unix seconds."""

    head: Head
    domain: str
    keys: tuple[_Ready, ...]
    digest: bytes
    now: int


class Signer:
    """One per process; any number of calls at the same time."""

    def __init__(self, identity: Identity, clock: Clock | None = None) -> None:
        self._identity = identity
        self._clock = clock or SystemClock()
        self._known: dict[str, tuple[float, tuple[_Ready, ...]]] = {}
        self._own: dict[tuple[str, str], tuple[float, bool]] = {}

    async def sign(self, letter: Letter, *, own: bool, account: str | None = None) -> bytes:
        """The DKIM-Signature fields, each with its CRLF, that go before the message; b"" where there is nothing to
        sign with. own: it was submitted by one of our accounts, or this server wrote it. account: the one that
        submitted it, for which nothing is signed but what is From an address of its own. Raises the errors of identity
        and of storage (Unavailable): the message is to be tried later."""
        return (await self.sign_all([Unsigned(letter, own, account)]))[0]

    async def sign_all(self, letters: Sequence[Unsigned]) -> list[bytes]:
        """``sign`` for several letters, whose signatures one thread makes."""
        works = [await self._work(one) for one in letters]
        wanted = [work for work in works if work is not None]
        made = iter(await asyncio.to_thread(_signatures_of, wanted) if wanted else ())
        return [b"" if work is None else next(made) for work in works]

    async def _work(self, one: Unsigned) -> _Work | None:
        """What is to be signed; None where nothing is."""
        letter = one.letter
        if not one.own:
            return None
        octets = await letter.read(0, min(letter.size, HEADER_MAX))
        author = author_of(octets)
        keys = () if author is None else await self._keys(author.rpartition("@")[2])
        if author is None or not keys or (head := head_of(octets, letter.size)) is None:
            return None
        if one.account is not None and not await self._is_own(one.account, author):
            log.info("not signed: its From is no address of the sender's account", trace=letter.trace)
            return None
        digest = await body_digest(letter.read, head.body, letter.size)
        return _Work(head, author.rpartition("@")[2], keys, digest, int(self._clock.now()))

    async def _is_own(self, account: str, address: str) -> bool:
        now = self._clock.monotonic()
        known = self._own.get((account, address))
        if known is not None and now < known[0]:
            return known[1]
        try:
            own = await self._identity.may_send_as(account, address)
        except Refused:
            own = False
        if len(self._own) >= AUTHORS_MAX:
            self._own.clear()
        self._own[account, address] = (now + KEYS_SECONDS, own)
        return own

    async def _keys(self, domain: str) -> tuple[_Ready, ...]:
        now = self._clock.monotonic()
        known = self._known.get(domain)
        if known is not None and now < known[0]:
            return known[1]
        try:
            found = await self._identity.dkim_keys(domain)
        except Refused as error:
            if error.reason not in (Reason.NO_SUCH_DOMAIN, Reason.BAD_ADDRESS):
                raise
            found = ()
        active = [key for key in found if key.state is DkimState.ACTIVE]
        # RFC 8463 §3: who knows one algorithm alone takes that signature.
        active.sort(key=lambda key: (key.algorithm is DkimAlgorithm.RSA, key.selector))
        ready = await asyncio.to_thread(_load, active) if active else ()
        if domain not in self._known and len(self._known) >= DOMAINS_MAX:
            del self._known[next(iter(self._known))]
        self._known[domain] = (now + KEYS_SECONDS, ready)
        return ready


def head_of(octets: bytes, size: int) -> Head | None:
    """The header of a message of ``size`` octets that begins with these, at least HEADER_MAX or all of it; None where
    it is longer than HEADER_MAX or is no header."""
    end = _header_end(octets)
    if end is None:
        if len(octets) < size or not octets.endswith(b"\r\n"):
            return None
        # RFC 6376 §3.4.3: a message without a body, and without the empty line before it.
        return _head(octets, size)
    return _head(octets[:end], end + 2)


def _head(octets: bytes, body: int) -> Head | None:
    fields: list[tuple[bytes, bytes]] = []
    for line in re.split(rb"\r\n(?![ \t])", octets):
        if not line:
            continue
        found = _FIELD.fullmatch(line)
        if found is None:
            return None
        fields.append((found[1], found[2] + b"\r\n"))
    return Head(tuple(fields), body)


def _header_end(octets: bytes) -> int | None:
    """Where the empty line after the header begins; None where there is none."""
    if octets.startswith(b"\r\n"):
        return 0
    end = octets.find(b"\r\n\r\n")
    return None if end < 0 else end + 2


def author_of(octets: bytes) -> str | None:
    """The address of the one author of the message that begins with these octets, its domain as A-labels in lower case;
    None where From does not stand in its header once, with one address. # RFC 7489 §3.1.1"""
    end = _header_end(octets)
    values = _FROM.findall(octets, 0, len(octets) if end is None else end)
    if len(values) != 1:
        return None
    return _author(values[0]) if len(values[0]) <= FROM_KEPT else _author.__wrapped__(values[0])


@lru_cache(AUTHORS_KEPT)
def _author(value: bytes) -> str | None:
    authors = addresslist.parse(_FOLD.sub(b"", value), 2)
    if len(authors) != 1 or not authors[0].valid or not authors[0].host:
        return None
    mailbox, host = authors[0].mailbox or b"", authors[0].host
    try:
        return f"{mailbox.decode('utf-8')}@{domain_key(host.decode('utf-8'))}"
    except (AddressError, UnicodeDecodeError):
        return None


async def body_digest(read: Read, start: int, end: int) -> bytes:
    """The SHA-256 of octets [start, end) in the simple form of a body: CRLFs at its end are one.
    # RFC 6376 §3.4.3"""
    digest = hashlib.sha256()
    pending = 0
    carried = b""
    for begin in range(start, end, SLICE):
        octets = carried + await read(begin, min(end, begin + SLICE))
        carried = b""
        if octets.endswith(b"\r"):
            octets, carried = octets[:-1], b"\r"
        kept, ends = _without_ends(octets)
        if kept:
            digest.update(b"\r\n" * pending)
            digest.update(kept)
            pending = 0
        pending += ends
    if carried:
        digest.update(b"\r\n" * pending + carried)
    digest.update(b"\r\n")
    return digest.digest()


def _without_ends(octets: bytes) -> tuple[bytes, int]:
    """Without the CRLFs at its end, and how many these are."""
    if not octets.endswith(b"\r\n"):
        return octets, 0
    bare = len(octets.rstrip(b"\r\n"))
    if octets[bare:] == b"\r\n" * ((len(octets) - bare) // 2):
        return octets[:bare], (len(octets) - bare) // 2
    # Among them is a CR or LF that is no part of a CRLF: only whole pairs from the end count.
    end = len(octets)
    while end - 2 >= bare and octets[end - 2 : end] == b"\r\n":
        end -= 2
    return octets[:end], (len(octets) - end) // 2


def _load(keys: Sequence[DkimKey]) -> tuple[_Ready, ...]:
    ready: list[_Ready] = []
    for one in keys:
        key = serialization.load_pem_private_key(one.private_key.encode("ascii"), None)
        if not isinstance(key, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
            log.error("a DKIM key is of no kind that signs", domain=one.domain, selector=one.selector)
            continue
        ready.append(_Ready(one.selector, one.algorithm, key))
    return tuple(ready)


def _signatures_of(works: Sequence[_Work]) -> list[bytes]:
    return [_signatures(work) for work in works]


def _signatures(work: _Work) -> bytes:
    fields: list[Any] = Relaxed.canonicalize_headers(work.head.fields)
    names = signed_names(work.head)
    return b"".join([_signature(fields, names, work.domain, key, work.digest, work.now) for key in work.keys])


def signed_names(head: Head) -> list[bytes]:
    """The names for h=, in lower case: a name as often as it is there, and once more where nobody may add one."""
    present = [name.lower() for name, _ in head.fields]
    names = [name for name in SIGNED for _ in range(present.count(name))]
    return names + list(OVERSIGNED)


def _signature(
    fields: Sequence[Any], names: Sequence[bytes], domain: str, ready: _Ready, digest: bytes, now: int
) -> bytes:
    """One DKIM-Signature field. # RFC 6376 §3.5, §3.7"""
    algorithm = "rsa-sha256" if ready.algorithm is DkimAlgorithm.RSA else "ed25519-sha256"
    value = (
        f" v=1; a={algorithm}; c=relaxed/simple;\r\n"
        f"\td={domain}; s={ready.selector}; t={now};\r\n"
        f"\tbh={base64.b64encode(digest).decode()};\r\n"
        f"\th={_folded_names(names)};\r\n"
        "\tb="
    ).encode("ascii")
    hashed = hashlib.sha256()
    dkim.hash_headers(hashed, Relaxed, fields, names, (b"DKIM-Signature", value), {})
    key = ready.key
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(hashed.digest(), padding.PKCS1v15(), Prehashed(hashes.SHA256()))
    else:
        # RFC 8463 §3: PureEdDSA over the SHA-256 of what is signed.
        signature = key.sign(hashed.digest())
    text = base64.b64encode(signature).decode("ascii")
    lines = "\r\n\t ".join(text[start : start + 70] for start in range(0, len(text), 70))
    return b"DKIM-Signature:" + value + lines.encode("ascii") + b"\r\n"


def _folded_names(names: Sequence[bytes]) -> str:
    lines, line = [], ""
    for name in [name.decode("ascii") for name in names]:
        if line and len(line) + len(name) > 66:
            lines.append(line)
            line = ""
        line += ("" if not line and not lines else ":") + name
    return "\r\n\t ".join([*lines, line])
