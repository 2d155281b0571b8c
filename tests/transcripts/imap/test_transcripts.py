"""Every script of this folder, played to a service of its own: whole lines, then octet by octet."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from identity.model import Role
from imap.service import ImapService, ImapSettings
from runtime.clock import SystemClock
from runtime.tls import Tls, make_self_signed
from storage.connect import connect
from storage.port import Storage
from tests.imap.fakes import FakeIdentity, FakeStorage
from tests.transcripts.imap.spoken import ADMINISTRATORS, MASKS, MESSAGE_LIMITS, QUOTAS, has_two_clients
from tests.transcripts.play import play, read

SCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))
OF_ONE = [path for path in SCRIPTS if not has_two_clients(read(path))]
"""Those without a second client: the storage in memory shares nothing."""


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return Tls(*make_self_signed(tmp_path_factory.mktemp("tls"), ["localhost"]))


@asynccontextmanager
async def serving(storage: Storage, tls: Tls, name: str = "") -> AsyncIterator[int]:
    """name: of the dialogue, which may need an account of its kind."""
    who = FakeIdentity(alice="secret", bob="secret", robin="secret")
    who.quotas["alice"] = QUOTAS.get(name)
    who.roles["alice"] = Role.ADMIN if name in ADMINISTRATORS else Role.USER
    who.masks["alice"] = MASKS.get(name, ())
    contact = "mailto:postmaster@example.org"
    settings = ImapSettings(
        host="127.0.0.1", port=0, tls_port=None, message_limit=MESSAGE_LIMITS.get(name), administrator=contact
    )
    service = ImapService(settings, identity=who, storage=storage, tls=tls.context, clock=SystemClock())  # type: ignore[arg-type]  # the fake has what the door asks
    await service.start()
    try:
        yield service.ports["imap"]
    finally:
        await service.stop()


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.mark.parametrize("path", OF_ONE, ids=lambda path: path.stem)
@pytest.mark.parametrize("cut", [None, 1], ids=["lines", "octets"])
async def test_on_memory(path: Path, cut: int | None, tls: Tls) -> None:
    async with serving(FakeStorage(), tls, path.stem) as port:  # type: ignore[arg-type]  # as above
        await play(read(path), port, tls=trusting(), cut=cut)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
async def test_on_sqlite(path: Path, tls: Tls, tmp_path: Path) -> None:
    storage = await connect(f"sqlite://{tmp_path}")
    try:
        async with serving(storage, tls, path.stem) as port:
            await play(read(path), port, tls=trusting())
    finally:
        await storage.close()
