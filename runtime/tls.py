"""Certificates: a self-signed one for the first run, and any that is replaced on disk taken up while running."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import os
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.lifecycle import StartError

if TYPE_CHECKING:
    from cryptography import x509


class Tls:
    """The TLS side of all listeners of a process, from one certificate chain and key (PEM files).

    `context` stays the same object for the life of the process, and new handshakes always get the newest chain.
    A pair of files that does not fit together, as seen in the middle of a replacement, leaves the old one in force.
    `on_change` gets one sentence per reload and per failed reload.
    """

    def __init__(
        self,
        cert: Path,
        key: Path,
        *,
        every: float = 2.0,
        on_change: Callable[[str], None] | None = None,
    ) -> None:
        """Load the files. Raises StartError when they cannot be used."""
        self.cert = cert
        self.key = key
        self._every = every
        self._tell = on_change or (lambda _sentence: None)
        self._task: asyncio.Task[None] | None = None
        self._seen = self._marks()
        self._newest = self._load()
        self.context = self._load()
        # Asked at each ClientHello, with a server name or without: the connection moves to the newest context.
        self.context.sni_callback = self._choose

    async def start(self) -> None:
        """Watch the files: a changed pair is in force within a few seconds."""
        self._task = asyncio.create_task(self._watch(), name="certificate")

    async def drain(self) -> None:
        return None

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def refresh(self) -> bool:
        """Look at the files now; True when a new chain came into force."""
        marks = self._marks()
        if marks == self._seen:
            return False
        self._seen = marks
        try:
            self._newest = self._load()
        except StartError as error:
            self._tell(f"{error} The certificate loaded before stays in force.")
            return False
        self._tell(f"The certificate in {self.cert} was replaced; new connections get the new one.")
        return True

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            await asyncio.to_thread(self.refresh)

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._newest

    def _marks(self) -> tuple[object, ...]:
        return tuple(_mark(path) for path in (self.cert, self.key))

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # RFC 8996 §3: not TLS 1.0, not TLS 1.1.
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_COMPRESSION
        try:
            context.load_cert_chain(self.cert, self.key)
        except FileNotFoundError as error:
            missing = next((path for path in (self.cert, self.key) if not path.exists()), self.cert)
            raise StartError(f"TLS: the file {missing} does not exist.") from error
        except PermissionError as error:
            raise StartError(f"TLS: {self.cert} or {self.key} may not be read by uid {os.geteuid()}.") from error
        except (ssl.SSLError, OSError, ValueError) as error:
            raise StartError(f"TLS: {self.cert} and {self.key} cannot be used together: {error}.") from error
        return context


def _mark(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def make_self_signed(folder: Path, names: Sequence[str]) -> tuple[Path, Path]:
    """The paths of `cert.pem` and `key.pem` in `folder`, made when they are not there: EC P-256, for `names`
    (domains and IP addresses), ten years. The key has mode 0600. Raises StartError when they cannot be written."""
    cert_path, key_path = folder / "cert.pem", folder / "key.pem"
    if cert_path.exists() and key_path.exists():
        return cert_path, key_path
    # Imported here: it takes a while, and only a first run needs it.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write(
            key_path,
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            0o600,
        )
        _write(cert_path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    except OSError as error:
        raise StartError(f"The self-signed certificate cannot be written to {folder}: {error.strerror}.") from error
    return cert_path, key_path


def _general_name(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all: under another name first."""
    made = path.with_name(path.name + ".new")
    made.unlink(missing_ok=True)
    with os.fdopen(os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    made.replace(path)


def channel_binding(connection: ssl.SSLObject | ssl.SSLSocket) -> bytes:
    """tls-unique of a connection (RFC 5929 §3); b"" under TLS 1.3, for which it is not defined (RFC 8446 §C.5)."""
    if connection.version() != "TLSv1.2":
        return b""
    return connection.get_channel_binding("tls-unique") or b""
