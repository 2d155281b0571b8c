"""The machine: ports, clock, disk. Pure: values in, findings out."""

from __future__ import annotations

from dataclasses import dataclass

from homing.doctor.finding import Finding, State
from homing.doctor.setup import Setup

MIB = 1024 * 1024
GIB = 1024 * MIB
FREE_BAD = (256 * MIB, 0.01)
FREE_WARN = (2 * GIB, 0.10)
"""Octets, or share of the whole: the smaller of the two, so that a small disk does not warn for ever."""
INODES_WARN = 0.05
CLOCK_WARN = 1.0
CLOCK_BAD = 60.0
"""Seconds off: signatures, tokens and certificates have times in them."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One try to reach a port. said: the greeting, or how TLS was spoken. trouble: why not, "" where it answered."""

    place: str
    said: str = ""
    trouble: str = ""


def check_port(name: str, here: Reply | None, outside: Reply | None) -> Finding:
    """Does a listener of ours answer, on this machine and by the public name? None: not tried."""
    tried = [one for one in (here, outside) if one is not None]
    found = "; ".join(f"{one.place}: {one.trouble or one.said}" for one in tried)

    def told(state: State, why: str = "") -> Finding:
        return Finding("port", name, state, found or "not tried", "answers", (), why)

    if here is not None and here.trouble:
        return told(State.BAD, "The server runs, and this listener does not answer.")
    if outside is not None and outside.trouble:
        why = (
            "A router may keep out who comes from inside: look from outside too. If it is closed there as well, open it"
            " in the firewall and forward it to this server."
        )
        return told(State.WARN, why)
    if not tried:
        return told(State.SKIPPED)
    return told(State.OK)


def check_mx_port(setup: Setup, port: int, outside: Reply | None) -> Finding:
    """Do others reach us where MX records lead, by the public name? # RFC 5321 §4.5.4.2"""
    subject = f"{setup.hostname}:{port}"
    if outside is None:
        return Finding("port", subject, State.SKIPPED, f"{setup.hostname} has no address to try", "answers with 220")
    if outside.trouble:
        return Finding(
            "port", subject, State.WARN, f"{outside.place}: {outside.trouble}", "answers with 220", (),
            f"Other servers come to port {port}. Let it lead to the SMTP listener (HOMING_SMTP_PORT, or a forwarding)."
            " A router may also keep out who comes from inside: look from outside too.",
        )  # fmt: skip
    if not outside.said.startswith("220"):
        return Finding(
            "port", subject, State.BAD, f"{outside.place}: {outside.said}", "answers with 220", (),
            "Something else answers there.",
        )  # fmt: skip
    if setup.hostname not in outside.said.lower():
        return Finding(
            "port", subject, State.WARN, f"{outside.place}: {outside.said}", f"220 {setup.hostname}", (),
            "Another server answers there, or it has another name.",
        )  # fmt: skip
    return Finding("port", subject, State.OK, f"{outside.place}: {outside.said}", "answers with 220")


def check_way_out(probe: str, port: int, reply: Reply | None, relay: str) -> Finding:
    """Can mail leave by port 25? probe: the host or domain that is tried, "" for none."""
    wanted = f"port {port} of other servers can be reached"
    if relay:
        return Finding("way-out", "outbound", State.SKIPPED, f"mail leaves by {relay}", wanted)
    if not probe:
        why = "Set doctor.probe to a mail server of your choice, such as that of your provider, and it is tried."
        return Finding("way-out", "outbound", State.SKIPPED, "not tried", wanted, (), why)
    if reply is None:
        return Finding("way-out", probe, State.SKIPPED, "it has no address to try", wanted)
    if reply.trouble or not reply.said.startswith("220"):
        return Finding(
            "way-out", probe, State.BAD, f"{reply.place}: {reply.trouble or reply.said}", wanted, (),
            "Many providers close port 25 for customers: ask them to open it, or send by a relay (outbound.routes).",
        )  # fmt: skip
    return Finding("way-out", probe, State.OK, f"{reply.place}: {reply.said}", wanted)


@dataclass(frozen=True, slots=True)
class ClockState:
    """What the kernel says of its clock. kept: something keeps it right; None where that cannot be asked. error:
    seconds that it may be off."""

    kept: bool | None
    error: float = 0.0


def check_clock(found: ClockState) -> Finding:
    """Is the time right?"""

    def told(state: State, text: str, why: str = "") -> Finding:
        return Finding("clock", "this machine", state, text, "kept right by NTP", (), why)

    if found.kept is None:
        return told(State.SKIPPED, "unknown: this system does not tell")
    if not found.kept:
        why = (
            "Nothing keeps the clock right. Run chrony, ntpd or systemd-timesyncd: signatures, tokens and certificates"
        )
        return told(State.WARN, "the kernel says that nothing keeps it right", f"{why} depend on the time.")
    if found.error >= CLOCK_WARN:
        state = State.BAD if found.error >= CLOCK_BAD else State.WARN
        return told(
            state, f"kept, and off by up to {found.error:.1f} s", "What keeps it right does not reach its servers."
        )
    return told(State.OK, f"kept, off by at most {found.error * 1000:.0f} ms")


@dataclass(frozen=True, slots=True)
class DiskState:
    """Octets and inodes of the file system of a folder; inodes 0: it has no fixed number."""

    free: int
    size: int
    inodes_free: int = 0
    inodes: int = 0


def check_disk(folder: str, found: DiskState | None, trouble: str = "") -> Finding:
    """Is there room for mail?"""

    def told(state: State, text: str, why: str = "") -> Finding:
        wanted = f"more than {_size(_floor(FREE_WARN, found))} free" if found is not None else "room for mail"
        return Finding("disk", folder, state, text, wanted, (), why)

    if found is None:
        return told(State.SKIPPED, trouble)
    share = found.free / found.size if found.size else 0.0
    text = f"{_size(found.free)} of {_size(found.size)} free ({share:.0%})"
    if found.free < _floor(FREE_BAD, found):
        return told(State.BAD, text, "Mail is refused once the disk is full. Make room now.")
    if found.free < _floor(FREE_WARN, found):
        return told(State.WARN, text, "Mail is refused once the disk is full. Make room.")
    if found.inodes and found.inodes_free < INODES_WARN * found.inodes:
        return told(State.WARN, f"{text}, and {found.inodes_free} of {found.inodes} inodes", "Files are running out.")
    return told(State.OK, text)


def _floor(limit: tuple[int, float], found: DiskState) -> int:
    return min(limit[0], int(limit[1] * found.size))


def _size(octets: int) -> str:
    for unit, name in ((1024**4, "TiB"), (GIB, "GiB"), (MIB, "MiB")):
        if octets >= unit:
            return f"{octets / unit:.1f} {name}"
    return f"{octets / 1024:.0f} KiB"
