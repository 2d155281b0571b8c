"""The plain data that crosses the identity port: frozen values, no behaviour, no driver types.

Account ids are opaque strings made by identity (letters, digits, ``-``, ``_``), never used again after removal.
Addresses are whole ("local@domain"), as the administrator wrote them; they are compared by their keys (local part
casefolded and NFC, domain as A-labels in lower case). Times are Unix seconds. A quota is octets, None for no limit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

SYSTEM = "system"
OCTETS_AS_BASE64: Final = {"ser_json_bytes": "base64", "val_json_bytes": "base64"}
"""How a value with octets is written as JSON, for whoever does (pydantic)."""


class Role(Enum):
    USER = "user"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Domain:
    """catch_all: address that gets mail for unknown names of the domain, or None. subaddress: the character of
    plus-addressing ("+"), "" for none."""

    id: str
    name: str
    catch_all: str | None = None
    subaddress: str = "+"
    created_at: float = 0.0


class DkimAlgorithm(Enum):
    """RFC 8301 §3 (rsa-sha256, keys of 2048 bits), RFC 8463 (ed25519-sha256)."""

    RSA = "rsa"
    ED25519 = "ed25519"


class DkimState(Enum):
    """PUBLISHED: its record is to be in the DNS, and it does not sign yet. ACTIVE: it signs. RETIRED: it signs no more,
    and its record stays for mail that is on its way."""

    PUBLISHED = "published"
    ACTIVE = "active"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class DkimKey:
    """One key that signs mail of a domain. domain: A-labels in lower case. private_key: PEM (PKCS #8). public_key: the
    base64 text of its DNS record's p= (RFC 6376 §3.6.1, RFC 8463 §4.2). changed_at: since when it is in its state."""

    domain: str
    selector: str
    algorithm: DkimAlgorithm
    private_key: str = field(repr=False)
    public_key: str
    state: DkimState
    created_at: float
    changed_at: float


@dataclass(frozen=True, slots=True)
class Account:
    """enabled: False refuses sign-in everywhere; mail is still accepted for it. version: credential version, one
    more at each change of password, app password, role or enabled. removed: marked in identity, its mail is being
    purged. mask: names of IMAP's capabilities, in capitals and in order, that a door neither offers nor takes from who
    signs in as it."""

    id: str
    address: str
    display_name: str
    role: Role
    quota: int | None
    enabled: bool
    version: int
    created_at: float
    removed: bool = False
    mask: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Alias:
    """address → one or many targets, of our domains or of others."""

    address: str
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AppPassword:
    """A named, revocable password of an account; the secret is shown once, when it is made. mask: as an account's, of
    who signs in with it, beside the account's own."""

    id: str
    account: str
    name: str
    created_at: float
    last_used: float | None
    mask: tuple[str, ...] = ()


class Provider(Enum):
    """How an account elsewhere is signed in to: by name and password at any SMTP host, or as Gmail or Microsoft 365
    have it (OAuth2)."""

    SMTP = "smtp"
    GMAIL = "gmail"
    MICROSOFT = "microsoft"


class Security(Enum):
    """TLS asked for by STARTTLS, from the first octet, or not at all."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class IntegrationSettings:
    """An account elsewhere through which an account of ours sends. from_email: its address, perhaps with a name. user:
    its SMTP user name, or the client id of OAuth2. host, port: "" and 0 for those of the provider. verify: the server's
    certificate is. key: id of the key that the secrets are sealed with. sealed: its secrets, which identity never sees
    in clear."""

    __pydantic_config__ = OCTETS_AS_BASE64

    name: str
    provider: Provider
    from_email: str
    user: str
    host: str
    port: int
    security: Security
    verify: bool
    key: str
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Integration:
    """revision: one more with each change of its settings. default: it sends where no other is named."""

    id: str
    account: str
    settings: IntegrationSettings
    default: bool
    revision: int
    created_at: float
    changed_at: float


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a sign-in comes from: the peer's IP address, which door ("smtp", "imap", "rest"), a device hint (the
    client's HELO name or ID, may be empty)."""

    address: str
    door: str
    device: str = ""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who signed in, and by what: credential is "password", "app:<id>" or "token:<id>". version: of the account.
    mask: the account's, with that of the app password that it signed in with, or that its token began with."""

    account: str
    address: str
    role: Role
    quota: int | None
    credential: str
    version: int
    mask: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScramSalt:
    """What a client needs to make keys of a password (RFC 5802 §3). iterations: of PBKDF2."""

    __pydantic_config__ = OCTETS_AS_BASE64

    salt: bytes
    iterations: int


@dataclass(frozen=True, slots=True)
class ScramSigned:
    """A proof that held. signature: ServerSignature (RFC 5802 §3), by which the server shows that it knows the keys."""

    __pydantic_config__ = OCTETS_AS_BASE64

    principal: Principal
    signature: bytes = field(repr=False)


class Verdict(Enum):
    """What an address is to us."""

    LOCAL = "local"
    UNKNOWN = "unknown"
    NOT_OURS = "not ours"


@dataclass(frozen=True, slots=True)
class Target:
    """One account that mail for an address goes to. detail: the part after the subaddress character, or ""."""

    account: str
    address: str
    quota: int | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Resolution:
    """LOCAL: accounts and addresses of other domains that the address leads to, each once, aliases followed.
    UNKNOWN: the domain is ours and the name is not. NOT_OURS: another domain's."""

    verdict: Verdict
    local: tuple[Target, ...] = ()
    remote: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token as handed out: access is shown once; refresh renews it (RFC 6749 §5.1)."""

    access: str
    refresh: str
    expires_at: float
    account: str


class ChangeKind(Enum):
    """CREDENTIALS: what was signed in with before ``version`` no longer holds, unless named in ``kept``."""

    CREDENTIALS = "credentials"
    DISABLED = "disabled"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Change:
    """One change that ends connections. revoked: the credentials that no longer hold ("password", "app:<id>",
    "token:<id>"), or () for all of the account."""

    seq: int
    account: str
    kind: ChangeKind
    revoked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes after the seq asked from, in order. seq: ask from here next. reset: the history does not reach back so
    far: every signed-in connection is to be checked anew with ``still_valid``."""

    seq: int
    changes: tuple[Change, ...]
    reset: bool = False


@dataclass(frozen=True, slots=True)
class NewAccount:
    """One row of an import. password in clear, or password_hash (argon2id, bcrypt, sha512-crypt in modular crypt
    format); exactly one of them. quota: octets or None. mask: as an account's."""

    address: str
    password: str | None = field(default=None, repr=False)
    password_hash: str | None = field(default=None, repr=False)
    quota: int | None = None
    role: Role = Role.USER
    display_name: str = ""
    mask: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImportOutcome:
    """One per row, in order: the account made, or the sentence that says why not."""

    address: str
    account: Account | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class ExportedAccount:
    """What an import takes back: address, password hash, quota, role, display name, mask."""

    address: str
    password_hash: str = field(repr=False)
    quota: int | None = None
    role: Role = Role.USER
    display_name: str = ""
    enabled: bool = True
    mask: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RateCharge:
    """amount more of what `key` names, in the window number `slot` of those of `window` seconds (see
    `identity.limiting.rates`)."""

    key: str
    window: int
    slot: int
    amount: int


@dataclass(frozen=True, slots=True)
class RateCount:
    """What all processes together have counted in the window before a charge's, and in its own."""

    before: int
    present: int


class BannedBy(Enum):
    RULE = "rule"
    ADMINISTRATOR = "administrator"


@dataclass(frozen=True, slots=True)
class NewBan:
    """target: an address or a network. seconds: how long, None until it is lifted. longest: where given, each further
    ban of the target lasts longer than the one before, up to so many seconds."""

    target: str
    reason: str
    by: BannedBy
    seconds: float | None = None
    longest: float | None = None


@dataclass(frozen=True, slots=True)
class Ban:
    """Who may not connect. since, until: Unix seconds; until None: until it is lifted. hits: connections and commands
    that it has refused. times: which ban in a row of this target it is."""

    id: str
    target: str
    reason: str
    since: float
    until: float | None
    by: BannedBy
    hits: int = 0
    times: int = 1


@dataclass(frozen=True, slots=True)
class BanNews:
    """bans: all that are in force, None where nothing has changed since the revision asked from."""

    revision: str
    bans: tuple[Ban, ...] | None
