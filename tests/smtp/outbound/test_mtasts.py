"""MTA-STS: policies taken apart, found, kept, renewed; fetched over real HTTPS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail import dnsrecords
from runtime.clock import ManualClock
from runtime.dns import Answer, DnsTemporary, NoSuchName
from runtime.web import Fetched, Trouble, Web, WebError, trust
from smtp.outbound.mtasts import (
    AGAIN_SECONDS,
    MAX_AGE_MAX,
    POLICY_MAX,
    BadPolicy,
    Kept,
    Mode,
    Policy,
    StsPolicies,
    parse,
)
from smtp.outbound.notes import NotesUnavailable
from smtp.outbound.tlsresult import TlsResult

from .fakenotes import FakeNotes
from .pki import Made, authority, server

TEXT = b"version: STSv1\r\nmode: enforce\r\nmx: mx.there.example\r\nmx: *.mail.example\r\nmax_age: 604800\r\n"
POLICY = Policy(Mode.ENFORCE, ("mx.there.example", "*.mail.example"), 604800)
DOMAIN = "there.example"
DAY = 86400.0


@pytest.mark.parametrize(
    ("body", "policy"),
    [
        (TEXT, POLICY),
        (TEXT.replace(b"\r\n", b"\n"), POLICY),
        (TEXT.rstrip(), POLICY),
        (TEXT + b"mode: none\r\nnew-field: whatever; it is\r\n\r\n", POLICY),
        (
            b"version:STSv1\nmode:\ttesting \nmx:  MX.There.Example\nmax_age:86400",
            Policy(Mode.TESTING, ("mx.there.example",), 86400),
        ),
        (
            "version: STSv1\nmode: enforce\nmx: mx.münchen.example\nmax_age: 1".encode(),
            Policy(Mode.ENFORCE, ("mx.xn--mnchen-3ya.example",), 1),
        ),
        (b"version: STSv1\nmode: none\nmax_age: 86400", Policy(Mode.NONE, (), 86400)),
        (TEXT.replace(b"604800", b"9999999999"), Policy(Mode.ENFORCE, POLICY.mx, MAX_AGE_MAX)),
    ],
)  # fmt: skip
def test_a_policy(body: bytes, policy: Policy) -> None:
    assert parse(body) == policy
    assert parse("\r\n".join(policy.lines()).encode()) == policy


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>not found</html>",
        TEXT.replace(b"STSv1", b"STSv2"),
        TEXT.replace(b"enforce", b"Enforce"),
        TEXT.replace(b"max_age: 604800", b"max_age: -1"),
        TEXT.replace(b"max_age: 604800", b"max_age: 12345678901"),
        TEXT.replace(b"max_age: 604800\r\n", b""),
        b"version: STSv1\nmode: enforce\nmax_age: 86400",
        TEXT.replace(b"mx.there.example", b"[192.0.2.1]"),
        TEXT.replace(b"*.mail.example", b"*.*.example"),
        TEXT.replace(b"*.mail.example", b"m*.example"),
        TEXT + b"\xff: x\r\n",
        TEXT + b"x" * POLICY_MAX,
        b"version: STSv1\nmode: testing\nmax_age: 1\n" + b"".join(b"mx: m%d.example\n" % n for n in range(1001)),
    ],
)
def test_what_is_no_policy(body: bytes) -> None:
    with pytest.raises(BadPolicy):
        parse(body)


@given(st.binary(max_size=300))
def test_any_octets_are_a_policy_or_told(body: bytes) -> None:
    for octets in (body, TEXT + body):
        try:
            policy = parse(octets)
        except BadPolicy:
            continue
        assert policy.mx or policy.mode is Mode.NONE
        assert Kept.of(Kept(policy, "a", 1.0).text()) == Kept(policy, "a", 1.0)


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("mx.there.example", True),
        ("MX.there.example.", True),
        ("a.mail.example", True),
        ("a.b.mail.example", False),
        ("mail.example", False),
        (".mail.example", True),
        ("amail.example", False),
        ("mx.there.example.org", False),
        ("", False),
    ],
)
def test_hosts(host: str, good: bool) -> None:
    if host.startswith("."):
        # No name of a host: the resolver never gives it.
        return
    assert POLICY.allows(host) is good


@pytest.mark.parametrize(
    ("texts", "id"),
    [
        (["v=STSv1; id=20260101;"], "20260101"),
        (["v=STSv1;id=a1"], "a1"),
        (["other", "v=STSv1; x=y; id=b2;"], "b2"),
        (["v=STSv1; id=a", "v=STSv1; id=b"], None),
        (["v=STSv1;"], None),
        (["v=STSv1; id=a-b;"], None),
        (["v=STSv1; id=" + "x" * 33], None),
        (["v=STSv10; id=a"], None),
        (["id=a; v=STSv1"], None),
        ([], None),
    ],
)
def test_the_record(texts: list[str], id: str | None) -> None:
    assert dnsrecords.sts_id(texts) == id


def test_the_record_of_our_own() -> None:
    assert dnsrecords.sts_id([dnsrecords.sts_text("20260101T1")]) == "20260101T1"
    with pytest.raises(ValueError, match="id"):
        dnsrecords.sts_text("a b")


class World:
    """A domain whose record and web server do as told."""

    def __init__(self, notes: FakeNotes | None = None, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock()
        self.notes = notes or FakeNotes(self.clock)
        self.id: str | Exception | None = "1"
        self.body: bytes | Exception = TEXT
        self.kind = "text/plain"
        self.fetched: list[str] = []
        self.gate: asyncio.Event | None = None
        self.policies = StsPolicies(self, self.get, self.notes, self.clock)

    async def txt(self, name: str) -> Answer[str]:
        assert name == f"_mta-sts.{DOMAIN}"
        if isinstance(self.id, Exception):
            raise self.id
        return Answer(() if self.id is None else (f"v=STSv1; id={self.id}",), False, 60, name)

    async def get(self, url: str) -> Fetched:
        self.fetched.append(url)
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.body, Exception):
            raise self.body
        return Fetched(self.kind, self.body)


async def test_a_policy_is_fetched_once_and_kept_over_a_restart() -> None:
    world = World()
    found = await asyncio.gather(*[world.policies.find(DOMAIN) for _ in range(5)])
    assert {one.policy for one in found} == {POLICY}
    assert world.fetched == [f"https://mta-sts.{DOMAIN}/.well-known/mta-sts.txt"]
    again = World(world.notes, world.clock)
    assert (await again.policies.find(DOMAIN)).policy == POLICY
    assert again.fetched == []
    await world.policies.close()


@pytest.mark.parametrize("id", [None, NoSuchName("x"), DnsTemporary("x")])
async def test_a_policy_outlives_its_record_until_its_age_is_over(id: str | Exception | None) -> None:
    world = World()
    await world.policies.find(DOMAIN)
    world.id = id
    for other in (world, World(world.notes, world.clock)):
        other.id = id
        assert (await other.policies.find(DOMAIN)).policy == POLICY
    world.clock.advance(604800)
    late = World(world.notes, world.clock)
    for other in (world, late):
        other.id = id
        if isinstance(id, DnsTemporary):
            with pytest.raises(DnsTemporary):
                await other.policies.find(DOMAIN)
        else:
            assert (await other.policies.find(DOMAIN)).policy is None


async def test_a_new_id_is_fetched_and_a_failure_leaves_the_old_policy() -> None:
    world = World()
    await world.policies.find(DOMAIN)
    world.id, world.body = "2", WebError(Trouble.REACH, "away")
    found = await world.policies.find(DOMAIN)
    assert (found.policy, found.failure) == (POLICY, TlsResult.STS_FETCH_ERROR)
    # Not again at each mail.
    assert (await world.policies.find(DOMAIN)).policy == POLICY
    assert len(world.fetched) == 2
    world.clock.advance(AGAIN_SECONDS + 1)
    world.body = TEXT.replace(b"enforce", b"testing")
    found = await world.policies.find(DOMAIN)
    assert found.policy is not None
    assert (found.policy.mode, found.failure) == (Mode.TESTING, None)


@pytest.mark.parametrize(
    ("body", "kind", "failure"),
    [
        (WebError(Trouble.TLS, "x"), "", TlsResult.STS_WEBPKI_INVALID),
        (WebError(Trouble.STATUS, "301"), "", TlsResult.STS_FETCH_ERROR),
        (WebError(Trouble.CONTENT, "long"), "", TlsResult.STS_FETCH_ERROR),
        (b"nothing", "text/plain", TlsResult.STS_INVALID),
        (TEXT, "text/html", TlsResult.STS_INVALID),
    ],
)
async def test_without_a_policy_that_is_kept_a_failure_is_none(
    body: bytes | Exception, kind: str, failure: TlsResult
) -> None:
    world = World()
    world.body, world.kind = body, kind
    found = await world.policies.find(DOMAIN)
    assert (found.policy, found.failure) == (None, failure)


async def test_it_is_renewed_beside_the_mail_before_it_is_over() -> None:
    world = World()
    await world.policies.find(DOMAIN)
    world.clock.advance(DAY)
    world.gate = asyncio.Event()
    # Nobody waits for the renewal.
    assert (await world.policies.find(DOMAIN)).policy == POLICY
    assert (await world.policies.find(DOMAIN)).policy == POLICY
    world.gate.set()
    async with asyncio.timeout(30):
        while Kept.of((await world.notes.get("mta-sts", DOMAIN)) or "").fetched != world.clock.now():  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert len(world.fetched) == 2
    world.clock.advance(604800 - 1)
    world.id = None
    assert (await world.policies.find(DOMAIN)).policy == POLICY
    await world.policies.close()


async def test_where_nothing_can_be_known_the_domain_waits() -> None:
    world = World()
    world.notes.error = NotesUnavailable("away")
    with pytest.raises(DnsTemporary):
        await world.policies.find(DOMAIN)
    world.notes.error = None
    assert (await world.policies.find(DOMAIN)).policy == POLICY
    world.notes.error = NotesUnavailable("away")
    world.clock.advance(DAY)
    assert (await world.policies.find(DOMAIN)).policy == POLICY


async def test_a_policy_of_none_takes_the_place_of_another() -> None:
    world = World()
    await world.policies.find(DOMAIN)
    world.id, world.body = "2", b"version: STSv1\nmode: none\nmax_age: 86400\n"
    found = await world.policies.find(DOMAIN)
    assert found.policy == Policy(Mode.NONE, (), 86400)


# -- over real HTTPS

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
CA = authority()
HOST = f"mta-sts.{DOMAIN}"


def answering(text: bytes) -> Handle:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(text)
        await writer.drain()
        writer.close()

    return handle


def http(body: bytes, status: str = "200 OK", kind: str = "text/plain; charset=utf-8", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode() + body


@asynccontextmanager
async def web(folder: Path, handle: Handle, made: Made, address: str = "127.0.0.1") -> AsyncIterator[Web]:
    roots = folder / "roots.pem"
    roots.write_bytes(CA.pem)
    context: ssl.SSLContext = made.server(folder)
    listening = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)

    async def resolve(host: str) -> tuple[str, ...]:
        assert host == HOST
        return (address,) if address else ()

    client = Web(resolve, roots=roots, port=listening.sockets[0].getsockname()[1])
    try:
        yield client
    finally:
        await client.close()
        listening.close()
        await listening.wait_closed()


async def fetched(client: Web, seconds: float = 30.0) -> Fetched | Trouble:
    try:
        return await client.get(f"https://{HOST}/.well-known/mta-sts.txt", size_max=POLICY_MAX, seconds=seconds)
    except WebError as error:
        return error.trouble


async def test_the_web_server_is_verified(tmp_path: Path) -> None:
    good = answering(http(TEXT))
    async with web(tmp_path, good, server(HOST, by=CA)) as client:
        assert await fetched(client) == Fetched("text/plain", TEXT)
    for made in (
        server("other.example", by=CA),
        server(HOST, by=CA, days=-5),
        server(HOST),
        server(HOST, by=authority()),
    ):
        async with web(tmp_path, good, made) as client:
            assert await fetched(client) is Trouble.TLS


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (http(b"", "301 Moved", more=f"Location: https://{HOST}/x\r\n"), Trouble.STATUS),
        (http(b"", "404 Not Found"), Trouble.STATUS),
        (http(b"x" * (POLICY_MAX + 1)), Trouble.CONTENT),
        (http(TEXT)[:-20], Trouble.CONTENT),
        (b"garbage\r\n\r\n", Trouble.REACH),
        (b"", Trouble.REACH),
    ],
)
async def test_bad_answers(tmp_path: Path, answer: bytes, trouble: Trouble) -> None:
    async with web(tmp_path, answering(answer), server(HOST, by=CA)) as client:
        assert await fetched(client) is trouble


async def test_no_compressed_body_is_asked_for(tmp_path: Path) -> None:
    asked: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(http(TEXT))
        await writer.drain()
        writer.close()

    async with web(tmp_path, handle, server(HOST, by=CA)) as client:
        assert await fetched(client) == Fetched("text/plain", TEXT)
    # One that came would not be taken apart, and there would be no policy.
    assert b"\r\naccept-encoding: identity\r\n" in asked[0].lower()


def test_a_name_that_is_not_among_those_of_the_certificate_does_not_count() -> None:
    assert not trust().hostname_checks_common_name


async def test_a_slow_server_and_none_at_all(tmp_path: Path) -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with web(tmp_path, slow, server(HOST, by=CA)) as client:
        assert await fetched(client, 0.2) is Trouble.REACH
    async with web(tmp_path, slow, server(HOST, by=CA), "") as client:
        assert await fetched(client) is Trouble.REACH
    for url in ("http://mta-sts.there.example/", "https://[/", "file:///etc/passwd"):
        with pytest.raises(WebError):
            await client.get(url, size_max=1, seconds=1)
