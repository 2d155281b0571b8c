"""Documents as values, and what several of the adapter's files make of them."""

from __future__ import annotations

from typing import Any

from identity import sign_in
from identity.adapters.mongo import queries
from identity.fresh import Fresh, Kept
from identity.model import (
    Account,
    Alias,
    AppPassword,
    Change,
    ChangeKind,
    DkimAlgorithm,
    DkimKey,
    DkimState,
    Domain,
    Principal,
    Role,
)
from identity.names import Name
from identity.resolve import Holder
from identity.scram import ScramKeys
from identity.sign_in import Signer
from identity.tokens import new_id
from runtime.mongo import Document

FIRST_REV = 1


def account_document(fresh: Fresh, made: Kept, now: float) -> Document:
    """A new account, reserved. tokens_from: the version since which tokens hold at all. scrammed: see `scrammed`."""
    new = fresh.new
    return (
        _reserved(fresh.name, now)
        | {
            "kind_to_be": queries.ACCOUNT,
            "address": new.address,
            "display_name": new.display_name,
            "role": new.role.value,
            "quota": new.quota,
            "enabled": True,
            "mask": list(fresh.mask),
            "version": 1,
            "rev": FIRST_REV,
            "tokens_from": 1,
            "apps": {},
            "created_at": now,
        }
        | password_values(made, {}, 1)
    )


def password_values(made: Kept, apps: Document, version: int) -> Document:
    """The password of an account with these app passwords, since the version."""
    keys = keys_document(made.scram)
    return {
        "password_hash": made.hash,
        "password_version": version,
        "scram": keys,
        "scrammed": scrammed(keys, apps),
    }


def keys_document(keys: ScramKeys) -> Document:
    return {"iterations": keys.iterations, "keys": keys.keys}


def secret_document(name: str, value: bytes) -> Document:
    return {"_id": f"{queries.SECRET}{name}", "value": value}


def scrammed(keys: Document | None, apps: Document) -> int:
    """The iteration count of SCRAM's keys where all credentials of an account have keys of one count, else 0."""
    held = [keys, *(app.get("scram") for app in apps.values())]
    counts = {0 if one is None else one["iterations"] for one in held}
    return int(counts.pop()) if len(counts) == 1 else 0


def alias_document(name: Name, address: str, targets: tuple[str, ...], now: float) -> Document:
    """A new alias, reserved."""
    return _reserved(name, now) | {"kind_to_be": queries.ALIAS, "address": address, "targets": list(targets)}


def _reserved(name: Name, now: float) -> Document:
    return {
        "_id": new_id(),
        "kind": queries.RESERVED,
        "key": name.key,
        "domain": name.domain,
        "reserved_at": now,
    }


def taken(document: Document) -> dict[str, Any]:
    """The update by which a reservation becomes what it was made for."""
    values = {"kind": document["kind_to_be"]}
    if document["kind_to_be"] == queries.ACCOUNT and document["role"] == Role.ADMIN.value:
        values["admin"] = admin_mark(document)
    return {"$set": values, "$unset": {"reserved_at": "", "kind_to_be": ""}}


def admin_mark(document: Document) -> str:
    """What enabled administrators alone carry: a text that sorts by the time of their making."""
    return f"{document['created_at']:020.6f} {document['_id']}"


def account_of(document: Document) -> Account:
    """The value of an account's document."""
    return Account(
        document["_id"],
        document["address"],
        document["display_name"],
        Role(document["role"]),
        document["quota"],
        document["enabled"],
        document["version"],
        document["created_at"],
        document["kind"] == queries.REMOVED,
        tuple(document.get("mask", ())),
    )


def alias_of(document: Document) -> Alias:
    return Alias(document["address"], tuple(document["targets"]))


def holder_of(document: Document) -> Holder:
    return Holder(document["_id"], document["address"], document["quota"])


def signer_of(document: Document) -> Signer:
    apps = {app["hash"]: id for id, app in document["apps"].items()}
    held = {"password": document.get("scram")}
    held |= {f"app:{id}": app.get("scram") for id, app in document["apps"].items()}
    # What an earlier release wrote has none.
    scram = {name: ScramKeys(one["iterations"], bytes(one["keys"])) for name, one in held.items() if one is not None}
    masks = {f"app:{id}": tuple(app["mask"]) for id, app in document["apps"].items() if app.get("mask")}
    return Signer(account_of(document), document["key"], document["password_hash"], apps, scram, masks)


def app_passwords_of(document: Document) -> tuple[AppPassword, ...]:
    """In the order of their making."""
    found = (app_password_of(document, id) for id in document["apps"])
    return tuple(sorted(found, key=lambda app: (app.created_at, app.id)))


def app_password_of(document: Document, id: str) -> AppPassword:
    app = document["apps"][id]
    mask = tuple(app.get("mask", ()))
    return AppPassword(id, document["_id"], app["name"], app["created_at"], app["last_used"], mask)


def domain_document(key: str, domain: Domain) -> Document:
    return {
        "_id": key,
        "id": domain.id,
        "name": domain.name,
        "catch_all": domain.catch_all,
        "subaddress": domain.subaddress,
        "created_at": domain.created_at,
    }


def domain_of(document: Document) -> Domain:
    return Domain(
        document["id"],
        document["name"],
        document["catch_all"],
        document["subaddress"],
        document["created_at"],
    )


def dkim_document(domain: str, key: DkimKey) -> Document:
    """domain: the id of the key's domain."""
    return {
        "_id": f"{domain} {key.selector}",
        "domain": domain,
        "selector": key.selector,
        "algorithm": key.algorithm.value,
        "private_key": key.private_key,
        "public_key": key.public_key,
        "state": key.state.value,
        "created_at": key.created_at,
        "changed_at": key.changed_at,
    }


def dkim_key_of(name: str, document: Document) -> DkimKey:
    """name: of the key's domain."""
    return DkimKey(
        name,
        document["selector"],
        DkimAlgorithm(document["algorithm"]),
        document["private_key"],
        document["public_key"],
        DkimState(document["state"]),
        document["created_at"],
        document["changed_at"],
    )


def change_of(document: Document) -> Change:
    return Change(document["_id"], document["account"], ChangeKind(document["kind"]), tuple(document["revoked"]))


def stays(document: Document | None, principal: Principal) -> bool:
    """Does the account's document let the principal be what it signed in as? A token's family is to be asked too."""
    if document is None or document["kind"] != queries.ACCOUNT:
        return False
    if not sign_in.may_stay(account_of(document), principal):
        return False
    kind, _, id = principal.credential.partition(":")
    match kind:
        case "password":
            return bool(principal.version >= document["password_version"])
        case "app":
            return id in document["apps"]
        case "token":
            return True
    return False


def lives(family: Document | None, document: Document | None) -> bool:
    """Does the account's document (None: there is none) let the token family live? Its times are another question.

    A family ends with its account and with the credential that it began with, without being touched: what a change of
    the account ended is told by the versions that the family was made at.
    """
    if family is None or "ended" in family or document is None or document["kind"] != queries.ACCOUNT:
        return False
    if not document["enabled"] or family["issued"] < document["tokens_from"]:
        return False
    if family["credential"] == "password":
        return bool(family["since"] >= document["password_version"])
    return family["credential"].removeprefix("app:") in document["apps"]
