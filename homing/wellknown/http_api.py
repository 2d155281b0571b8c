"""GET /.well-known/mta-sts.txt: the policy that other servers fetch before they send us mail."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import PlainTextResponse

from homing.sts import policy_text
from identity.port import Identity, Refused
from mail.address import AddressError, domain_key
from smtp.outbound.mtasts import Policy

PREFIX = "mta-sts."


def router(identity: Identity, policy: Policy | None) -> APIRouter:
    """policy: None where none is published. Open to all: it says nothing that is not to be known."""
    routes = APIRouter()

    @routes.get(
        "/.well-known/mta-sts.txt",
        tags=["public"],
        summary="The MTA-STS policy of our domains",
        response_class=PlainTextResponse,
        responses={404: {"description": "None is published, or the host is not mta-sts. of one of our domains"}},
    )
    async def mta_sts(request: Request) -> PlainTextResponse:
        # RFC 8461 §3.2: it is of the domain whose name follows "mta-sts.".
        host = (request.url.hostname or "").lower()
        if policy is None or not host.startswith(PREFIX) or not await _ours(identity, host.removeprefix(PREFIX)):
            raise HTTPException(404, "There is no MTA-STS policy here.")
        return PlainTextResponse(policy_text(policy))

    return routes


async def _ours(identity: Identity, domain: str) -> bool:
    try:
        return await identity.domain_exists(domain_key(domain))
    except (AddressError, Refused):
        return False
