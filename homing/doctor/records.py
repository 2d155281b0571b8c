"""The DNS records that a domain and its server need, as they are to be published. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from homing.doctor.setup import Certificate, OurDomain, Setup, is_named
from identity.model import DkimKey, DkimState
from mail.dnsrecords import dkim_name, dkim_text, sts_host, sts_name, tlsrpt_name, tlsrpt_text, txt_line, zone_line
from smtp.outbound.chain import public_key_of

TTL = 3600


@dataclass(frozen=True, slots=True)
class Record:
    """One record. data: as a zone file has it, but for TXT, where it is the text itself. about: what it is for."""

    name: str
    kind: str
    data: str
    about: str = ""

    def line(self) -> str:
        """As a zone file has it."""
        if self.kind == "TXT":
            return txt_line(self.name, self.data, TTL)
        return zone_line(self.name, self.kind, self.data, TTL)

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return {"name": self.name, "type": self.kind, "ttl": TTL, "data": self.data, "about": self.about}


@dataclass(frozen=True, slots=True)
class Needed:
    """What is to be published for a domain. missing: what cannot be said, a sentence each."""

    records: tuple[Record, ...]
    missing: tuple[str, ...]


def mx_record(domain: str, hostname: str) -> Record:
    """Where its mail goes. # RFC 5321 §5.1"""
    return Record(domain, "MX", f"10 {hostname}.", "where others bring its mail")


def address_record(hostname: str, address: str) -> Record:
    """Where the server is."""
    return Record(hostname, "AAAA" if ":" in address else "A", address, "where the server is")


def ptr_record(address: str, hostname: str) -> Record:
    """Set by who has given the address. # RFC 1035 §3.5, RFC 3596 §2.5"""
    name = ipaddress.ip_address(address).reverse_pointer
    return Record(name, "PTR", f"{hostname}.", "the name of the address; who has given you the address sets it")


def spf_text(addresses: Sequence[str]) -> str:
    """Our addresses may send, nobody else. # RFC 7208 §3"""
    return " ".join(("v=spf1", *(spf_mechanism(one) for one in addresses), *(() if addresses else ("mx",)), "-all"))


def spf_mechanism(address: str) -> str:
    """# RFC 7208 §5.6"""
    return f"ip6:{address}" if ":" in address else f"ip4:{address}"


def spf_record(domain: str, addresses: Sequence[str]) -> Record:
    """Who may send in its name."""
    return Record(domain, "TXT", spf_text(addresses), "who may send in its name (SPF)")


def helo_record(hostname: str) -> Record:
    """For notices, which have no sender: there the name that the server greets with counts. # RFC 7208 §2.4"""
    return Record(hostname, "TXT", "v=spf1 a -all", "the server itself may send notices (SPF)")


def dkim_record(key: DkimKey) -> Record:
    """By which others check our signatures."""
    about = {
        DkimState.ACTIVE: "by which others check the signatures on its mail (DKIM)",
        DkimState.PUBLISHED: "for the key that signs next (DKIM)",
        DkimState.RETIRED: "for mail on its way that the key before has signed (DKIM)",
    }[key.state]
    text = dkim_text(key.algorithm.value, key.public_key)
    return Record(dkim_name(key.selector, key.domain), "TXT", text, about)


def dmarc_record(domain: str) -> Record:
    """# RFC 7489 §6.3"""
    return Record(
        f"_dmarc.{domain}",
        "TXT",
        f"v=DMARC1; p=quarantine; rua=mailto:postmaster@{domain}",
        "what others do with mail that only says to be of it (DMARC)",
    )


def sts_record(domain: str, text: str) -> Record:
    """text: of ``homing.sts.policy_record``."""
    return Record(sts_name(domain), "TXT", text, "that there is a policy for TLS (MTA-STS)")


def sts_host_record(domain: str, hostname: str) -> Record:
    """Where the policy is fetched; a proxy may be in this place."""
    return Record(sts_host(domain), "CNAME", f"{hostname}.", "where that policy is fetched, with a certificate for it")


def tlsrpt_record(domain: str) -> Record:
    """# RFC 8460 §3"""
    return Record(
        tlsrpt_name(domain),
        "TXT",
        tlsrpt_text(f"mailto:postmaster@{domain}"),
        "who hears of trouble with TLS (TLS-RPT)",
    )


def tlsa_record(hostname: str, certificate: Certificate) -> Record:
    """The key of the certificate: it stays good when the certificate is renewed with the same key. # RFC 7672 §3.1.1"""
    digest = hashlib.sha256(public_key_of(certificate.chain[0])).hexdigest()
    return Record(f"_25._tcp.{hostname}", "TLSA", f"3 1 1 {digest}", "the key of the server (DANE); needs DNSSEC")


def needed(setup: Setup, domain: OurDomain) -> Needed:
    """All that a domain needs, that of the server at the end."""
    name, host = domain.name, setup.hostname
    records: list[Record] = []
    missing: list[str] = []
    named = is_named(host)
    if named:
        records.append(mx_record(name, host))
    else:
        missing.append(f"MX: the server has no name of its own yet ({host}); set HOMING_HOSTNAME, such as mx.{name}")
    if setup.relay:
        missing.append(f"SPF: mail leaves by {setup.relay}, whose operator says what the record has to include")
    else:
        records.append(spf_record(name, setup.addresses))
    records += [dkim_record(key) for key in domain.keys]
    if not domain.keys:
        missing.append(f"DKIM: the domain has no keys; `homing domain dkim rotate {name}` makes them")
    records.append(dmarc_record(name))
    records.append(tlsrpt_record(name))
    if setup.policy is not None:
        records.append(sts_record(name, setup.policy_record))
        if named:
            records.append(sts_host_record(name, host))
    else:
        missing.append("MTA-STS: no policy is served (sts.mode is off)")
    if not named:
        return Needed(tuple(records), tuple(missing))
    records += [address_record(host, one) for one in setup.addresses]
    records += [ptr_record(one, host) for one in setup.addresses]
    if not setup.addresses:
        missing.append(f"A, AAAA and PTR of {host}: its public addresses are not known; set doctor.addresses")
    if not setup.relay and host != name:
        records.append(helo_record(host))
    if setup.certificate is not None:
        records.append(tlsa_record(host, setup.certificate))
    else:
        missing.append(f"TLSA: {setup.no_certificate}")
    return Needed(tuple(records), tuple(missing))
