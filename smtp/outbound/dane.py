"""DANE for SMTP (RFC 7672): which TLSA records count, and whether a peer's certificates are what they say."""

from __future__ import annotations

import hashlib
import hmac
import ssl
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from runtime.dns import TLSA
from smtp.outbound.chain import peer_chain, public_key_of, verify
from smtp.outbound.tlsresult import TlsProblem, TlsResult

RECORDS_MAX: Final = 100
"""Records of one host that are looked at."""
DIGESTS: Final = {1: (hashlib.sha256, 32), 2: (hashlib.sha512, 64)}
"""# RFC 6698 §2.1.3"""


class Usage(IntEnum):
    """# RFC 6698 §2.1.1, RFC 7218 §2.1"""

    PKIX_TA = 0
    PKIX_EE = 1
    DANE_TA = 2
    DANE_EE = 3


def usable(records: Sequence[TLSA], *, chain: bool = True) -> tuple[TLSA, ...]:
    """Those that an SMTP client can use. chain: False where the peer's chain cannot be had, so that trust anchors
    cannot be looked for in it."""
    return tuple(record for record in records[:RECORDS_MAX] if _is_usable(record, chain))


def _is_usable(record: TLSA, chain: bool) -> bool:
    # RFC 7672 §3.1.3: PKIX-TA and PKIX-EE are not for SMTP.
    if record.usage != Usage.DANE_EE and not (record.usage == Usage.DANE_TA and chain):
        return False
    if record.selector not in (0, 1):
        return False
    if record.matching == 0:
        # RFC 7671 §8: a record that is no certificate, or no key, cannot match.
        return bool(record.data)
    digest = DIGESTS.get(record.matching)
    return digest is not None and len(record.data) == digest[1]


def matches(record: TLSA, certificate: bytes) -> bool:
    """Is the certificate (DER), or its key, what the record says? # RFC 6698 §2.1.2, §2.1.3"""
    try:
        selected = certificate if record.selector == 0 else public_key_of(certificate)
    except ValueError:
        return False
    if record.matching != 0:
        selected = DIGESTS[record.matching][0](selected).digest()
    return hmac.compare_digest(selected, record.data)


def check(
    records: Sequence[TLSA], names: Sequence[str], tls: ssl.SSLObject | ssl.SSLSocket, now: float
) -> TlsProblem | None:
    """Is the peer proved by one of these usable records? names: reference identifiers for trust anchors. None when it
    is. # RFC 7672 §3.1, §3.2"""
    leaf = tls.getpeercert(binary_form=True)
    if not leaf:
        return TlsProblem(TlsResult.VALIDATION_FAILURE, "the server showed no certificate")
    # RFC 7672 §3.1.1: DANE-EE looks at the certificate alone: not at its names, not at its dates.
    if any(matches(record, leaf) for record in records if record.usage == Usage.DANE_EE):
        return None
    anchors = [record for record in records if record.usage == Usage.DANE_TA]
    if anchors:
        return _check_anchors(anchors, names, peer_chain(tls), now)
    return TlsProblem(TlsResult.VALIDATION_FAILURE, "no TLSA record matches the server's certificate")


def _check_anchors(
    records: Sequence[TLSA], names: Sequence[str], chain: Sequence[bytes] | None, now: float
) -> TlsProblem | None:
    if not chain:
        return TlsProblem(TlsResult.VALIDATION_FAILURE, "the server's certificates cannot be looked at")
    # RFC 7672 §3.1.2: the server sends its trust anchor too; one that is whole in the record need not be sent.
    found = [one for one in chain[1:] if any(matches(record, one) for record in records)]
    found += [record.data for record in records if record.selector == 0 and record.matching == 0]
    # What the server itself has is no authority: that is what DANE-EE is for.
    found = [one for one in found if one != chain[0]]
    if not found:
        return TlsProblem(TlsResult.VALIDATION_FAILURE, "no TLSA record matches the server's certificates")
    problem: TlsProblem | None = None
    for anchor in dict.fromkeys(found):
        problem = verify(chain, [anchor], names, now)
        if problem is None:
            return None
    return problem
