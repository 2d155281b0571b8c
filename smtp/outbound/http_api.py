"""The queue over REST: what waits to be sent to other domains, and what is to be done with it."""

from __future__ import annotations

from collections.abc import Collection

from fastapi import APIRouter, Depends, HTTPException, Path, Query
from pydantic import BaseModel, Field

from identity.model import Principal, Role
from mail.address import AddressError, domain_key
from runtime.clock import Clock
from runtime.rest import Guard, told
from smtp.outbound import queueing
from storage.model import SpoolAction, SpoolItem
from storage.port import Reason, Refused, Storage

PAGE_MAX = 1000
ID_MAX = 100


class Recipient(BaseModel):
    """notify, orcpt: as the sender has asked for (RFC 3461)."""

    address: str
    notify: str | None = None
    orcpt: str | None = None


class Item(BaseModel):
    """One message on its way to one domain. Times are Unix seconds. state: "due", "waiting", "held" or "sending".
    trace: `GET /api/trace/{id}` tells its story. last: what kept it back last. told_at: when its sender was told that
    it is late."""

    id: str
    trace: str
    sender: str
    domain: str
    recipients: list[Recipient]
    size: int
    state: str
    queued_at: float
    next_attempt: float
    attempts: int
    route: str | None
    told_at: float | None
    last: str
    account: str | None


class Page(BaseModel):
    """next: to be given as ``after`` for the next page; null on the last."""

    items: list[Item]
    next: str | None


class Domain(BaseModel):
    """What waits for one domain. oldest: when its oldest message came. next_attempt: null where all are held."""

    domain: str
    items: int
    held: int
    size: int
    oldest: float
    next_attempt: float | None


class Domains(BaseModel):
    """next: as in ``Page``."""

    domains: list[Domain]
    next: str | None


class NewRoute(BaseModel):
    """route: mx, smtp://host:port, smtp+tls://host:port, smtps://host:port or connector:name; null for where the
    domain leads by the settings."""

    route: str | None = Field(max_length=1024)


class Many(BaseModel):
    """For these items, or for all of a domain ("*": of all domains)."""

    action: SpoolAction
    items: list[str] = Field(default=[], max_length=PAGE_MAX)
    domain: str | None = Field(None, max_length=255)
    route: str | None = Field(None, max_length=1024)


class Changed(BaseModel):
    """changed: how many items were there and are changed now."""

    changed: int


def router(
    storage: Storage, guard: Guard[Principal], clock: Clock, connectors: Collection[str] = frozenset()
) -> APIRouter:
    """The routes. Users see what they have sent themselves; changes are for administrators. connectors: names of those
    by which mail can be routed."""
    routes = APIRouter(tags=["queue"])
    user = Depends(guard.user)
    admin = [Depends(guard.admin)]

    @routes.get("/api/queue", summary="List what waits to be sent", responses=told(401, 403))
    async def queue(
        limit: int = Query(100, ge=1, le=PAGE_MAX),
        after: str = Query("", max_length=ID_MAX),
        domain: str | None = Query(None, max_length=255),
        account: str | None = Query(None, max_length=ID_MAX),
        caller: Principal = user,
    ) -> Page:
        """What waits, in order of id; account: for administrators, of this account's id alone."""
        found = await storage.spool(_whose(caller, account), limit, after, None if domain is None else _key(domain))
        now = clock.now()
        return Page(items=[_item(one, now) for one in found], next=found[-1].id if len(found) == limit else None)

    @routes.get(
        "/api/queue/domains", summary="Count what waits, by domain", responses=told(401, 403), dependencies=admin
    )
    async def domains(limit: int = Query(100, ge=1, le=PAGE_MAX), after: str = Query("", max_length=255)) -> Domains:
        """What waits, by domain in order of name."""
        found = await storage.spool_domains(limit, after)
        return Domains(
            domains=[
                Domain(
                    domain=one.domain,
                    items=one.items,
                    held=one.held,
                    size=one.size,
                    oldest=one.oldest,
                    next_attempt=one.next_attempt,
                )
                for one in found
            ],
            next=found[-1].domain if len(found) == limit else None,
        )

    @routes.post("/api/queue/change", summary="Change many messages", responses=told(401, 403, 422), dependencies=admin)
    async def change_many(body: Many) -> Changed:
        """Do the same with many items."""
        if bool(body.items) == (body.domain is not None):
            raise HTTPException(422, "Name either items or a domain.")
        if (body.action is SpoolAction.ROUTE) != ("route" in body.model_fields_set):
            raise HTTPException(422, "A route belongs to the action route, and to no other.")
        route = _route(body.route, connectors)
        if body.domain is None:
            done = await queueing.change(storage, body.items, body.action, route)
        else:
            domain = None if body.domain == "*" else _key(body.domain)
            done = await queueing.change_all(storage, domain, body.action, route)
        return Changed(changed=len(done))

    @routes.get("/api/queue/{id}", summary="Look at a message", responses=told(401, 403, 404))
    async def one(id: str = Path(max_length=ID_MAX), caller: Principal = user) -> Item:
        """One item."""
        try:
            return _item(await storage.spool_item(id, _whose(caller, None)), clock.now())
        except Refused as error:
            raise _missing(error) from None

    async def change(id: str, action: SpoolAction, route: str | None = None) -> Item | None:
        if not await queueing.change(storage, [id], action, route):
            if action is SpoolAction.DROP and await _there(storage, id):
                raise HTTPException(409, "The message is being sent at this moment.")
            raise HTTPException(404, "There is no such message in the queue.")
        try:
            return _item(await storage.spool_item(id, None), clock.now())
        except Refused as error:
            # Dropped; or sent since.
            if error.reason is not Reason.NO_SUCH_ITEM:
                raise
            return None

    @routes.post(
        "/api/queue/{id}/retry", summary="Try a message now", responses=told(401, 403, 404), dependencies=admin
    )
    async def retry(id: str = Path(max_length=ID_MAX)) -> Item | None:
        """Try it now."""
        return await change(id, SpoolAction.RETRY)

    @routes.post("/api/queue/{id}/hold", summary="Hold a message", responses=told(401, 403, 404), dependencies=admin)
    async def hold(id: str = Path(max_length=ID_MAX)) -> Item | None:
        """Keep it until it is released."""
        return await change(id, SpoolAction.HOLD)

    @routes.post(
        "/api/queue/{id}/release",
        summary="End the hold of a message",
        responses=told(401, 403, 404),
        dependencies=admin,
    )
    async def release(id: str = Path(max_length=ID_MAX)) -> Item | None:
        """End the hold."""
        return await change(id, SpoolAction.RELEASE)

    @routes.post(
        "/api/queue/{id}/drop", summary="Drop a message", responses=told(401, 403, 404, 409), dependencies=admin
    )
    async def drop(id: str = Path(max_length=ID_MAX)) -> Changed:
        """Take it away without a word to its sender. 409 while it is being sent."""
        await change(id, SpoolAction.DROP)
        return Changed(changed=1)

    @routes.post(
        "/api/queue/{id}/route",
        summary="Send a message by another way",
        responses=told(401, 403, 404, 422),
        dependencies=admin,
    )
    async def reroute(body: NewRoute, id: str = Path(max_length=ID_MAX)) -> Item | None:
        """Send it by another way."""
        return await change(id, SpoolAction.ROUTE, _route(body.route, connectors))

    return routes


def _whose(caller: Principal, account: str | None) -> str | None:
    """Of whom the caller sees items: None for all."""
    return account if caller.role is Role.ADMIN else caller.account


async def _there(storage: Storage, id: str) -> bool:
    try:
        await storage.spool_item(id, None)
    except Refused:
        return False
    return True


def _key(domain: str) -> str:
    try:
        return domain_key(domain)
    except AddressError:
        raise HTTPException(422, "That is not a domain.") from None


def _route(text: str | None, connectors: Collection[str]) -> str | None:
    try:
        return queueing.check_route(text, connectors)
    except queueing.BadRoute as error:
        raise HTTPException(422, f"The route cannot be used: {error}.") from None


def _missing(error: Refused) -> HTTPException:
    if error.reason is not Reason.NO_SUCH_ITEM:
        raise error
    return HTTPException(404, "There is no such message in the queue.")


def _item(item: SpoolItem, now: float) -> Item:
    return Item(
        id=item.id,
        trace=item.trace,
        sender=item.sender,
        domain=item.domain,
        recipients=[
            Recipient(address=one.address, notify=one.params.get("NOTIFY"), orcpt=one.params.get("ORCPT"))
            for one in item.recipients
        ],
        size=item.size,
        state=queueing.state(item, now),
        queued_at=item.queued_at,
        next_attempt=item.next_attempt,
        attempts=item.attempts,
        route=item.route,
        told_at=item.told_at,
        last=item.last,
        account=item.account,
    )
