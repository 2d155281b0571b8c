"""Questions to the domain name system: cached, asked once, and told apart by what an answer is worth.

A stub resolver over dnspython's asynchronous queries. It believes no server's AD bit but those named as trusted
(RFC 7672 §2.1.1: the path to the validating resolver must be secure).
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from socket import SOCK_DGRAM
from typing import Any, Generic, TypeVar

import dns.asyncbackend
import dns.asyncquery
import dns.exception
import dns.flags
import dns.inet
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.reversename
import idna

from runtime.clock import Clock, SystemClock
from runtime.limits import LOOPBACK, Networks

T = TypeVar("T", covariant=True)

PORT = 53
RESOLV_CONF = Path("/etc/resolv.conf")
SERVERS_MAX = 3
"""Servers read from resolv.conf, as the C library does."""
ROUNDS = 2
"""How often each server is asked before a question is given up."""
TRY_MIN = 1.0
"""Seconds that one server gets for one try, at least."""
REST = 30.0
"""Seconds for which a server that did not answer is asked last."""
UDP_PAYLOAD = 1232
"""Octets of an answer over UDP: what is not fragmented (DNS Flag Day 2020)."""
QUESTIONS_MAX = 200
"""Questions on the wire at the same time; more wait."""
CACHE_MAX = 10_000
"""Answers kept."""
CACHE_OCTETS = 16 * 1024 * 1024
"""What all answers kept weigh together, about."""
TTL_MAX = 86_400.0
NEGATIVE_TTL_MAX = 10_800.0
"""RFC 2308 §5: one to three hours."""
FAILURE_TTL = 5.0
"""Seconds for which a question without an answer is not asked again (RFC 2308 §7: at most five minutes)."""
ENTRY_WEIGHT = 400
"""Octets that an answer costs besides its values."""
BLANKS = re.compile(r"[\s\x00-\x1f\x7f]")


class DnsTemporary(Exception):
    """No server gave an answer, or one gave SERVFAIL (a DNSSEC answer that does not validate included): try later."""


class NoSuchName(Exception):
    """NXDOMAIN, or a text that cannot be a domain name. ``authenticated``: as in ``Answer``."""

    def __init__(self, text: str, *, authenticated: bool = False) -> None:
        super().__init__(text)
        self.authenticated = authenticated


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """values: in the server's order, () where the name has no such records. authenticated: a trusted resolver says
    that DNSSEC proves it. ttl: seconds for which it may still be used. canonical: the name at the end of CNAMEs."""

    values: tuple[T, ...]
    authenticated: bool
    ttl: float
    canonical: str


@dataclass(frozen=True, slots=True)
class MX:
    """host: A-labels in lower case without the final dot; "." is the null MX of RFC 7505."""

    preference: int
    host: str


@dataclass(frozen=True, slots=True)
class TLSA:
    """RFC 6698 §2.1."""

    usage: int
    selector: int
    matching: int
    data: bytes


@dataclass(frozen=True, slots=True)
class CAA:
    """RFC 8659 §4.1."""

    flags: int
    tag: str
    value: str


@dataclass(frozen=True, slots=True)
class Server:
    """Where to ask. ``trusted``: its AD bit is believed."""

    address: str
    port: int
    trusted: bool


@dataclass(frozen=True, slots=True)
class _Kept:
    """A cached outcome: an answer, or the error to raise."""

    outcome: Answer[Any] | NoSuchName | DnsTemporary
    until: float
    weight: int


class Resolver:
    """A stub resolver for one event loop.

    servers: "192.0.2.1", "192.0.2.1:5353", "[2001:db8::1]:53"; empty: those of /etc/resolv.conf as it is now (and the
    loopback where it names none). trusted: addresses or networks whose AD bit is believed. timeout: seconds for one
    question, all servers and rounds together.

    Each question raises NoSuchName or DnsTemporary. Names may be U-labels; names in answers are A-labels in lower case
    without the final dot. Raises ValueError for servers that cannot be read.
    """

    def __init__(
        self,
        servers: Sequence[str] = (),
        trusted: Sequence[str] = LOOPBACK,
        timeout: float = 5.0,
        *,
        clock: Clock | None = None,
    ) -> None:
        believed = Networks(trusted)
        places = [read_server(text) for text in servers] or _of_the_system()
        self.servers = tuple(Server(address, port, address in believed) for address, port in places)
        self._timeout = timeout
        self._clock = clock or SystemClock()
        self._cache: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._weight = 0
        self._asking: dict[tuple[str, str], asyncio.Task[Answer[Any]]] = {}
        self._resting: dict[Server, float] = {}
        self._slots = asyncio.Semaphore(QUESTIONS_MAX)

    # -- questions

    async def mx(self, domain: str) -> Answer[MX]:
        """The MX records by preference."""
        answer: Answer[MX] = await self._ask(
            domain, "MX", lambda data: MX(data.preference, _host(data.exchange)), by=lambda mx: mx.preference
        )
        return answer

    async def a(self, host: str) -> Answer[str]:
        """IPv4 addresses."""
        return await self._ask(host, "A", lambda data: str(data.address))

    async def aaaa(self, host: str) -> Answer[str]:
        """IPv6 addresses."""
        return await self._ask(host, "AAAA", lambda data: str(data.address))

    async def addresses(self, host: str, *, v6: bool = True, v4: bool = True) -> Answer[str]:
        """The addresses of both families, IPv6 first. Authenticated when every answer with addresses is. One family
        that cannot be asked is no error where the other has addresses."""
        asked = ([self.aaaa(host)] if v6 else []) + ([self.a(host)] if v4 else [])
        results = await asyncio.gather(*asked, return_exceptions=True)
        answers: list[Answer[str]] = []
        for result in results:
            if isinstance(result, Answer):
                answers.append(result)
            elif not isinstance(result, NoSuchName | DnsTemporary):
                raise result
        found = [answer for answer in answers if answer.values]
        if not found:
            failures = [result for result in results if isinstance(result, BaseException)]
            # Half an answer of "none" proves nothing while the other half is unknown.
            for failure in sorted(failures, key=lambda failure: isinstance(failure, NoSuchName)):
                if isinstance(failure, DnsTemporary) or not answers:
                    raise failure
        used = found or answers
        if not used:
            return Answer((), False, 0.0, host)
        return Answer(
            tuple(value for answer in used for value in answer.values),
            all(answer.authenticated for answer in used),
            min(answer.ttl for answer in used),
            used[0].canonical,
        )

    async def tlsa(self, port: int, host: str) -> Answer[TLSA]:
        """The TLSA records of a TCP port (RFC 7672 §2.2.2)."""
        return await self._ask(
            f"_{port}._tcp.{host}",
            "TLSA",
            lambda data: TLSA(int(data.usage), int(data.selector), int(data.mtype), bytes(data.cert)),
        )

    async def txt(self, name: str) -> Answer[str]:
        """The TXT records, the strings of each joined (RFC 7208 §3.3)."""
        return await self._ask(name, "TXT", lambda data: b"".join(data.strings).decode("utf-8", "replace"))

    async def caa(self, name: str) -> Answer[CAA]:
        """The CAA records of this very name."""
        return await self._ask(
            name,
            "CAA",
            lambda data: CAA(
                int(data.flags), data.tag.decode("ascii", "replace"), data.value.decode("utf-8", "replace")
            ),
        )

    async def ptr(self, address: str) -> Answer[str]:
        """The names of an IP address. Raises ValueError when it is none."""
        name = dns.reversename.from_address(str(ipaddress.ip_address(address)))
        return await self._ask(name.to_text(omit_final_dot=True), "PTR", lambda data: _host(data.target))

    # -- cache

    async def _ask(
        self, name: str, kind: str, read: Callable[[Any], T], by: Callable[[T], int] | None = None
    ) -> Answer[T]:
        key = (wire_name(name), kind)
        if (kept := self._kept(key)) is not None:
            return kept
        task = self._asking.get(key)
        if task is None:
            task = asyncio.create_task(self._fetch(key, read, by), name=f"dns {kind} {name}")
            self._asking[key] = task
            task.add_done_callback(lambda done: self._asked(key, done))
        # One caller that gives up does not take the answer from the others.
        return await asyncio.shield(task)

    def _kept(self, key: tuple[str, str]) -> Answer[Any] | None:
        kept = self._cache.get(key)
        if kept is None:
            return None
        left = kept.until - self._clock.monotonic()
        if left <= 0:
            self._drop(key)
            return None
        self._cache.move_to_end(key)
        match kept.outcome:
            case Answer() as answer:
                return Answer(answer.values, answer.authenticated, left, answer.canonical)
            case NoSuchName() as error:
                raise NoSuchName(str(error), authenticated=error.authenticated)
            case DnsTemporary() as error:
                raise DnsTemporary(str(error))

    def _asked(self, key: tuple[str, str], task: asyncio.Task[Answer[Any]]) -> None:
        self._asking.pop(key, None)
        if not task.cancelled():
            # Told to whoever waits; where nobody does any more, it is nobody's error.
            task.exception()

    def _keep(self, key: tuple[str, str], outcome: Answer[Any] | NoSuchName | DnsTemporary, ttl: float) -> None:
        if ttl <= 0:
            return
        weight = ENTRY_WEIGHT + len(key[0])
        if isinstance(outcome, Answer):
            weight += sum(len(str(value)) + 64 for value in outcome.values)
        self._drop(key)
        self._cache[key] = _Kept(outcome, self._clock.monotonic() + ttl, weight)
        self._weight += weight
        while len(self._cache) > CACHE_MAX or self._weight > CACHE_OCTETS:
            self._drop(next(iter(self._cache)))

    def _drop(self, key: tuple[str, str]) -> None:
        if (kept := self._cache.pop(key, None)) is not None:
            self._weight -= kept.weight

    async def _fetch(self, key: tuple[str, str], read: Callable[[Any], T], by: Callable[[T], int] | None) -> Answer[T]:
        name, kind = key
        try:
            async with self._slots:
                message, server = await self._query(name, kind)
            chain = message.resolve_chaining()
        except DnsTemporary as error:
            self._keep(key, error, FAILURE_TTL)
            raise
        except dns.exception.DNSException as error:
            unusable = DnsTemporary(f"the answer to {kind} {name} cannot be used: {_words(error)}")
            self._keep(key, unusable, FAILURE_TTL)
            raise unusable from error
        authenticated = server.trusted and bool(message.flags & dns.flags.AD)
        if message.rcode() == dns.rcode.NXDOMAIN:
            missing = NoSuchName(f"{name} does not exist", authenticated=authenticated)
            self._keep(key, missing, min(_negative_ttl(message, chain.minimum_ttl), NEGATIVE_TTL_MAX))
            raise missing
        canonical = _host(chain.canonical_name)
        if chain.answer is None:
            ttl = min(_negative_ttl(message, chain.minimum_ttl), NEGATIVE_TTL_MAX)
            answer: Answer[T] = Answer((), authenticated, ttl, canonical)
        else:
            values = [read(data) for data in chain.answer]
            if by is not None:
                values.sort(key=by)
            answer = Answer(tuple(values), authenticated, min(float(chain.minimum_ttl), TTL_MAX), canonical)
        self._keep(key, answer, answer.ttl)
        return answer

    # -- wire

    async def _query(self, name: str, kind: str) -> tuple[dns.message.QueryMessage, Server]:
        """The first answer that is one, and whose it is."""
        end = self._clock.monotonic() + self._timeout
        share = max(TRY_MIN, self._timeout / (ROUNDS * len(self.servers)))
        reason = "no server was asked"
        for _ in range(ROUNDS):
            for server in self._in_order():
                left = end - self._clock.monotonic()
                if left <= 0:
                    raise DnsTemporary(f"no answer to {kind} {name}: {reason}")
                try:
                    message = await self._exchange(server, name, kind, min(share, left))
                except (dns.exception.DNSException, OSError, EOFError) as error:
                    self._resting[server] = self._clock.monotonic() + REST
                    reason = f"{server.address}: {_words(error)}"
                    continue
                self._resting.pop(server, None)
                if message.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                    return message, server
                reason = f"{server.address}: {dns.rcode.to_text(message.rcode())}"
        raise DnsTemporary(f"no answer to {kind} {name}: {reason}")

    def _in_order(self) -> list[Server]:
        """As configured, those that did not answer lately behind the others."""
        now = self._clock.monotonic()
        return sorted(self.servers, key=lambda server: self._resting.get(server, 0.0) > now)

    async def _exchange(self, server: Server, name: str, kind: str, seconds: float) -> dns.message.QueryMessage:
        message = await self._once(server, _question(server, name, kind, edns=True), seconds)
        if message.rcode() in (dns.rcode.FORMERR, dns.rcode.NOTIMP):
            # Tolerance: a server that does not know EDNS (RFC 6891 §7)
            message = await self._once(server, _question(server, name, kind, edns=False), seconds)
        return message

    async def _once(self, server: Server, query: dns.message.QueryMessage, seconds: float) -> dns.message.QueryMessage:
        async with asyncio.timeout(seconds):
            try:
                return await _over_udp(server, query)
            except dns.message.Truncated:
                # RFC 7766 §5
                message = await dns.asyncquery.tcp(query, server.address, seconds, server.port)
                assert isinstance(message, dns.message.QueryMessage)
                return message


async def _over_udp(server: Server, query: dns.message.QueryMessage) -> dns.message.QueryMessage:
    backend: Any = dns.asyncbackend.get_default_backend()
    family = dns.inet.af_for_address(server.address)
    # Connected: answers of others do not arrive, and a closed port is told at once.
    sock = await backend.make_socket(family, SOCK_DGRAM, 0, None, (server.address, server.port))
    async with sock:
        await sock.sendto(query.to_wire(), None, None)
        message, _, _ = await dns.asyncquery.receive_udp(
            sock, ignore_errors=True, raise_on_truncation=True, query=query
        )
    assert isinstance(message, dns.message.QueryMessage)
    return message


def _question(server: Server, name: str, kind: str, *, edns: bool) -> dns.message.QueryMessage:
    # RFC 6840 §5.7: AD in a question asks for AD in the answer. Old resolvers look at DO alone (RFC 4035 §3.2.3).
    flags = dns.flags.RD | (dns.flags.AD if server.trusted else 0)
    return dns.message.make_query(
        dns.name.from_text(name),
        dns.rdatatype.from_text(kind),
        use_edns=0 if edns else -1,
        want_dnssec=edns and server.trusted,
        payload=UDP_PAYLOAD if edns else None,
        flags=flags,
    )


def _negative_ttl(message: dns.message.QueryMessage, ttl: int) -> float:
    # RFC 2308 §5: an answer of "none" without an SOA record is not kept.
    return float(ttl) if any(rrset.rdtype == dns.rdatatype.SOA for rrset in message.authority) else 0.0


def wire_name(name: str) -> str:
    """The name as it is asked: A-labels in lower case, without the final dot. Raises NoSuchName when it is none."""
    text = name.removesuffix(".").lower()
    try:
        if not text.isascii():
            text = idna.encode(text, uts46=True, transitional=False).decode("ascii")
        if not text or BLANKS.search(text):
            raise NoSuchName(f"{name!r} is not a domain name")
        return dns.name.from_text(text).to_text(omit_final_dot=True).lower()
    except (idna.IDNAError, UnicodeError, dns.exception.DNSException) as error:
        raise NoSuchName(f"{name!r} is not a domain name") from error


def read_server(text: str) -> tuple[str, int]:
    """Address and port of "192.0.2.1", "192.0.2.1:53", "2001:db8::1" or "[2001:db8::1]:53". Raises ValueError."""
    found = re.fullmatch(r"\[(?P<six>[^\]]+)\](?::(?P<port>\d{1,5}))?|(?P<four>[^:]+)(?::(?P<other>\d{1,5}))?", text)
    if found is None:
        return str(ipaddress.IPv6Address(text)), PORT
    port = int(found["port"] or found["other"] or PORT)
    if not 0 < port < 65536:
        raise ValueError(f"{text!r} has no port that there is")
    return str(ipaddress.ip_address(found["six"] or found["four"])), port


def _of_the_system() -> list[tuple[str, int]]:
    try:
        lines = RESOLV_CONF.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    found = []
    for line in lines:
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                found.append(read_server(words[1].partition("%")[0]))
            except ValueError:
                continue
    return found[:SERVERS_MAX] or [("127.0.0.1", PORT)]


def _host(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return " ".join(str(error).split()) or type(error).__name__
