"""Sending over REST through an account's own integration, and keeping the integrations (docs/sending-api.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from homing.integrations.book import BadIntegration, Book, Wanted
from homing.integrations.failures import Cause, NotSent, Sent
from homing.integrations.making import Integrations
from homing.integrations.outbox import Done, Outbox
from homing.integrations.vault import SecretsUnreadable, Vault
from identity.http_api import Done as Removed
from identity.model import Integration, Principal, Provider, Security
from identity.port import Identity
from runtime.rest import Guard, told

PATH = "/smtp/integrations"
TAG = "sending"

ProviderName = Literal["smtp", "gmail", "microsoft", "basic"]
Text = Annotated[str, Field(max_length=512)]
Secret = Annotated[str, Field(max_length=4096, json_schema_extra={"format": "password", "writeOnly": True})]


class SendBody(BaseModel):
    """to: one address, or several with commas between them, with or without names. message: plain text. html: the same
    for readers that show HTML. integration: the name or id of one, else the default."""

    model_config = ConfigDict(
        hide_input_in_errors=True,
        extra="forbid",
        json_schema_extra={
            "examples": [{"to": "john@example.com", "subject": "Hello", "message": "Good morning,\n\nJohn."}]
        },
    )
    to: str = Field(min_length=3, max_length=64 * 1024)
    subject: str = Field(max_length=8_000)
    message: str = Field(max_length=16 * 1024 * 1024)
    html: str | None = Field(default=None, max_length=16 * 1024 * 1024)
    integration: str | None = Field(default=None, max_length=128)


class RefusedRecipient(BaseModel):
    """cause, detail: as of an error. sent: "maybe" where no answer was seen."""

    to: str
    cause: str
    detail: str
    sent: str


class SentEmail(BaseModel):
    """The provider has taken the message. refused: recipients that it was not taken for, among others. trace: for
    `homing trace` and GET /api/trace."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "status": "sent",
                    "message": "The message was sent to john@example.com.",
                    "message_id": "5d0c…@example.org",
                    "integration": "work",
                    "accepted": ["john@example.com"],
                    "refused": [],
                    "trace": "01942f3e9a7b4c1d8e6f5a4b3c2d1e0f",
                }
            ]
        }
    )
    status: Literal["sent"] = "sent"
    message: str
    message_id: str
    integration: str
    accepted: list[str]
    refused: list[RefusedRecipient]
    trace: str


class ToldRecipient(BaseModel):
    to: str
    detail: str


class NotSentTold(BaseModel):
    """cause: one word for programs. sent: "maybe" where the whole message was handed over and no answer was seen."""

    detail: str
    cause: str
    sent: Literal["no", "maybe"] = "no"
    recipients: list[ToldRecipient] = Field(default_factory=list)


class IntegrationValue(BaseModel):
    """An integration, without its secrets. host, port: null for those of the provider. Times are Unix seconds."""

    id: str
    name: str
    provider: Provider
    from_email: str
    user: str
    host: str | None
    port: int | None
    security: Security
    verify: bool
    default: bool
    created_at: float
    changed_at: float


class IntegrationValues(BaseModel):
    """In the order of their making."""

    integrations: list[IntegrationValue]


class NewIntegration(BaseModel):
    """smtp: user and secret are those of any SMTP host, and host has to be given. gmail, microsoft: they are the client
    id and secret of OAuth2, and credential is the refresh token (gmail) or the tenant id (microsoft). security: TLS by
    STARTTLS (587), from the first octet ("tls", 465), or none, which is for servers on this machine."""

    model_config = ConfigDict(
        hide_input_in_errors=True,
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "work",
                    "provider": "smtp",
                    "from_email": "Alice <alice@example.org>",
                    "user": "alice@example.org",
                    "secret": "an app password",
                    "host": "mail.example.org",
                    "port": 587,
                }
            ]
        },
    )
    name: str = Field(min_length=1, max_length=100)
    provider: ProviderName = "smtp"
    from_email: Text
    user: Text
    secret: Secret
    credential: Secret | None = None
    host: Text | None = None
    port: int | None = Field(default=None, ge=1, le=65535)
    security: Security | None = None
    verify: bool = Field(default=True, description="whether the server's certificate is verified")


class IntegrationChange(BaseModel):
    """What is given is changed. Where the secret would be told to another server, or for another user, it has to be
    given anew."""

    model_config = ConfigDict(hide_input_in_errors=True, extra="forbid")
    name: str | None = Field(default=None, min_length=1, max_length=100)
    provider: ProviderName | None = None
    from_email: Text | None = None
    user: Text | None = None
    secret: Secret | None = None
    credential: Secret | None = None
    host: Text | None = None
    port: int | None = Field(default=None, ge=1, le=65535)
    security: Security | None = None
    verify: bool | None = None


class KeysInUse(BaseModel):
    """For administrators: present: the id of the key that seals, null before there is one. sealed: how many
    integrations are sealed with each. missing: ids of keys that this server does not have."""

    present: str | None
    sealed: dict[str, int]
    missing: list[str]


class Tested(BaseModel):
    status: Literal["ok"] = "ok"
    message: str


def router(made: Integrations, identity: Identity, guard: Guard[Principal]) -> APIRouter:
    """The routes, all of them for the token's own account alone."""
    routes = APIRouter(tags=[TAG])
    _sending(routes, made.outbox, guard)
    _keeping(routes, made.book, identity, guard)
    _keys(routes, made.vault, identity, guard)
    return routes


def _sending(routes: APIRouter, outbox: Outbox, guard: Guard[Principal]) -> None:
    signed_in = Depends(guard.user)

    @routes.post(
        "/smtp/send-email",
        summary="Send a message through my integration",
        response_model=SentEmail,
        responses=_failures(*Cause),
    )
    async def send_email(body: SendBody, caller: Principal = signed_in) -> SentEmail | JSONResponse:
        """It has been taken by the provider when this answers, and waits in no queue. It goes out as the integration's
        own address, and as no other."""
        try:
            done = await outbox.send(
                caller,
                to=body.to,
                subject=body.subject,
                message=body.message,
                html=body.html,
                integration=body.integration,
            )
        except NotSent as error:
            return _answer(error)
        return _sent(done)

    @routes.post(
        PATH + "/{id}/test",
        summary="Sign in to my integration, without sending",
        response_model=Tested,
        responses=_failures(
            Cause.NO_SUCH_INTEGRATION,
            Cause.BAD_SETTINGS,
            Cause.SECRET_UNREADABLE,
            Cause.SIGN_IN_REFUSED,
            Cause.PUT_OFF,
            Cause.UNREACHABLE,
            Cause.BAD_CERTIFICATE,
            Cause.TIMED_OUT,
            Cause.TOO_BUSY,
        ),
    )
    async def test(id: str, caller: Principal = signed_in) -> Tested | JSONResponse:
        try:
            one = await outbox.test(caller, id)
        except NotSent as error:
            return _answer(error)
        return Tested(message=f"The provider lets {one.settings.name} sign in.")


def _keeping(routes: APIRouter, book: Book, identity: Identity, guard: Guard[Principal]) -> None:
    signed_in = Depends(guard.user)

    @routes.get(PATH, summary="List my integrations", responses=told(401, 403))
    async def integrations(caller: Principal = signed_in) -> IntegrationValues:
        held = await identity.integrations(caller.account)
        return IntegrationValues(integrations=[_value(one) for one in held])

    @routes.post(PATH, summary="Add an integration", status_code=201, responses=told(401, 403, 409, 422))
    async def add(body: NewIntegration, caller: Principal = signed_in) -> IntegrationValue:
        """The first one is the default. Secrets are kept encrypted, and never shown again."""
        with _told():
            return _value(await book.add(caller.account, _wanted(body)))

    @routes.get(PATH + "/{id}", summary="Look at an integration", responses=told(401, 403, 404))
    async def integration(id: str, caller: Principal = signed_in) -> IntegrationValue:
        return _value(await book.find(caller.account, id))

    @routes.put(PATH + "/{id}", summary="Change an integration", responses=told(401, 403, 404, 409, 422))
    async def change(id: str, body: IntegrationChange, caller: Principal = signed_in) -> IntegrationValue:
        with _told():
            return _value(await book.change(caller.account, id, _wanted(body)))

    @routes.put(PATH + "/{id}/default", summary="Make an integration the default", responses=told(401, 403, 404))
    async def choose(id: str, caller: Principal = signed_in) -> IntegrationValue:
        return _value(await identity.set_default_integration(caller.account, id))

    @routes.delete(PATH + "/{id}", summary="Remove an integration", responses=told(401, 403, 404))
    async def remove(id: str, caller: Principal = signed_in) -> Removed:
        """Where it was the default, none is then."""
        await identity.remove_integration(caller.account, id)
        return Removed(status="removed")


def _keys(routes: APIRouter, vault: Vault, identity: Identity, guard: Guard[Principal]) -> None:
    @routes.get(
        "/api/integrations/keys",
        summary="Which keys are secrets sealed with?",
        responses=told(401, 403),
        dependencies=[Depends(guard.admin)],
    )
    async def keys() -> KeysInUse:
        sealed = dict(await identity.sealed_with())
        missing = [key for key in sealed if key not in vault.known]
        return KeysInUse(present=vault.present, sealed=sealed, missing=missing)


@contextmanager
def _told() -> Iterator[None]:
    """What cannot be stored, as HTTP tells it."""
    try:
        yield
    except BadIntegration as error:
        raise HTTPException(422, str(error)) from None
    except SecretsUnreadable as error:
        raise HTTPException(503, str(error)) from None


def _wanted(body: NewIntegration | IntegrationChange) -> Wanted:
    values = body.model_dump()
    if values["provider"] is not None:
        values["provider"] = Provider("smtp" if values["provider"] == "basic" else values["provider"])
    return Wanted(**values)


def _value(one: Integration) -> IntegrationValue:
    settings = one.settings
    return IntegrationValue(
        id=one.id,
        name=settings.name,
        provider=settings.provider,
        from_email=settings.from_email,
        user=settings.user,
        host=settings.host or None,
        port=settings.port or None,
        security=settings.security,
        verify=settings.verify,
        default=one.default,
        created_at=one.created_at,
        changed_at=one.changed_at,
    )


def _sent(done: Done) -> SentEmail:
    refused = [
        RefusedRecipient(to=to, cause=said.cause.value, detail=said.text, sent=said.sent.value)
        for to, said in done.refused
    ]
    message = f"The message was sent to {', '.join(done.accepted)}."
    if refused:
        message += f" It was not sent to {', '.join(one.to for one in refused)}."
    return SentEmail(
        message=message,
        message_id=done.message_id,
        integration=done.integration,
        accepted=list(done.accepted),
        refused=refused,
        trace=done.trace,
    )


def _answer(error: NotSent) -> JSONResponse:
    body = NotSentTold(
        detail=error.text,
        cause=error.cause.value,
        sent="maybe" if error.sent is Sent.MAYBE else "no",
        recipients=[ToldRecipient(to=to, detail=detail) for to, detail in error.recipients],
    )
    headers = None if error.again is None else {"Retry-After": str(max(1, math.ceil(error.again)))}
    return JSONResponse(body.model_dump(), error.cause.status, headers)


def _failures(*causes: Cause) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, an example for each cause, for its documentation."""
    found: dict[int | str, dict[str, Any]] = dict(told(401, 403, 422))
    by_status: dict[int, list[Cause]] = {}
    for cause in causes:
        by_status.setdefault(cause.status, []).append(cause)
    for status, those in by_status.items():
        examples = {
            cause.value: {
                "summary": cause.what,
                "value": {
                    "detail": f"{cause.what[0].upper()}{cause.what[1:]}.",
                    "cause": cause.value,
                    "sent": "maybe" if cause is Cause.UNSEEN else "no",
                    "recipients": [],
                },
            }
            for cause in those
        }
        found[status] = {
            "model": NotSentTold,
            "description": "; ".join(f"{cause.value}: {cause.what}" for cause in those),
            "content": {"application/json": {"examples": examples}},
        }
    return found
