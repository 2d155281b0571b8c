"""Looking at the machine, and trying its ports."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from homing.doctor import machine, machinechecks, probe
from homing.doctor.around import Around, Job, skipped
from homing.doctor.finding import Finding
from homing.doctor.machinechecks import Reply
from homing.doctor.setup import is_named
from homing.ports import Listening
from runtime.dns import NoSuchName

KINDS = ("smtp", "submission", "submissions", "lmtp", "imap", "imaps")
"""Listeners that greet."""


def jobs(around: Around) -> list[Job]:
    """All that is looked at."""
    settings, setup = around.settings, around.setup
    found = [
        Job("clock", "this machine", _clock),
        Job("disk", str(settings.data), partial(_disk, around)),
    ]
    if is_named(setup.hostname):
        found.append(Job("port", f"{setup.hostname}:{settings.outbound.port}", partial(_mx_port, around)))
    found.append(Job("way-out", settings.doctor.probe or "outbound", partial(_way_out, around)))
    if around.listeners is None:
        return [*found, skipped("port", "listeners", "the server does not run on this machine, or is stopped")]
    return found + [Job("port", one.name, partial(_port, around, one)) for one in around.listeners if one.port]


async def _clock() -> Sequence[Finding]:
    return (machinechecks.check_clock(await asyncio.to_thread(machine.clock_state)),)


async def _disk(around: Around) -> Sequence[Finding]:
    folder = around.settings.data
    try:
        found = await asyncio.to_thread(machine.disk_state, folder)
    except OSError as error:
        return (machinechecks.check_disk(str(folder), None, f"it cannot be looked at: {error.strerror}"),)
    return (machinechecks.check_disk(str(folder), found),)


async def _port(around: Around, one: Listening) -> Sequence[Finding]:
    greets = _greets(around, one.name)
    # "TLS, sign-in required": what stands behind the comma is for people.
    tls = one.security.partition(",")[0] == "TLS"
    here = await probe.ask(one.host or "127.0.0.1", one.port, greets=greets, tls=tls and greets)
    outside: Reply | None = None
    # Port 25 is tried by itself, wherever its listener is.
    if one.port in around.public and one.port != around.settings.outbound.port:
        for address in around.host_addresses[:1]:
            outside = await probe.ask(address, one.port, greets=greets, tls=tls and greets)
    return (machinechecks.check_port(one.name, here, outside),)


def _greets(around: Around, name: str) -> bool:
    """Does the listener speak first, to whoever comes? One behind a proxy waits for what the proxy says."""
    settings, kind = around.settings, name.lower()
    if kind in settings.proxy.listeners or any(one.name == kind and one.proxy for one in settings.smtp.listeners):
        return False
    return kind in KINDS or any(one.name == kind for one in settings.smtp.listeners)


async def _mx_port(around: Around) -> Sequence[Finding]:
    port = around.settings.outbound.port or 25
    return (machinechecks.check_mx_port(around.setup, port, await probe.ask_any(around.host_addresses, port)),)


async def _way_out(around: Around) -> Sequence[Finding]:
    settings = around.settings
    asked, port, relay = settings.doctor.probe or "", settings.outbound.port or 25, around.setup.relay
    reply: Reply | None = None
    if asked and not relay:
        try:
            records = (await around.resolver.mx(asked)).values
        except NoSuchName:
            records = ()
        host = next((one.host for one in records if one.host != "."), asked)
        reply = await probe.ask_any(await around.addresses(host), port)
    return (machinechecks.check_way_out(asked, port, reply, relay),)
