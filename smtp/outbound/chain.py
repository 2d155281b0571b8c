"""Certificates that a peer has shown: the chain as it came, and whether it leads to a trust anchor."""

from __future__ import annotations

import _ssl
import datetime
import ssl
from collections.abc import Sequence
from typing import Any, Final

from cryptography import x509
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from smtp.outbound.tlsresult import TlsProblem, TlsResult

CHAIN_MAX: Final = 20
"""Certificates of a chain that are looked at."""


def peer_chain(tls: ssl.SSLObject | ssl.SSLSocket) -> tuple[bytes, ...] | None:
    """All certificates (DER) that the peer has sent, its own first; None where this Python does not tell.

    The one place that knows how: Python 3.13 has a public method, 3.10 to 3.12 the same on the object inside.
    """
    public = getattr(tls, "get_unverified_chain", None)
    if public is not None:
        return tuple(bytes(one) for one in public() or ())
    inside = getattr(getattr(tls, "_sslobj", None), "get_unverified_chain", None)
    if inside is None:
        return None
    found: Sequence[Any] = inside() or ()
    return tuple(ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in found)


def can_see_chain() -> bool:
    """Does ``peer_chain`` know how?"""
    return hasattr(ssl.SSLObject, "get_unverified_chain") or hasattr(
        getattr(_ssl, "_SSLSocket", None), "get_unverified_chain"
    )


def public_key_of(der: bytes) -> bytes:
    """The SubjectPublicKeyInfo of a certificate, octet by octet as it stands there: digests of it are compared.
    Raises ValueError. # RFC 5280 §4.1"""
    certificate, _ = _element(der, 0, 0x30)
    tbs, _ = _element(certificate, 0, 0x30)
    at = 0
    if tbs[:1] == b"\xa0":
        _, at = _element(tbs, at, 0xA0)
    # serialNumber, signature, issuer, validity, subject
    for tag in (0x02, 0x30, 0x30, 0x30, 0x30):
        _, at = _element(tbs, at, tag)
    _, end = _element(tbs, at, 0x30)
    return tbs[at:end]


def _element(octets: bytes, at: int, tag: int) -> tuple[bytes, int]:
    """The contents of the DER element there, and where it ends. # X.690 §8.1, §10.1"""
    if len(octets) < at + 2 or octets[at] != tag:
        raise ValueError("not a certificate")
    length, begin = octets[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        length, begin = int.from_bytes(octets[begin : begin + count], "big"), begin + count
        if not 1 <= count <= 4:
            raise ValueError("not a certificate")
    if begin + length > len(octets):
        raise ValueError("the certificate is cut short")
    return octets[begin : begin + length], begin + length


def verify(chain: Sequence[bytes], anchors: Sequence[bytes], names: Sequence[str], now: float) -> TlsProblem | None:
    """Does the first certificate of the chain lead to one of the anchors, is it in force, and is it one of the names'?
    None when all is well. # RFC 5280 §6, RFC 9525 §6"""
    try:
        leaf, *others = [x509.load_der_x509_certificate(one) for one in chain[:CHAIN_MAX]]
        trusted = [x509.load_der_x509_certificate(one) for one in anchors]
        at = datetime.datetime.fromtimestamp(now, datetime.UTC)
        if not leaf.not_valid_before_utc <= at <= leaf.not_valid_after_utc:
            return TlsProblem(TlsResult.EXPIRED, "the certificate has expired, or is not in force yet")
        # Private authorities write sparse certificates: of extensions it is asked what RFC 5280 §6.1.4 (k) asks.
        authority = verification.ExtensionPolicy.permit_all().require_present(
            x509.BasicConstraints, verification.Criticality.AGNOSTIC, None
        )
        verifier = (
            verification.PolicyBuilder()
            .store(verification.Store(trusted))
            .time(at)
            .extension_policies(ca_policy=authority, ee_policy=verification.ExtensionPolicy.permit_all())
            .build_client_verifier()
        )
        verifier.verify(leaf, others)
    except verification.VerificationError as error:
        return TlsProblem(
            TlsResult.NOT_TRUSTED, f"the certificate is not trusted: {' '.join(str(error).split())}"[:500]
        )
    except (ValueError, x509.UnsupportedGeneralNameType) as error:
        return TlsProblem(TlsResult.VALIDATION_FAILURE, f"the certificate cannot be read: {error}"[:500])
    if not _serves(leaf):
        return TlsProblem(TlsResult.VALIDATION_FAILURE, "the certificate is not for servers")
    own = names_of(leaf)
    if not any(matches(name, one) for name in names for one in own):
        return TlsProblem(
            TlsResult.HOST_MISMATCH, f"the certificate is for {', '.join(own[:5]) or 'no name'}, not {names[0]}"[:500]
        )
    return None


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names that a certificate is for, lower case: those of its subjectAltName, or where it has none the common
    name of its subject. # RFC 7672 §3.2.2, RFC 6125 §6.4.4"""
    try:
        found = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return (str(common[-1].value).lower(),) if common else ()
    assert isinstance(found, x509.SubjectAlternativeName)
    return tuple(name.lower() for name in found.get_values_for_type(x509.DNSName))


def matches(name: str, pattern: str) -> bool:
    """Is a name (A-labels) what a certificate says? A wildcard is the whole leftmost label alone. # RFC 9525 §6.3"""
    name, pattern = name.rstrip(".").lower(), pattern.rstrip(".").lower()
    if name == pattern:
        return "*" not in pattern
    first, dot, parent = name.partition(".")
    return bool(first and dot) and pattern == f"*.{parent}"


def _serves(certificate: x509.Certificate) -> bool:
    """May a TLS server use it? # RFC 5280 §4.2.1.12"""
    try:
        found = certificate.extensions.get_extension_for_oid(ExtensionOID.EXTENDED_KEY_USAGE).value
    except x509.ExtensionNotFound:
        return True
    assert isinstance(found, x509.ExtendedKeyUsage)
    return any(use in found for use in (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE))
