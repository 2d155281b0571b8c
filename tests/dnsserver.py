"""A DNS server for tests, over UDP and TCP on the loopback: any records, and any misbehaviour asked for.

    with DnsServer(ad=True) as dns:
        dns.add("example.org MX 10 mx.example.org", "mx.example.org A 127.0.0.2")
        resolver = Resolver([dns.where])

`python -m tests.dnsserver zone-file --port N` serves a file: a record a line (name [ttl] type data), "#" begins a
comment, "!servfail name [type]" and the like (servfail refused nxdomain drop truncate formerr) a fault, "!delay
seconds name [type]" a slow answer, "!insecure name" a name below which AD is never set, "!ad" sets AD everywhere else.
The file is read again when it changes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

What = Literal["none", "servfail", "refused", "nxdomain", "drop", "truncate", "formerr", "garbage"]
TTL = 300
NEGATIVE_TTL = 60
CHAIN_MAX = 8
RECORD = re.compile(r"(?P<name>\S+)\s+(?:(?P<ttl>\d+)\s+)?(?:IN\s+)?(?P<kind>[A-Za-z]\w*)\s+(?P<data>.+)")


@dataclass(frozen=True)
class Fault:
    what: What = "none"
    delay: float = 0.0


@dataclass
class Zone:
    """All that is served. Names are lower case, without the final dot; "" as a type stands for all."""

    records: dict[tuple[str, str], dns.rrset.RRset] = field(default_factory=dict)
    faults: dict[tuple[str, str], Fault] = field(default_factory=dict)
    insecure: set[str] = field(default_factory=set)
    ad: bool = False

    def add(self, *lines: str) -> None:
        for line in lines:
            found = RECORD.fullmatch(line.strip())
            assert found is not None, line
            name, kind = found["name"], found["kind"].upper()
            ttl = int(found["ttl"] or TTL)
            new = dns.rrset.from_text(absolute(name), ttl, "IN", kind, found["data"])
            known = self.records.setdefault((plain(name), kind), new)
            if known is not new:
                known.update(new)

    def remove(self, name: str, kind: str = "") -> None:
        for key in [key for key in self.records if key[0] == plain(name) and kind in ("", key[1])]:
            del self.records[key]

    def fault(self, name: str, what: What = "none", kind: str = "", delay: float = 0.0) -> None:
        """From now on; "none" without a delay mends it."""
        self.faults[plain(name), kind.upper()] = Fault(what, delay)

    def fault_of(self, name: str, kind: str) -> Fault:
        return self.faults.get((name, kind)) or self.faults.get((name, "")) or Fault()

    def exists(self, name: str) -> bool:
        return any(known == name or known.endswith(f".{name}") for known, _ in self.records)

    def find(self, name: str, kind: str) -> dns.rrset.RRset | None:
        found = self.records.get((name, kind))
        if found is None and not self.exists(name) and "." in name:
            wild = self.records.get((f"*.{name.split('.', 1)[1]}", kind))
            if wild is not None:
                found = dns.rrset.from_rdata_list(absolute(name), wild.ttl, list(wild))
        return found

    def has(self, name: str) -> bool:
        return self.exists(name) or ("." in name and self.exists(f"*.{name.split('.', 1)[1]}"))

    def secure(self, name: str) -> bool:
        return self.ad and not any(name == one or name.endswith(f".{one}") for one in self.insecure)


class DnsServer:
    """One server, in threads of its own; ``zone`` may be changed at any time. asked: (name, type, "udp"|"tcp")."""

    def __init__(
        self, address: str = "127.0.0.1", port: int = 0, *, ad: bool = False, zone: Zone | None = None
    ) -> None:
        self.zone = zone or Zone(ad=ad)
        self.asked: list[tuple[str, str, str]] = []
        self.stopping = threading.Event()
        self._tcp: socketserver.ThreadingTCPServer
        self._udp: socketserver.ThreadingUDPServer
        for _ in range(50):
            self._tcp = _tcp_server(address, port, self)
            try:
                self._udp = _udp_server(address, self._tcp.server_address[1], self)
                break
            except OSError:
                # The UDP port of this number is another's: a fixed one is an error, a free one is looked for again.
                self._tcp.server_close()
                if port:
                    raise
        else:
            raise OSError("no port is free for both UDP and TCP")
        self.address = address
        self.port = int(self._tcp.server_address[1])

    @property
    def where(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    def add(self, *lines: str) -> None:
        self.zone.add(*lines)

    def fault(self, name: str, what: What = "none", kind: str = "", delay: float = 0.0) -> None:
        self.zone.fault(name, what, kind, delay)

    def count(self, name: str, kind: str) -> int:
        return sum(1 for asked in self.asked if asked[:2] == (name, kind))

    def start(self) -> DnsServer:
        for server in (self._tcp, self._udp):
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def stop(self) -> None:
        self.stopping.set()
        for server in (self._tcp, self._udp):
            server.shutdown()
            server.server_close()

    def __enter__(self) -> DnsServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def reply(self, wire: bytes, over: Literal["udp", "tcp"]) -> bytes | None:
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return None
        question = query.question[0]
        name, kind = plain(question.name.to_text()), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind, over))
        fault = self.zone.fault_of(name, kind)
        if fault.delay:
            self.stopping.wait(fault.delay)
        if fault.what == "drop":
            return None
        if fault.what == "garbage":
            return b"\x00" * 7
        response = dns.message.make_response(query, recursion_available=True)
        if fault.what in ("servfail", "refused") or (fault.what == "formerr" and query.edns >= 0):
            response.set_rcode(dns.rcode.from_text(fault.what))
            return response.to_wire()
        if fault.what == "truncate" and over == "udp":
            response.flags |= dns.flags.TC
            return response.to_wire()
        self._answer(response, query, name, kind, missing=fault.what == "nxdomain")
        if over == "tcp":
            return response.to_wire(max_size=65535)
        try:
            return response.to_wire(max_size=query.payload if query.edns >= 0 else 512)
        except dns.exception.TooBig:
            short = dns.message.make_response(query, recursion_available=True)
            short.flags |= dns.flags.TC
            return short.to_wire()

    def _answer(
        self, response: dns.message.Message, query: dns.message.Message, name: str, kind: str, *, missing: bool
    ) -> None:
        zone = self.zone
        secure = zone.secure(name)
        for _ in range(CHAIN_MAX):
            if missing:
                break
            if (found := zone.find(name, kind)) is not None:
                response.answer.append(found)
                break
            if (alias := zone.find(name, "CNAME")) is None:
                missing = not zone.has(name)
                break
            response.answer.append(alias)
            name = plain(alias[0].target.to_text())
            secure = secure and zone.secure(name)
        if missing:
            response.set_rcode(dns.rcode.NXDOMAIN)
        if missing or not response.answer or response.answer[-1].rdtype == dns.rdatatype.CNAME:
            soa = f"ns.test. hostmaster.test. 1 7200 900 1209600 {NEGATIVE_TTL}"
            # RFC 2308 §3: the zone's SOA; the zone here is all there is to the right of the first dot.
            apex = name.split(".", 1)[1] if "." in name else name
            response.authority.append(dns.rrset.from_text(absolute(apex), NEGATIVE_TTL, "IN", "SOA", soa))
        if secure and query.flags & dns.flags.AD | query.ednsflags & dns.flags.DO:
            response.flags |= dns.flags.AD


def plain(name: str) -> str:
    return name.lower().removesuffix(".")


def absolute(name: str) -> dns.name.Name:
    return dns.name.from_text(name if name.endswith(".") else f"{name}.")


class _Reusing(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128
    block_on_close = False


class _Datagrams(socketserver.ThreadingUDPServer):
    max_packet_size = 65535
    daemon_threads = True
    block_on_close = False


def _tcp_server(address: str, port: int, server: DnsServer) -> socketserver.ThreadingTCPServer:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                while len(head := self.request.recv(2, socket.MSG_WAITALL)) == 2:
                    (length,) = struct.unpack("!H", head)
                    reply = server.reply(self.request.recv(length, socket.MSG_WAITALL), "tcp")
                    if reply is None:
                        return
                    self.request.sendall(struct.pack("!H", len(reply)) + reply)

    class Server(_Reusing):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

    return Server((address, port), Handler)


def _udp_server(address: str, port: Any, server: DnsServer) -> socketserver.ThreadingUDPServer:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            wire, sock = self.request
            if (reply := server.reply(wire, "udp")) is not None:
                with contextlib.suppress(OSError):
                    sock.sendto(reply, self.client_address)

    class Server(_Datagrams):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

    return Server((address, int(port)), Handler)


def read_zone(lines: Iterable[str]) -> Zone:
    zone = Zone()
    for line in lines:
        words = line.split()
        if not words or words[0].startswith(("#", ";")):
            continue
        match words:
            case ["!ad"]:
                zone.ad = True
            case ["!insecure", name]:
                zone.insecure.add(plain(name))
            case ["!delay", seconds, name, *kind]:
                zone.fault(name, "none", "".join(kind), float(seconds))
            case [("!servfail" | "!refused" | "!nxdomain" | "!drop" | "!truncate" | "!formerr") as what, name, *kind]:
                zone.fault(name, what[1:], "".join(kind))  # type: ignore[arg-type]
            case _:
                zone.add(line.strip())
    return zone


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve a zone file to tests.")
    parser.add_argument("zone", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--address", default="127.0.0.1")
    asked = parser.parse_args()
    zone = read_zone(asked.zone.read_text("utf-8").splitlines())
    with DnsServer(asked.address, asked.port, zone=zone) as server:
        print(f"ready {server.where}", flush=True)
        seen = os.stat(asked.zone).st_mtime_ns
        while True:
            time.sleep(0.2)
            with contextlib.suppress(FileNotFoundError):
                if (now := os.stat(asked.zone).st_mtime_ns) != seen:
                    seen = now
                    server.zone = read_zone(asked.zone.read_text("utf-8").splitlines())


if __name__ == "__main__":
    main()
