"""Accounts: made, found, changed, removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from identity.adapters.mongo import queries
from identity.adapters.mongo.base import Base, Plan
from identity.adapters.mongo.documents import account_document, account_of, keys_document, password_values
from identity.adapters.mongo.news import item
from identity.arguments import after_key, check_display_name, check_quota, domain_name, login_key, mask_names, page
from identity.fresh import NOT_KEPT, checked_row, kept, kept_of
from identity.model import Account, ChangeKind, NewAccount, Role
from identity.passwords import check_acceptable
from identity.port import Reason, Refused
from identity.scram import NO_KEYS
from runtime.mongo import Document


class Accounts(Base):
    """account, accounts, find_account, add_account, set_password, update_account, remove_account and what follows."""

    async def account(self, account: str) -> Account:
        return account_of(await self._find(account))

    async def accounts(self, domain: str | None = None, limit: int = 1000, after: str = "") -> tuple[Account, ...]:
        among = None if domain is None else domain_name(domain)
        shape = queries.page_of(queries.ACCOUNT, among, after_key(after), page(limit))
        return tuple(account_of(document) for document in await self._database.find(shape))

    async def find_account(self, address: str) -> Account:
        key = login_key(address, self._settings.default_domain)
        document = None if key is None else await self._database.first(queries.named(key))
        if document is None or document["kind"] != queries.ACCOUNT:
            raise Refused(Reason.NO_SUCH_ACCOUNT)
        return account_of(document)

    async def add_account(self, new: NewAccount) -> Account:
        fresh = checked_row(new)
        # Asked before the password is hashed too: a clash should cost nothing.
        document = account_document(fresh, NOT_KEPT, self._clock.now())
        if (refused := (await self._names.free([document]))[0]) is not None:
            raise refused
        document |= password_values(await kept_of(self._passwords, self._scram, fresh), {}, 1)
        if (refused := (await self._writes.run(self._made([document])))[0]) is not None:
            raise refused
        return _account_made(document)

    async def _made(self, documents: list[Document]) -> list[Refused | None]:
        """Make the accounts, and count the administrators among them."""
        outcomes = await self._names.take(documents)
        for document, refused in zip(documents, outcomes, strict=True):
            if refused is None and document["role"] == Role.ADMIN.value:
                await self._administrators.join_soon(document["_id"])
        return outcomes

    async def set_password(self, account: str, password: str) -> None:
        check_acceptable(password)
        key = (await self._find(account))["key"]
        made = await kept(self._passwords, self._scram, key, password)

        def plan(document: Document) -> Plan:
            version = document["version"] + 1
            return Plan(
                {"version": version} | password_values(made, document["apps"], version),
                news=item(ChangeKind.CREDENTIALS, ("password",), credential="password", below=version),
            )

        await self._change(account, plan)

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
        check_quota(quota)
        check_display_name(display_name)
        masked = None if mask is None else list(mask_names(mask))

        def plan(document: Document) -> Plan:
            given: dict[str, Any] = {}
            if enabled is not None and enabled != document["enabled"]:
                given["enabled"] = enabled
            if role is not None and role.value != document["role"]:
                given["role"] = role.value
            if given:
                given["version"] = document["version"] + 1
            news = None
            if given.get("enabled") is False:
                given["tokens_from"] = given["version"]
                news = item(ChangeKind.DISABLED, below=given["version"])
            elif given.get("role") == Role.USER.value:
                # What was signed in as administrator must not stay one.
                news = item(ChangeKind.CREDENTIALS)
            if quota is not None or no_quota:
                given["quota"] = None if no_quota else quota
            if display_name is not None:
                given["display_name"] = display_name
            if masked is not None:
                given["mask"] = masked
            return Plan(given, news=news)

        return account_of(await self._change(account, plan))

    async def remove_account(self, account: str) -> None:
        now = self._clock.now()

        def plan(document: Document) -> Plan:
            return Plan(
                {
                    "kind": queries.REMOVED,
                    # Its name is free from now on, in the same write; no address has this key.
                    "key": f"#{document['_id']}",
                    "removed_at": now,
                    "version": document["version"] + 1,
                    "password_hash": "",
                    "scram": keys_document(NO_KEYS),
                    "apps": {},
                },
                news=item(ChangeKind.REMOVED, name=document["key"]),
            )

        await self._change(account, plan)

    async def removed_accounts(self) -> tuple[str, ...]:
        return tuple(document["_id"] for document in await self._database.find(queries.removed()))

    async def finish_removal(self, account: str) -> None:
        document = await self._look(account)
        if document is not None and document["kind"] == queries.REMOVED:
            await self._news.publish(account)
            await self._database.delete(queries.of_kind(account, queries.REMOVED))


def _account_made(document: Document) -> Account:
    return account_of(document | {"kind": queries.ACCOUNT})
