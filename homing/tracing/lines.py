"""The table of a trace: each event as a line that a person reads. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Final

from storage.model import Event

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class Names:
    """What ids in events stand for, as far as it is known: the addresses of accounts, the names of mailboxes."""

    accounts: Mapping[str, str] = field(default_factory=dict)
    mailboxes: Mapping[str, str] = field(default_factory=dict)

    def account(self, id: str | None) -> str:
        return "" if id is None else self.accounts.get(id, f"account {id}")

    def mailbox(self, id: str) -> str:
        return self.mailboxes.get(id, "a mailbox that is no longer there")


@dataclass(frozen=True, slots=True)
class Line:
    """One event. what: a few words; detail: the rest, "" for nothing."""

    at: float
    kind: str
    what: str
    detail: str


def when(at: float, zone: tzinfo = UTC) -> str:
    """A moment in words: "21 Nov 2026 07:42 UTC"."""
    moment = datetime.fromtimestamp(at, zone)
    return f"{moment.day} {_MONTHS[moment.month - 1]} {moment:%Y %H:%M} {moment.tzname() or ''}".rstrip()


def text(event: Event, name: str) -> str:
    """A field of the detail as text, "" where there is none."""
    value = event.detail.get(name)
    return "" if value is None or isinstance(value, bool) else str(value)


def number(event: Event, name: str) -> float:
    """A field of the detail as a number, 0 where there is none."""
    value = event.detail.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def attempted(event: Event) -> str:
    """What an attempt was answered: code, enhanced code and words."""
    code, enhanced, said = (text(event, name) for name in ("code", "enhanced", "text"))
    # A remote server's own words begin with its enhanced code, where it has given one.
    return " ".join(part for part in (code, "" if said.startswith(f"{enhanced} ") else enhanced, said) if part)


def lines(events: Sequence[Event], names: Names, zone: tzinfo = UTC) -> tuple[Line, ...]:
    """One for each event, in order of time."""
    return tuple(
        Line(event.at, event.kind, *_said(event, names, zone)) for event in sorted(events, key=lambda one: one.at)
    )


def octets(size: float) -> str:
    """A size in words."""
    for unit, word in ((1024 * 1024, "MiB"), (1024, "KiB")):
        if size >= unit:
            return f"{size / unit:.1f} {word}"
    return f"{size:.0f} octets"


def _said(event: Event, names: Names, zone: tzinfo) -> tuple[str, str]:
    address = text(event, "address")
    match event.kind:
        case "connect":
            return "connected", _joined(
                f"from {text(event, 'peer') or 'this machine'}",
                text(event, "listener"),
                text(event, "helo") and f"calls itself {text(event, 'helo')}",
                f"{text(event, 'tls')} {text(event, 'cipher')}".strip() or "no TLS",
                text(event, "auth") and f"signed in as {text(event, 'auth')}",
            )
        case "mail":
            size = number(event, "size")
            return "sender named", _joined(address or "<>", size and octets(size), text(event, "reply"))
        case "rcpt":
            return "recipient named", _joined(address, text(event, "reply"))
        case "data":
            return "message received", octets(number(event, "size"))
        case "stored":
            return "delivered", _joined(
                address, f"{names.mailbox(text(event, 'mailbox'))} of {names.account(event.account)}",
                f"uid {text(event, 'uid')}",
            )  # fmt: skip
        case "spooled":
            what = "put into the queue of tasks" if text(event, "queue") else "put into the queue"
            return what, _joined(address, text(event, "item"))
        case "task":
            what = {"success": "task done", "retry": "task put off", "failed": "task failed"}.get(
                text(event, "status"), "task"
            )
            return what, _joined(address, f"attempt {number(event, 'attempt'):.0f}", text(event, "text"))
        case "attempt":
            return _attempt(event, zone)
        case "unsettled":
            return "an attempt broke off", "its outcome is not known: the message may have been sent then"
        case "dsn":
            return "sender told", _joined(
                text(event, "action"), text(event, "to"), text(event, "about") and f"about {text(event, 'about')}",
                text(event, "trace") and f"trace {text(event, 'trace')}",
            )  # fmt: skip
        case "suppressed":
            return "sender not told", _joined(text(event, "about"), text(event, "why"))
        case "queue":
            return "queue changed", _joined(
                text(event, "action"),
                text(event, "route"),
                text(event, "by") and f"by {who(text(event, 'by'), names)}",
            )
        case "expired":
            return "given up", _joined(address, f"after {text(event, 'days')} days")
        case "refused":
            size = number(event, "size")
            return "refused", _joined(text(event, "reply"), size and octets(size))
        case "auth":
            return "sign-in refused", _joined(text(event, "name"), text(event, "mechanism"), text(event, "reply"))
        case "banned":
            until = number(event, "until")
            return "banned", _joined(text(event, "peer"), text(event, "reason"), until and f"until {when(until, zone)}")
        case "limited":
            return "limit reached", _joined(
                text(event, "by") and f"of the {text(event, 'by')}", text(event, "limit"), text(event, "reply")
            )
        case "read":
            return "fetched over IMAP", _joined(
                names.account(event.account), names.mailbox(text(event, "mailbox")), text(event, "client")
            )
    return event.kind, ", ".join(f"{key} {value}" for key, value in sorted(event.detail.items()) if value is not None)


def _attempt(event: Event, zone: tzinfo) -> tuple[str, str]:
    status, next_at = text(event, "status"), number(event, "next")
    what = {"sent": "sent", "deferred": "put off", "failed": "not accepted"}.get(status, status)
    many = number(event, "addresses")
    verified = text(event, "verified")
    return what, _joined(
        text(event, "address") or text(event, "domain"),
        many and f"and {many - 1:.0f} more",
        text(event, "remote"),
        text(event, "tls") + (f" verified by {verified}" if verified else ""),
        attempted(event),
        bool(event.detail.get("doubtful")) and "the reply was lost: it may have been taken",
        status == "deferred" and next_at and f"next attempt {when(next_at, zone)}",
    )


def who(actor: str, names: Names) -> str:
    """Who did something to the queue."""
    return "an administrator" if actor == "system" else names.account(actor)


def _joined(*parts: object) -> str:
    return ", ".join(str(part) for part in parts if part)
