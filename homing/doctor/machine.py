"""Looking at this machine: clock, disk, certificate files, addresses. What blocks is for a thread."""

from __future__ import annotations

import ctypes
import os
import re
import socket
import ssl
import sys
import time
import warnings
from pathlib import Path

from homing.doctor.machinechecks import ClockState, DiskState
from homing.doctor.setup import Certificate, is_public
from smtp.outbound.chain import verify
from smtp.outbound.tlspolicy import authorities

TIME_ERROR = 5
"""What adjtimex answers for a clock that nobody keeps. # adjtimex(2)"""
STA_UNSYNC = 0x40
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\s?")
_FAR = (("192.0.2.1", socket.AF_INET), ("2001:db8::1", socket.AF_INET6))
"""Documentation addresses: nothing is sent to them. # RFC 5737, RFC 3849"""


class _Timex(ctypes.Structure):
    """struct timex of Linux, the fields at its beginning. # adjtimex(2)"""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 512),
    )


def clock_state() -> ClockState:
    """What the kernel says of its clock."""
    if not sys.platform.startswith("linux"):
        return ClockState(None)
    try:
        ask = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return ClockState(None)
    # modes 0: nothing is changed.
    timex = _Timex()
    answer = ask(ctypes.byref(timex))
    if answer < 0:
        return ClockState(None)
    kept = answer != TIME_ERROR and not timex.status & STA_UNSYNC
    return ClockState(kept, timex.esterror / 1_000_000)


def disk_state(folder: Path) -> DiskState:
    """Of the file system of a folder, or of the nearest one above it that is there. Raises OSError."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    found = os.statvfs(place)
    return DiskState(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize, found.f_favail, found.f_files)


def read_certificate(file: Path, host: str, roots: Path | None, *, own: bool) -> Certificate:
    """The chain of a PEM file, and whether the authorities of this machine (or those of ``roots``) believe it.
    Raises OSError, and ValueError for a file without a certificate."""
    chain = tuple(ssl.PEM_cert_to_DER_cert(one) for one in _PEM.findall(file.read_text("ascii", "replace")))
    if not chain:
        raise ValueError(f"{file} has no certificate in it")
    if own:
        return Certificate(chain, own=True)
    with warnings.catch_warnings():
        # Some old authorities of the system have odd serial numbers, which is nobody's fault here.
        warnings.simplefilter("ignore")
        # Names and dates are looked at by themselves: here it is the authority alone.
        problem = verify(chain, authorities(roots), _names(chain[0]) or (host,), _within(chain[0]))
    return Certificate(chain, untrusted="" if problem is None else problem.text)


def _names(leaf: bytes) -> tuple[str, ...]:
    from cryptography import x509

    from smtp.outbound.chain import names_of

    # A wildcard matches no name but one below it.
    return tuple(
        f"a{name[1:]}" if name.startswith("*.") else name for name in names_of(x509.load_der_x509_certificate(leaf))
    )


def _within(leaf: bytes) -> float:
    """A time at which it is in force: now, or the last moment."""
    from cryptography import x509

    found = x509.load_der_x509_certificate(leaf)
    begin, end = found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()
    return min(max(time.time(), begin), end)


def own_addresses() -> tuple[str, ...]:
    """The public addresses from which this machine would send; () behind a NAT."""
    found = []
    for far, family in _FAR:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                # A datagram socket that connects sends nothing: the kernel chooses the address alone.
                sock.connect((far, 9))
                address = str(sock.getsockname()[0])
        except OSError:
            continue
        if is_public(address):
            found.append(address)
    return tuple(found)
