"""Names that the system is asked about."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from homing.hosts import THREADS, SystemHosts
from runtime.dns import DnsTemporary, NoSuchName


async def test_what_the_system_says() -> None:
    hosts = SystemHosts(5.0)
    assert "127.0.0.1" in (await hosts.addresses("localhost")).values
    assert (await hosts.addresses("127.0.0.1", v6=False)).values == ("127.0.0.1",)
    for name in ("a" * 64 + ".example", "a..b"):
        with pytest.raises(NoSuchName):
            await hosts.addresses(name)


async def test_a_system_that_is_silent_keeps_nobody_else_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def silent(*_: Any) -> Any:
        over.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "again")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    hosts = SystemHosts(0.2)
    try:
        async with asyncio.timeout(60):
            asked = [hosts.addresses("mail.example") for _ in range(10 * THREADS)]
            told = await asyncio.gather(*asked, return_exceptions=True)
            assert {type(one) for one in told} == {DnsTemporary}
            # The threads of all others are free.
            assert await asyncio.gather(*(asyncio.to_thread(int, "1") for _ in range(10))) == [1] * 10
    finally:
        over.set()
