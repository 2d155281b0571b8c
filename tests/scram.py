"""The client's side of SCRAM-SHA-256 (RFC 5802 §3, RFC 7677), written apart from the server's."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


@dataclass
class ScramClient:
    """One exchange. header: "n,,", "y,,", "p=tls-unique,,", with an authzid where wanted; binding: of the channel."""

    name: str
    password: str
    header: str = "n,,"
    binding: bytes = b""
    nonce: str = "fyko+d2lbbFgONRv9qkxdawL"

    @property
    def bare(self) -> str:
        return f"n={self.name.replace('=', '=3D').replace(',', '=2C')},r={self.nonce}"

    def first(self) -> bytes:
        return (self.header + self.bare).encode()

    def final(self, server_first: bytes) -> bytes:
        told = dict(part.split("=", 1) for part in server_first.decode().split(","))
        assert told["r"].startswith(self.nonce)
        assert len(told["r"]) > len(self.nonce)
        salt = base64.b64decode(told["s"])
        self.salt, self.iterations = salt, int(told["i"])
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), salt, self.iterations)
        channel = base64.b64encode(self.header.encode() + self.binding).decode()
        without_proof = f"c={channel},r={told['r']}"
        self.message = ",".join((self.bare, server_first.decode(), without_proof)).encode()
        client_key = _hmac(salted, b"Client Key")
        signature = _hmac(hashlib.sha256(client_key).digest(), self.message)
        self.proof = bytes(one ^ other for one, other in zip(client_key, signature, strict=True))
        self.server_signature = _hmac(_hmac(salted, b"Server Key"), self.message)
        return f"{without_proof},p={base64.b64encode(self.proof).decode()}".encode()

    def is_server(self, server_final: bytes) -> bool:
        return server_final == b"v=" + base64.b64encode(self.server_signature)
