"""What is signed is what dkimpy verifies, for every size and shape of message."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import Callable

import dkim
import pytest
from dkim.canonicalization import Simple
from hypothesis import given
from hypothesis import strategies as st

from identity.dkim import Pair, _make
from identity.model import DkimAlgorithm, DkimKey, DkimState
from identity.port import Reason, Refused, Unavailable
from mail.dnsrecords import dkim_name, dkim_text
from runtime.clock import ManualClock
from smtp.outbound import dkim as signing
from smtp.outbound.dkim import SLICE, Signer, author_of, body_digest, head_of, signed_names
from smtp.outbound.transport import Letter, Unsigned
from tests.hurry import THOROUGH

DOMAIN = "ours.example"
RSA, ED25519 = DkimAlgorithm.RSA, DkimAlgorithm.ED25519
PAIRS = {algorithm: _make(algorithm) for algorithm in DkimAlgorithm}
HEADER = (
    b"Received: from a by b;\r\n\tMon, 1 Jan 2024 00:00:00 +0000\r\n"
    b"From: =?utf-8?q?A?= <a@Ours.Example>\r\nTo: b@there.example,\r\n c@there.example\r\n"
    b"Subject:  Two  blanks \t and a fold\r\n  here \r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain\r\n"
)


class Keys:
    """What the signer asks of identity."""

    def __init__(self, *keys: DkimKey) -> None:
        self.keys = keys
        self.asked: list[str] = []
        self.error: Exception | None = None

    async def may_send_as(self, account: str, address: str) -> bool:
        return address == f"{account}@{DOMAIN}"

    async def dkim_keys(self, domain: str) -> tuple[DkimKey, ...]:
        self.asked.append(domain)
        if self.error is not None:
            raise self.error
        if domain != DOMAIN:
            raise Refused(Reason.NO_SUCH_DOMAIN)
        return self.keys


def key(algorithm: DkimAlgorithm, state: DkimState = DkimState.ACTIVE, selector: str = "") -> DkimKey:
    pair: Pair = PAIRS[algorithm]
    return DkimKey(DOMAIN, selector or algorithm.value, algorithm, pair.private_key, pair.public_key, state, 1.0, 1.0)


def letter(message: bytes, watch: Callable[[int], None] = lambda size: None) -> Letter:
    async def read(start: int, end: int) -> bytes:
        watch(end - start)
        return message[start:end]

    return Letter("i", "t", "a@ours.example", "there.example", (), len(message), read)


def signer(*keys: DkimKey) -> Signer:
    return Signer(Keys(*(keys or (key(RSA), key(ED25519)))), ManualClock(time.time()))  # type: ignore[arg-type]  # two calls of the port


def dns(name: bytes, timeout: float = 5) -> bytes | None:
    del timeout
    for algorithm, pair in PAIRS.items():
        if name.decode().rstrip(".") == dkim_name(algorithm.value, DOMAIN):
            return dkim_text(algorithm.value, pair.public_key).encode()
    return None


def verdicts(message: bytes) -> list[bool]:
    found = dkim.DKIM(message)
    count = sum(name.lower() == b"dkim-signature" for name, _ in found.headers)
    return [_verdict(message, n) for n in range(count)]


def _verdict(message: bytes, n: int) -> bool:
    try:
        return bool(dkim.DKIM(message).verify(idx=n, dnsfunc=dns))
    except dkim.ValidationError:
        return False


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\r\n",
        b"\r\n\r\n\r\n",
        b"one line\r\n",
        b"no end",
        b"an end of many\r\n\r\n\r\n\r\n",
        b"trailing blanks  \r\n \r\n\r\n",
        "Grüße — 8bit\r\n".encode(),
        b"x" * 5000 + b"\r\n",
        b"a\r\n" * 200_000 + b"\r\n" * 200_000,
    ],
)
async def test_dkimpy_verifies_both_signatures(body: bytes) -> None:
    message = HEADER + b"\r\n" + body
    fields = await signer().sign(letter(message), own=True)
    assert fields.count(b"DKIM-Signature:") == 2
    assert fields.endswith(b"\r\n")
    assert all(len(line) <= 78 for line in fields.split(b"\r\n"))
    assert verdicts(fields + message) == [True, True]
    assert fields.index(b"a=ed25519-sha256") < fields.index(b"a=rsa-sha256")
    # As another server passes it on: with a field more before it, and others folded otherwise.
    passed = b"Received: from x by y; today\r\n" + fields + message.replace(b"To: b@", b"TO:   b@")
    assert verdicts(passed) == [True, True]


async def test_nobody_can_take_away_that_tls_is_not_required() -> None:
    message = HEADER + b"TLS-Required: No\r\n\r\nthe text\r\n"
    fields = await signer().sign(letter(message), own=True)
    assert verdicts(fields + message) == [True, True]
    # RFC 8689 §3
    assert verdicts(fields + message.replace(b"TLS-Required: No\r\n", b"")) == [False, False]


async def test_a_change_of_what_is_signed_is_seen() -> None:
    message = HEADER + b"\r\nthe text\r\n"
    fields = await signer().sign(letter(message), own=True)
    for before, after in (
        (b"the text", b"the Text"),
        (b"Two", b"Three"),
        (b"a@Ours", b"b@Ours"),
        (b"\r\n\r\n", b"\r\nSubject: another\r\n\r\n"),
        (b"\r\n\r\n", b"\r\nFrom: another@ours.example\r\n\r\n"),
        (b"\r\n\r\n", b"\r\nReply-To: thief@there.example\r\n\r\n"),
    ):
        changed = message.replace(before, after, 1)
        assert changed != message
        assert verdicts(fields + changed) == [False, False], after


async def test_a_large_message_is_signed_in_slices_beside_other_work() -> None:
    line = b"0123456789abcdef" * 4 + b"\r\n"
    message = HEADER + b"\r\n" + line * ((25 if THOROUGH else 5) * 1024 * 1024 // len(line))
    sizes: list[int] = []
    gaps: list[float] = []

    async def beat() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0)
            gaps.append(time.perf_counter() - before)

    one = letter(message, sizes.append)

    async def read(start: int, end: int) -> bytes:
        await asyncio.sleep(0)
        return await one.read(start, end)

    beating = asyncio.create_task(beat())
    fields = await signer().sign(Letter(one.item, one.trace, one.sender, one.domain, (), len(message), read), own=True)
    beating.cancel()
    assert max(sizes) <= SLICE
    assert len(gaps) > len(message) // SLICE
    assert verdicts(fields + message) == [True, True]


@given(
    st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"a", b" ", b"\r\n\r\n"]), max_size=40).map(b"".join),
    st.integers(1, 7),
)
def test_slices_hash_as_the_whole(body: bytes, size: int) -> None:
    async def read(start: int, end: int) -> bytes:
        return body[start:end]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(signing, "SLICE", size)
        assert asyncio.run(body_digest(read, 0, len(body))) == hashlib.sha256(_simple(body)).digest()


def _simple(body: bytes) -> bytes:
    """RFC 6376 §3.4.3, in words of its own."""
    while body.endswith(b"\r\n"):
        body = body[:-2]
    return body + b"\r\n"


def test_our_words_for_a_simple_body_are_those_of_dkimpy() -> None:
    for body in (b"", b"a", b"a\r\n", b"a\r\n\r\n", b"\r\n\r\n"):
        assert _simple(body) == Simple.canonicalize_body(body)


async def test_only_what_is_ours_and_active_is_signed() -> None:
    message = HEADER + b"\r\nx\r\n"
    assert await signer().sign(letter(message), own=False) == b""
    assert await signer().sign(letter(message.replace(b"Ours.Example", b"other.example")), own=True) == b""
    waiting, old = key(RSA, DkimState.PUBLISHED, "new"), key(RSA, DkimState.RETIRED, "old")
    assert await signer(waiting, old).sign(letter(message), own=True) == b""
    fields = await signer(waiting, key(RSA), old).sign(letter(message), own=True)
    assert fields.count(b"DKIM-Signature:") == 1
    assert b"s=rsa;" in fields
    for bad in (
        message.replace(b"From:", b"Frm:"),
        b"From: b@ours.example\r\n" + message,
        message.replace(b"<a@Ours.Example>", b"<a@ours.example>, <b@ours.example>"),
        b"not a field\r\n" + message,
        b"\r\nno header",
        b"\r\nFrom: a@ours.example\r\n\r\n",
        b"",
        b"From: a@ours.example",
    ):
        assert await signer().sign(letter(bad), own=True) == b"", bad


async def test_a_header_without_a_body_is_signed() -> None:
    fields = await signer().sign(letter(HEADER), own=True)
    assert verdicts(fields + HEADER) == [True, True]


async def test_keys_are_remembered_for_a_minute_and_errors_are_not() -> None:
    keys, clock = Keys(key(ED25519)), ManualClock()
    one = Signer(keys, clock)  # type: ignore[arg-type]  # two calls of the port
    message = letter(HEADER + b"\r\nx\r\n")
    keys.error = Unavailable("away")
    with pytest.raises(Unavailable):
        await one.sign(message, own=True)
    keys.error = None
    for _ in range(3):
        assert await one.sign(message, own=True)
    assert len(keys.asked) == 2
    clock.advance(61)
    keys.keys = ()
    assert await one.sign(message, own=True) == b""
    assert len(keys.asked) == 3


async def test_a_long_header_goes_unsigned() -> None:
    message = HEADER + b"X-Long: " + b"x" * signing.HEADER_MAX + b"\r\n\r\nx\r\n"
    assert await signer().sign(letter(message), own=True) == b""


def test_the_header_is_taken_apart() -> None:
    message = HEADER + b"\r\nx\r\n"
    head = head_of(message, len(message))
    assert head is not None
    assert message[head.body :] == b"x\r\n"
    assert b"".join(name + b":" + value for name, value in head.fields) == HEADER
    names = signed_names(head)
    assert (names.count(b"from"), names.count(b"subject"), names.count(b"reply-to"), names.count(b"received")) == (
        2,
        2,
        1,
        0,
    )


@pytest.mark.parametrize(
    ("value", "address"),
    [
        (b" a@ours.example\r\n", "a@ours.example"),
        (b' "x, y" (c) <A@OURS.example>\r\n', "A@ours.example"),
        (b"\r\n <a@ours.example>\r\n", "a@ours.example"),
        (" Ü <ü@münchen.example>\r\n".encode(), "ü@xn--mnchen-3ya.example"),
        (b" undisclosed:;\r\n", None),
        (b" a\r\n", None),
        (b" \xff@\xff\r\n", None),
        (b" a@ours.example, b@there.example\r\n", None),
    ],
)
def test_the_author(value: bytes, address: str | None) -> None:
    assert author_of(b"To: b@there.example\r\nfrom :" + value + b"X: y\r\n\r\nFrom: c@there.example\r\n") == address


async def test_several_are_signed_together() -> None:
    messages = [HEADER + b"\r\n%d\r\n" % n for n in range(3)]
    one = signer()
    fields = await one.sign_all([Unsigned(letter(message), n != 1) for n, message in enumerate(messages)])
    assert fields[1] == b""
    assert [verdicts(fields[n] + messages[n]) for n in (0, 2)] == [[True, True]] * 2


async def test_nobody_has_anothers_from_signed() -> None:
    message = HEADER + b"\r\nx\r\n"
    assert await signer().sign(letter(message), own=True, account="a")
    assert await signer().sign(letter(message), own=True, account="bob") == b""


def test_base64_of_the_fixture_is_a_key() -> None:
    assert len(base64.b64decode(PAIRS[ED25519].public_key)) == 32
