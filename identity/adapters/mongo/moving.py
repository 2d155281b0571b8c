"""``identity.transfer.Transfer`` over MongoDB. Every document has its ``_id`` or its name from the record, so what is
taken twice is there already the second time."""

from __future__ import annotations

from collections.abc import Sequence

from identity.adapters.mongo import queries
from identity.adapters.mongo.database import Database
from identity.adapters.mongo.documents import (
    FIRST_REV,
    admin_mark,
    domain_document,
    keys_document,
    scrammed,
    secret_document,
)
from identity.adapters.mongo.indexes import INDEXES
from identity.adapters.mongo.integrations import document_of, held_of
from identity.integrations import integration_of, plain
from identity.model import Domain, Role
from identity.port import Unavailable
from identity.scram import ScramKeys
from identity.tokens import new_id
from identity.transfer import (
    AccountRecord,
    AliasRecord,
    AppPasswordRecord,
    DkimRecord,
    DomainRecord,
    IntegrationsRecord,
    Kind,
    Marker,
    Record,
    SecretRecord,
    TransferRefused,
)
from runtime.mongo import Document, Mongo, MongoUnavailable, ensure_indexes, open_mongo, told_unavailable


class MongoTransfer:
    """mongo: closed with this."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._database = Database(mongo)

    async def open(self) -> None:
        """Make the indexes that are not there. Unavailable."""
        try:
            await ensure_indexes(self._mongo.database, INDEXES)
        except MongoUnavailable as error:
            raise Unavailable(str(error)) from error

    async def close(self) -> None:
        await self._database.close()

    async def page(self, kind: Kind, after: str, limit: int) -> Sequence[Record]:
        match kind:
            case Kind.DOMAINS:
                return [_domain(one) for one in await self._database.find(queries.domains_after(after, limit))]
            case Kind.ACCOUNTS:
                return [_account(one) for one in await self._database.find(queries.accounts_after(after, limit))]
            case Kind.ALIASES:
                shape = queries.page_of(queries.ALIAS, None, after, limit)
                return [_alias(one) for one in await self._database.find(shape)]
            case Kind.DKIM_KEYS:
                return [_dkim(one) for one in await self._database.find(queries.dkim_keys_after(after, limit))]
            case Kind.INTEGRATIONS:
                found = await self._database.find(queries.integrations_after(after, limit))
                return [_integrations(one) for one in found]
            case Kind.SECRETS:
                return [_secret(one) for one in await self._database.find(queries.secrets_after(after, limit))]

    async def marker(self) -> Marker | None:
        found = await self._database.first(queries.transfer())
        return None if found is None else Marker(found["source"], found["place"])

    async def begin(self, source: str) -> None:
        full = [await self.page(kind, "", 1) for kind in Kind if kind is not Kind.SECRETS]
        if any(full) or await self.marker() is not None:
            raise TransferRefused(f"The database {self._mongo.database.name} is not empty: it has domains or accounts.")
        await self._database.insert(queries.STATE, [{"_id": queries.TRANSFER, "source": source, "place": ""}])

    async def put(self, records: Sequence[Record], place: str) -> None:
        domains = [_domain_document(one) for one in records if isinstance(one, DomainRecord)]
        others = [_named_document(one) for one in records if isinstance(one, AccountRecord | AliasRecord)]
        keys = [_dkim_document(one) for one in records if isinstance(one, DkimRecord)]
        sealed = [_integrations_document(one) for one in records if isinstance(one, IntegrationsRecord)]
        for collection, documents in (
            (queries.DOMAINS, domains),
            (queries.NAMES, others),
            (queries.DKIM, keys),
            (queries.INTEGRATIONS, sealed),
        ):
            if documents:
                await self._database.insert(collection, documents)
        for secret in records:
            if isinstance(secret, SecretRecord):
                await self._database.delete(queries.secret(secret.name))
                await self._database.insert(queries.STATE, [secret_document(*secret)])
        await self._database.update(queries.transfer(), {"$set": {"place": place}})

    async def finish(self) -> None:
        await self._database.delete(queries.transfer())

    async def erase(self) -> None:
        if await self.marker() is None:
            raise TransferRefused(f"The database {self._mongo.database.name} holds no unfinished migration.")
        for collection in (queries.NAMES, queries.DOMAINS, queries.DKIM, queries.INTEGRATIONS):
            with told_unavailable(Unavailable):
                await self._mongo.database.drop_collection(collection)
        await self.open()
        for secret in await self.page(Kind.SECRETS, "", 1000):
            await self._database.delete(queries.secret(secret[0]))
        # Last, so that what is killed on the way is erased by the next attempt.
        await self.finish()


async def open_transfer(url: str) -> MongoTransfer:
    """The database that the URL names, to be moved from or to. ValueError, Unavailable."""
    try:
        transfer = MongoTransfer(await open_mongo(url, app="homing-migrate"))
    except MongoUnavailable as error:
        raise Unavailable(str(error)) from error
    try:
        await transfer.open()
    except BaseException:
        await transfer.close()
        raise
    return transfer


def _domain(document: Document) -> DomainRecord:
    return DomainRecord(
        document["_id"],
        document["id"],
        document["name"],
        document["catch_all"],
        document["subaddress"],
        document["created_at"],
    )


def _domain_document(record: DomainRecord) -> Document:
    domain = Domain(record.id, record.name, record.catch_all, record.subaddress, record.created_at)
    return domain_document(record.key, domain)


def _account(document: Document) -> AccountRecord:
    removed = document["kind"] == queries.REMOVED
    apps = [
        AppPasswordRecord(
            id,
            app["name"],
            bytes(app["hash"]),
            app["created_at"],
            app["last_used"],
            *_keys(app.get("scram")),
            " ".join(app.get("mask", ())),
        )
        for id, app in sorted(document["apps"].items())
    ]
    return AccountRecord(
        document["_id"],
        "" if removed else document["key"],
        document["domain"],
        document["address"],
        document["display_name"],
        document["role"],
        document["quota"],
        document["enabled"],
        document["version"],
        document["password_hash"],
        document["password_version"],
        document["created_at"],
        document["removed_at"] if removed else None,
        *_keys(document.get("scram")),
        " ".join(document.get("mask", ())),
        tuple(apps),
    )


def _keys(document: Document | None) -> tuple[int, bytes]:
    return (0, b"") if document is None else (document["iterations"], bytes(document["keys"]))


def _secret(document: Document) -> SecretRecord:
    return SecretRecord(document["_id"].removeprefix(queries.SECRET), bytes(document["value"]))


def _alias(document: Document) -> AliasRecord:
    return AliasRecord(document["key"], document["domain"], document["address"], tuple(document["targets"]))


def _dkim(document: Document) -> DkimRecord:
    return DkimRecord(*[document["_id" if name == "id" else name] for name in DkimRecord._fields])


def _dkim_document(record: DkimRecord) -> Document:
    document: Document = record._asdict()
    document["_id"] = document.pop("id")
    return document


def _integrations(document: Document) -> IntegrationsRecord:
    held = held_of(document["_id"], document)
    return IntegrationsRecord(document["_id"], tuple(plain(one) for one in held))


def _integrations_document(record: IntegrationsRecord) -> Document:
    return document_of(record.account, tuple(integration_of(record.account, item) for item in record.items))


def _named_document(record: AccountRecord | AliasRecord) -> Document:
    if isinstance(record, AliasRecord):
        return {
            "_id": new_id(),
            "kind": queries.ALIAS,
            "key": record.key,
            "domain": record.domain,
            "address": record.address,
            "targets": list(record.targets),
        }
    apps = {
        app.id: {
            "name": app.name,
            "hash": app.hash,
            "created_at": app.created_at,
            "last_used": app.last_used,
            "scram": keys_document(ScramKeys(app.scram_iterations, app.scram_keys)),
            "mask": app.mask.split(),
        }
        for app in record.apps
    }
    keys = keys_document(ScramKeys(record.scram_iterations, record.scram_keys))
    document = {
        "_id": record.id,
        "kind": queries.ACCOUNT if record.removed_at is None else queries.REMOVED,
        "key": record.key if record.removed_at is None else f"#{record.id}",
        "domain": record.domain,
        "address": record.address,
        "display_name": record.display_name,
        "role": record.role,
        "quota": record.quota,
        "enabled": record.enabled,
        "version": record.version,
        "rev": FIRST_REV,
        "password_hash": record.password_hash,
        "password_version": record.password_version,
        # No token is moved, and none of before holds.
        "tokens_from": record.version,
        "scram": keys,
        "scrammed": scrammed(keys, apps),
        "mask": record.mask.split(),
        "apps": apps,
        "created_at": record.created_at,
    }
    if record.removed_at is not None:
        document["removed_at"] = record.removed_at
    elif record.enabled and record.role == Role.ADMIN.value:
        document["admin"] = admin_mark(document)
    return document
