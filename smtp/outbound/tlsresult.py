"""What TLS with a mail host came to, in the words of TLS reports."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class TlsResult(Enum):
    """What came of TLS with one host. # RFC 8460 §4.3"""

    SUCCESS = "successful-session"
    STARTTLS_NOT_SUPPORTED = "starttls-not-supported"
    HOST_MISMATCH = "certificate-host-mismatch"
    EXPIRED = "certificate-expired"
    NOT_TRUSTED = "certificate-not-trusted"
    VALIDATION_FAILURE = "validation-failure"
    TLSA_INVALID = "tlsa-invalid"
    DNSSEC_INVALID = "dnssec-invalid"
    DANE_REQUIRED = "dane-required"
    STS_FETCH_ERROR = "sts-policy-fetch-error"
    STS_INVALID = "sts-policy-invalid"
    STS_WEBPKI_INVALID = "sts-webpki-invalid"


@dataclass(frozen=True, slots=True)
class TlsProblem:
    """Why a host's TLS is not what its policy asks for. text: one sentence for the outcome and the trace. fatal False:
    the policy is being tried out (MTA-STS mode testing): it is noted, and the message goes all the same."""

    result: TlsResult
    text: str
    fatal: bool = True
