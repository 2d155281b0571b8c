"""Administration of identity over REST: accounts, domains, aliases, app passwords.

For administrators; an account's own holder may look at it, change its name and password, and keep its app passwords.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from identity.dkim import first_keys
from identity.http_api import Done, origin
from identity.model import Account, Alias, AppPassword, Domain, NewAccount, Principal, Role
from identity.names import BadName, domain_key
from identity.port import Identity, Reason, Refused
from runtime.rest import Guard, told

Limit = Annotated[int, Query(ge=1, le=10_000, description="how many at most")]
Mask = Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=100, examples=[["UIDONLY"]])]
After = Annotated[str, Query(max_length=1024, description="the address that ended the page before")]
Used = Callable[[Sequence[str]], Awaitable[Sequence[int | None]]]
"""From account ids to the octets of mail that each keeps, in their order; None where that cannot be told now. Who keeps
mail is not for identity to know."""

Unknown = Callable[[Iterable[str]], str | None]
"""A sentence about the first of the names of a mask that masks nothing; None where there is none. What can be masked is
not for identity to know."""


class User(BaseModel):
    """An account. Times are Unix seconds, a quota is octets (null: no limit), and so is what is used of it (null: it
    cannot be told now). mask: IMAP capabilities that are neither offered to it nor taken from it."""

    id: str
    email: str
    display_name: str
    role: Role
    quota: int | None
    used: int | None
    enabled: bool
    created_at: float
    mask: list[str]


class Users(BaseModel):
    """A page of accounts, in order of address; ask for the next with `after` = the last email."""

    users: list[User]


class Registration(BaseModel):
    """A new account: with a password, or with a hash of one (argon2id, bcrypt, sha512-crypt)."""

    model_config = ConfigDict(hide_input_in_errors=True, extra="forbid")
    email: str = Field(max_length=1024, examples=["new@example.com"])
    password: str | None = Field(default=None, max_length=4096)
    password_hash: str | None = Field(default=None, max_length=1024)
    display_name: str = ""
    role: Role = Role.USER
    quota: int | None = Field(default=None, ge=0, description="octets; null for no limit")


class UserChange(BaseModel):
    """What is given is changed; `"quota": null` takes the limit away. An account's own holder may give display_name,
    mask, and password together with current_password."""

    model_config = ConfigDict(hide_input_in_errors=True, extra="forbid")
    display_name: str | None = None
    password: str | None = Field(default=None, max_length=4096)
    current_password: str | None = Field(default=None, max_length=4096)
    enabled: bool | None = None
    role: Role | None = None
    quota: int | None = Field(default=None, ge=0)
    mask: Mask | None = None


class DomainValue(BaseModel):
    """A domain. catch_all: who gets mail for unknown names. subaddress: what begins a detail, "" for no details."""

    id: str
    domain: str
    catch_all: str | None
    subaddress: str
    created_at: float


class Domains(BaseModel):
    domains: list[DomainValue]


class NewDomain(BaseModel):
    model_config = ConfigDict(extra="forbid")
    domain: str = Field(max_length=1024, examples=["example.com"])
    catch_all: str | None = Field(default=None, max_length=1024)


class DomainChange(BaseModel):
    """What is given is changed; `"catch_all": null` takes the catch-all away."""

    model_config = ConfigDict(extra="forbid")
    catch_all: str | None = Field(default=None, max_length=1024)
    subaddress: str | None = Field(default=None, max_length=1)


class AliasValue(BaseModel):
    """An address that stands for others, here or elsewhere."""

    address: str
    targets: list[str]


class Aliases(BaseModel):
    aliases: list[AliasValue]


class AliasTargets(BaseModel):
    model_config = ConfigDict(extra="forbid")
    targets: list[Annotated[str, Field(max_length=1024)]] = Field(min_length=1, max_length=1000)


class AppPasswordValue(BaseModel):
    id: str
    name: str
    created_at: float
    last_used: float | None
    mask: list[str]


class AppPasswordValues(BaseModel):
    app_passwords: list[AppPasswordValue]


class NewAppPassword(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=100, examples=["phone"])
    mask: Mask = []


class AppPasswordChange(BaseModel):
    """mask: IMAP capabilities that are neither offered to who signs in with it nor taken from him."""

    model_config = ConfigDict(extra="forbid")
    mask: Mask


class MadeAppPassword(AppPasswordValue):
    """password: shown this once."""

    password: str


def router(identity: Identity, guard: Guard[Principal], used: Used, unknown: Unknown) -> APIRouter:
    """The routes; `guard` as for `http_api.router`."""

    def check_mask(names: Iterable[str]) -> None:
        if (wrong := unknown(names)) is not None:
            raise Refused(Reason.LIMIT, wrong)

    routes = APIRouter()
    _users(routes, identity, guard, used, check_mask)
    _app_passwords(routes, identity, guard, check_mask)
    _domains(routes, identity, guard)
    _aliases(routes, identity, guard)
    return routes


def _users(
    routes: APIRouter,
    identity: Identity,
    guard: Guard[Principal],
    used: Used,
    check_mask: Callable[[Iterable[str]], None],
) -> None:
    admin, signed_in = [Depends(guard.admin)], Depends(guard.user)

    async def shown(account: Account) -> User:
        return _user(account, *await used([account.id]))

    @routes.get(
        "/api/users",
        tags=["users"],
        summary="List accounts",
        responses=told(401, 403, 422),
        dependencies=admin,
    )
    async def users(domain: str | None = None, limit: Limit = 1000, after: After = "") -> Users:
        accounts = await identity.accounts(domain, limit, after)
        octets = await used([account.id for account in accounts])
        return Users(users=[_user(*row) for row in zip(accounts, octets, strict=True)])

    @routes.post(
        "/api/register",
        tags=["users"],
        summary="Make an account",
        status_code=201,
        responses=told(401, 403, 404, 409, 422),
        dependencies=admin,
    )
    async def register(body: Registration) -> User:
        new = NewAccount(body.email, body.password, body.password_hash, body.quota, body.role, body.display_name)
        return await shown(await identity.add_account(new))

    @routes.get("/api/users/{id}", tags=["users"], summary="Look at an account", responses=told(401, 403, 404))
    async def user(id: str, caller: Principal = signed_in) -> User:
        return await shown(await _reached(identity, id, caller))

    @routes.put(
        "/api/users/{id}", tags=["users"], summary="Change an account", responses=told(401, 403, 404, 409, 422, 429)
    )
    async def change(id: str, body: UserChange, request: Request, caller: Principal = signed_in) -> User:
        account = await _reached(identity, id, caller)
        given = body.model_fields_set
        if caller.role is not Role.ADMIN:
            if given - {"display_name", "password", "current_password", "mask"}:
                raise HTTPException(403, "Only an administrator changes this.")
            if body.password is not None:
                # A token alone does not change a password: it may have been left lying about.
                await _ask_password(identity, account, body.current_password, request)
        check_mask(body.mask or ())
        if given & {"enabled", "role", "quota", "display_name", "mask"}:
            account = await identity.update_account(
                account.id,
                enabled=body.enabled,
                role=body.role,
                quota=body.quota,
                no_quota="quota" in given and body.quota is None,
                display_name=body.display_name,
                mask=body.mask,
            )
        if body.password is not None:
            await identity.set_password(account.id, body.password)
        return await shown(account)

    @routes.delete(
        "/api/users/{id}",
        tags=["users"],
        summary="Remove an account and its mail",
        responses=told(401, 403, 404, 409),
        dependencies=admin,
    )
    async def remove(id: str) -> Done:
        await identity.remove_account((await _named(identity, id)).id)
        return Done(status="removed")


def _app_passwords(
    routes: APIRouter, identity: Identity, guard: Guard[Principal], check_mask: Callable[[Iterable[str]], None]
) -> None:
    path, signed_in = "/api/users/{id}/app-passwords", Depends(guard.user)

    @routes.get(path, tags=["app passwords"], summary="List app passwords", responses=told(401, 403, 404))
    async def app_passwords(id: str, caller: Principal = signed_in) -> AppPasswordValues:
        account = await _reached(identity, id, caller)
        return AppPasswordValues(app_passwords=[_app(app) for app in await identity.app_passwords(account.id)])

    @routes.post(
        path,
        tags=["app passwords"],
        summary="Make an app password, shown once",
        status_code=201,
        responses=told(401, 403, 404, 409, 422),
    )
    async def add(id: str, body: NewAppPassword, caller: Principal = signed_in) -> MadeAppPassword:
        account = await _reached(identity, id, caller)
        check_mask(body.mask)
        made, secret = await identity.add_app_password(account.id, body.name, body.mask)
        return MadeAppPassword(**_app(made).model_dump(), password=secret)

    @routes.put(
        path + "/{app}", tags=["app passwords"], summary="Mask an app password", responses=told(401, 403, 404, 422)
    )
    async def change(id: str, app: str, body: AppPasswordChange, caller: Principal = signed_in) -> AppPasswordValue:
        account = await _reached(identity, id, caller)
        check_mask(body.mask)
        return _app(await identity.mask_app_password(account.id, app, body.mask))

    @routes.delete(
        path + "/{app}", tags=["app passwords"], summary="Revoke an app password", responses=told(401, 403, 404)
    )
    async def revoke(id: str, app: str, caller: Principal = signed_in) -> Done:
        account = await _reached(identity, id, caller)
        await identity.revoke_app_password(account.id, app)
        return Done(status="revoked")


def _domains(routes: APIRouter, identity: Identity, guard: Guard[Principal]) -> None:
    admin = [Depends(guard.admin)]

    @routes.get("/api/domains", tags=["domains"], summary="List domains", responses=told(401, 403), dependencies=admin)
    async def domains() -> Domains:
        return Domains(domains=[_domain(domain) for domain in await identity.domains()])

    @routes.post(
        "/api/domains",
        tags=["domains"],
        summary="Add a domain",
        status_code=201,
        responses=told(401, 403, 409, 422),
        dependencies=admin,
    )
    async def add(body: NewDomain) -> DomainValue:
        added = await identity.add_domain(body.domain, body.catch_all)
        await first_keys(identity, added.name)
        return _domain(added)

    @routes.get(
        "/api/domains/{id}",
        tags=["domains"],
        summary="Look at a domain (by id or name)",
        responses=told(401, 403, 404),
        dependencies=admin,
    )
    async def domain(id: str) -> DomainValue:
        return _domain(await _domain_named(identity, id))

    @routes.put(
        "/api/domains/{id}",
        tags=["domains"],
        summary="Change a domain",
        responses=told(401, 403, 404, 422),
        dependencies=admin,
    )
    async def change(id: str, body: DomainChange) -> DomainValue:
        old = await _domain_named(identity, id)
        catch_all = body.catch_all if "catch_all" in body.model_fields_set else old.catch_all
        subaddress = old.subaddress if body.subaddress is None else body.subaddress
        return _domain(await identity.update_domain(old.name, catch_all, subaddress))

    @routes.delete(
        "/api/domains/{id}",
        tags=["domains"],
        summary="Remove a domain that has no accounts and aliases",
        responses=told(401, 403, 404, 409),
        dependencies=admin,
    )
    async def remove(id: str) -> Done:
        await identity.remove_domain((await _domain_named(identity, id)).name)
        return Done(status="removed")


def _aliases(routes: APIRouter, identity: Identity, guard: Guard[Principal]) -> None:
    admin = [Depends(guard.admin)]

    @routes.get(
        "/api/aliases", tags=["aliases"], summary="List aliases", responses=told(401, 403, 422), dependencies=admin
    )
    async def aliases(domain: str | None = None, limit: Limit = 1000, after: After = "") -> Aliases:
        found = await identity.aliases(domain, limit, after)
        return Aliases(aliases=[AliasValue(address=alias.address, targets=list(alias.targets)) for alias in found])

    @routes.put(
        "/api/aliases/{address}",
        tags=["aliases"],
        summary="Make or replace an alias",
        responses=told(401, 403, 404, 409, 422),
        dependencies=admin,
    )
    async def put(address: str, body: AliasTargets) -> AliasValue:
        await identity.put_alias(Alias(address, tuple(body.targets)))
        return AliasValue(address=address, targets=body.targets)

    @routes.delete(
        "/api/aliases/{address}",
        tags=["aliases"],
        summary="Remove an alias",
        responses=told(401, 403, 404, 422),
        dependencies=admin,
    )
    async def remove(address: str) -> Done:
        await identity.remove_alias(address)
        return Done(status="removed")


async def _named(identity: Identity, id: str) -> Account:
    """The account of an id, or of an address, which people know better."""
    return await identity.find_account(id) if "@" in id else await identity.account(id)


async def _reached(identity: Identity, id: str, caller: Principal) -> Account:
    """The account, when the caller may reach it; who may not is not told whether it is there."""
    if caller.role is Role.ADMIN:
        return await _named(identity, id)
    account = await identity.account(caller.account)
    if id != account.id and id.lower() != account.address.lower():
        raise HTTPException(403, "Only an administrator reaches the accounts of others.")
    return account


async def _ask_password(identity: Identity, account: Account, password: str | None, request: Request) -> None:
    if password is None:
        raise HTTPException(403, "A new password needs current_password too.")
    principal = await identity.authenticate(account.address, password, origin(request))
    if principal.account != account.id or principal.credential != "password":
        raise Refused(Reason.BAD_CREDENTIALS)


async def _domain_named(identity: Identity, id: str) -> Domain:
    try:
        key = domain_key(id)
    except BadName:
        key = ""
    for domain in await identity.domains():
        if domain.id == id or domain_key(domain.name) == key:
            return domain
    raise Refused(Reason.NO_SUCH_DOMAIN)


def _user(account: Account, used: int | None) -> User:
    return User(
        id=account.id,
        email=account.address,
        display_name=account.display_name,
        role=account.role,
        quota=account.quota,
        used=used,
        enabled=account.enabled,
        created_at=account.created_at,
        mask=list(account.mask),
    )


def _domain(domain: Domain) -> DomainValue:
    return DomainValue(
        id=domain.id,
        domain=domain.name,
        catch_all=domain.catch_all,
        subaddress=domain.subaddress,
        created_at=domain.created_at,
    )


def _app(app: AppPassword) -> AppPasswordValue:
    return AppPasswordValue(
        id=app.id, name=app.name, created_at=app.created_at, last_used=app.last_used, mask=list(app.mask)
    )
