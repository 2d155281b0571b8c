"""Write docs/config.md (from the settings) and docs/rfc.md (from the citations in the code, and from docs/rfc9051.toml)
again.

python docs/generate.py            write both
python docs/generate.py --check    exit 1 when one is out of date
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from pathlib import Path

import rfc9051

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("connectors", "homing", "identity", "imap", "mail", "runtime", "smtp", "storage")
CITATION = re.compile(r"RFC (\d{3,5})(?: §+ ?([0-9A-Z]+(?:\.[0-9A-Z]+)*))?")
TOLERANCE = re.compile(r"#.*\bTolerance: (.+)")

TITLES = {
    "1870": "SMTP SIZE", "2033": "LMTP", "2034": "SMTP enhanced error codes", "2045": "MIME bodies",
    "2046": "MIME media types", "2047": "MIME encoded words", "2049": "MIME conformance", "2087": "IMAP QUOTA",
    "2177": "IMAP IDLE", "2180": "IMAP multi-accessed mailboxes", "2183": "Content-Disposition", "2195": "CRAM-MD5",
    "2231": "MIME parameter values", "2342": "IMAP NAMESPACE", "2683": "IMAP implementation recommendations",
    "2822": "Internet message format (2001)", "2852": "Deliver by", "2920": "SMTP PIPELINING", "2971": "IMAP ID",
    "3030": "SMTP CHUNKING", "3207": "SMTP STARTTLS", "3348": "IMAP CHILDREN", "3461": "SMTP DSN",
    "3463": "Enhanced status codes", "3501": "IMAP4rev1", "3502": "IMAP MULTIAPPEND", "3516": "IMAP BINARY",
    "3691": "IMAP UNSELECT", "3848": "ESMTP transmission types", "4315": "IMAP UIDPLUS",
    "4466": "Collected IMAP extensions", "4549": "Disconnected IMAP clients", "4616": "SASL PLAIN",
    "4731": "IMAP ESEARCH", "4790": "Collation registry", "4954": "SMTP AUTH", "4959": "IMAP SASL-IR",
    "5051": "i;unicode-casemap", "5161": "IMAP ENABLE", "5198": "Net-Unicode", "5255": "IMAP I18NLEVEL",
    "5256": "IMAP SORT and THREAD", "5258": "IMAP LIST-EXTENDED", "5321": "SMTP", "5322": "Internet message format",
    "5530": "IMAP response codes", "5890": "IDNA definitions", "5957": "IMAP SORT=DISPLAY", "6152": "SMTP 8BITMIME",
    "6154": "IMAP SPECIAL-USE", "6203": "IMAP SEARCH=FUZZY", "6409": "Message submission", "6531": "SMTPUTF8",
    "6532": "Internationalised headers", "9585": "IMAP INPROGRESS",
    "6749": "OAuth 2.0", "6750": "OAuth 2.0 bearer tokens", "6851": "IMAP MOVE", "6855": "IMAP UTF8",
    "7162": "IMAP CONDSTORE and QRESYNC", "7504": "SMTP 521 and 556", "7888": "IMAP LITERAL+ and LITERAL-",
    "8314": "TLS for submission and access", "8474": "IMAP OBJECTID", "8514": "IMAP SAVEDATE", "8601":
    "Authentication-Results", "8970": "IMAP PREVIEW", "9051": "IMAP4rev2", "9106": "Argon2",
    "4865": "SMTP FUTURERELEASE",
    "8689": "SMTP REQUIRETLS",
    "9422": "SMTP LIMITS",
    "4013": "SASLprep", "4422": "SASL", "5801": "GS2 mechanisms", "5802": "SCRAM", "5929": "TLS channel bindings",
    "7628": "OAUTHBEARER", "7677": "SCRAM-SHA-256", "9266": "tls-exporter",
    "3339": "Date and time on the internet",
    "1035": "DNS", "1047": "Duplicate messages and SMTP", "1951": "DEFLATE", "2181": "Clarifications to the DNS",
    "2308": "DNS negative caching", "3462": "multipart/report (2003)", "3464": "Delivery status notifications",
    "3596": "DNS AAAA", "3834": "Automatic responses", "4035": "DNSSEC protocol", "5280": "X.509 certificates",
    "5248": "Registry of enhanced status codes", "5782": "DNS lists", "6125": "Service identity in TLS (2011)",
    "6376": "DKIM", "6522": "multipart/report", "6533": "Internationalised delivery status", "6698": "DANE TLSA",
    "6840": "Clarifications to DNSSEC", "6890": "Special-purpose addresses", "6891": "EDNS(0)", "7208": "SPF",
    "7218": "Names for TLSA parameters", "7435": "Opportunistic security", "7489": "DMARC", "7505": "Null MX",
    "7671": "DANE operation", "7672": "DANE for SMTP", "7766": "DNS over TCP", "8301": "DKIM algorithms",
    "8305": "Happy Eyeballs", "8446": "TLS 1.3", "8460": "TLS reporting", "8461": "MTA-STS", "8463": "DKIM Ed25519",
    "8659": "CAA", "8996": "TLS 1.0 and 1.1 deprecated", "9110": "HTTP", "9208": "IMAP QUOTA", "9394": "IMAP PARTIAL",
    "9525": "Service identity in TLS", "4551": "IMAP CONDSTORE (2006)", "4978": "IMAP COMPRESS", "5032": "IMAP WITHIN",
    "5182": "IMAP SEARCHRES", "5267": "IMAP CONTEXT", "5819": "IMAP LIST-STATUS", "8438": "IMAP STATUS=SIZE",
    "7889": "IMAP APPENDLIMIT", "4155": "mbox", "4648": "Base encodings", "5233": "Subaddressing",
    "8615": "Well-known URIs", "3282": "Content-Language", "2978": "Charset registration",
    "1912": "Common DNS errors",
    "2192": "IMAP URLs (1997)", "4469": "IMAP CATENATE", "5092": "IMAP URLs", "8508": "IMAP REPLACE",
    "9586": "IMAP UIDONLY", "9738": "IMAP MESSAGELIMIT",
}  # fmt: skip


def section_key(section: str) -> list[tuple[int, str]]:
    return [(int(x), "") if x.isdigit() else (10**6, x) for x in section.split(".")] if section else []


def rfc_page() -> str:
    cited: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    tolerances: list[tuple[str, str]] = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            for line in path.read_text("utf-8").splitlines():
                for number, section in CITATION.findall(line):
                    places = cited[number][section]
                    if name not in places:
                        places.append(name)
                if found := TOLERANCE.search(line):
                    tolerances.append((name, found.group(1).strip()))
    count = sum(len(sections) for sections in cited.values())
    requirements = rfc9051.read(ROOT / "docs" / "rfc9051.toml")
    out = [
        "# Where the code obeys which RFC",
        "",
        f"Made by `python docs/generate.py` from the citations in the code: {len(cited)} RFCs, {count} sections.",
        "",
        rfc9051.counts(requirements),
        "",
    ]
    for number in sorted(cited, key=int):
        title = TITLES.get(number)
        out += [f"## RFC {number}" + (f": {title}" if title else ""), ""]
        for section in sorted(cited[number], key=section_key):
            label = f"§{section}" if section else "as a whole"
            out.append(f"- {label}: " + ", ".join(f"`{place}`" for place in cited[number][section]))
        out.append("")
    out += ["## Named tolerances", "", "Where the code bends for a peer that does not obey.", ""]
    out += [f"- `{name}`: {text}" for name, text in tolerances]
    out += ["", *rfc9051.page(requirements)]
    return "\n".join(out).rstrip() + "\n"


def config_page() -> str:
    sys.path.insert(0, str(ROOT))
    from homing.settings import Settings
    from runtime.config import manual

    return manual(Settings, "HOMING")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--check", action="store_true", help="write nothing; exit 1 when a page is out of date")
    args = options.parse_args()
    stale = []
    for name, text in (("config.md", config_page()), ("rfc.md", rfc_page())):
        path = ROOT / "docs" / name
        if path.exists() and path.read_text("utf-8") == text:
            continue
        stale.append(name)
        if not args.check:
            path.write_text(text, "utf-8")
    if args.check and stale:
        print(f"out of date: {', '.join(stale)}; run: python docs/generate.py")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
