"""The server's name and addresses as the internet sees them. Pure: values in, findings out."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cryptography import x509

from homing.doctor.finding import Finding, State, listed
from homing.doctor.records import address_record, ptr_record, tlsa_record
from homing.doctor.setup import Certificate, Setup, is_named, is_public, same_addresses
from runtime.dns import CAA, TLSA
from smtp.outbound import dane
from smtp.outbound.chain import matches, names_of

DAY = 86400.0
EXPIRES_WARN = 21 * DAY
"""Renewals are usually made a month before the end: one that has not come by then will not come by itself."""
EXPIRES_BAD = 3 * DAY


@dataclass(frozen=True, slots=True)
class HostFound:
    """Our hostname in the DNS. addresses: None where the name is not there. canonical: the name at the end of CNAMEs.
    authenticated: DNSSEC proves the addresses."""

    addresses: tuple[str, ...] | None
    canonical: str = ""
    authenticated: bool = False


def check_hostname(setup: Setup, found: HostFound | None) -> Finding:
    """Is it a name that others can believe? found: None where it was not asked for. # RFC 5321 §2.3.5, §4.1.4"""
    host = setup.hostname
    wanted = "a full name with an address in the DNS"

    def told(state: State, text: str, why: str = "") -> Finding:
        return Finding("hostname", host, state, text, wanted, (), why)

    if not is_named(host):
        why = "Set HOMING_HOSTNAME to the name that the server has on the internet, such as mx.example.org."
        return told(State.BAD, f"{host}, which no other server knows", why)
    if found is None or found.addresses is None:
        return told(State.BAD, "the name is not in the DNS", "Many refuse mail from a server whose name leads nowhere.")
    if found.canonical and found.canonical != host:
        # RFC 2181 §10.3
        return told(State.BAD, f"an alias (CNAME) of {found.canonical}", "MX records must not lead to an alias.")
    if not found.addresses:
        return told(State.BAD, "the name has no address", "Many refuse mail from a server whose name leads nowhere.")
    return told(State.OK, host)


def check_addresses(setup: Setup, found: HostFound) -> Finding:
    """A and AAAA beside the addresses that the server has."""
    host, have = setup.hostname, found.addresses or ()

    def told(state: State, paste: Sequence[str] = (), why: str = "") -> Finding:
        wanted = listed(setup.addresses, "the addresses of this server")
        lines = tuple(address_record(host, one).line() for one in paste)
        return Finding("address", host, state, listed(have, "no address"), wanted, lines, why)

    if not have:
        return told(State.BAD, setup.addresses, "Nobody finds the server.")
    local = [one for one in have if not is_public(one)]
    if local and not (setup.configured and set(local) <= set(setup.addresses)):
        return told(State.BAD, setup.addresses, f"The internet does not reach {listed(local)}.")
    if not setup.addresses:
        return told(
            State.OK, (), "This machine has no public address of its own, so they are not compared: doctor.addresses."
        )
    missing, others = same_addresses(have, setup.addresses)
    if missing and len(missing) == len(setup.addresses):
        why = "" if setup.configured else " Behind a NAT that may be right: set doctor.addresses."
        return told(State.BAD if setup.configured else State.WARN, missing, f"None of them is this server's.{why}")
    if others:
        return told(State.WARN, (), f"Some who come for {host} are led elsewhere: {listed(others)}.")
    if missing:
        return told(State.WARN, missing, "Mail may leave by an address that the name does not lead to.")
    return told(State.OK)


@dataclass(frozen=True, slots=True)
class PtrFound:
    """names: of the address; confirmed: those of them that lead back to it."""

    names: tuple[str, ...]
    confirmed: tuple[str, ...] = ()


def check_ptr(setup: Setup, address: str, found: PtrFound) -> Finding:
    """Has the address a name, that leads back to it? # RFC 1912 §2.1"""
    record = ptr_record(address, setup.hostname)

    def told(state: State, why: str = "") -> Finding:
        paste = () if state is State.OK else (record.line(),)
        return Finding("ptr", address, state, listed(found.names, "no name"), f"{setup.hostname}, and back", paste, why)

    if not found.names:
        return told(State.BAD, "Many refuse mail from an address without a name. Who gave you the address sets it.")
    if not found.confirmed:
        return told(State.BAD, f"{found.names[0]} does not lead back to {address}, so the name counts for nothing.")
    if setup.hostname not in found.confirmed:
        return told(State.WARN, f"The server calls itself {setup.hostname}; some want that to be the same name.")
    if len(found.names) > 1:
        return told(State.WARN, "One name for an address is what others expect.")
    return told(State.OK)


@dataclass(frozen=True, slots=True)
class ListFound:
    """The answer of a list (DNSBL) about one address. codes: 127.x addresses, () for not listed. reason: its words.
    alive: its test entry is listed, and the one that must not be is not."""

    codes: tuple[str, ...]
    reason: str = ""
    alive: bool = True


def check_listed(address: str, zone: str, found: ListFound) -> Finding:
    """Is the address on a list of those who send spam? # RFC 5782 §2.1, §5"""
    subject = f"{address} at {zone}"

    def told(state: State, text: str, why: str = "") -> Finding:
        return Finding("dnsbl", subject, state, text, "not listed", (), why)

    refused = [code for code in found.codes if code.startswith("127.255.255.")]
    if refused:
        return told(
            State.SKIPPED, f"the list refuses to answer ({listed(refused)})",
            "It does not answer large public resolvers, or one that asks too much: set dns.servers to one of your own.",
        )  # fmt: skip
    strange = [code for code in found.codes if not code.startswith("127.")]
    if strange:
        why = "The resolver invents answers for names that there are not: set dns.servers to one that does not."
        return told(State.SKIPPED, f"no answer of a list ({listed(strange)})", why)
    if not found.alive:
        why = "The list has ended, or does not answer this resolver. doctor.lists names the lists that are asked."
        return told(State.SKIPPED, "its test entry is not as it should be", why)
    if found.codes:
        reason = f": {found.reason}" if found.reason else ""
        return told(
            State.BAD, f"listed ({listed(found.codes)}){reason}",
            f"Others refuse mail from here. Find out why first (`homing queue list`), then ask {zone} to take it off.",
        )  # fmt: skip
    return told(State.OK, "not listed")


def check_certificate(setup: Setup, now: float) -> list[Finding]:
    """Dates, names, and whether others believe it."""
    host, found = setup.hostname, setup.certificate
    if found is None:
        return [Finding("certificate", host, State.SKIPPED, setup.no_certificate, "a certificate in force")]
    try:
        leaf = x509.load_der_x509_certificate(found.chain[0])
        names = names_of(leaf)
    except (ValueError, x509.UnsupportedGeneralNameType) as error:
        return [Finding("certificate", host, State.BAD, f"it cannot be read: {error}", "a certificate in force")]
    return [_check_dates(host, leaf, now), _check_names(host, names), _check_trust(host, found)]


def _check_dates(host: str, leaf: x509.Certificate, now: float) -> Finding:
    begin, end = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
    text = f"{_day(begin)} to {_day(end)}"
    wanted = f"in force, for {EXPIRES_WARN / DAY:.0f} days more"

    def told(state: State, why: str = "") -> Finding:
        return Finding("certificate", f"dates of {host}", state, text, wanted, (), why)

    if now < begin:
        return told(State.BAD, "It is not in force yet: or the clock of this machine is wrong.")
    if now >= end:
        return told(State.BAD, "It has expired. Renew it; the server takes up the new files by itself.")
    if now >= end - EXPIRES_BAD:
        return told(State.BAD, f"It expires in {(end - now) / DAY:.1f} days. Renew it now.")
    if now >= end - EXPIRES_WARN:
        return told(State.WARN, f"It expires in {(end - now) / DAY:.0f} days: has its renewal failed?")
    return told(State.OK)


def _check_names(host: str, names: Sequence[str]) -> Finding:
    good = any(matches(host, one) for one in names)
    why = "" if good else f"Who verifies (mail programs, MTA-STS) does not connect. Get one for {host}."
    return Finding(
        "certificate", f"names of {host}", State.OK if good else State.BAD, listed(names, "no name"), host, (), why
    )


def _check_trust(host: str, found: Certificate) -> Finding:
    wanted = "of an authority that others know"
    subject = f"issuer of {host}"
    if found.own:
        return Finding(
            "certificate", subject, State.WARN, "self-signed, made by this server", wanted, (),
            "Mail programs warn, and MTA-STS cannot be used. Set tls.cert and tls.key.",
        )  # fmt: skip
    if found.untrusted:
        why = "Mail programs warn, and MTA-STS cannot be used. Is the chain of its authority in tls.cert?"
        return Finding("certificate", subject, State.WARN, found.untrusted, wanted, (), why)
    return Finding("certificate", subject, State.OK, "believed by this machine's authorities", wanted)


def check_tlsa(setup: Setup, records: Sequence[TLSA], *, secure: bool, now: float) -> Finding:
    """Is what DANE says of port 25 true of our certificate? secure: the DNS proves the records, or would. # RFC 7672"""
    host = setup.hostname
    subject = f"_25._tcp.{host}"

    if setup.certificate is None:
        return Finding("tlsa", subject, State.SKIPPED, setup.no_certificate, "the key of the server")
    record = tlsa_record(host, setup.certificate)
    leaf = setup.certificate.chain[0]

    def told(state: State, text: str, why: str = "") -> Finding:
        paste = () if state is State.OK else (record.line(),)
        return Finding("tlsa", subject, state, text, record.data, paste, why)

    usable = dane.usable(records)
    text = listed(
        [f"{one.usage} {one.selector} {one.matching} {one.data.hex()}" for one in records], "no TLSA record", 3
    )
    if not records:
        if not secure:
            why = f"{host} is not in a zone that DNSSEC proves to this resolver; without that DANE says nothing."
            return replace(told(State.SKIPPED, text, why), paste=())
        return told(State.WARN, text, "The zone has DNSSEC: with this record others send by verified TLS alone.")
    good = [
        one
        for one in usable
        if (one.usage == dane.Usage.DANE_EE and dane.matches(one, leaf))
        or (one.usage == dane.Usage.DANE_TA and any(dane.matches(one, above) for above in setup.certificate.chain[1:]))
    ]
    if not good:
        state = State.BAD if secure else State.WARN
        told_of = "Who uses DANE does not send here." if secure else "It would keep mail out, were the zone signed."
        return told(state, text, f"None of them is of the certificate in use. {told_of}")
    if not secure:
        return replace(told(State.WARN, text, "Without DNSSEC nobody believes the record."), paste=())
    return _check_rollover(told(State.OK, text), good, usable, leaf, now)


def _check_rollover(finding: Finding, good: Sequence[TLSA], usable: Sequence[TLSA], leaf: bytes, now: float) -> Finding:
    """Warns before a renewal that the records do not outlive. # RFC 7671 §8.1"""
    if any(one.usage == dane.Usage.DANE_TA for one in good):
        return finding
    if all(one.selector == 0 for one in good):
        why = "3 0 1 is of this very certificate, and ends with each renewal; 3 1 1 is of its key."
        return replace(finding, state=State.WARN, why=why)
    end = x509.load_der_x509_certificate(leaf).not_valid_after_utc.timestamp()
    if end - now < EXPIRES_WARN and len(usable) == len(good):
        why = (
            f"The certificate is renewed before {_day(end)}. Keep its key, or publish the record of the next key at"
            " least two TTLs before it is used."
        )
        return replace(finding, state=State.WARN, why=why)
    return finding


def check_dane(*, enabled: bool, servers: Sequence[str], trusted: Sequence[str], proved: bool | None) -> Finding:
    """Can DANE be used for mail on its way out? servers: the resolvers; trusted: those of them whose AD bit is
    believed. proved: did a signed name come back as proved, None where that could not be asked."""

    def told(state: State, text: str, why: str = "") -> Finding:
        wanted = "a resolver that validates, and that is trusted"
        return Finding("dane", "mail on its way out", state, text, wanted, (), why)

    if not enabled:
        return told(State.SKIPPED, "switched off (outbound.dane)")
    if not trusted:
        return told(
            State.WARN, f"inactive: none of the resolvers ({listed(servers)}) is trusted",
            "TLSA records of others are not looked at. Run a validating resolver on this machine, and name it in"
            " dns.servers; or name yours in dns.trusted if nobody else can write to the network between.",
        )  # fmt: skip
    if proved is None:
        return told(State.SKIPPED, "a signed name could not be asked for")
    if not proved:
        return told(
            State.WARN, f"inactive: {listed(trusted)} does not set the AD bit",
            "TLSA records of others are not looked at. Switch DNSSEC validation on in that resolver.",
        )  # fmt: skip
    return told(State.OK, f"active by {listed(trusted)}")


def check_caa(host: str, where: str, records: Sequence[CAA], issuer: str) -> Finding:
    """Which authorities may issue for the name. where: the name that has the records. issuer: of the certificate in
    use, "" where that is nobody's but ours. # RFC 8659 §3"""
    issue = [one.value.strip() for one in records if one.tag.lower() == "issue"]
    wanted = "the authority of the certificate, or none"
    if not records:
        return Finding("caa", host, State.OK, "none: any authority may issue", wanted)
    text = f"{listed([f'{one.tag} {one.value}' for one in records])} (at {where})"
    if issue and all(one.split(";")[0].strip() == "" for one in issue) and issuer:
        why = f"No authority may issue for {host}: the next renewal of the certificate by {issuer} will fail."
        return Finding("caa", host, State.WARN, text, wanted, (), why)
    why = f"The certificate in use is by {issuer}." if issuer else ""
    return Finding("caa", host, State.OK, text, wanted, (), why)


def issuer_of(found: Certificate | None) -> str:
    """The organization that has issued it; "" for one of our own, or one that cannot be read."""
    if found is None or found.own:
        return ""
    try:
        issuer = x509.load_der_x509_certificate(found.chain[0]).issuer
    except ValueError:
        return ""
    names: Mapping[x509.ObjectIdentifier, str] = {one.oid: str(one.value) for one in issuer}
    return names.get(x509.NameOID.ORGANIZATION_NAME) or names.get(x509.NameOID.COMMON_NAME) or "an unnamed authority"


def _day(when: float) -> str:
    return datetime.datetime.fromtimestamp(when, datetime.UTC).strftime("%Y-%m-%d")
