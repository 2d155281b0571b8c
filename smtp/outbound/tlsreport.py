"""The text of a TLS report (RFC 8460 §4.4), and the message that brings it (§5.3). Pure."""

from __future__ import annotations

import base64
import datetime
import gzip
import json
from dataclasses import dataclass
from typing import Any, Final

from mail import compose, dates
from smtp.outbound.tlstally import DAY, Counts

MEDIA_TYPE: Final = "application/tlsrpt+gzip"
_LINE: Final = 76


@dataclass(frozen=True, slots=True)
class About:
    """domain: of which it tells; day: of UTC, days since 1970. organization, contact: who sends it. submitter: our own
    domain. id: of the report, without blanks."""

    domain: str
    day: int
    organization: str
    contact: str
    submitter: str
    id: str


def report(about: About, counts: Counts) -> bytes:
    """The report as gzipped JSON. # RFC 8460 §4.4"""
    begin = datetime.datetime.fromtimestamp(about.day * DAY, datetime.UTC)
    end = begin + datetime.timedelta(seconds=DAY - 1)
    policies: list[dict[str, Any]] = []
    for (kind, lines, patterns), count in sorted(counts.items()):
        policy: dict[str, Any] = {"policy-type": kind, "policy-domain": about.domain}
        if lines:
            policy["policy-string"] = list(lines)
        if patterns:
            policy["mx-host"] = list(patterns)
        one: dict[str, Any] = {
            "policy": policy,
            "summary": {"total-successful-session-count": count.good, "total-failure-session-count": count.bad},
        }
        if count.failures:
            one["failure-details"] = [
                {
                    "result-type": result,
                    **({"receiving-mx-hostname": host} if host else {}),
                    **({"receiving-ip": address} if address else {}),
                    "failed-session-count": sessions,
                    **({"failure-reason-code": detail} if detail else {}),
                }
                for (result, host, address, detail), sessions in sorted(count.failures.items())
            ]
        policies.append(one)
    value = {
        "organization-name": about.organization,
        "date-range": {"start-datetime": _stamp(begin), "end-datetime": _stamp(end)},
        "contact-info": about.contact,
        "report-id": about.id,
        "policies": policies,
    }
    # Without a time of its own, so that the same counts are the same octets.
    return gzip.compress(json.dumps(value, ensure_ascii=False).encode(), mtime=0)


def _stamp(moment: datetime.datetime) -> str:
    # RFC 3339
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def file_name(about: About) -> str:
    """# RFC 8460 §5.1"""
    begin = about.day * DAY
    return f"{about.submitter}!{about.domain}!{begin}!{begin + DAY - 1}!{about.id}.json.gz"


def message(about: About, to: str, body: bytes, now: int) -> bytes:
    """The message, complete; body: the gzipped report. AddressError for an address that is none. # RFC 8460 §5.3"""
    boundary = f"=_{about.id}"
    encoded = base64.b64encode(body).decode("ascii")
    lines = [encoded[at : at + _LINE] for at in range(0, len(encoded), _LINE)]
    text = (
        f"This is a report about TLS of mail from {about.submitter} to {about.domain}\r\n"
        f"on {datetime.datetime.fromtimestamp(about.day * DAY, datetime.UTC):%Y-%m-%d} (UTC), as the domain's record"
        " asks for (RFC 8460).\r\n"
    )
    head = [
        compose.field("From", about.contact),
        compose.field("To", to),
        # RFC 8460 §5.3
        compose.field("Subject", f"Report Domain: {about.domain} Submitter: {about.submitter} Report-ID: <{about.id}>"),
        f"Date: {dates.format_header(now)}\r\n",
        f"Message-ID: <{compose.new_message_id(about.id, about.submitter)}>\r\n",
        f"TLS-Report-Domain: {about.domain}\r\n",
        f"TLS-Report-Submitter: {about.submitter}\r\n",
        # RFC 8460 §3: it goes whatever is wrong with the TLS that it tells of. RFC 8689 §5
        "TLS-Required: No\r\n",
        # RFC 3834 §5
        "Auto-Submitted: auto-generated\r\n",
        "MIME-Version: 1.0\r\n",
        f'Content-Type: multipart/report; report-type="tlsrpt";\r\n boundary="{boundary}"\r\n',
        "\r\n",
        f"--{boundary}\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n{text}",
        f"\r\n--{boundary}\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Transfer-Encoding: base64\r\n",
        f'Content-Disposition: attachment;\r\n filename="{file_name(about)}"\r\n\r\n',
        "\r\n".join(lines),
        f"\r\n--{boundary}--\r\n",
    ]
    return "".join(head).encode("utf-8")
