"""Sign-in's questions to the accounts, and whether what signed in still holds: each is one read."""

from __future__ import annotations

from identity.adapters.mongo import queries
from identity.adapters.mongo.base import Base, Plan
from identity.adapters.mongo.documents import keys_document, lives, scrammed, signer_of, stays
from identity.model import Principal
from identity.port import Refused
from identity.sasl_sign_in import SaslSignIn
from identity.scram import ScramKeys
from identity.sign_in import Signer
from runtime.mongo import Document


class SignIn(Base, SaslSignIn):
    """authenticate and its like, still_valid."""

    async def still_valid(self, principal: Principal) -> bool:
        document = await self._look(principal.account)
        return stays(document, principal) and (await self._is_held(principal, document) is not None)

    async def _is_held(self, principal: Principal, document: Document | None) -> Document | str | None:
        """The credential that the principal has: of a token its family, None where that has ended."""
        if not principal.credential.startswith("token:"):
            return principal.credential
        id = principal.credential.removeprefix("token:")
        family = await self._database.first(queries.family(id)) if id.isascii() else None
        if family is None or family["account"] != principal.account or not lives(family, document):
            return None
        return family if family["refresh_expires"] > self._clock.now() else None

    async def _signer(self, key: str | None) -> Signer | None:
        document = None if key is None else await self._database.first(queries.named(key))
        return None if document is None or document["kind"] != queries.ACCOUNT else signer_of(document)

    async def _replace_hash(self, account: str, old: str, new: str) -> None:
        await self._database.update(queries.with_hash(account, old), {"$set": {"password_hash": new}})

    async def _keep_keys(self, signer: Signer, credential: str, keys: ScramKeys) -> None:
        kind, _, app = credential.partition(":")
        made = keys_document(keys)

        def plan(document: Document) -> Plan:
            apps, own = document["apps"], document.get("scram")
            if kind == "app" and app in apps:
                apps = apps | {app: apps[app] | {"scram": made}}
                return Plan({f"apps.{app}.scram": made, "scrammed": scrammed(own, apps)})
            if kind == "password" and document["version"] == signer.account.version:
                return Plan({"scram": made, "scrammed": scrammed(made, apps)})
            return Plan()

        try:
            await self._change(signer.account.id, plan)
        except Refused:
            # The account has gone meanwhile.
            return

    async def _lacks_keys(self, iterations: int) -> bool:
        for shape in (queries.without_scram(), queries.scram_below(iterations), queries.scram_above(iterations)):
            if await self._database.first(shape) is not None:
                return True
        return False

    async def _keep_used(self, account: str, app: str, now: float) -> None:
        await self._database.update(queries.with_app(account, app), {"$set": {f"apps.{app}.last_used": now}})
