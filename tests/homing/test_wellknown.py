"""The MTA-STS policy of our own domains, as others fetch it."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from fastapi import FastAPI

from homing.settings import Settings, load_settings
from homing.sts import own_policy, policy_record, policy_text
from homing.wellknown.http_api import router
from identity.port import Reason, Refused
from mail.dnsrecords import sts_id
from runtime.lifecycle import StartError
from smtp.outbound.mtasts import Mode, Policy, parse


class Ours:
    async def domain_exists(self, domain: str) -> bool:
        if domain == "refused.example":
            raise Refused(Reason.BAD_ADDRESS)
        return domain == "ours.example"


def settings(**environ: str) -> Settings:
    return load_settings({"HOMING_DOMAIN": "ours.example", "HOMING_HOSTNAME": "mx.ours.example", **environ}).settings


def answer(policy: Policy | None, host: str) -> httpx.Response:
    app = FastAPI()
    app.include_router(router(Ours(), policy))  # type: ignore[arg-type]  # one call of the port

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=f"https://{host}") as client:
            return await client.get("/.well-known/mta-sts.txt")

    return asyncio.run(ask())


def test_it_is_off_by_default() -> None:
    assert own_policy(settings()) is None
    assert answer(None, "mta-sts.ours.example").status_code == 404


def test_what_is_served_is_what_a_sender_takes() -> None:
    policy = own_policy(settings(HOMING_STS_MODE="enforce"))
    assert policy == Policy(Mode.ENFORCE, ("mx.ours.example",), 604800)
    served = answer(policy, "MTA-STS.Ours.Example")
    assert served.status_code == 200
    assert served.headers["content-type"].startswith("text/plain")
    assert parse(served.content) == policy
    for host in ("ours.example", "mta-sts.other.example", "mta-sts.refused.example", "mta-sts.", "www.ours.example"):
        assert answer(policy, host).status_code == 404


def test_the_record_changes_with_the_policy() -> None:
    records = set()
    for mode, mx in (("testing", ""), ("enforce", ""), ("enforce", "*.ours.example mx2.Ours.example"), ("none", "")):
        policy = own_policy(settings(HOMING_STS_MODE=mode, HOMING_STS_MX=mx))
        assert policy is not None
        assert parse(policy_text(policy).encode()) == policy
        assert sts_id([policy_record(policy)])
        records.add(policy_record(policy))
    assert len(records) == 4
    with pytest.raises(StartError):
        own_policy(settings(HOMING_STS_MODE="enforce", HOMING_STS_MX="a..b"))
