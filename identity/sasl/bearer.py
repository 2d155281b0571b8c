"""OAUTHBEARER (RFC 7628) and XOAUTH2 (Google's earlier form of it): a bearer token instead of a password."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod

from identity.sasl import gs2
from identity.sasl.outcomes import MAX_NAME_OCTETS, Challenge, CheckToken, Done, Failed, Fault, Outcome, text

# RFC 6750 §2.1: b64token. RFC 9110 §11.1: the scheme's name is of any case.
_BEARER = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*) *")
# RFC 7628 §3.1: keys are letters, values are what is printed.
_PAIR = re.compile(rb"([A-Za-z]+)=([\t\r\n -~]*)")
_SEPARATOR = b"\x01"


class _Bearer(ABC):
    """What both have in common; they differ in the message and in how an error is told."""

    client_first = True
    error: bytes

    def __init__(self) -> None:
        self._refused = False

    @abstractmethod
    def parse(self, message: bytes) -> tuple[str, bytes] | None:
        """(the name, the value of auth) of a client's message; None for one that is none."""

    def step(self, response: bytes | None) -> Outcome:
        if self._refused:
            # RFC 7628 §3.2.3: the client's answer to an error is 0x01 (XOAUTH2: empty), and then it is over.
            return Failed(Fault.REFUSED)
        if not response:
            return Challenge(b"")
        found = self.parse(response)
        if found is None:
            return Failed(Fault.MALFORMED)
        name, auth = found
        token = _BEARER.fullmatch(auth)
        return self._checked(False) if token is None else CheckToken(name, token[1].decode(), self._checked)

    def _checked(self, good: bool) -> Outcome:
        if good:
            return Done()
        self._refused = True
        return Challenge(self.error)


class OAuthBearer(_Bearer):
    """OAUTHBEARER: ``n,a=name,^Aauth=Bearer token^A^A``."""

    # RFC 7628 §3.2.2
    error = b'{"status":"invalid_token"}'

    def parse(self, message: bytes) -> tuple[str, bytes] | None:
        begun = gs2.split(message)
        # RFC 7628 §3.1: there is no channel binding in it.
        if begun is None or begun[0].flag == "p":
            return None
        pairs = _pairs(begun[1].removeprefix(_SEPARATOR)) if begun[1].startswith(_SEPARATOR) else None
        return None if pairs is None else (begun[0].authzid, pairs.get(b"auth", b""))


class XOAuth2(_Bearer):
    """XOAUTH2: ``user=name^Aauth=Bearer token^A^A`` (developers.google.com/gmail/imap/xoauth2-protocol)."""

    error = b'{"status":"401","schemes":"bearer"}'

    def parse(self, message: bytes) -> tuple[str, bytes] | None:
        user, separator, rest = message.partition(_SEPARATOR)
        pairs = _pairs(rest) if separator and user.startswith(b"user=") else None
        name = text(user.removeprefix(b"user="), MAX_NAME_OCTETS)
        return None if pairs is None or not name else (name, pairs.get(b"auth", b""))


def _pairs(octets: bytes) -> dict[bytes, bytes] | None:
    """key=value, each with 0x01 behind it, and one more 0x01 at the end."""
    # RFC 7628 §3.1
    *lines, last, end = octets.split(_SEPARATOR) if octets.endswith(_SEPARATOR) else (b"", b"x", b"")
    found = [_PAIR.fullmatch(line) for line in lines]
    if last or end:
        return None
    pairs = {pair[1].lower(): pair[2] for pair in found if pair is not None}
    return pairs if len(pairs) == len(lines) else None
