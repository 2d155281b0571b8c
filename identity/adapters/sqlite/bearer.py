"""Bearer tokens: opaque, kept as SHA-256, renewed in families that end when a spent refresh token is seen again."""

from __future__ import annotations

import sqlite3

from identity import tokens
from identity.adapters.sqlite.base import Base
from identity.adapters.sqlite.rows import ACCOUNT, account_of, note_change
from identity.adapters.sqlite.sign_in import holds
from identity.limits import MAX_FAMILIES, MAX_SPENT
from identity.model import ChangeKind, Principal, Token
from identity.port import Reason, Refused
from identity.sign_in import principal_of
from identity.tokens import Pair

# Expired families forgotten with each new one.
_SWEPT = 50


class Bearer(Base):
    """issue_token, verify_token, refresh_token, revoke_token."""

    def _new_pair(self) -> Pair:
        return tokens.new_pair(self._clock.now(), self._settings.access_seconds, self._settings.refresh_seconds)

    async def issue_token(self, principal: Principal) -> Token:
        pair, now, id = self._new_pair(), self._clock.now(), tokens.new_id()
        # The oldest family of an account with too many ends, which is a change that ends connections.
        await self._change_tokens(lambda c: _issue(c, principal, pair, id, now))
        return pair.token(principal.account)

    async def verify_token(self, access: str) -> Principal:
        if len(access) > tokens.MAX_TOKEN_CHARACTERS:
            raise Refused(Reason.BAD_CREDENTIALS)
        kept, now = tokens.kept(access), self._clock.now()
        principal = await self._read(lambda c: _verify(c, kept, now))
        if principal is None:
            raise Refused(Reason.BAD_CREDENTIALS)
        return principal

    async def refresh_token(self, refresh: str) -> Token:
        if len(refresh) > tokens.MAX_TOKEN_CHARACTERS:
            raise Refused(Reason.BAD_CREDENTIALS)
        kept, pair, now = tokens.kept(refresh), self._new_pair(), self._clock.now()
        account = await self._change_tokens(lambda c: _refresh(c, kept, pair, now))
        if account is None:
            raise Refused(Reason.BAD_CREDENTIALS)
        return pair.token(account)

    async def revoke_token(self, access: str) -> None:
        if len(access) <= tokens.MAX_TOKEN_CHARACTERS:
            kept = tokens.kept(access)
            await self._change_tokens(lambda c: _revoke(c, kept))


def _issue(connection: sqlite3.Connection, principal: Principal, pair: Pair, id: str, now: float) -> None:
    if not holds(connection, principal, now):
        raise Refused(Reason.BAD_CREDENTIALS)
    credential = principal.credential
    if credential.startswith("token:"):
        (credential,) = connection.execute(
            "SELECT credential FROM token_family WHERE id = ?", (credential.removeprefix("token:"),)
        ).fetchone()
    connection.execute(
        "DELETE FROM token_family WHERE id IN (SELECT id FROM token_family WHERE refresh_expires <= ? LIMIT ?)",
        (now, _SWEPT),
    )
    over = connection.execute(
        "DELETE FROM token_family WHERE id IN (SELECT id FROM token_family WHERE account = ?"
        " ORDER BY created_at DESC, id LIMIT -1 OFFSET ?) RETURNING id",
        (principal.account, MAX_FAMILIES - 1),
    ).fetchall()
    if over:
        ended = tuple(f"token:{family}" for (family,) in over)
        note_change(connection, principal.account, ChangeKind.CREDENTIALS, ended)
    connection.execute(
        "INSERT INTO token_family (id, account, credential, access, access_expires, refresh, refresh_expires,"
        " created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            id,
            principal.account,
            credential,
            tokens.kept(pair.access),
            pair.access_expires,
            tokens.kept(pair.refresh),
            pair.refresh_expires,
            now,
        ),
    )


def _verify(connection: sqlite3.Connection, kept: bytes, now: float) -> Principal | None:
    family = connection.execute(
        "SELECT id, account, credential FROM token_family WHERE access = ? AND access_expires > ?", (kept, now)
    ).fetchone()
    if family is None:
        return None
    row = connection.execute(
        f"SELECT {ACCOUNT} FROM account WHERE id = ? AND enabled = 1 AND removed_at IS NULL", (family[1],)
    ).fetchone()
    if row is None:
        return None
    account = account_of(row)
    app = family[2].removeprefix("app:")
    mask = connection.execute(
        "SELECT mask FROM app_password WHERE id = ? AND account = ?", (app, account.id)
    ).fetchone()
    return principal_of(account, f"token:{family[0]}", () if mask is None else tuple(mask[0].split()))


def _refresh(connection: sqlite3.Connection, kept: bytes, pair: Pair, now: float) -> str | None:
    """The account whose pair was renewed. None, with the family ended (which must commit), for a spent token."""
    # RFC 6749 §10.4: a refresh token used twice says that one of its users is not the client.
    spent = connection.execute(
        "DELETE FROM token_family WHERE id = (SELECT family FROM spent_refresh WHERE hash = ?) RETURNING id, account",
        (kept,),
    ).fetchall()
    for family, account in spent:
        note_change(connection, account, ChangeKind.CREDENTIALS, (f"token:{family}",))
    row = connection.execute(
        "SELECT token_family.id, account FROM token_family JOIN account ON account.id = token_family.account"
        " WHERE refresh = ? AND refresh_expires > ? AND enabled = 1 AND removed_at IS NULL",
        (kept, now),
    ).fetchone()
    if row is None:
        return None
    family, account = row
    connection.execute("INSERT INTO spent_refresh (hash, family, spent_at) VALUES (?, ?, ?)", (kept, family, now))
    connection.execute(
        "DELETE FROM spent_refresh WHERE hash IN (SELECT hash FROM spent_refresh WHERE family = ?"
        " ORDER BY spent_at DESC LIMIT -1 OFFSET ?)",
        (family, MAX_SPENT),
    )
    connection.execute(
        "UPDATE token_family SET access = ?, access_expires = ?, refresh = ?, refresh_expires = ? WHERE id = ?",
        (tokens.kept(pair.access), pair.access_expires, tokens.kept(pair.refresh), pair.refresh_expires, family),
    )
    return str(account)


def _revoke(connection: sqlite3.Connection, kept: bytes) -> None:
    ended = connection.execute("DELETE FROM token_family WHERE access = ? RETURNING id, account", (kept,)).fetchall()
    for family, account in ended:
        note_change(connection, account, ChangeKind.CREDENTIALS, (f"token:{family}",))
