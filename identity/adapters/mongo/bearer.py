"""Bearer tokens: opaque, kept as SHA-256, renewed in families that end when a spent refresh token is seen again.

A family says at which versions of its account it was made: since, the version that the sign-in behind it had, and
issued, the version when it was made. What ends it with its account, the account's document tells (`documents.lives`);
what ends it alone marks it ``ended`` in one write, and the news follows (`news`).
"""

from __future__ import annotations

import structlog

from identity import tokens
from identity.adapters.mongo import queries
from identity.adapters.mongo.documents import account_of, lives, stays
from identity.adapters.mongo.sign_in import SignIn
from identity.limits import MAX_FAMILIES, MAX_SPENT
from identity.model import ChangeKind, Principal, Token
from identity.port import Reason, Refused, Unavailable
from identity.sign_in import principal_of
from identity.tokens import Pair
from runtime.mongo import Document

log = structlog.get_logger("identity")


class Bearer(SignIn):
    """issue_token, verify_token, refresh_token, revoke_token."""

    async def issue_token(self, principal: Principal) -> Token:
        return await self._writes.run(self._issue(principal))

    async def _issue(self, principal: Principal) -> Token:
        document = await self._look(principal.account)
        held = await self._is_held(principal, document) if stays(document, principal) else None
        if document is None or held is None:
            raise Refused(Reason.BAD_CREDENTIALS)
        credential, since = (held, principal.version) if isinstance(held, str) else (held["credential"], held["since"])
        pair = self._new_pair()
        family = {
            "_id": tokens.new_id(),
            "account": principal.account,
            "credential": credential,
            "since": since,
            "issued": document["version"],
            "spent": [],
            "created_at": self._clock.now(),
        } | _hashed(pair)
        await self._database.insert(queries.FAMILIES, [family])
        await self._end_oldest(principal.account, family["_id"])
        return pair.token(principal.account)

    async def verify_token(self, access: str) -> Principal:
        family = await self._by_access(access)
        if family is not None and family["access_expires"] > self._clock.now():
            document = await self._database.first(queries.by_id(family["account"]))
            if document is not None and lives(family, document):
                app = document["apps"].get(family["credential"].removeprefix("app:"), {})
                return principal_of(account_of(document), f"token:{family['_id']}", tuple(app.get("mask", ())))
        raise Refused(Reason.BAD_CREDENTIALS)

    async def refresh_token(self, refresh: str) -> Token:
        if len(refresh) > tokens.MAX_TOKEN_CHARACTERS:
            raise Refused(Reason.BAD_CREDENTIALS)
        token = await self._writes.run(self._refresh(tokens.kept(refresh)))
        if token is None:
            raise Refused(Reason.BAD_CREDENTIALS)
        return token

    async def _refresh(self, kept: bytes) -> Token | None:
        family = await self._database.first(queries.family_by_refresh(kept))
        if family is not None:
            document = await self._database.first(queries.by_id(family["account"]))
            if family["refresh_expires"] <= self._clock.now() or not lives(family, document):
                return None
            pair = self._new_pair()
            values = _hashed(pair) | {"spent": [*family["spent"], kept][-MAX_SPENT:]}
            if await self._database.update(queries.renewable(family["_id"], kept), {"$set": values}):
                return pair.token(family["account"])
            # Another was faster with the same token.
        # RFC 6749 §10.4: a refresh token used twice says that one of its users is not the client.
        spent = await self._database.first(queries.family_by_spent(kept))
        if spent is not None:
            await self._end(spent)
        return None

    async def revoke_token(self, access: str) -> None:
        family = await self._by_access(access)
        if family is not None:
            await self._writes.run(self._end(family))

    async def _by_access(self, access: str) -> Document | None:
        if len(access) > tokens.MAX_TOKEN_CHARACTERS:
            return None
        return await self._database.first(queries.family_by_access(tokens.kept(access)))

    async def _end_oldest(self, account: str, newest: str) -> None:
        """An account with too many families loses the oldest of them."""
        families = await self._database.find(queries.families_of(account))
        for family in families[: max(0, len(families) - MAX_FAMILIES)]:
            if family["_id"] != newest:
                await self._end(family)

    async def _end(self, family: Document) -> None:
        """End a family, and tell it; what cannot be told now, the upkeep of any process tells."""
        await self._database.update(queries.live_family(family["_id"]), {"$set": {"ended": self._clock.now()}})
        try:
            await self._tell_end(family)
        except Unavailable as error:
            log.warning("the end of a token waits to be told", account=family["account"], reason=str(error))

    async def _tell_end(self, family: Document) -> None:
        """Tell the end of a family that is marked, and forget it."""
        token = f"token:{family['_id']}"
        await self._news.tell(token, family["account"], ChangeKind.CREDENTIALS, [token])
        await self._database.delete(queries.family(family["_id"]))

    def _new_pair(self) -> Pair:
        return tokens.new_pair(self._clock.now(), self._settings.access_seconds, self._settings.refresh_seconds)


def _hashed(pair: Pair) -> Document:
    return {
        "access": tokens.kept(pair.access),
        "access_expires": pair.access_expires,
        "refresh": tokens.kept(pair.refresh),
        "refresh_expires": pair.refresh_expires,
    }
