"""Certification authorities made by hand, and handshakes with what they have signed."""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass
class Made:
    """A certificate, its key, and those above it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    above: tuple[Made, ...] = ()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def spki(self) -> bytes:
        return self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def files(self, folder: Path, *, with_above: bool = True) -> tuple[Path, Path]:
        """The chain as a server sends it, and the key."""
        name = f"{self.certificate.serial_number:x}"
        chain, key = folder / f"{name}.pem", folder / f"{name}.key"
        chain.write_bytes(self.pem + b"".join(one.pem for one in self.above if with_above))
        key.write_bytes(self.key_pem)
        return chain, key

    def server(self, folder: Path, *, with_above: bool = True) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.files(folder, with_above=with_above))
        return context


def authority(name: str = "a test authority", by: Made | None = None, *, days: float = 30) -> Made:
    return _made(name, by, (), True, days, None)


def server(
    *names: str,
    by: Made | None = None,
    days: float = 30,
    common: str = "a test server",
    use: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.SERVER_AUTH,
) -> Made:
    """days: until when it is good, from now; negative: it has ended."""
    return _made(common, by, names, False, days, use)


def _made(
    name: str, by: Made | None, names: tuple[str, ...], ca: bool, days: float, use: x509.ObjectIdentifier | None
) -> Made:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if by is None else by.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=60))
        .not_valid_after(now + datetime.timedelta(days=days))
    )
    if ca:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), False)
    if use is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([use]), False)
    certificate = builder.sign(key if by is None else by.key, hashes.SHA256())
    return Made(certificate, key, () if by is None else (by, *by.above))


def shaken(client: ssl.SSLContext, served: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """The client's side of a handshake in memory. Raises ssl.SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server, server_hostname=name)
    other = served.wrap_bio(to_server, to_client, server_side=True)
    done = set()
    for _ in range(20):
        for side in (one, other):
            if side in done:
                continue
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                pass
    assert one in done
    return one
