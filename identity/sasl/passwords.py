"""PLAIN and LOGIN: a name and a password as they are."""

from __future__ import annotations

from identity.sasl.outcomes import (
    MAX_NAME_OCTETS,
    MAX_PASSWORD_OCTETS,
    Challenge,
    Credentials,
    Failed,
    Fault,
    Outcome,
    text,
)

_PLAIN_LIMITS = (MAX_NAME_OCTETS, MAX_NAME_OCTETS, MAX_PASSWORD_OCTETS)


class Plain:
    """PLAIN: one message of three parts, authzid NUL authcid NUL passwd."""

    client_first = True

    def step(self, response: bytes | None) -> Outcome:
        if response is None:
            # RFC 4422 §5: without an initial response the server sends an empty challenge.
            return Challenge(b"")
        # RFC 4616 §2
        parts = response.split(b"\0")
        if len(parts) != 3:
            return Failed(Fault.MALFORMED)
        authzid, authcid, passwd = (text(part, limit) for part, limit in zip(parts, _PLAIN_LIMITS, strict=True))
        if authzid is None or not authcid or not passwd:
            return Failed(Fault.MALFORMED)
        # Nobody acts for another here: an authorization identity must be the name itself, or absent.
        if authzid and authzid != authcid:
            return Failed(Fault.NOT_PERMITTED)
        return Credentials(authcid, passwd)


class Login:
    """LOGIN (draft-murchison-sasl-login): name and password, each asked for."""

    # Tolerance: the draft has the server speak first, but clients send the name as an initial response.
    client_first = True

    def __init__(self) -> None:
        self._name: str | None = None

    def step(self, response: bytes | None) -> Outcome:
        if response is None:
            return Challenge(b"Username:")
        if self._name is None:
            self._name = text(response, MAX_NAME_OCTETS)
            return Failed(Fault.MALFORMED) if not self._name else Challenge(b"Password:")
        password = text(response, MAX_PASSWORD_OCTETS)
        return Failed(Fault.MALFORMED) if not password else Credentials(self._name, password)
