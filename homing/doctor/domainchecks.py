"""What a domain publishes about its mail, beside what it should. Pure: values in, findings out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from homing.doctor.finding import Finding, State, listed
from homing.doctor.records import (
    dkim_record,
    dmarc_record,
    helo_record,
    mx_record,
    spf_record,
    sts_record,
    tlsrpt_record,
)
from homing.doctor.setup import OurDomain, Setup
from homing.doctor.spf import BadSpf, SpfResult, Verdict, parse, spf_texts, with_addresses
from identity.model import DkimKey, DkimState
from mail.dnsrecords import dkim_name, same_dkim_key, sts_host, sts_id, tags, tlsrpt_places
from runtime.dns import MX
from smtp.outbound.mtasts import Mode, Policy


@dataclass(frozen=True, slots=True)
class MxFound:
    """records: None where the domain is not in the DNS. addresses: of each host, as far as they could be had. own: the
    addresses of our hostname in the DNS. implicit: addresses of the domain itself."""

    records: tuple[MX, ...] | None
    addresses: Mapping[str, tuple[str, ...]]
    own: tuple[str, ...] = ()
    implicit: tuple[str, ...] = ()


def check_mx(setup: Setup, domain: str, found: MxFound) -> Finding:
    """Does mail for the domain come here? # RFC 5321 §5.1"""
    record = mx_record(domain, setup.hostname)
    wanted, paste = f"{setup.hostname}", (record.line(),)

    def told(state: State, text: str, why: str) -> Finding:
        return Finding("mx", domain, state, text, wanted, () if state is State.OK else paste, why)

    if found.records is None:
        return told(State.BAD, "the domain is not in the DNS", "Nobody can write to it. Register it, or mend its zone.")
    text = listed([f"{one.preference} {one.host}" for one in found.records], "no MX record")
    if not found.records:
        ours = {*found.own, *setup.addresses}
        if ours & set(found.implicit):
            return told(
                State.WARN,
                text,
                "Mail comes by the domain's own address (RFC 5321 §5.1). Say so by a record of its own.",
            )
        return told(State.BAD, text, "Mail of others does not come here.")
    if any(one.host == "." for one in found.records):
        # RFC 7505 §3
        return told(State.BAD, text, "A null MX says that the domain takes no mail.")
    if any(one.host == setup.hostname for one in found.records):
        first = found.records[0].host == setup.hostname
        others = "" if first else "Others come first: this server gets mail when they cannot."
        return told(State.OK, text, others)
    ours = {*found.own, *setup.addresses}
    led = [one.host for one in found.records if ours & set(found.addresses.get(one.host, ()))]
    if led:
        return told(
            State.WARN,
            text,
            f"{led[0]} leads here, and is not the name that this server gives itself and has a certificate for. Name it"
            f" {setup.hostname} in the record, or set HOMING_HOSTNAME={led[0]}.",
        )
    return told(State.BAD, text, "Mail of others goes elsewhere.")


def check_spf(setup: Setup, domain: str, texts: Sequence[str], verdicts: Mapping[str, Verdict]) -> Finding:
    """May this server send in the domain's name? verdicts: by public address, () where none is known."""
    found = spf_texts(texts)
    suggested = spf_record(domain, setup.addresses)
    wanted = "lets the relay send" if setup.relay else f"lets {listed(setup.addresses, 'this server')} send"

    def told(state: State, text: str, why: str, paste: str | None = None) -> Finding:
        lines = () if paste is None else (type(suggested)(domain, "TXT", paste).line(),)
        return Finding("spf", domain, state, text, wanted, lines, why)

    if not found:
        if setup.relay:
            return told(State.WARN, "no SPF record", f"Ask the operator of {setup.relay} what it has to include.")
        return told(State.BAD, "no SPF record", "Others refuse mail, or file it as spam.", suggested.data)
    if len(found) > 1:
        # RFC 7208 §4.5
        return told(
            State.BAD,
            listed([repr(one) for one in found]),
            "Several records count as an error, which is worse than none: make one of them.",
            suggested.data if not setup.relay else None,
        )
    (text,) = found
    try:
        record = parse(text)
    except BadSpf as error:
        return told(State.BAD, text, f"The record is wrong: {error}.", None if setup.relay else suggested.data)
    broken = next((one for one in verdicts.values() if one.result is SpfResult.PERMERROR), None)
    if broken is not None:
        return told(State.BAD, text, f"The record is wrong: {broken.why}.", None if setup.relay else suggested.data)
    unknown = next((one for one in verdicts.values() if one.result is SpfResult.TEMPERROR), None)
    lacking = [] if setup.relay else [
        address for address, one in verdicts.items() if one.result not in (SpfResult.PASS, SpfResult.TEMPERROR)
    ]  # fmt: skip
    if lacking:
        results = listed([f"{address}: {verdicts[address].result.value}" for address in lacking])
        macros = {term for one in verdicts.values() for term in one.passed_over}
        said = f" Terms with macros were not looked at: {listed(sorted(macros))}." if macros else ""
        return told(
            State.BAD, text, f"It does not let this server send ({results}).{said}", with_addresses(text, lacking)
        )
    if unknown is not None:
        return told(State.SKIPPED, text, f"What it comes to cannot be known now: {unknown.why}.")
    return _check_spf_end(told(State.OK, text, ""), record.default, bool(verdicts), setup)


def _check_spf_end(finding: Finding, default: SpfResult | None, judged: bool, setup: Setup) -> Finding:
    """What is left to say of a record that is right."""
    why, state = "", State.OK
    if default is SpfResult.PASS:
        state, why = State.WARN, "It ends with +all: everybody may send in the domain's name. End it with -all."
    elif default is SpfResult.NEUTRAL:
        state, why = State.WARN, "It says nothing of others, so it keeps nobody out. End it with -all, or ~all."
    elif setup.relay:
        why = f"Mail leaves by {setup.relay}: whether the record lets it send is not looked at."
    elif not judged:
        state, why = State.WARN, "Whether it lets this server send is not known: set doctor.addresses."
    return Finding(finding.check, finding.subject, state, finding.found, finding.wanted, (), why)


def check_helo(setup: Setup, texts: Sequence[str], verdicts: Mapping[str, Verdict]) -> Finding:
    """May the server send in its own name, which counts for notices? # RFC 7208 §2.3"""
    if spf_texts(texts):
        return replace(check_spf(setup, setup.hostname, texts, verdicts), check="helo")
    why = "Notices about undelivered mail have no sender: there others look for the record of the server's name."
    paste = (helo_record(setup.hostname).line(),)
    return Finding("helo", setup.hostname, State.WARN, "no SPF record", "lets the server send", paste, why)


def check_dkim_none(domain: OurDomain) -> Finding:
    """Of a domain without keys."""
    return Finding(
        "dkim", domain.name, State.BAD, "no keys", "mail is signed", (f"homing domain dkim rotate {domain.name}",),
        "Its mail goes unsigned: others file it as spam, and DMARC rests on SPF alone.",
    )  # fmt: skip


def check_dkim(key: DkimKey, texts: Sequence[str]) -> Finding:
    """Is the record of a key there, and is it this key's?"""
    record = dkim_record(key)
    subject = dkim_name(key.selector, key.domain)
    wanted = f"the {key.algorithm.value} key that {_key_does(key)}"

    def told(state: State, text: str, why: str = "") -> Finding:
        paste = () if state is State.OK else (record.line(),)
        return Finding("dkim", subject, state, text, wanted, paste, why)

    bad = State.BAD if key.state is DkimState.ACTIVE else State.WARN
    meant = {
        DkimState.ACTIVE: "It signs mail, and others find the signatures wrong.",
        DkimState.PUBLISHED: "It does not sign before its record is there.",
        DkimState.RETIRED: "Mail on its way that it has signed cannot be checked any more.",
    }[key.state]
    if not texts:
        return told(bad, "no record", meant)
    if len(texts) > 1:
        # RFC 6376 §3.6.2.2
        return told(bad, f"{len(texts)} records", f"More than one is an error. {meant}")
    text = texts[0]
    if not same_dkim_key(text, key.public_key):
        found = tags(text)
        if found.get("v", "DKIM1") == "DKIM1" and "p" in found and not found["p"]:
            return told(bad, "a record that revokes the key (p=)", meant)
        return told(bad, f"another key: {_short(text)}", f"Often cut or changed on its way into the zone. {meant}")
    kind = tags(text).get("k", "rsa")
    if kind != key.algorithm.value:
        return told(bad, f"the key, as one of the kind {kind}", meant)
    if "y" in tags(text).get("t", "").split(":"):
        # RFC 6376 §3.6.1
        return told(State.WARN, "the key, marked as a test (t=y)", "Others may treat its mail as unsigned.")
    return told(State.OK, "the key")


def _key_does(key: DkimKey) -> str:
    return {
        DkimState.ACTIVE: "signs",
        DkimState.PUBLISHED: "signs next",
        DkimState.RETIRED: "signed before",
    }[key.state]


_POLICIES = ("none", "quarantine", "reject")


def check_dmarc(domain: str, texts: Sequence[str], above: str = "", above_texts: Sequence[str] = ()) -> Finding:
    """above: the domain whose record holds where this one has none, with its records. # RFC 7489 §6.3, §6.6.3"""
    record = dmarc_record(domain)
    own = _dmarc_records(texts)
    inherited = not own and bool(_dmarc_records(above_texts))
    found = own or _dmarc_records(above_texts)
    of = f" (of {above})" if inherited else ""

    def told(state: State, text: str, why: str = "") -> Finding:
        paste = (record.line(),) if state in (State.BAD, State.WARN) else ()
        return Finding("dmarc", domain, state, text + of, "one record with a policy", paste, why)

    if not found:
        return told(State.WARN, "no DMARC record", "Large providers want one, and anybody can write in its name.")
    if len(found) > 1:
        return told(State.BAD, f"{len(found)} records", "Several count as none.")
    text = found[0]
    values = tags(text)
    policy = values.get("sp", values.get("p", "")) if inherited else values.get("p", "")
    if policy.lower() not in _POLICIES:
        return told(State.BAD, text, f"Its policy is none of {', '.join(_POLICIES)}: others pass the record over.")
    for name in ("rua", "ruf"):
        for place in (one.strip() for one in values.get(name, "").split(",") if one.strip()):
            if re.fullmatch(r"mailto:[^\s@,]+@[^\s@,]+", place, re.IGNORECASE) is None:
                return told(State.BAD, text, f"{name}= has {place!r}, which is no mailto: address.")
    if (percent := values.get("pct", "100")) != "100":
        return told(State.WARN, text, f"It holds for {percent} of 100 messages alone (pct=): leave that out.")
    if policy.lower() == "none":
        return told(
            State.OK, text, "p=none asks others for nothing: right at first; p=quarantine once the reports are good."
        )
    return told(State.OK, text)


def has_dmarc(texts: Sequence[str]) -> bool:
    """Is there a DMARC record among these?"""
    return bool(_dmarc_records(texts))


def _dmarc_records(texts: Sequence[str]) -> list[str]:
    return [text for text in texts if re.match(r"v=DMARC1[ \t]*(;|$)", text)]


@dataclass(frozen=True, slots=True)
class StsFound:
    """What an MTA-STS look at a domain of ours has seen. texts: of its TXT record. policy: as it was fetched; None with
    the reason why not in ``failure``. mx: hosts of its MX records."""

    texts: tuple[str, ...]
    policy: Policy | None = None
    failure: str = ""
    mx: tuple[str, ...] = ()


def check_sts(setup: Setup, domain: str, found: StsFound) -> Finding:
    """Is our policy there, and the record that leads to it? # RFC 8461 §3"""
    id = sts_id(found.texts)
    text = listed(found.texts, "no MTA-STS record")
    policy = setup.policy

    def told(state: State, text: str, wanted: str, why: str = "", paste: tuple[str, ...] = ()) -> Finding:
        return Finding("mta-sts", domain, state, text, wanted, paste, why)

    if policy is None:
        if id is None:
            return told(State.SKIPPED, text, "nothing: sts.mode is off", "Others send with TLS that nobody verifies.")
        return told(
            State.WARN, text, "no record: sts.mode is off",
            "The record promises a policy, and this server does not serve it. Take it away, or set sts.mode.",
        )  # fmt: skip
    wanted = f"mode {policy.mode.value} for {listed(policy.mx, 'no host')}"
    paste = (sts_record(domain, setup.policy_record).line(),)
    if id is None:
        return told(State.BAD, text, wanted, "Others do not look for the policy.", paste)
    if found.policy is None:
        return told(
            State.BAD,
            f"the record, and no policy: {found.failure}",
            wanted,
            f"https://{sts_host(domain)}/.well-known/mta-sts.txt has to lead to the REST port of this server, with a"
            " certificate for that name.",
        )
    if found.policy != policy:
        shown = f"mode {found.policy.mode.value} for {listed(found.policy.mx, 'no host')}"
        return told(State.BAD, shown, wanted, "What is served there is not what the settings of this server say.")
    outside = [host for host in found.mx if not policy.allows(host)]
    if outside and policy.mode is not Mode.NONE:
        state = State.BAD if policy.mode is Mode.ENFORCE else State.WARN
        why = "Who keeps to the policy does not send to these. Name them in sts.mx, or mend the MX records."
        return told(state, f"MX hosts that the policy does not name: {listed(outside)}", wanted, why)
    if id != sts_id((setup.policy_record,)):
        return told(
            State.WARN, text, wanted, "The policy has changed since: with the old id others keep the old one.", paste
        )
    return told(State.OK, f"mode {found.policy.mode.value} for {listed(found.policy.mx, 'no host')}", wanted)


def check_tlsrpt(domain: str, texts: Sequence[str]) -> Finding:
    """Does anybody hear of trouble with TLS? # RFC 8460 §3"""
    places = tlsrpt_places(texts)
    paste = (tlsrpt_record(domain).line(),)
    wanted = "an address for reports"
    if places:
        return Finding("tls-rpt", domain, State.OK, listed(places), wanted)
    if any(text.startswith("v=TLSRPTv1") for text in texts):
        why = "The record cannot be used: one record, with rua= of mailto: or https:."
        return Finding("tls-rpt", domain, State.WARN, listed(list(texts)), wanted, paste, why)
    why = "Nobody tells you when others cannot send by TLS."
    return Finding("tls-rpt", domain, State.WARN, "no TLS-RPT record", wanted, paste, why)


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
