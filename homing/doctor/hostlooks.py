"""Asking for the server's name and addresses in the DNS, and for lists that they may be on."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from functools import partial

from homing.doctor import domainchecks, hostchecks
from homing.doctor.around import Around, Job, known, skipped
from homing.doctor.domainlooks import verdicts
from homing.doctor.finding import Finding
from homing.doctor.hostchecks import HostFound, ListFound, PtrFound
from homing.doctor.setup import is_named
from runtime.clock import Clock
from runtime.dns import CAA, TLSA, Answer, DnsTemporary, NoSuchName

SIGNED = "org"
"""A zone that DNSSEC signs, and that stays."""
TEST_LISTED = "127.0.0.2"
TEST_NOT_LISTED = "127.0.0.1"
"""# RFC 5782 §5"""
NAMES_MAX = 5
"""Names of one address that are looked at."""


def jobs(around: Around, clock: Clock) -> list[Job]:
    """All that is looked at."""
    setup, settings = around.setup, around.settings
    host = setup.hostname
    found = [
        Job("certificate", host, partial(_certificate, around, clock)),
        Job("dane", "mail on its way out", partial(_dane, around)),
    ]
    if around.host_trouble:
        why = f"the DNS does not answer: {around.host_trouble}"
        found += [skipped(check, host, why) for check in ("hostname", "address")]
    else:
        found.append(known(hostchecks.check_hostname(setup, around.host)))
        if is_named(host):
            found.append(known(hostchecks.check_addresses(setup, around.host or HostFound(None))))
    if is_named(host):
        found.append(Job("tlsa", f"_25._tcp.{host}", partial(_tlsa, around, clock)))
        found.append(Job("caa", host, partial(_caa, around)))
        if not setup.relay and host not in [one.name for one in setup.domains]:
            found.append(Job("helo", host, partial(_helo, around)))
    if setup.relay:
        why = f"mail leaves by {setup.relay}, whose addresses count"
        return [*found, skipped("ptr", host, why), skipped("dnsbl", host, why)]
    if not is_named(host):
        why = f"the server has no name of its own yet ({host})"
        return [*found, skipped("ptr", host, why), skipped("dnsbl", host, why)]
    if not around.sending:
        why = "the public addresses of this server are not known: set doctor.addresses"
        return [*found, skipped("ptr", host, why), skipped("dnsbl", host, why)]
    found += [Job("ptr", one, partial(_ptr, around, one)) for one in around.sending]
    found += [
        Job("dnsbl", f"{one} at {zone}", partial(_listed, around, one, zone))
        for one in around.sending
        for zone in settings.doctor.lists
    ]
    return found


async def _helo(around: Around) -> Sequence[Finding]:
    host = around.setup.hostname
    texts = await around.texts(host)
    return (domainchecks.check_helo(around.setup, texts, await verdicts(around, host, texts)),)


async def _ptr(around: Around, address: str) -> Sequence[Finding]:
    try:
        names = (await around.resolver.ptr(address)).values
    except NoSuchName:
        names = ()
    wanted = ipaddress.ip_address(address)
    confirmed = []
    for name in names[:NAMES_MAX]:
        if wanted in [ipaddress.ip_address(one) for one in await around.addresses(name)]:
            confirmed.append(name)
    return (hostchecks.check_ptr(around.setup, address, PtrFound(names, tuple(confirmed))),)


async def _listed(around: Around, address: str, zone: str) -> Sequence[Finding]:
    codes, listed_test, free_test = await asyncio.gather(
        _codes(around, address, zone), _codes(around, TEST_LISTED, zone), _codes(around, TEST_NOT_LISTED, zone)
    )
    reason = ""
    if codes:
        try:
            reason = " ".join(await around.texts(_entry(address, zone)))[:200]
        except DnsTemporary as error:
            reason = f"its reason cannot be had: {error}"
    found = ListFound(codes, reason, bool(listed_test) and not free_test)
    return (hostchecks.check_listed(address, zone, found),)


async def _codes(around: Around, address: str, zone: str) -> tuple[str, ...]:
    try:
        return (await around.resolver.a(_entry(address, zone))).values
    except NoSuchName:
        return ()


def _entry(address: str, zone: str) -> str:
    """# RFC 5782 §2.1, §2.4"""
    name = ipaddress.ip_address(address).reverse_pointer
    return f"{name.removesuffix('.in-addr.arpa').removesuffix('.ip6.arpa')}.{zone}"


async def _tlsa(around: Around, clock: Clock) -> Sequence[Finding]:
    host = around.setup.hostname
    secure = around.host is not None and around.host.authenticated
    records: tuple[TLSA, ...] = ()
    try:
        answer: Answer[TLSA] = await around.resolver.tlsa(25, host)
        records, secure = answer.values, secure and answer.authenticated
    except NoSuchName as error:
        secure = secure and error.authenticated
    return (hostchecks.check_tlsa(around.setup, records, secure=secure, now=clock.now()),)


async def _dane(around: Around) -> Sequence[Finding]:
    servers = around.resolver.servers
    trusted = [one.address for one in servers if one.trusted]
    proved: bool | None = None
    if around.settings.outbound.dane and trusted:
        try:
            proved = (await around.resolver.caa(SIGNED)).authenticated
        except NoSuchName as error:
            proved = error.authenticated
        except DnsTemporary:
            proved = None
    return (
        hostchecks.check_dane(
            enabled=around.settings.outbound.dane,
            servers=[one.address for one in servers],
            trusted=trusted,
            proved=proved,
        ),
    )


async def _caa(around: Around) -> Sequence[Finding]:
    host = where = around.setup.hostname
    records: tuple[CAA, ...] = ()
    # RFC 8659 §3: the nearest name above that has some.
    while not records and "." in where:
        try:
            records = (await around.resolver.caa(where)).values
        except NoSuchName:
            records = ()
        if not records:
            where = where.partition(".")[2]
    return (hostchecks.check_caa(host, where, records, hostchecks.issuer_of(around.setup.certificate)),)


async def _certificate(around: Around, clock: Clock) -> Sequence[Finding]:
    return hostchecks.check_certificate(around.setup, clock.now())
