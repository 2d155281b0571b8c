"""Networks in which a server may not be, whatever its name leads to."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from connectors.exceptions import ConfigurationError
from connectors.smtp_connector import BasicSMTPConnector
from tests.connectors.certs import Certs
from tests.connectors.servers import SmtpServer

Config = dict[str, Any]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("networks", ["127.0.0.0/8, ::1", ["127.0.0.0/8", "::1/128"]])
def test_it_is_not_connected_to(basic: Config, smtp: SmtpServer, host: str, networks: Any) -> None:
    for more in ({}, {"use_ssl": True}):
        connector = BasicSMTPConnector(basic | {"host": host, "refused_networks": networks} | more)
        with pytest.raises(ConfigurationError, match="is in a network"):
            connector.connect()
    assert smtp.connections == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "0", "::", "::ffff:0.0.0.0", "0x7f000001", "::ffff:127.0.0.1"])
def test_other_names_of_this_machine(basic: Config, smtp: SmtpServer, host: str) -> None:
    """The unspecified address connects to this machine, too."""
    connector = BasicSMTPConnector(basic | {"host": host, "refused_networks": ["127.0.0.0/8", "::1"]})
    with pytest.raises((ConfigurationError, ConnectionError), match="is in a network"):
        connector.connect()
    assert smtp.connections == 0


def test_others_are(basic: Config, smtp: SmtpServer, certs: Certs) -> None:
    with BasicSMTPConnector(basic | {"refused_networks": ["10.0.0.0/8"]}) as one:
        assert one.send_email("bob@test.example", "s", "x").complete
    with SmtpServer(certs.context(), implicit=True) as implicit:
        config = basic | {"port": implicit.port, "use_ssl": True, "refused_networks": ["10.0.0.0/8"]}
        with BasicSMTPConnector(config) as one:
            assert one.send_email("bob@test.example", "s", "x").complete


def test_the_addresses_that_are_left_are_tried(
    basic: Config, smtp: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked up once: a name that leads elsewhere the next time is of no use to anybody."""
    asked: list[str] = []

    def found(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in ("10.0.0.1", "127.0.0.1")]

    real = socket.create_connection

    def connect(address: tuple[str, int], *args: Any, **more: Any) -> socket.socket:
        assert address == ("127.0.0.1", smtp.port)
        monkeypatch.undo()
        return real(address, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", found)
    monkeypatch.setattr(socket, "create_connection", connect)
    config = basic | {"host": "localhost", "refused_networks": "10.0.0.0/8"}
    with BasicSMTPConnector(config):
        assert asked == ["localhost"]


def test_what_is_none(basic: Config) -> None:
    with pytest.raises(ConfigurationError, match="'refused_networks' has to be a list"):
        BasicSMTPConnector(basic | {"refused_networks": ["here"]})
