"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677): the messages. What they prove, identity checks.

Channel binding is tls-unique (RFC 5929 §3), which is right up to TLS 1.2; for TLS 1.3 there is tls-exporter (RFC 9266),
which Python's ssl does not give, so under TLS 1.3 there is no -PLUS.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets

from identity.model import ScramSalt
from identity.sasl import gs2
from identity.sasl.outcomes import AskSalt, Challenge, CheckProof, Done, Failed, Fault, Outcome

BINDING = "tls-unique"
PROOF_OCTETS = 32
MAX_NONCE = 512
_NONCE_OCTETS = 18

# RFC 5802 §7: attributes that are not known are letters with any value, and do not count. "m" is not among them: what
# must be understood is not.
_MORE = rb"(?:,[A-LN-Za-ln-z]=[^,\0]+)*"
_FIRST = re.compile(rb"n=([^,\0]+),r=([!-+\--~]+)" + _MORE)
_FINAL = re.compile(rb"(c=([A-Za-z0-9+/=]+),r=([!-+\--~]+)(?:,[A-LN-OQ-Za-ln-oq-z]=[^,\0]+)*),p=([A-Za-z0-9+/=]+)")


class Scram:
    """One exchange.

    binding: the connection's tls-unique, b"" where there is none. plus: the mechanism is the one with channel binding.
    nonce: the server's part of it, of this exchange alone.
    """

    client_first = True

    def __init__(self, *, plus: bool, binding: bytes, nonce: str | None = None) -> None:
        self._plus = plus
        self._binding = binding
        # RFC 5802 §5.1: printable, without a comma.
        self._own = nonce or base64.b64encode(secrets.token_bytes(_NONCE_OCTETS)).decode()
        self._name = ""
        self._header = b""
        self._nonce = b""
        self._messages = b""
        self._signed = False

    def step(self, response: bytes | None) -> Outcome:
        if self._signed:
            # RFC 4422 §5, RFC 4954 §4: the server's last word went as a challenge, whose answer is empty.
            return Failed(Fault.MALFORMED) if response else Done()
        if response is None:
            return Challenge(b"")
        return self._final(response) if self._messages else self._first(response)

    def _first(self, message: bytes) -> Outcome:
        begun = gs2.split(message)
        found = None if begun is None else _FIRST.fullmatch(begun[1])
        name = None if found is None else gs2.saslname(found[1])
        if begun is None or found is None or name is None or len(found[2]) > MAX_NONCE:
            return Failed(Fault.MALFORMED)
        header, bare = begun
        # RFC 5802 §6: who binds the channel uses -PLUS, and who uses -PLUS binds it.
        if (header.flag == "p") != self._plus:
            return Failed(Fault.MALFORMED)
        if self._plus and (header.binding != BINDING or not self._binding):
            return Failed(Fault.REFUSED)
        # RFC 5802 §6: -PLUS was offered, and somebody on the way has taken it from the list.
        if header.flag == "y" and self._binding:
            return Failed(Fault.REFUSED)
        # Nobody acts for another here, as in PLAIN.
        if header.authzid and header.authzid != name:
            return Failed(Fault.NOT_PERMITTED)
        self._name, self._header = name, header.octets
        self._nonce = found[2] + self._own.encode()
        return AskSalt(name, lambda salt: self._salted(bare, salt))

    def _salted(self, bare: bytes, salt: ScramSalt) -> Outcome:
        told = b"r=%b,s=%b,i=%d" % (self._nonce, base64.b64encode(salt.salt), salt.iterations)
        self._messages = bare + b"," + told
        return Challenge(told)

    def _final(self, message: bytes) -> Outcome:
        found = _FINAL.fullmatch(message)
        binding, proof = (None, None) if found is None else (_decoded(found[2]), _decoded(found[4]))
        if found is None or binding is None or proof is None or len(proof) != PROOF_OCTETS:
            return Failed(Fault.MALFORMED)
        # RFC 5802 §5.1: the header once more, and what the channel is; and the nonce as it was told.
        if binding != self._header + (self._binding if self._plus else b"") or found[3] != self._nonce:
            return Failed(Fault.REFUSED)
        return CheckProof(self._name, self._messages + b"," + found[1], proof, self._checked)

    def _checked(self, signature: bytes) -> Outcome:
        self._signed = True
        return Challenge(b"v=" + base64.b64encode(signature))


def _decoded(octets: bytes) -> bytes | None:
    try:
        return base64.b64decode(octets, validate=True)
    except binascii.Error:
        return None
