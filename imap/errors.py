"""What a client is told when a command cannot be done: from the ports' errors to response codes (RFC 5530)."""

from __future__ import annotations

from dataclasses import dataclass

import identity.port
import storage.port
from imap.wire.errors import BadSyntax
from imap.wire.writer import Condition


class No(Exception):
    """A command's own refusal: NO with a response code (without brackets) and a sentence."""

    def __init__(self, text: str, code: str | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


class Bad(No):
    """As No, but BAD: the client may not say this here."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The tagged line that ends a command which was not done."""

    condition: Condition
    text: str
    code: str | None


_Storage = storage.port.Reason
_Identity = identity.port.Reason

STORAGE: dict[storage.port.Reason, str] = {
    _Storage.NO_SUCH_ACCOUNT: "CONTACTADMIN",
    _Storage.NO_SUCH_MAILBOX: "NONEXISTENT",
    _Storage.NO_SUCH_MESSAGE: "EXPUNGEISSUED",
    # a staged body that was swept before its command ended: the client may send it again
    _Storage.NO_SUCH_BLOB: "UNAVAILABLE",
    # no command of IMAP asks for one
    _Storage.NO_SUCH_ITEM: "CANNOT",
    _Storage.ALREADY_EXISTS: "ALREADYEXISTS",
    _Storage.BAD_NAME: "CANNOT",
    _Storage.CANNOT: "CANNOT",
    _Storage.NO_PERMISSION: "NOPERM",
    # RFC 9208 §4.3 names it as RFC 5530 §3 does
    _Storage.OVER_QUOTA: "OVERQUOTA",
    _Storage.LIMIT: "LIMIT",
    _Storage.TOO_BIG: "TOOBIG",
    # RFC 3516 §4.3
    _Storage.UNKNOWN_CTE: "UNKNOWN-CTE",
}

IDENTITY: dict[identity.port.Reason, str] = {
    # RFC 5530 §3: the same for an unknown name and a wrong password
    _Identity.BAD_CREDENTIALS: "AUTHENTICATIONFAILED",
    _Identity.SLOW_DOWN: "UNAVAILABLE",
    _Identity.DISABLED: "CONTACTADMIN",
}


def refusal(error: Exception) -> Refusal | None:
    """What to say for an error; None for one that nobody foresaw: a bug, told as NO [SERVERBUG] by `SERVERBUG`."""
    match error:
        case BadSyntax():
            return Refusal(error.condition, error.text, error.code)
        case Bad():
            return Refusal("BAD", error.text, error.code)
        case No():
            return Refusal("NO", error.text, error.code)
        case storage.port.Refused():
            return Refusal("NO", _sentence(error.text), STORAGE[error.reason])
        case identity.port.Refused():
            text = _sentence(error.text)
            if error.retry_after is not None:
                text += f"; try again in {max(1, round(error.retry_after))} seconds"
            return Refusal("NO", text, IDENTITY.get(error.reason, "CANNOT"))
        case storage.port.Unavailable() | identity.port.Unavailable():
            return Refusal("NO", "Cannot be done now, try again later", "UNAVAILABLE")
        case _:
            return None


SERVERBUG = Refusal("NO", "Something went wrong here; it has been logged", "SERVERBUG")


def try_create(error: storage.port.Refused) -> Exception:
    """The error of a command whose target is a mailbox: one that is not there can be made (RFC 3501 §7.1)."""
    if error.reason is _Storage.NO_SUCH_MAILBOX:
        return No("There is no mailbox of that name", "TRYCREATE")
    return error


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].removesuffix(".")
