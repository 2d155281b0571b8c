"""Servers with a certificate that the connectors are told to trust, and no token kept from one test to the next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors import oauth
from tests.connectors.certs import Certs, make
from tests.connectors.imapserver import ImapServer
from tests.connectors.servers import SmtpServer, TokenServer


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certs:
    return make(tmp_path_factory.mktemp("certs"), ["127.0.0.1", "localhost"])


@pytest.fixture(autouse=True)
def _no_tokens_kept() -> Iterator[None]:
    oauth.forget_all()
    yield
    oauth.forget_all()


@pytest.fixture
def smtp(certs: Certs) -> Iterator[SmtpServer]:
    with SmtpServer(certs.context()) as server:
        yield server


@pytest.fixture
def imap(certs: Certs) -> Iterator[ImapServer]:
    with ImapServer(certs.context()) as server:
        yield server


@pytest.fixture
def tokens(certs: Certs) -> Iterator[TokenServer]:
    with TokenServer(certs.context()) as server:
        yield server


@pytest.fixture
def basic(smtp: SmtpServer, certs: Certs) -> dict[str, Any]:
    """A provider's configuration for the test's SMTP server."""
    return {
        "provider": "basic",
        "from_email": "alice@test.example",
        "user": "alice@test.example",
        "secret": "correct horse",
        "host": "127.0.0.1",
        "port": smtp.port,
        "ca_file": str(certs.ca),
        "timeout": 10,
    }


@pytest.fixture
def sending(smtp: SmtpServer, certs: Certs) -> dict[str, Any]:
    """A messaging configuration for the test's SMTP server."""
    return account(smtp.port, certs)


@pytest.fixture
def receiving(imap: ImapServer, certs: Certs) -> dict[str, Any]:
    """A messaging configuration for the test's IMAP server."""
    return account(imap.port, certs)


def account(port: int, certs: Certs) -> dict[str, Any]:
    return {
        "host": "127.0.0.1",
        "port": port,
        "username": "alice@test.example",
        "password": "correct horse",
        "ca_file": str(certs.ca),
        "timeout": 10,
    }


def path_of(folder: Path, name: str, data: bytes) -> str:
    path = folder / name
    path.write_bytes(data)
    return str(path)
