"""What can be set about Homing. The descriptions are the manual: `docs/config.md` is made from them."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator, model_validator

from homing.integrations.settings import Secrets, Sending
from homing.providers import ConnectorSettings
from homing.queuesettings import Queue, Worker
from homing.ratesettings import Bans, Rates
from runtime.config import (
    ConfigError,
    Env,
    Group,
    Loaded,
    NamedTables,
    OptionalPath,
    OptionalSecret,
    OptionalText,
    Port,
    Size,
    Words,
    entries,
    load,
    setting,
)
from runtime.dotenv import read_dotenv
from runtime.limits import LOOPBACK, Networks
from smtp.outbound.routetext import no_connector, read_route
from smtp.outbound.settings import OutboundSettings
from smtp.settings import SmtpSettings

PREFIX = "HOMING"
FILE_VARIABLE = "HOMING_CONFIG"
DEFAULT_FILE = Path("homing.toml")
DOTENV = Path(".env")
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


def _addresses(value: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(str(ipaddress.ip_address(one)) for one in value)
    except ValueError as error:
        raise ValueError(f"is not a list of addresses such as 192.0.2.7: {error}") from None


def _host(value: object) -> object:
    # All of these mean every address, of both families.
    return "" if isinstance(value, str) and value.strip() in ("*", "0.0.0.0", "::", "[::]") else value


def _lmtp_port(port: int | None) -> int | None:
    # RFC 2033 §5
    if port == 25:
        raise ValueError("LMTP must not be served on port 25, which is SMTP's: 24 is usual")
    return port


DomainName = Annotated[str, AfterValidator(_domain)]
NetworkList = Annotated[Words, AfterValidator(_networks)]
AddressList = Annotated[Words, AfterValidator(_addresses)]
Host = Annotated[str, BeforeValidator(_host)]


PROXIED = ("smtp", "submission", "submissions", "lmtp", "imap", "imaps")


class Smtp(SmtpSettings):
    """Receiving mail from other servers; what holds for submission too."""

    # Set elsewhere: by signin.plaintext, signin.scram, signin.trusted and limits.connections_per_address for all doors
    # at once, and by the groups of the further listeners.
    hidden: ClassVar[frozenset[str]] = frozenset(
        {
            "plain_auth",
            "scram",
            "exempt_networks",
            "connections_per_address",
            "submission_port",
            "submissions_port",
            "lmtp_port",
            "lmtp_socket",
            "lmtp_networks",
            "proxy_networks",
            "proxy_listeners",
        }
    )


class Submission(Group):
    """Sending by the accounts' own mail programs: signing in is required (RFC 6409)."""

    port: Port = setting(2587, "With STARTTLS. 587 is what mail programs expect.")


class Submissions(Group):
    """The same with TLS from the first octet (RFC 8314)."""

    port: Port = setting(2465, "465 is what mail programs expect.")


class Lmtp(Group):
    """Delivery by another mail server of yours (RFC 2033): a reply for each recipient, nobody signs in, and nothing is
    passed on to other domains."""

    port: Annotated[Port, AfterValidator(_lmtp_port)] = setting(None, "24 is usual. With STARTTLS. Empty: off.")
    socket: OptionalText = setting(None, "Path of a Unix socket, for a server on this machine. Empty: off.")
    networks: NetworkList = setting(LOOPBACK, "Who may connect to the port. Others are told 554.")


class Proxy(Group):
    """Proxies before the listeners that tell the client's address by the PROXY protocol (haproxy's, version 1 or 2)."""

    networks: NetworkList = setting(
        (), "Where the proxies are, and nobody else: who connects from there is believed about the client's address."
    )
    listeners: Words = setting(
        (),
        "Listeners behind them, of smtp, submission, submissions, lmtp, imap and imaps: every connection to one"
        " comes from a proxy and begins with the header; all others are closed. Tables of `smtp.listeners` say so"
        " themselves.",
    )

    @field_validator("listeners")
    @classmethod
    def _are_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = next((name for name in names if name not in PROXIED), None)
        if unknown is not None:
            raise ValueError(f"{unknown!r} is none of {', '.join(PROXIED)}")
        return names


class Outbound(OutboundSettings):
    """Sending mail on to other servers."""


class Dns(Group):
    """Asking the domain name system."""

    servers: Words = setting(
        (), "Resolvers, each as an address or address:port ([2001:db8::1]:53). Empty: those of /etc/resolv.conf."
    )
    trusted: Words = setting(
        ("127.0.0.1", "::1"),
        "Addresses of the resolvers whose word that an answer was proved by DNSSEC is believed (the AD bit): those that"
        " are reached without leaving this machine, or over a network that nobody else can write to.",
    )
    timeout: float = setting(5.0, "Seconds to wait for one answer.", gt=0, le=60)


MESSAGE_LIMIT_MIN = 1000
"""The smallest limit that clients know what to do with (RFC 9738 §3)."""


class Imap(Group):
    """Reading mail."""

    port: Port = setting(2143, "With STARTTLS. 143 is what mail programs expect.")
    idle_seconds: float = setting(
        1860.0, "A client silent for so long is signed out. RFC 3501 asks for at least 1800.", ge=1800
    )
    message_max: Size = setting(50 * MIB, "Octets of the largest message that a client may APPEND.", ge=65536)
    message_limit: int = setting(
        0,
        "Messages that one command may work on, which clients are told of (RFC 9738: MESSAGELIMIT); 0 for no limit, and"
        " else 1000 or more. Clients that do not know it see only the newest so many of a larger mailbox.",
        ge=0,
    )
    connections_max: int = setting(5000, "Connections at the same time, all addresses together.", ge=1)
    rest_port: Port = setting(8003, "REST of `homing serve imap`; in one process `rest.port` serves all.")
    sessions_per_account: int = setting(100, "Connections that one account may have signed in.", ge=1)

    @field_validator("message_limit")
    @classmethod
    def _not_too_few(cls, limit: int) -> int:
        # RFC 9738 §3
        if 0 < limit < MESSAGE_LIMIT_MIN:
            raise ValueError(f"is 0, or {MESSAGE_LIMIT_MIN} or more")
        return limit


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
    drain_seconds: float = setting(
        30.0,
        "How long work in hand may take after SIGTERM. What is open then is closed within 20 seconds more, or the"
        " process ends with status 70 and says what hung. A second signal ends the work in hand, a later one the"
        " closing.",
        ge=0,
        le=3600,
    )


class Limits(Group):
    """What one client, and all of them together, may take."""

    connections_per_address: int = setting(
        50, "Connections of one address to one door (IPv6: of one /64). Trusted networks are exempt.", ge=1
    )


class Metrics(Group):
    """Figures in Prometheus's form at /metrics of every REST port. See metrics.md."""

    read: Literal["admin", "loopback", "all"] = setting(
        "admin",
        "Who may read them: administrators (with their bearer token); this machine too, which is all that a proxy on it"
        " lets in; or everybody.",
    )
    token: OptionalSecret = setting(
        None, "A secret of at least 16 octets that reads them too, as bearer token, and nothing else."
    )

    @field_validator("token")
    @classmethod
    def _long_enough(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and len(token.get_secret_value().encode()) < 16:
            raise ValueError("is too short: at least 16 octets")
        return token


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
    scram: bool = setting(
        False,
        "Offer SCRAM-SHA-256, by which no password is sent. For that each password keeps keys that are easier to guess"
        " at than its hash, for who steals the store. Offered once every enabled account has signed in with a password"
        " after this was switched on. See signin.md.",
    )
    scram_iterations: int = setting(
        10_000,
        "Iterations of its keys, of all of them: after a change every password has to be used once more.",
        ge=4096,
        le=1_000_000,
    )


class Dkim(Group):
    """The keys that sign mail of our domains. `homing domain dkim rotate` begins a rotation; it goes on by itself."""

    activate_days: float = setting(
        2.0, "A new key signs after so many days, once its record is seen in the DNS.", ge=0, le=90
    )
    retire_days: float = setting(
        7.0, "The record of a key that signs no more stays for so many days; then the key is forgotten.", ge=1, le=365
    )


class Sts(Group):
    """The MTA-STS policy of our own domains (RFC 8461), served by REST at /.well-known/mta-sts.txt. It has to be
    reached as https://mta-sts.DOMAIN with a certificate for it: by a proxy, or with `rest.port` 443 and `rest.tls`."""

    mode: Literal["off", "none", "testing", "enforce"] = setting(
        "off",
        "off: not served. testing: others report what would go wrong. enforce: others send by verified TLS alone."
        " none: takes a policy back, for as long as the one before it was promised.",
    )
    mx: Words = setting((), "The hosts that take our mail, as MX records have them. Empty: the server's own name.")
    max_age: int = setting(604800, "Seconds for which others may rely on it.", ge=86400, le=31557600)


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


class Trace(Group):
    """The record of what became of each message: see docs/trace.md."""

    days: float = setting(30.0, "How long events are kept.", gt=0, le=3650)
    size_max: Size = setting(1024 * MIB, "Octets of events, about, beyond which the oldest are forgotten.", ge=MIB)
    reads: bool = setting(
        False,
        "Whether it is recorded that a message was read over IMAP: once for each message and connection. Off, for"
        " privacy, and because it costs a write for each.",
    )


class Doctor(Group):
    """Looking after what mail depends on: DNS records, addresses, ports, the certificate, clock and disk. `homing
    doctor` looks at once, and once a day the server does. See doctor.md."""

    daily: bool = setting(True, "Whether the server looks once a day by itself, and logs what has changed.", live=True)
    addresses: AddressList = setting(
        (),
        "The public addresses of this server, as its records have them. Empty: those of the machine, or, behind a NAT,"
        " those that the DNS has for its name.",
        live=True,
    )
    lists: Words = setting(
        ("zen.spamhaus.org", "bl.spamcop.net"),
        "Lists of addresses that send spam (DNSBL) on which ours should not be; they are asked by the resolvers of"
        " `dns.servers`. Empty: none is asked.",
        live=True,
    )
    probe: OptionalText = setting(
        None,
        "A mail server, or a domain, that is greeted to see whether mail can leave (port 25). Empty: not tried.",
        live=True,
    )


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
    proxy: Proxy = Field(default=Proxy(), description=Proxy.__doc__)
    outbound: Outbound = Field(default=Outbound(), description=Outbound.__doc__)
    connectors: NamedTables[ConnectorSettings] = setting(
        (),
        "Accounts at other providers through which mail is sent on, a table `[connectors.NAME]` for each in the file;"
        " the route `connector:NAME` of `outbound.routes`, or of one message, leads there. See outbound.md.",
    )
    sending: Sending = Field(default=Sending(), description=Sending.__doc__)
    secrets: Secrets = Field(default=Secrets(), description=Secrets.__doc__)
    dns: Dns = Field(default=Dns(), description=Dns.__doc__)
    imap: Imap = Field(default=Imap(), description=Imap.__doc__)
    imaps: Imaps = Field(default=Imaps(), description=Imaps.__doc__)
    rest: Rest = Field(default=Rest(), description=Rest.__doc__)
    tls: TlsFiles = Field(default=TlsFiles(), description=TlsFiles.__doc__)
    admin: Admin = Field(default=Admin(), description=Admin.__doc__)
    limits: Limits = Field(default=Limits(), description=Limits.__doc__)
    rates: Rates = Field(default=Rates(), description=Rates.__doc__)
    bans: Bans = Field(default=Bans(), description=Bans.__doc__)
    metrics: Metrics = Field(default=Metrics(), description=Metrics.__doc__)
    signin: SignIn = Field(default=SignIn(), description=SignIn.__doc__)
    dkim: Dkim = Field(default=Dkim(), description=Dkim.__doc__)
    sts: Sts = Field(default=Sts(), description=Sts.__doc__)
    service: ServiceSecret = Field(default=ServiceSecret(), description=ServiceSecret.__doc__)
    storage: Store = Field(default=Store(), description=Store.__doc__)
    identity: Identity = Field(default=Identity(), description=Identity.__doc__)
    mongodb: Mongodb = Field(default=Mongodb(), description=Mongodb.__doc__)
    queue: Queue = Field(default=Queue(), description=Queue.__doc__)
    worker: Worker = Field(default=Worker(), description=Worker.__doc__)
    trace: Trace = Field(default=Trace(), description=Trace.__doc__)
    doctor: Doctor = Field(default=Doctor(), description=Doctor.__doc__)
    log: Log = Field(default=Log(), description=Log.__doc__)

    @model_validator(mode="after")
    def _both_or_neither(self) -> Settings:
        if (self.tls.cert is None) != (self.tls.key is None):
            raise ValueError("tls.cert and tls.key are set together or not at all")
        return self

    @model_validator(mode="after")
    def _proxies_are_named(self) -> Settings:
        behind = [*self.proxy.listeners, *(one.name for one in self.smtp.listeners if one.proxy)]
        if behind and not self.proxy.networks:
            raise ValueError(f"{behind[0]} is behind a proxy: proxy.networks has to say where the proxies are")
        return self

    @model_validator(mode="after")
    def _connectors_are_there(self) -> Settings:
        for domain, text in self.outbound.table.items():
            route = read_route(text, secret=True)
            if route.kind == "connector" and route.host not in self.connector_names:
                raise ValueError(
                    f"The route of {domain!r} in outbound.routes cannot be used:"
                    f" {no_connector(route.host, self.connector_names)}."
                )
        return self

    @property
    def connector_names(self) -> frozenset[str]:
        """To which routes may lead."""
        return frozenset(one.name for one in self.connectors)

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


def _environment() -> Mapping[str, str]:
    """The environment, over what `.env` where the process runs says of settings."""
    names = {env.name for entry in entries(Settings, PREFIX) for env in entry.env}
    said = read_dotenv(DOTENV)
    return {k: v for k, v in said.items() if k in names or k.startswith(f"{PREFIX}_")} | os.environ


def load_settings(
    environ: Mapping[str, str] | None = None, overrides: Mapping[str, str] | None = None
) -> Loaded[Settings]:
    """The settings of this process. The file is HOMING_CONFIG's, or `homing.toml` where the process runs, if it is
    there. environ: None for the process's own, with what `.env` there says besides. Raises ConfigError."""
    environment = _environment() if environ is None else environ
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
