"""The identity port: the contract that every adapter keeps and every door builds on.

A writing call returns after its change is durable; each is one change, all or nothing. Errors are Refused and
Unavailable, nothing else; anything else that escapes is a bug. Passwords and tokens appear in arguments and, once, in
the result of the call that makes them; never in an error, a repr or a listing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Protocol

from identity.model import (
    Account,
    Alias,
    AppPassword,
    Ban,
    BanNews,
    Changes,
    DkimAlgorithm,
    DkimKey,
    DkimState,
    Domain,
    ExportedAccount,
    ImportOutcome,
    Integration,
    IntegrationSettings,
    NewAccount,
    NewBan,
    Origin,
    Principal,
    RateCharge,
    RateCount,
    Resolution,
    Role,
    ScramSalt,
    ScramSigned,
    Token,
)


class Reason(Enum):
    BAD_CREDENTIALS = "wrong name or password"
    SLOW_DOWN = "too many failed sign-ins"
    DISABLED = "account is disabled"
    NO_SUCH_DOMAIN = "no such domain"
    NO_SUCH_ACCOUNT = "no such account"
    NO_SUCH_ALIAS = "no such alias"
    NO_SUCH_CREDENTIAL = "no such app password or token"
    NO_SUCH_KEY = "no such DKIM key"
    NO_SUCH_BAN = "no such ban"
    NO_SUCH_INTEGRATION = "no such integration"
    ALREADY_EXISTS = "already exists"
    BAD_ADDRESS = "not a valid address"
    BAD_PASSWORD = "password not acceptable"
    IN_USE = "in use"
    LIMIT = "limit reached"


class Refused(Exception):
    """A permanent no, or the caller's fault. text: one sentence for a person. retry_after: seconds, with SLOW_DOWN."""

    def __init__(self, reason: Reason, text: str = "", retry_after: float | None = None) -> None:
        super().__init__(text or reason.value)
        self.reason = reason
        self.text = text or reason.value
        self.retry_after = retry_after


class Unavailable(Exception):
    """Identity cannot answer now: nothing was changed, try later."""


class Identity(Protocol):
    """See the module's docstring for what holds for every call."""

    # -- questions of the doors

    async def domain_exists(self, domain: str) -> bool:
        """Is mail for this domain kept here? Compared as A-labels in lower case."""

    async def resolve(self, address: str) -> Resolution:
        """What an address is to us, aliases, catch-all and plus-addressing followed (at most 10 levels, loops cut,
        at most 1,000 targets, else LIMIT). The exact name first, then without its detail, then the catch-all.
        postmaster of each of our domains always resolves: to the first administrator when there is no such name
        (RFC 5321 §4.5.1), before the catch-all; "postmaster" alone is that of the default domain. A removed account
        is UNKNOWN, and so is an alias that leads nowhere; a disabled account still gets mail. BAD_ADDRESS."""

    async def authenticate(self, name: str, password: str, origin: Origin) -> Principal:
        """Check a name (whole address, or a local part of the default domain) with a password or an app password.

        BAD_CREDENTIALS says the same, in about the same time, for an unknown name as for a wrong password. SLOW_DOWN
        when the guess counters of the address or of the account ask for a pause; a device (address, account) that
        signed in well lately is not slowed by others' guesses. From loopback and trusted networks guesses count per
        account and per (address, account), never per address alone. DISABLED only with the right password. A
        positive check is remembered at most 60 s, under the account's credential version. An imported hash is
        replaced by argon2id at the first good sign-in."""

    async def authenticate_token(self, name: str, access: str, origin: Origin) -> Principal:
        """Check a bearer token, in a door's sign-in. name: whose it is said to be (as for authenticate), "" for
        whosever it is.

        BAD_CREDENTIALS as for verify_token, and for a token of another account. A bad one counts against the address
        alone, where guesses count against addresses: nobody's account is slowed by it. SLOW_DOWN."""

    async def scram_ready(self) -> bool:
        """May SCRAM be offered now: is it switched on, and has every credential of every enabled account keys for it?
        Cheap, to be asked every few seconds."""

    async def scram_start(self, name: str, origin: Origin) -> ScramSalt:
        """The salt of all credentials of the account, the same whenever it is asked for; a name that is nobody's has
        one too, made in the same way."""

    async def scram_finish(self, name: str, auth_message: bytes, proof: bytes, origin: Origin) -> ScramSigned:
        """Check a ClientProof (RFC 5802 §3) against the keys of the account's password and app passwords. The caller
        has made its part of the nonce in auth_message anew, and has compared what comes back of it.

        Refuses and counts as authenticate does; a proof is never known again, so each wrong one is a new guess."""

    async def may_send_as(self, account: str, address: str) -> bool:
        """Is the address the account's own: its own, one with its subaddress, or an alias that leads to it? A catch-all
        makes no address anyone's own. BAD_ADDRESS, LIMIT as for resolve."""

    async def account(self, account: str) -> Account:
        """By id. NO_SUCH_ACCOUNT."""

    async def still_valid(self, principal: Principal) -> bool:
        """Does what the principal signed in with still hold?"""

    async def changes_since(self, seq: int, wait: float) -> Changes:
        """Changes that end connections, after ``seq`` (0 for "from now": returns at once with the present seq, which
        is never 0); at once if there are any, else after one or ``wait`` seconds (at most 300). At most 1,000 at
        once: ask again from the seq returned. Closing ends the wait, with what there is or Unavailable."""

    # -- tokens

    async def issue_token(self, principal: Principal) -> Token:
        """A bearer token for what signed in; kept hashed."""

    async def verify_token(self, access: str) -> Principal:
        """BAD_CREDENTIALS for unknown, expired and revoked ones alike, and for disabled accounts."""

    async def refresh_token(self, refresh: str) -> Token:
        """A new pair; the old pair ends. A refresh token seen twice revokes its whole family."""

    async def revoke_token(self, access: str) -> None:
        """Idempotent."""

    # -- domains

    async def domains(self) -> tuple[Domain, ...]: ...

    async def add_domain(self, name: str, catch_all: str | None = None) -> Domain:
        """ALREADY_EXISTS, BAD_ADDRESS."""

    async def update_domain(self, name: str, catch_all: str | None, subaddress: str) -> Domain:
        """NO_SUCH_DOMAIN, BAD_ADDRESS."""

    async def remove_domain(self, name: str) -> None:
        """IN_USE while accounts or aliases are in it. Its DKIM keys go with it. NO_SUCH_DOMAIN."""

    # -- DKIM keys

    async def dkim_keys(self, domain: str) -> tuple[DkimKey, ...]:
        """Those of one of our domains, the oldest first, private keys with them: for who signs. NO_SUCH_DOMAIN,
        BAD_ADDRESS."""

    async def add_dkim_key(
        self, domain: str, algorithm: DkimAlgorithm, state: DkimState = DkimState.PUBLISHED
    ) -> DkimKey:
        """Make one, under a selector that was never used. NO_SUCH_DOMAIN, BAD_ADDRESS, LIMIT."""

    async def set_dkim_state(self, domain: str, selector: str, state: DkimState) -> DkimKey:
        """In the state that it is in already nothing changes. NO_SUCH_KEY, NO_SUCH_DOMAIN, BAD_ADDRESS."""

    async def remove_dkim_key(self, domain: str, selector: str) -> None:
        """NO_SUCH_KEY, NO_SUCH_DOMAIN, BAD_ADDRESS."""

    # -- accounts

    async def accounts(self, domain: str | None = None, limit: int = 1000, after: str = "") -> tuple[Account, ...]:
        """In order of address key, after the address given; removed ones left out. limit: 1 to 10,000, else LIMIT."""

    async def find_account(self, address: str) -> Account:
        """By its own address (or local part of the default domain). NO_SUCH_ACCOUNT."""

    async def add_account(self, new: NewAccount) -> Account:
        """ALREADY_EXISTS (account or alias), NO_SUCH_DOMAIN, BAD_ADDRESS (also one with characters that are not seen,
        such as an override of the direction; joiners of letters are fine), BAD_PASSWORD (empty, or over 1,024 octets,
        or a hash of no known form or of excessive cost), LIMIT."""

    async def import_accounts(self, rows: Sequence[NewAccount]) -> tuple[ImportOutcome, ...]:
        """Thousands in one go, a bounded number of rows per commit; a bad row disturbs no other."""

    async def export_accounts(self, limit: int = 1000, after: str = "") -> tuple[ExportedAccount, ...]:
        """In order of address key, with hashes: for the administrator alone."""

    async def set_password(self, account: str, password: str) -> None:
        """Ends connections and tokens of the old password; app passwords stay. BAD_PASSWORD."""

    async def update_account(
        self,
        account: str,
        *,
        enabled: bool | None = None,
        role: Role | None = None,
        quota: int | None = None,
        no_quota: bool = False,
        display_name: str | None = None,
        mask: Sequence[str] | None = None,
    ) -> Account:
        """Change what is given; no_quota takes the limit away, a mask holds from the next sign-in on. Disabling ends
        all tokens and connections, and so does losing the administrator's role for connections. IN_USE for the last
        enabled administrator, LIMIT for a quota, name or mask out of bounds."""

    async def remove_account(self, account: str) -> None:
        """Marks it removed at once (no sign-in, no mail); the purge of its mail is the composition root's.
        ``finish_removal`` follows. IN_USE for the last enabled administrator."""

    async def removed_accounts(self) -> tuple[str, ...]:
        """Ids of those whose purge is not finished."""

    async def finish_removal(self, account: str) -> None:
        """Its mail is gone: forget the account; its id is never used again."""

    # -- aliases

    async def aliases(self, domain: str | None = None, limit: int = 1000, after: str = "") -> tuple[Alias, ...]: ...

    async def put_alias(self, alias: Alias) -> None:
        """Make or replace. NO_SUCH_DOMAIN, ALREADY_EXISTS (an account has the address), BAD_ADDRESS (as for an
        account), LIMIT."""

    async def remove_alias(self, address: str) -> None:
        """NO_SUCH_ALIAS."""

    # -- app passwords

    async def app_passwords(self, account: str) -> tuple[AppPassword, ...]: ...

    async def add_app_password(self, account: str, name: str, mask: Sequence[str] = ()) -> tuple[AppPassword, str]:
        """The record and the secret, shown once (at least 100 bits, letters in groups). LIMIT, ALREADY_EXISTS."""

    async def mask_app_password(self, account: str, id: str, mask: Sequence[str]) -> AppPassword:
        """Set its mask, which holds from the next sign-in on. NO_SUCH_CREDENTIAL, NO_SUCH_ACCOUNT, LIMIT."""

    async def revoke_app_password(self, account: str, id: str) -> None:
        """NO_SUCH_CREDENTIAL."""

    # -- integrations

    async def integrations(self, account: str) -> tuple[Integration, ...]:
        """In the order of their making, secrets sealed. NO_SUCH_ACCOUNT."""

    async def add_integration(self, account: str, settings: IntegrationSettings) -> Integration:
        """The first one of an account is its default. ALREADY_EXISTS (the name), BAD_ADDRESS (from_email), LIMIT (too
        many, or a value is too long or has a control character), NO_SUCH_ACCOUNT."""

    async def change_integration(
        self, account: str, id: str, revision: int, settings: IntegrationSettings
    ) -> Integration:
        """Put other settings in the place of those of a revision. IN_USE when it has another by now, ALREADY_EXISTS,
        BAD_ADDRESS, LIMIT, NO_SUCH_INTEGRATION, NO_SUCH_ACCOUNT."""

    async def set_default_integration(self, account: str, id: str) -> Integration:
        """Make it the account's only default; its revision stays. NO_SUCH_INTEGRATION, NO_SUCH_ACCOUNT."""

    async def remove_integration(self, account: str, id: str) -> None:
        """Where it was the default, none is then. NO_SUCH_INTEGRATION, NO_SUCH_ACCOUNT."""

    async def sealed_with(self) -> tuple[tuple[str, int], ...]:
        """The ids of the keys that secrets of integrations are sealed with, and how many integrations each has."""

    # -- rates and bans

    async def charge(self, charges: Sequence[RateCharge]) -> tuple[RateCount, ...]:
        """Add to the counts that all processes share, at most 1,000 at once (else LIMIT), and say what they are then,
        in the same order. Kept over a restart until the window after theirs has ended."""

    async def ban(self, new: NewBan) -> Ban:
        """Ban a target, or put another ban in the place of the one that it has. A rule's ban of a target that is banned
        already is that one. BAD_ADDRESS for what is no address or network, for a network that is too wide, and for a
        rule's ban of loopback or of a trusted network; LIMIT for a reason that is too long, a length of no seconds, and
        where there are too many bans (one of a rule gives way to another of a rule)."""

    async def bans(self) -> tuple[Ban, ...]:
        """Those in force, the latest first."""

    async def lift_ban(self, id: str) -> None:
        """End a ban, and forget that it was. NO_SUCH_BAN, also for one that has ended."""

    async def bans_since(self, revision: str) -> BanNews:
        """All bans in force, where anything changed since that revision ("" for "tell me")."""

    async def hit_bans(self, hits: Mapping[str, int]) -> None:
        """So many more connections or commands were refused, by id of the ban. Unknown ids are left out. At most 1,000
        at once (else LIMIT)."""

    async def signed_in_from(self, address: str) -> bool:
        """Did any account sign in well from the address (IPv6: from its /64) within 30 days?"""

    async def close(self) -> None: ...
