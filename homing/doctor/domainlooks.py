"""Asking for what a domain of ours publishes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from homing.doctor import domainchecks
from homing.doctor.around import Around, Job, known, skipped
from homing.doctor.domainchecks import MxFound, StsFound
from homing.doctor.finding import Finding
from homing.doctor.setup import OurDomain, is_named
from homing.doctor.spf import Verdict, evaluate, spf_texts
from identity.model import DkimKey
from mail.dnsrecords import dkim_name, sts_host, sts_id, sts_name, tlsrpt_name
from runtime.dns import MX, DnsTemporary, NoSuchName
from runtime.web import WebError
from smtp.outbound.mtasts import POLICY_MAX, BadPolicy, parse

CHECKS = ("mx", "spf", "dkim", "dmarc", "mta-sts", "tls-rpt")
MX_HOSTS_MAX = 10
FETCH_SECONDS = 15.0


def jobs(around: Around, domain: OurDomain) -> list[Job]:
    """All that is looked at."""
    name = domain.name
    if not is_named(name):
        return [skipped(check, name, "not a name of the internet") for check in CHECKS]
    if is_named(around.setup.hostname):
        mx = Job("mx", name, partial(_mx, around, name))
    else:
        mx = skipped("mx", name, f"the server has no name of its own yet ({around.setup.hostname})")
    keys = [Job("dkim", dkim_name(key.selector, name), partial(_dkim, around, key)) for key in domain.keys] or [
        known(domainchecks.check_dkim_none(domain))
    ]
    return [
        mx,
        Job("spf", name, partial(_spf, around, name)),
        *keys,
        Job("dmarc", name, partial(_dmarc, around, name)),
        Job("mta-sts", name, partial(_sts, around, name)),
        Job("tls-rpt", name, partial(_tlsrpt, around, name)),
    ]


async def _mx(around: Around, domain: str) -> Sequence[Finding]:
    own = around.host_addresses
    try:
        records = (await around.resolver.mx(domain)).values
    except NoSuchName:
        return (domainchecks.check_mx(around.setup, domain, MxFound(None, {}, own)),)
    if not records:
        return (
            domainchecks.check_mx(around.setup, domain, MxFound((), {}, own, implicit=await around.addresses(domain))),
        )
    hosts = [one.host for one in records if one.host not in (".", around.setup.hostname)][:MX_HOSTS_MAX]
    found = await asyncio.gather(*(_tolerant(around, host) for host in hosts))
    return (domainchecks.check_mx(around.setup, domain, MxFound(records, dict(zip(hosts, found, strict=True)), own)),)


async def _tolerant(around: Around, host: str) -> tuple[str, ...]:
    """The addresses of a host that is not ours: one that cannot be asked about leads nowhere now."""
    try:
        return await around.addresses(host)
    except DnsTemporary:
        return ()


async def _spf(around: Around, domain: str) -> Sequence[Finding]:
    texts = await around.texts(domain)
    return (domainchecks.check_spf(around.setup, domain, texts, await verdicts(around, domain, texts)),)


async def verdicts(around: Around, domain: str, texts: Sequence[str]) -> dict[str, Verdict]:
    """What the one SPF record comes to, by each address that mail leaves from."""
    found = spf_texts(texts)
    if len(found) != 1:
        return {}
    return {one: await evaluate(found[0], domain, one, around.resolver) for one in around.sending}


async def _dkim(around: Around, key: DkimKey) -> Sequence[Finding]:
    return (domainchecks.check_dkim(key, await around.texts(dkim_name(key.selector, key.domain))),)


async def _dmarc(around: Around, domain: str) -> Sequence[Finding]:
    texts = await around.texts(f"_dmarc.{domain}")
    above = domain
    above_texts: tuple[str, ...] = ()
    # RFC 7489 §6.6.3: the record of the organization holds below it. Where that ends is looked for step by step.
    while not domainchecks.has_dmarc((*texts, *above_texts)) and above.count(".") > 1:
        above = above.partition(".")[2]
        above_texts = await around.texts(f"_dmarc.{above}")
    return (domainchecks.check_dmarc(domain, texts, above, above_texts),)


async def _sts(around: Around, domain: str) -> Sequence[Finding]:
    texts = await around.texts(sts_name(domain))
    setup = around.setup
    if setup.policy is None or sts_id(texts) is None:
        return (domainchecks.check_sts(setup, domain, StsFound(texts)),)
    try:
        hosts: tuple[MX, ...] = (await around.resolver.mx(domain)).values
    except NoSuchName:
        hosts = ()
    names = tuple(one.host for one in hosts if one.host != ".")
    try:
        url = f"https://{sts_host(domain)}/.well-known/mta-sts.txt"
        fetched = await around.web.get(url, size_max=POLICY_MAX, seconds=FETCH_SECONDS)
        if fetched.kind != "text/plain":
            # RFC 8461 §3.2
            raise BadPolicy("it is not text/plain")
        found = StsFound(texts, parse(fetched.body), mx=names)
    except (WebError, BadPolicy) as error:
        found = StsFound(texts, failure=str(error), mx=names)
    return (domainchecks.check_sts(setup, domain, found),)


async def _tlsrpt(around: Around, domain: str) -> Sequence[Finding]:
    return (domainchecks.check_tlsrpt(domain, await around.texts(tlsrpt_name(domain))),)
