"""Letters of which one recipient's fate must not be another's, and letters that no policy of TLS keeps back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from smtp.outbound.remote import SmtpTransport
from smtp.outbound.tlspolicy import HostPolicy
from smtp.outbound.transport import TLS_OPTIONAL, Status
from storage.port import Unavailable
from tests.smtp.outbound.letters import letter, only, until
from tests.smtp.outbound.peers import EXTENSIONS, Peer
from tests.smtp.outbound.test_remote_tls import Fixed

Make = Callable[..., SmtpTransport]
ONE_BY_ONE = (*EXTENSIONS, "LIMITS RCPTMAX=1")
LONG = b"Subject: long\r\n\r\n" + b"and so on\r\n" * 100_000
MUST = HostPolicy(True, "web-pki", ("mx.d.example",), kind="mta-sts")


async def test_who_has_got_it_keeps_its_verdict_where_it_cannot_be_read_for_the_next(peer: Peer, make: Make) -> None:
    peer.extensions = ONE_BY_ONE
    asked = letter("a@d.example", "b@d.example", text=LONG)

    async def read(start: int, end: int) -> bytes:
        if peer.taken and start > 0:
            raise Unavailable("away")
        return LONG[start:end]

    result = await make(peer.port).send(replace(asked, read=read))
    first, second = result.outcomes["a@d.example"], result.outcomes["b@d.example"]
    assert first.status is Status.SENT
    assert (second.status, second.doubtful) == (Status.DEFERRED, False)
    assert [taken.rcpt for taken in peer.taken] == [("RCPT TO:<a@d.example>",)]


async def test_what_cannot_be_read_for_the_first_is_storages_error(peer: Peer, make: Make) -> None:
    async def read(start: int, end: int) -> bytes:
        raise Unavailable("away")

    with pytest.raises(Unavailable):
        await make(peer.port).send(replace(letter(), read=read))


async def test_who_has_got_it_keeps_its_verdict_where_the_rest_is_broken_off(peer: Peer, make: Make) -> None:
    peer.extensions = ONE_BY_ONE
    peer.text_delay = 0.1
    sending = asyncio.create_task(make(peer.port).send(letter("a@d.example", "b@d.example")))
    await until(lambda: len(peer.taken) == 1)
    peer.text_delay = 30.0
    await until(lambda: len(peer.said("DATA")) == 2)
    sending.cancel()
    result = await sending
    first, second = result.outcomes["a@d.example"], result.outcomes["b@d.example"]
    assert first.status is Status.SENT
    assert (second.status, second.doubtful) == (Status.DEFERRED, True)


async def test_a_report_about_tls_goes_without_it_and_shares_its_session_with_nothing_else(
    peer: Peer, make: Make
) -> None:
    policies = Fixed(MUST)
    transport = make(peer.port, policies)
    # RFC 8460 §3
    assert only(await transport.send(letter(**{TLS_OPTIONAL: ""}))).status is Status.SENT
    assert peer.taken[0].mail.startswith("MAIL FROM:<a@here.example> SIZE=")
    assert "X-HOMING" not in peer.taken[0].mail
    assert policies.noted == []
    assert only(await transport.send(letter())).status is Status.DEFERRED
    # REQUIRETLS says the opposite, and holds (RFC 8689 §4.1).
    outcome = only(await transport.send(letter(**{TLS_OPTIONAL: "", "REQUIRETLS": ""})))
    assert outcome.status is not Status.SENT
    assert len(peer.taken) == 1
