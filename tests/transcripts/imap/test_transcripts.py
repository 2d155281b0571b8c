"""Every script of this folder, played to a service of its own: whole lines, then octet by octet; and over TLS, with the
storage and the identity behind HTTP, what no running server is asked (tests/integration)."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from identity.model import Role
from imap.progress import PERIOD
from imap.service import ImapService, ImapSettings
from runtime.clock import ManualClock, SystemClock
from runtime.tls import Tls, make_self_signed
from storage.connect import connect
from storage.port import Storage
from tests.imap.fakes import FakeIdentity, FakeStorage
from tests.served import identity_behind_http, storage_behind_http
from tests.transcripts.imap.spoken import (
    ADMINISTRATORS,
    HURRIED,
    LIVE_ALONE,
    MASKS,
    MESSAGE_LIMITS,
    NO_PASSWORD_IN_CLEAR,
    NOT_LIVE,
    QUOTAS,
    has_two_clients,
)
from tests.transcripts.play import play, read

SCRIPTS = [path for path in sorted(Path(__file__).parent.glob("*.txt")) if path.stem not in LIVE_ALONE]
OF_ONE = [path for path in SCRIPTS if not has_two_clients(read(path))]
"""Those without a second client: the storage in memory shares nothing."""


class Hurried(ManualClock):
    """Time goes on by being asked for."""

    def monotonic(self) -> float:
        self.advance(PERIOD)
        return super().monotonic()


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return Tls(*make_self_signed(tmp_path_factory.mktemp("tls"), ["localhost"]))


@asynccontextmanager
async def serving(storage: Storage, tls: Tls, name: str = "", apart: bool = False) -> AsyncIterator[ImapService]:
    """name: of the dialogue, which may need an account or a server of its kind. apart: the identity is behind HTTP."""
    who: Any = FakeIdentity(alice="secret", bob="secret", robin="secret")
    who.quotas["alice"] = QUOTAS.get(name)
    who.roles["alice"] = Role.ADMIN if name in ADMINISTRATORS else Role.USER
    who.masks["alice"] = MASKS.get(name, ())
    if apart:
        who = await identity_behind_http(who)
    settings = ImapSettings(
        host="127.0.0.1",
        port=0,
        tls_port=0,
        message_limit=MESSAGE_LIMITS.get(name),
        plain_sign_in="never" if name in NO_PASSWORD_IN_CLEAR else "loopback",
        administrator="mailto:postmaster@example.org",
    )
    clock = Hurried() if name in HURRIED else SystemClock()
    service = ImapService(settings, identity=who, storage=storage, tls=tls.context, clock=clock)
    await service.start()
    try:
        yield service
    finally:
        await service.stop()
        if apart:
            await who.close()


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.mark.parametrize("path", OF_ONE, ids=lambda path: path.stem)
@pytest.mark.parametrize("cut", [None, 1], ids=["lines", "octets"])
async def test_on_memory(path: Path, cut: int | None, tls: Tls) -> None:
    async with serving(FakeStorage(), tls, path.stem) as service:
        await play(read(path), service.ports["imap"], tls=trusting(), cut=cut)


@pytest.mark.parametrize("path", [path for path in SCRIPTS if path.stem not in HURRIED], ids=lambda path: path.stem)
async def test_on_sqlite(path: Path, tls: Tls, tmp_path: Path) -> None:
    storage = await connect(f"sqlite://{tmp_path}")
    try:
        async with serving(storage, tls, path.stem) as service:
            await play(read(path), service.ports["imap"], tls=trusting())
    finally:
        await storage.close()


@pytest.mark.parametrize("name", sorted(NOT_LIVE))
@pytest.mark.parametrize("cut", [None, 1], ids=["lines", "octets"])
async def test_over_tls_and_http(name: str, cut: int | None, tls: Tls, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        storage: Any = FakeStorage()
        if name not in HURRIED:
            storage = await storage_behind_http(await connect(f"sqlite://{tmp_path}"))
            stack.push_async_callback(storage.close)
        script = read(Path(__file__).parent / f"{name}.txt")
        service = await stack.enter_async_context(serving(storage, tls, name, apart=True))
        port = service.ports["imaps" if script.fits_tls else "imap"]
        await play(script, port, tls=trusting(), implicit=script.fits_tls, cut=cut)
