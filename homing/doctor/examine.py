"""The doctor: looks at everything at once, within a time, and tells what it found."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

import structlog

from homing.doctor import domainlooks, hostlooks, machinelooks
from homing.doctor.around import STANDARD_PORTS, Around, Job
from homing.doctor.finding import Finding, Report, State, made_report
from homing.doctor.hostchecks import HostFound
from homing.doctor.setup import Setup, is_named, is_public
from homing.ports import Listening
from homing.settings import Settings
from runtime.clock import Clock, SystemClock
from runtime.dns import DnsTemporary, NoSuchName, Resolver
from runtime.web import Web

OF_DOMAINS = domainlooks.CHECKS
CHECKS = (
    *OF_DOMAINS,
    "hostname", "address", "ptr", "helo", "dnsbl", "certificate", "tlsa", "dane", "caa", "port", "way-out",
    "clock", "disk",
)  # fmt: skip
"""In the order in which they are told."""
SECONDS = 30.0
"""For all of it; what is not known by then is told as that."""
AT_ONCE = 20

log = structlog.get_logger("doctor")


async def examine(
    settings: Settings,
    setup: Setup,
    resolver: Resolver,
    listeners: Sequence[Listening] | None,
    *,
    only: Collection[str] = CHECKS,
    seconds: float = SECONDS,
    before: Report | None = None,
    public: frozenset[int] = STANDARD_PORTS,
    clock: Clock | None = None,
) -> Report:
    """Look once. listeners: what the server serves, None where it is stopped or elsewhere. only: these checks. seconds:
    for all of it. before: the report of the look before. What is met on the way is a finding, never an exception."""
    clock = clock or SystemClock()

    async def addresses(host: str) -> tuple[str, ...]:
        return (await resolver.addresses(host)).values

    at, begun = clock.now(), clock.monotonic()
    web = Web(addresses, roots=settings.outbound.roots, port=settings.outbound.https_port)
    try:
        host, trouble = await _host(setup, resolver, seconds / 2)
        sending = setup.addresses
        if not sending and host is not None:
            # Behind a NAT the DNS knows best by which addresses the internet knows us.
            sending = tuple(one for one in host.addresses or () if is_public(one))
        heard = None if listeners is None else tuple(listeners)
        around = Around(settings, setup, resolver, web, sending, host, trouble, heard, public)
        jobs = [job for job in _jobs(around, clock) if job.check in only]
        findings = await _all(jobs, max(0.0, seconds - (clock.monotonic() - begun)), seconds)
    finally:
        await web.close()
    findings.sort(key=lambda one: CHECKS.index(one.check))
    return made_report(at, clock.monotonic() - begun, findings, before)


def _jobs(around: Around, clock: Clock) -> list[Job]:
    of_domains = [job for domain in around.setup.domains for job in domainlooks.jobs(around, domain)]
    return [*of_domains, *hostlooks.jobs(around, clock), *machinelooks.jobs(around)]


async def _host(setup: Setup, resolver: Resolver, seconds: float) -> tuple[HostFound | None, str]:
    """Our hostname in the DNS, or why that cannot be known now."""
    if not is_named(setup.hostname):
        return None, ""
    try:
        async with asyncio.timeout(seconds):
            found = await resolver.addresses(setup.hostname)
    except NoSuchName:
        return HostFound(None), ""
    except DnsTemporary as error:
        return None, str(error)
    except TimeoutError:
        return None, f"no answer within {seconds:g} s"
    return HostFound(found.values, found.canonical, found.authenticated), ""


async def _all(jobs: Sequence[Job], left: float, seconds: float) -> list[Finding]:
    """Every job's findings, in order; of one that is not ready in time, that."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def work(job: Job) -> Sequence[Finding]:
        async with slots:
            return await _look(job)

    tasks = [asyncio.create_task(work(job), name=f"doctor {job.check}") for job in jobs]
    try:
        if tasks:
            await asyncio.wait(tasks, timeout=left)
    finally:
        ready = [task.done() for task in tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    late = f"no answer within {seconds:g} s"
    found: list[Finding] = []
    for job, task, done in zip(jobs, tasks, ready, strict=True):
        found += task.result() if done else [Finding(job.check, job.subject, State.SKIPPED, late)]
    return found


async def _look(job: Job) -> Sequence[Finding]:
    try:
        return await job.look()
    except DnsTemporary as error:
        return (Finding(job.check, job.subject, State.SKIPPED, f"the DNS does not answer: {error}"),)
    except Exception:
        log.exception("a check met an error of its own", check=job.check, subject=job.subject)
        return (Finding(job.check, job.subject, State.SKIPPED, "the check met an error of its own: see the log"),)
