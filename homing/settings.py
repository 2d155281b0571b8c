"""What can be set about Homing. The descriptions are the manual: `docs/config.md` is made from them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from runtime.config import (
    ConfigError,
    Env,
    Group,
    Loaded,
    OptionalPath,
    OptionalSecret,
    OptionalText,
    Port,
    Size,
    Words,
    load,
    setting,
)
from runtime.limits import LOOPBACK, Networks
from smtp.settings import SmtpSettings

PREFIX = "HOMING"
FILE_VARIABLE = "HOMING_CONFIG"
DEFAULT_FILE = Path("homing.toml")
MIB = 1024 * 1024


def _domain(value: str) -> str:
    labels = value.strip().rstrip(".").split(".")
    # RFC 1035 §2.3.4: labels of at most 63 octets; the whole is checked by identity when the domain is made.
    if not all(0 < len(label) <= 63 and not set(label) & set(' @/\\"<>,;:') for label in labels):
        raise ValueError("is not a domain name, such as example.org")
    return ".".join(labels)


def _networks(value: tuple[str, ...]) -> tuple[str, ...]:
    try:
        Networks(value)
    except ValueError as error:
        raise ValueError(f"is not a list of networks such as 192.0.2.0/24: {error}") from None
    return value


def _host(value: object) -> object:
    # All of these mean every address, of both families.
    return "" if isinstance(value, str) and value.strip() in ("*", "0.0.0.0", "::", "[::]") else value


def _no_lmtp(port: int | None) -> None:
    if port is not None:
        raise ValueError("this release has no LMTP listener: leave it empty")


DomainName = Annotated[str, AfterValidator(_domain)]
NetworkList = Annotated[Words, AfterValidator(_networks)]
Host = Annotated[str, BeforeValidator(_host)]


class Smtp(SmtpSettings):
    """Receiving mail from other servers; what holds for submission too."""

    # Set elsewhere: by signin.plaintext, signin.trusted and limits.connections_per_address for all doors at once, and
    # by the groups of the two further listeners.
    hidden: ClassVar[frozenset[str]] = frozenset(
        {"plain_auth", "exempt_networks", "connections_per_address", "submission_port", "submissions_port"}
    )


class Submission(Group):
    """Sending by the accounts' own mail programs: signing in is required (RFC 6409)."""

    port: Port = setting(2587, "With STARTTLS. 587 is what mail programs expect.")


class Submissions(Group):
    """The same with TLS from the first octet (RFC 8314)."""

    port: Port = setting(2465, "465 is what mail programs expect.")


class Lmtp(Group):
    """Delivery by another mail server on this machine or network (RFC 2033)."""

    port: Annotated[Port, AfterValidator(_no_lmtp)] = setting(
        None, "Empty: this release does not have an LMTP listener yet."
    )


class Imap(Group):
    """Reading mail."""

    port: Port = setting(2143, "With STARTTLS. 143 is what mail programs expect.")
    idle_seconds: float = setting(
        1860.0, "A client silent for so long is signed out. RFC 3501 asks for at least 1800.", ge=1800
    )
    message_max: Size = setting(50 * MIB, "Octets of the largest message that a client may APPEND.", ge=65536)
    connections_max: int = setting(5000, "Connections at the same time, all addresses together.", ge=1)
    rest_port: Port = setting(8003, "REST of `homing serve imap`; in one process `rest.port` serves all.")
    sessions_per_account: int = setting(100, "Connections that one account may have signed in.", ge=1)


class Imaps(Group):
    """The same with TLS from the first octet (RFC 8314)."""

    port: Port = setting(2993, "993 is what mail programs expect.")


class Rest(Group):
    """The REST API and its interactive documentation at /docs."""

    port: Port = setting(
        8000,
        "Of `homing up`, and of `homing serve smtp`. Plain HTTP unless `rest.tls` is true.",
        env=[Env("SMTP_PORT", unless="SMTP_HOST")],
    )
    tls: bool = setting(
        False, "Serve HTTPS with the server's certificate. The keepers, identity and storage, always serve plain HTTP."
    )
    insecure: bool = setting(
        False,
        "Allow tokens and passwords over plain HTTP from other machines: for a private network behind a proxy only.",
    )
    max_body: Size = setting(16 * MIB, "The largest request body; one octet more is 413.", ge=1024)


class TlsFiles(Group):
    """The certificate of all listeners. Without one of yours a self-signed one is made in the data folder. Changed
    files are taken up while running."""

    cert: OptionalPath = setting(None, "PEM file with the certificate and its chain. Together with `tls.key`.")
    key: OptionalPath = setting(None, "PEM file with the private key. Together with `tls.cert`.")


class Admin(Group):
    """The administrator made on the first run."""

    password: OptionalSecret = setting(
        None, "The administrator's password on the first run. When empty one is made, and shown once."
    )
    drain_seconds: float = setting(30.0, "How long work in hand may take after SIGTERM.", ge=0, le=3600)


class Limits(Group):
    """What one client, and all of them together, may take."""

    connections_per_address: int = setting(
        50, "Connections of one address to one door (IPv6: of one /64). Trusted networks are exempt.", ge=1
    )


class SignIn(Group):
    """Who may sign in, and from where."""

    plaintext: Literal["loopback", "never", "always"] = setting(
        "loopback", "Whether passwords are taken without TLS: from this machine alone, never, or from everywhere."
    )
    trusted: NetworkList = setting(
        (),
        "Networks (192.0.2.0/24, …) besides loopback that are exempt from limits per address, and where wrong "
        "passwords never count against an address alone.",
    )


class ServiceSecret(Group):
    """Between the services of a distributed server."""

    token: OptionalSecret = setting(
        None,
        "The secret by which services know each other, the same for all of them: at least 16 octets. Needed by"
        " `homing serve`.",
    )


class Store(Group):
    """Where mail is kept."""

    url: OptionalText = setting(
        None,
        "Where the other services reach storage: http://host:port. Empty: `storage.port` on this machine. For storage"
        " itself sqlite:///folder or mongodb://host/name; empty: `mongodb.url`, else SQLite in the data folder.",
        env=["STORAGE_URL"],
    )
    port: Port = setting(8002, "HTTP of `homing serve storage`.")


class Identity(Group):
    """Where accounts are kept."""

    url: OptionalText = setting(
        None,
        "Where the other services reach identity: http://host:port. Empty: `identity.port` on this machine. For"
        " identity itself sqlite:///folder or mongodb://host/name; empty: `mongodb.url`, else SQLite in the data"
        " folder.",
        env=["IDENTITY_URL"],
    )
    port: Port = setting(8001, "HTTP of `homing serve identity`.")


class Mongodb(Group):
    """The database of a distributed server."""

    url: OptionalText = setting(
        None,
        "mongodb://host/name (the database's name is `homing` where it is left out). Identity and storage keep their"
        " data there. Empty: SQLite in the data folder.",
        env=["MONGODB_URL"],
    )


class Queue(Group):
    """For the asynchronous sending API."""

    url: OptionalText = setting(None, "Leave it empty: this release does not have that API yet.", env=["QUEUE_URL"])


class Log(Group):
    """What the server tells about its work, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = setting("info", "The least important lines that are shown.")
    form: Literal["auto", "text", "json"] = setting("auto", "Auto: readable on a terminal, else JSON.")


class Settings(Group):
    """All settings."""

    data: Path = setting(
        Path("data"), "The data folder: databases, certificate, control sockets. One process owns each database in it."
    )
    domain: DomainName = setting(
        "localhost", "The default domain: made on the first run; a login name without a domain is of it."
    )
    hostname: OptionalText = setting(
        None, "The name that the server tells others (greeting, Received). Empty: the default domain."
    )
    host: Host = setting(
        "", "The address on which all listeners listen. Empty: all addresses, IPv4 and IPv6.", env=["SMTP_HOSTNAME"]
    )
    smtp: Smtp = Field(default=Smtp(), description=Smtp.__doc__)
    submission: Submission = Field(default=Submission(), description=Submission.__doc__)
    submissions: Submissions = Field(default=Submissions(), description=Submissions.__doc__)
    lmtp: Lmtp = Field(default=Lmtp(), description=Lmtp.__doc__)
    imap: Imap = Field(default=Imap(), description=Imap.__doc__)
    imaps: Imaps = Field(default=Imaps(), description=Imaps.__doc__)
    rest: Rest = Field(default=Rest(), description=Rest.__doc__)
    tls: TlsFiles = Field(default=TlsFiles(), description=TlsFiles.__doc__)
    admin: Admin = Field(default=Admin(), description=Admin.__doc__)
    limits: Limits = Field(default=Limits(), description=Limits.__doc__)
    signin: SignIn = Field(default=SignIn(), description=SignIn.__doc__)
    service: ServiceSecret = Field(default=ServiceSecret(), description=ServiceSecret.__doc__)
    storage: Store = Field(default=Store(), description=Store.__doc__)
    identity: Identity = Field(default=Identity(), description=Identity.__doc__)
    mongodb: Mongodb = Field(default=Mongodb(), description=Mongodb.__doc__)
    queue: Queue = Field(default=Queue(), description=Queue.__doc__)
    log: Log = Field(default=Log(), description=Log.__doc__)

    @model_validator(mode="after")
    def _both_or_neither(self) -> Settings:
        if (self.tls.cert is None) != (self.tls.key is None):
            raise ValueError("tls.cert and tls.key are set together or not at all")
        return self

    @property
    def exempt(self) -> tuple[str, ...]:
        """Networks that are exempt from limits per address: loopback and the trusted ones."""
        return (*LOOPBACK, *self.signin.trusted)

    @property
    def name(self) -> str:
        """The name told to others."""
        return self.hostname or self.domain


def admin_password(settings: Settings) -> str | None:
    """The administrator's password that was asked for, in clear."""
    secret: SecretStr | None = settings.admin.password
    return None if secret is None else secret.get_secret_value()


def load_settings(
    environ: Mapping[str, str] | None = None, overrides: Mapping[str, str] | None = None
) -> Loaded[Settings]:
    """The settings of this process. The file is HOMING_CONFIG's, or `homing.toml` where the process runs, if it is
    there. Raises ConfigError."""
    environment = os.environ if environ is None else environ
    named = environment.get(FILE_VARIABLE)
    file = Path(named) if named else DEFAULT_FILE if DEFAULT_FILE.is_file() else None
    if named and not Path(named).is_file():
        raise ConfigError(f"{FILE_VARIABLE} names {named}, which is not a file.")
    return load(
        Settings,
        prefix=PREFIX,
        file=file,
        environ=environment,
        overrides=overrides or {},
        also=[FILE_VARIABLE],
    )
