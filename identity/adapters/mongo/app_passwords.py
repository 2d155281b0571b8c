"""App passwords: named, revocable, one for each program. They are in the account's document, by their ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from identity import tokens
from identity.adapters.mongo.base import Base, Plan
from identity.adapters.mongo.documents import app_password_of, app_passwords_of, keys_document, scrammed
from identity.adapters.mongo.news import item
from identity.arguments import check_app_name, check_app_room, mask_names
from identity.model import AppPassword, ChangeKind
from identity.port import Reason, Refused
from runtime.mongo import Document


class AppPasswords(Base):
    """app_passwords, add_app_password, mask_app_password, revoke_app_password."""

    async def app_passwords(self, account: str) -> tuple[AppPassword, ...]:
        return app_passwords_of(await self._find(account))

    async def add_app_password(self, account: str, name: str, mask: Sequence[str] = ()) -> tuple[AppPassword, str]:
        check_app_name(name)
        secret = tokens.new_app_secret()
        made = AppPassword(tokens.new_id(), account, name, self._clock.now(), None, mask_names(mask))
        kept = tokens.kept(tokens.app_letters(secret) or secret)
        key = (await self._find(account))["key"]
        keys = keys_document(await self._passwords.scram_keys(self._scram, key, tokens.app_forms(secret)))

        def plan(document: Document) -> Plan:
            check_app_room(name, {app["name"] for app in document["apps"].values()})
            app = {"name": name, "hash": kept, "created_at": made.created_at, "last_used": None, "scram": keys}
            if made.mask:
                app["mask"] = list(made.mask)
            apps = document["apps"] | {made.id: app}
            return Plan(
                {
                    f"apps.{made.id}": app,
                    "version": document["version"] + 1,
                    "scrammed": scrammed(document.get("scram"), apps),
                }
            )

        await self._change(account, plan)
        return made, secret

    async def mask_app_password(self, account: str, id: str, mask: Sequence[str]) -> AppPassword:
        masked = mask_names(mask)

        def plan(document: Document) -> Plan:
            if id not in document["apps"]:
                raise Refused(Reason.NO_SUCH_CREDENTIAL)
            return Plan({f"apps.{id}.mask": list(masked)})

        return replace(app_password_of(await self._change(account, plan), id), mask=masked)

    async def revoke_app_password(self, account: str, id: str) -> None:
        def plan(document: Document) -> Plan:
            # Looked up before it is part of a path.
            if id not in document["apps"]:
                raise Refused(Reason.NO_SUCH_CREDENTIAL)
            credential = f"app:{id}"
            left = {other: app for other, app in document["apps"].items() if other != id}
            return Plan(
                {"version": document["version"] + 1, "scrammed": scrammed(document.get("scram"), left)},
                (f"apps.{id}",),
                item(ChangeKind.CREDENTIALS, (credential,), credential=credential),
            )

        await self._change(account, plan)
        self._used.pop(id, None)
