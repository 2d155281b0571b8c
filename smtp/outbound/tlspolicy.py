"""What TLS a mail host must offer before it gets a message: DANE, MTA-STS, REQUIRETLS, or whatever it has.

The session asks ``for_domain`` once per destination and ``for_host`` before each host; it shakes hands with
``context(policy)`` and ``policy.server_name``, asks ``check`` after that, and tells ``note`` what came of it. In the
order of strength: DANE where the host has TLSA records (RFC 7672), else MTA-STS where the domain has a policy in
enforce mode (RFC 8461), else TLS if the host offers it, whatever certificate it shows (RFC 7435).
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from runtime.clock import Clock, SystemClock
from runtime.dns import MX, TLSA, Answer, NoSuchName
from runtime.web import trust
from smtp.outbound import dane
from smtp.outbound.chain import can_see_chain, peer_chain, verify
from smtp.outbound.mtasts import Found, Mode, Policy, StsPolicies
from smtp.outbound.tlsresult import TlsProblem, TlsResult

__all__ = ["DomainPolicy", "HostPolicy", "Kind", "Noted", "TlsPolicies", "TlsProblem", "TlsResult"]

Kind = Literal["none", "mta-sts", "dane", "requiretls"]
_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\s?")
OPPORTUNISTIC: Final = "DEFAULT:@SECLEVEL=0"
"""Ciphers where nothing is proved: an old one is better than none. # RFC 7435 §3"""


@dataclass(frozen=True, slots=True)
class HostPolicy:
    """What one host must offer.

    required: no delivery without TLS. verify: by what its certificate is judged. names: reference identifiers, the
    first is the server name of the handshake (SNI). tlsa: the usable records, for dane; () with kind "dane" says that
    all were unusable, so that TLS is required and nothing is proved (RFC 7672 §2.2). usable False: the host is not to
    be used under the policy, reason says why. testing: what MTA-STS would ask for is looked at and noted, not required.
    """

    required: bool
    verify: Literal["none", "web-pki", "dane"]
    names: tuple[str, ...]
    tlsa: tuple[TLSA, ...] = ()
    kind: Kind = "none"
    usable: bool = True
    reason: str = ""
    testing: bool = False

    @property
    def server_name(self) -> str:
        return self.names[0]

    @property
    def proved(self) -> str:
        """What ``Result.verified`` says of a session under this policy that ``check`` found good."""
        match self.verify:
            case "dane":
                return "dane"
            case "web-pki":
                return "mta-sts" if self.kind == "mta-sts" else "web-pki"
            case "none":
                return ""


@dataclass(frozen=True, slots=True)
class DomainPolicy:
    """What a destination domain asks for. domain: A-labels, lower case. secure_mx: the MX answer was authenticated.
    sts: its MTA-STS policy, None for none (or mode none)."""

    domain: str
    secure_mx: bool = False
    sts: Policy | None = None


@dataclass(frozen=True, slots=True)
class Noted:
    """One session, or one host that was not used, as it is counted for the report to its domain. day: of UTC, days
    since 1970. policy: the lines of the policy that was in force. detail: more words about a failure."""

    day: int
    domain: str
    policy_type: Literal["tlsa", "sts", "no-policy-found"]
    policy: tuple[str, ...]
    mx_patterns: tuple[str, ...]
    result: TlsResult
    host: str = ""
    address: str = ""
    detail: str = ""


class Tlsa(Protocol):
    """What is asked of the resolver."""

    async def tlsa(self, port: int, host: str) -> Answer[TLSA]: ...


class TlsPolicies:
    """One per process; any number of calls at the same time.

    resolver: None for no DANE. sts: None for no MTA-STS. report: gets what is noted. roots: PEM file of certification
    authorities, None for the system's. Raises OSError for a file that cannot be used.
    """

    def __init__(
        self,
        resolver: Tlsa | None = None,
        sts: StsPolicies | None = None,
        *,
        report: Callable[[Noted], None] | None = None,
        roots: Path | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._resolver = resolver
        self._sts = sts
        self._report = report
        self._clock = clock or SystemClock()
        self._verifying = trust(roots)
        self._anchors = () if sts is None else authorities(roots)
        self._opportunistic = _unverifying(OPPORTUNISTIC)
        self._dane = _unverifying(None)

    async def for_domain(self, domain: str, mx: Answer[MX]) -> DomainPolicy:
        """mx: the answer as it came, without values for a domain whose own addresses take its mail. Raises
        runtime.dns.DnsTemporary where nobody can say now: the domain is to be tried later."""
        found = Found() if self._sts is None else await self._sts.find(domain)
        policy = None if found.policy is None or found.policy.mode is Mode.NONE else found.policy
        asked = DomainPolicy(domain, mx.authenticated, policy)
        if found.failure is not None:
            # RFC 8460 §4.3.2.2
            self._tell(asked, "sts", found.failure, detail=found.detail)
        return asked

    async def for_host(
        self, domain: DomainPolicy, host: str, addresses: Answer[str], *, port: int = 25, requiretls: bool = False
    ) -> HostPolicy:
        """requiretls: the message was submitted with it (RFC 8689). Raises runtime.dns.DnsTemporary where the host's
        TLSA records cannot be had now: the host is not to be used before they can (RFC 7672 §2.1.2)."""
        found = await self._dane_policy(domain, host, addresses, port)
        if found is None or not found.tlsa:
            # RFC 8461 §2: DANE goes before MTA-STS. With none but unusable records nothing is proved by DANE, and what
            # MTA-STS proves is more.
            sts = self._sts_policy(domain, host)
            found = sts if found is None or (sts.required and domain.sts is not None) else found
        if requiretls:
            return _required(domain, host, found)
        return found

    async def _dane_policy(
        self, domain: DomainPolicy, host: str, addresses: Answer[str], port: int
    ) -> HostPolicy | None:
        # RFC 7672 §2.2.1, §2.2.2: no TLSA question where the answers before it prove nothing.
        if self._resolver is None or not domain.secure_mx or not addresses.authenticated:
            return None
        # RFC 7672 §2.2.3: the name at the end of the CNAMEs first, then the name that MX has.
        for base in dict.fromkeys((addresses.canonical or host, host)):
            try:
                answer = await self._resolver.tlsa(port, base)
            except NoSuchName:
                continue
            if not answer.authenticated or not answer.values:
                continue
            # RFC 7672 §3.2.2: the base domain, and the names that led to it.
            names = tuple(dict.fromkeys((base, host, domain.domain)))
            records = dane.usable(answer.values, chain=can_see_chain())
            if records:
                return HostPolicy(True, "dane", names, records, "dane")
            # RFC 7672 §2.2: records that are all unusable still say that there is TLS.
            return HostPolicy(True, "none", names, (), "dane", reason="no TLSA record of the host can be used")
        return None

    def _sts_policy(self, domain: DomainPolicy, host: str) -> HostPolicy:
        sts = domain.sts
        if sts is None:
            return HostPolicy(False, "none", (host,))
        allowed = sts.allows(host)
        reason = "" if allowed else f"{host} is not among the hosts of the domain's MTA-STS policy"
        if sts.mode is Mode.TESTING:
            return HostPolicy(False, "none", (host,), kind="mta-sts", reason=reason, testing=True)
        # RFC 8461 §4.1: the certificate is for the host, by the authorities that we trust.
        return HostPolicy(True, "web-pki", (host,), kind="mta-sts", usable=allowed, reason=reason)

    def context(self, policy: HostPolicy) -> ssl.SSLContext:
        """For the handshake with a host of this policy, with ``server_hostname=policy.server_name``. Shared: not to be
        changed."""
        match policy.verify:
            case "web-pki":
                return self._verifying
            case "dane":
                return self._dane
            case "none":
                return self._opportunistic

    def check(self, policy: HostPolicy, tls: ssl.SSLObject | ssl.SSLSocket) -> TlsProblem | None:
        """After the handshake: None when the host is proved as the policy wants. A problem that is not ``fatal`` is to
        be noted, and the message sent."""
        if policy.verify == "dane":
            # RFC 7672 §3.1; web-pki was judged in the handshake.
            return dane.check(policy.tlsa, policy.names, tls, self._clock.now())
        if policy.testing:
            return self._check_testing(policy, tls)
        return None

    def _check_testing(self, policy: HostPolicy, tls: ssl.SSLObject | ssl.SSLSocket) -> TlsProblem | None:
        if policy.reason:
            return TlsProblem(TlsResult.VALIDATION_FAILURE, policy.reason, fatal=False)
        chain = peer_chain(tls)
        if not chain:
            return None
        problem = verify(chain, self._anchors, policy.names, self._clock.now())
        return None if problem is None else TlsProblem(problem.result, problem.text, fatal=False)

    def explain(self, error: BaseException) -> TlsProblem:
        """What a handshake that failed (ssl.SSLError, OSError, …) comes to."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return TlsProblem(_by_code(error), f"the server's certificate is not good: {error.verify_message}")
        return TlsProblem(TlsResult.VALIDATION_FAILURE, f"the TLS handshake failed: {_words(error)}")

    def note(
        self,
        domain: DomainPolicy,
        host: str,
        policy: HostPolicy,
        result: TlsResult,
        *,
        address: str = "",
        detail: str = "",
    ) -> None:
        """Count one session, or one host that was not used, for the report to the domain. address: of the host, where
        it was reached."""
        # RFC 8460 §4.4: by the policy that was applied.
        if policy.kind == "dane" or policy.verify == "dane":
            self._tell(domain, "tlsa", result, host, address, detail, policy.tlsa)
        elif domain.sts is not None:
            self._tell(domain, "sts", result, host, address, detail)
        else:
            self._tell(domain, "no-policy-found", result, host, address, detail)

    def _tell(
        self,
        domain: DomainPolicy,
        kind: Literal["tlsa", "sts", "no-policy-found"],
        result: TlsResult,
        host: str = "",
        address: str = "",
        detail: str = "",
        tlsa: tuple[TLSA, ...] = (),
    ) -> None:
        if self._report is None:
            return
        policy: tuple[str, ...] = ()
        patterns: tuple[str, ...] = ()
        if kind == "tlsa":
            policy = tuple(f"{one.usage} {one.selector} {one.matching} {one.data.hex()}" for one in tlsa)
        elif kind == "sts" and domain.sts is not None:
            policy, patterns = domain.sts.lines(), domain.sts.mx
        day = int(self._clock.now() // 86400)
        self._report(Noted(day, domain.domain, kind, policy, patterns, result, host, address, detail))


def _required(domain: DomainPolicy, host: str, found: HostPolicy) -> HostPolicy:
    """The policy of a message with REQUIRETLS. # RFC 8689 §4.2.1"""
    if found.verify == "dane":
        return found
    # That the host is the domain's is to be proved too: by DNSSEC, or by MTA-STS.
    if not (domain.secure_mx or (domain.sts is not None and domain.sts.allows(host))):
        return HostPolicy(
            True,
            "web-pki",
            (host,),
            kind="requiretls",
            usable=False,
            reason="REQUIRETLS: nothing proves that the host is the domain's, neither DNSSEC nor MTA-STS",
        )
    kind: Kind = "mta-sts" if found.kind == "mta-sts" and not found.testing else "requiretls"
    return HostPolicy(True, "web-pki", (host,), kind=kind, usable=found.usable, reason=found.reason)


def authorities(roots: Path | None) -> tuple[bytes, ...]:
    """The certificates (DER) of the file, or of the system's certification authorities. Raises OSError, ValueError."""
    if roots is not None:
        files = [roots]
    else:
        places = ssl.get_default_verify_paths()
        folder = Path(places.capath) if places.capath else None
        files = [Path(places.cafile)] if places.cafile else sorted(folder.glob("*.0")) if folder else []
    found: dict[bytes, None] = {}
    for file in files:
        for pem in _PEM.findall(file.read_text("ascii", "replace")):
            found[ssl.PEM_cert_to_DER_cert(pem)] = None
    return tuple(found)


def _unverifying(ciphers: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    # RFC 8996 §3
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ciphers is not None:
        context.set_ciphers(ciphers)
    return context


# X509_V_ERR_* of OpenSSL: x509_vfy.h
_EXPIRED = (9, 10)
_MISMATCH = (62, 63, 64)
_UNTRUSTED = (2, 7, 18, 19, 20, 21, 24, 27)


def _by_code(error: ssl.SSLCertVerificationError) -> TlsResult:
    code = getattr(error, "verify_code", 0)
    if code in _EXPIRED:
        return TlsResult.EXPIRED
    if code in _MISMATCH:
        return TlsResult.HOST_MISMATCH
    return TlsResult.NOT_TRUSTED if code in _UNTRUSTED else TlsResult.VALIDATION_FAILURE


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
