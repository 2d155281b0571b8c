"""Providers' connectors (one configuration for all): finding, connecting, signing in, sending, each failure."""

from __future__ import annotations

import logging
import smtplib
import socket
import traceback
from email import message_from_bytes, policy
from typing import Any

import pytest

from connectors.exceptions import AuthenticationError, ConfigurationError, ConnectionError, MessageError
from connectors.oauth import Tokens
from connectors.signin import AccessToken
from connectors.smtp_connector import (
    ERROR_SMTP_CONNECTION_FAILED,
    BaseSMTPConnector,
    BasicSMTPConnector,
    GmailSMTPConnector,
    MicrosoftSMTPConnector,
    SMTPConnector,
)
from tests.connectors.certs import Certs, make
from tests.connectors.servers import SmtpServer, TokenServer
from tests.live import free_ports
from tests.patience import attempts

Config = dict[str, Any]


@pytest.fixture
def gmail(basic: Config, smtp: SmtpServer, tokens: TokenServer) -> Config:
    tokens.state.on_token = smtp.tokens.add
    return basic | {
        "provider": "gmail",
        "user": "client-1",
        "secret": "client-secret-1",
        "credential": "refresh-1",
        "token_url": tokens.token_url,
    }


@pytest.fixture
def microsoft(gmail: Config, tokens: TokenServer) -> Config:
    config = gmail | {"provider": "microsoft", "credential": "tenant-1", "authority": tokens.authority}
    del config["token_url"]
    return config


def test_classes_by_provider() -> None:
    assert BaseSMTPConnector.get_connector_by_provider("basic") is BasicSMTPConnector
    assert BaseSMTPConnector.get_connector_by_provider("gmail") is GmailSMTPConnector
    assert BaseSMTPConnector.get_connector_by_provider("microsoft") is MicrosoftSMTPConnector
    with pytest.raises(ConfigurationError, match="'yahoo'; there are basic"):
        BaseSMTPConnector.get_connector_by_provider("yahoo")


def test_modules_have_the_names_that_scripts_import() -> None:
    from connectors.smtp_connector import base, basic_connector, gmail_connector, microsoft_connector

    assert base.BaseSMTPConnector is BaseSMTPConnector
    assert base.ERROR_SMTP_CONNECTION_FAILED is ERROR_SMTP_CONNECTION_FAILED
    assert basic_connector.BasicSMTPConnector is BasicSMTPConnector
    assert gmail_connector.GmailSMTPConnector is GmailSMTPConnector
    assert microsoft_connector.MicrosoftSMTPConnector is MicrosoftSMTPConnector


def test_sends_html_with_a_text_beside_it(basic: Config, smtp: SmtpServer) -> None:
    connector = BaseSMTPConnector.get_connector_by_provider("basic")(basic)
    assert smtp.connections == 0, "it connects at the first message"
    result = connector.send_email("bob@test.example", "Grüße", "<p>Hallo <b>Welt</b></p><p>€ 5</p>")
    connector.send_email("carol@test.example, Dora <dora@test.example>", "Zwei", "<p>x</p>")
    assert smtp.connections == 1
    connector.quit_smtp()
    connector.quit_smtp()
    assert smtp.commands[-1].upper() == "QUIT"
    assert result.accepted == ("bob@test.example",)
    assert result.complete
    assert [mail.recipients for mail in smtp.mails] == [
        ["bob@test.example"],
        ["carol@test.example", "dora@test.example"],
    ]
    message = message_from_bytes(smtp.mails[0].raw, policy=policy.default)
    assert message["subject"] == "Grüße"
    assert message["from"] == "alice@test.example"
    assert message["message-id"] == f"<{result.message_id}>"
    assert message.get_content_type() == "multipart/alternative"
    text, html = message.iter_parts()
    assert text.get_content().splitlines() == ["Hallo Welt", "€ 5"]
    assert html.get_content().strip() == "<p>Hallo <b>Welt</b></p><p>€ 5</p>"
    assert smtp.signed_in == ["alice@test.example"]


def test_connects_in_a_with_block_and_greets_again_behind_starttls(basic: Config, smtp: SmtpServer) -> None:
    with BasicSMTPConnector(basic) as connector:
        assert [command.split(" ")[0] for command in smtp.commands] == ["ehlo", "STARTTLS", "ehlo", "AUTH"]
        assert connector.smtp.noop()[0] == 250
    with pytest.raises(ERROR_SMTP_CONNECTION_FAILED):
        _ = connector.smtp


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
@pytest.mark.parametrize("password", ["correct horse", "pässwörd €"])
def test_each_mechanism(basic: Config, smtp: SmtpServer, mechanism: str, password: str) -> None:
    smtp.mechanisms = [mechanism]
    smtp.users["alice@test.example"] = password
    with BasicSMTPConnector(basic | {"secret": password}):
        assert smtp.signed_in == ["alice@test.example"]


def test_implicit_tls(basic: Config, certs: Certs) -> None:
    with SmtpServer(certs.context(), implicit=True) as server:
        with BasicSMTPConnector(basic | {"port": server.port, "use_ssl": True}) as connector:
            connector.send_email("bob@test.example", "s", "<p>x</p>")
        assert len(server.mails) == 1


@pytest.mark.parametrize("key", ["from_email", "user", "secret", "host"])
def test_names_what_is_missing_of_basic(basic: Config, key: str) -> None:
    del basic[key]
    with pytest.raises(ConfigurationError, match=f"'{key}'"):
        BasicSMTPConnector(basic)


@pytest.mark.parametrize("made", [GmailSMTPConnector, MicrosoftSMTPConnector])
@pytest.mark.parametrize("key", ["from_email", "user", "secret", "credential"])
def test_names_what_is_missing_of_oauth(made: type[BaseSMTPConnector], key: str) -> None:
    config = {"from_email": "a@b.example", "user": "u", "secret": "s", "credential": "c"}
    assert made(config).config["user"] == "u"
    del config[key]
    with pytest.raises(ConfigurationError, match=f"'{key}' is missing"):
        made(config)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"port": "x"}, "'port' has to be a number"),
        ({"port": 70000}, "'port' has to be a number"),
        ({"timeout": 0}, "'timeout'"),
        ({"hots": "x"}, "did you mean 'host'"),
        ({"secret": "a\r\nMAIL FROM:<x>"}, "'secret' has a control character"),
        ({"from_email": "nobody"}, "'from_email'"),
        ({"provider": "gmail"}, "'provider' is 'gmail'"),
        ({"verify_ssl": "perhaps"}, "'verify_ssl' has to be true or false"),
    ],
)
def test_names_what_is_wrong(basic: Config, change: Config, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        BasicSMTPConnector(basic | change)


def test_old_name(basic: Config, gmail: Config) -> None:
    del basic["provider"]
    assert type(SMTPConnector(basic)) is SMTPConnector
    assert isinstance(SMTPConnector(basic), BasicSMTPConnector)
    assert type(SMTPConnector(gmail)) is GmailSMTPConnector
    with pytest.raises(ConfigurationError, match="'user' is missing"):
        SMTPConnector({"from_email": "a@b.example"})


def test_gmail_signs_in_with_an_access_token_and_keeps_it(gmail: Config, smtp: SmtpServer, tokens: TokenServer) -> None:
    for _ in range(3):
        with GmailSMTPConnector(gmail) as connector:
            connector.send_email("bob@test.example", "s", "<p>x</p>")
    assert smtp.signed_in == ["alice@test.example"] * 3
    assert tokens.state.given == ["access-1"]
    assert tokens.state.forms == [
        {
            "grant_type": "refresh_token",
            "refresh_token": "refresh-1",
            "client_id": "client-1",
            "client_secret": "client-secret-1",
        }
    ]


def test_microsoft_signs_in_by_client_credentials(microsoft: Config, smtp: SmtpServer, tokens: TokenServer) -> None:
    for _ in range(2):
        with MicrosoftSMTPConnector(microsoft) as connector:
            connector.send_email("bob@test.example", "s", "<p>x</p>")
    assert len(smtp.mails) == 2
    assert tokens.state.given == ["access-1"]
    (form,) = tokens.state.forms
    assert form["grant_type"] == "client_credentials"
    assert form["scope"] == "https://outlook.office365.com/.default"
    assert (form["client_id"], form["client_secret"]) == ("client-1", "client-secret-1")


@pytest.mark.parametrize("provider", ["gmail", "microsoft"])
def test_a_refused_token_is_fetched_anew_once(
    provider: str, request: pytest.FixtureRequest, smtp: SmtpServer, tokens: TokenServer
) -> None:
    config = request.getfixturevalue(provider)
    made = BaseSMTPConnector.get_connector_by_provider(provider)
    with made(config):
        pass
    smtp.tokens.clear()
    with made(config) as connector:
        connector.send_email("bob@test.example", "s", "<p>x</p>")
    assert tokens.state.given == ["access-1", "access-2"]
    smtp.tokens.clear()
    tokens.state.on_token = lambda _token: None
    with pytest.raises(AuthenticationError, match=r"refused the access token of alice@test.example"):
        made(config).connect()
    assert tokens.state.given == ["access-1", "access-2", "access-3"]


def test_an_expired_token_is_fetched_anew(gmail: Config, tokens: TokenServer) -> None:
    tokens.state.lives = 0.001
    for _ in range(2):
        with GmailSMTPConnector(gmail):
            pass
    assert tokens.state.given == ["access-1", "access-2"]


@pytest.mark.parametrize(
    ("provider", "change", "text"),
    [
        ("gmail", {"credential": "refresh-old"}, "Google gave no access token: invalid_grant"),
        ("gmail", {"secret": "wrong-secret"}, r"invalid_client: The secret \*\*\* is wrong"),
        ("microsoft", {"secret": "wrong-secret"}, r"invalid_client: The secret \*\*\* is wrong"),
    ],
)
def test_refused_by_the_token_endpoint(
    provider: str, change: Config, text: str, request: pytest.FixtureRequest, smtp: SmtpServer
) -> None:
    config = request.getfixturevalue(provider) | change
    connector = BaseSMTPConnector.get_connector_by_provider(provider)(config)
    with pytest.raises(AuthenticationError, match=text) as caught:
        connector.connect()
    assert isinstance(caught.value, ERROR_SMTP_CONNECTION_FAILED)
    assert smtp.signed_in == []


def test_revoked_refresh_token(gmail: Config, tokens: TokenServer) -> None:
    tokens.state.refuse = "invalid_grant"
    with pytest.raises(AuthenticationError, match=r"expired or revoked.*make a new one"):
        GmailSMTPConnector(gmail).connect()


def test_unknown_tenant(microsoft: Config) -> None:
    with pytest.raises(ConfigurationError, match="tenant"):
        MicrosoftSMTPConnector(microsoft | {"credential": "tenant-2"}).connect()
    with pytest.raises(ConfigurationError, match="tenant id"):
        MicrosoftSMTPConnector(microsoft | {"credential": "../x"})


@pytest.mark.parametrize("provider", ["gmail", "microsoft"])
def test_token_endpoint_is_not_well(provider: str, request: pytest.FixtureRequest, tokens: TokenServer) -> None:
    config = request.getfixturevalue(provider)
    tokens.state.status = 503
    with pytest.raises(ConnectionError, match="not well"):
        BaseSMTPConnector.get_connector_by_provider(provider)(config).connect()


def test_wrong_password(basic: Config) -> None:
    with pytest.raises(AuthenticationError, match=r"refused the sign-in of alice@test.example: 535") as caught:
        BasicSMTPConnector(basic | {"secret": "wrong"}).connect()
    assert isinstance(caught.value, ERROR_SMTP_CONNECTION_FAILED)
    assert isinstance(caught.value.__cause__, smtplib.SMTPAuthenticationError)


def test_no_mechanism_of_ours(basic: Config, gmail: Config, smtp: SmtpServer) -> None:
    smtp.mechanisms = ["GSSAPI"]
    with pytest.raises(AuthenticationError, match="offers no sign-in by password"):
        BasicSMTPConnector(basic).connect()
    with pytest.raises(AuthenticationError, match="does not offer XOAUTH2"):
        GmailSMTPConnector(gmail).connect()


def test_a_failure_of_the_servers_own_is_no_refusal(gmail: Config, smtp: SmtpServer, tokens: TokenServer) -> None:
    smtp.at["auth"] = ["454 4.7.0 too many at the moment"]
    with pytest.raises(ConnectionError, match=r"454.*Try again later"):
        GmailSMTPConnector(gmail).connect()
    GmailSMTPConnector(gmail).connect()
    assert tokens.state.given == ["access-1"]


@pytest.mark.parametrize("provider", ["basic", "gmail", "microsoft"])
def test_no_secret_in_texts_reprs_and_logs(
    provider: str, request: pytest.FixtureRequest, smtp: SmtpServer, caplog: pytest.LogCaptureFixture
) -> None:
    config = request.getfixturevalue(provider)
    caplog.set_level(logging.DEBUG)
    smtp.repeats_secrets = True
    smtp.users.clear()
    connector = BaseSMTPConnector.get_connector_by_provider(provider)(config)
    if provider != "basic":
        smtp.tokens = set()
        request.getfixturevalue("tokens").state.on_token = lambda _token: None
    with pytest.raises(AuthenticationError) as caught:
        connector.connect()
    shown = "".join(traceback.format_exception(caught.value)) + repr(connector) + repr(connector.config) + caplog.text
    error: BaseException | None = caught.value
    while error is not None:
        shown += repr(error)
        error = error.__cause__
    assert "***" in shown
    for secret in ("correct horse", "client-secret-1", "refresh-1", "access-1", "access-2", "YWNjZXNz"):
        assert secret not in shown


def test_wrong_host(basic: Config) -> None:
    with pytest.raises(ConnectionError, match=r"no-such-host.invalid was not found.*Check 'host'") as caught:
        BasicSMTPConnector(basic | {"host": "no-such-host.invalid"}).connect()
    assert isinstance(caught.value, ERROR_SMTP_CONNECTION_FAILED)
    assert isinstance(caught.value.__cause__, socket.gaierror)


def test_closed_port(basic: Config) -> None:
    (port,) = free_ports(1)
    with pytest.raises(ERROR_SMTP_CONNECTION_FAILED, match=f"Nothing listens on 127.0.0.1:{port}"):
        BasicSMTPConnector(basic | {"port": port}).send_email("bob@test.example", "s", "x")


def test_bad_certificate(basic: Config, caplog: pytest.LogCaptureFixture, tmp_path: Any) -> None:
    del basic["ca_file"]
    with pytest.raises(ConnectionError, match=r"certificate of 127.0.0.1.*'verify_ssl'"):
        BasicSMTPConnector(basic).connect()
    with BasicSMTPConnector(basic | {"verify_ssl": False}):
        assert "The certificate of 127.0.0.1 is not verified" in caplog.text
    other = make(tmp_path, ["mail.elsewhere.example"])
    with SmtpServer(other.context()) as server, pytest.raises(ConnectionError, match="certificate"):
        BasicSMTPConnector(basic | {"port": server.port, "ca_file": str(other.ca)}).connect()
    with pytest.raises(ConfigurationError, match="'ca_file'"):
        BasicSMTPConnector(basic | {"ca_file": str(tmp_path / "none.pem")}).connect()


def test_no_starttls_is_no_plain_text(basic: Config) -> None:
    with SmtpServer() as server:
        with pytest.raises(ConnectionError, match="does not offer STARTTLS"):
            BasicSMTPConnector(basic | {"port": server.port}).connect()
        assert not [command for command in server.commands if command.startswith("AUTH")]
        with BasicSMTPConnector(basic | {"port": server.port, "use_tls": False}):
            assert server.signed_in == ["alice@test.example"]


def test_tls_port_taken_for_starttls(basic: Config, certs: Certs) -> None:
    with SmtpServer() as server, pytest.raises(ConnectionError, match=r"TLS with 127.0.0.1.*Check that the port"):
        BasicSMTPConnector(basic | {"port": server.port, "use_ssl": True}).connect()


@pytest.mark.parametrize("stage", ["connect", "ehlo", "starttls", "auth"])
@pytest.mark.parametrize("what", ["close", "silent", "554 5.3.2 not here", "421 4.3.2 not now"])
def test_failures_on_the_way(basic: Config, smtp: SmtpServer, stage: str, what: str) -> None:
    smtp.at[stage] = [what]
    with pytest.raises(ERROR_SMTP_CONNECTION_FAILED) as caught:
        BasicSMTPConnector(basic | {"timeout": 0.3 if what == "silent" else 30}).connect()
    refused = stage == "auth" and what.startswith("554")
    assert isinstance(caught.value, AuthenticationError if refused else ConnectionError)
    assert caught.value.__cause__ is not None
    if what == "silent":
        assert "in time" in str(caught.value)
    if what[0].isdigit():
        assert what[:3] in str(caught.value)


def test_refused_recipients(basic: Config, smtp: SmtpServer, caplog: pytest.LogCaptureFixture) -> None:
    smtp.refuse["nobody@test.example"] = "550 5.1.1 no such user"
    connector = BasicSMTPConnector(basic)
    result = connector.send_email("bob@test.example,nobody@test.example", "s", "<p>x</p>")
    assert result.accepted == ("bob@test.example",)
    assert result.refused["nobody@test.example"].code == 550
    assert result.refused["nobody@test.example"].text == "5.1.1 no such user"
    assert not result.complete
    assert "refused 1 of 2 recipients" in caplog.text
    with pytest.raises(MessageError, match=r"nothing was sent. nobody@test.example: 550 5.1.1 no such user") as caught:
        connector.send_email("nobody@test.example", "s", "<p>x</p>")
    assert caught.value.refused == {"nobody@test.example": (550, "5.1.1 no such user")}
    assert len(smtp.mails) == 1
    connector.send_email("bob@test.example", "s", "<p>x</p>")
    assert smtp.connections == 1


def test_refused_sender_and_message(basic: Config, smtp: SmtpServer) -> None:
    connector = BasicSMTPConnector(basic)
    smtp.at["mail"] = ["553 5.7.1 not yours"]
    with pytest.raises(MessageError, match=r"refused the sender alice@test.example, nothing was sent: 553 5.7.1"):
        connector.send_email("bob@test.example", "s", "x")
    smtp.at["data"] = ["451 4.3.0 later"]
    with pytest.raises(MessageError, match=r"refused the message, nothing was sent: 451 4.3.0 later. Try again later"):
        connector.send_email("bob@test.example", "s", "x")
    smtp.at["end"] = ["554 5.7.1 looks like spam"]
    with pytest.raises(MessageError, match=r"it was not sent: 554 5.7.1 looks like spam"):
        connector.send_email("bob@test.example", "s", "x")
    connector.send_email("bob@test.example", "s", "x")
    assert len(smtp.mails) == 1


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data"])
@pytest.mark.parametrize("what", ["close", "421 4.3.2 going down"])
def test_a_connection_lost_before_the_message_is_opened_again(
    basic: Config, smtp: SmtpServer, stage: str, what: str
) -> None:
    connector = BasicSMTPConnector(basic)
    connector.send_email("bob@test.example", "one", "x")
    if what == "close" or stage != "data":
        smtp.at[stage] = [what]
    connector.send_email("bob@test.example", "two", "x")
    assert [message_from_bytes(mail.raw)["subject"] for mail in smtp.mails] == ["one", "two"]
    connector.quit_smtp()
    smtp.at[stage] = [what]
    with pytest.raises(ConnectionError, match=r"Nothing was sent|nothing was sent") as caught:
        BasicSMTPConnector(basic).send_email("bob@test.example", "three", "x")
    assert not caught.value.may_have_been_sent
    assert len(smtp.mails) == 2


def test_closed_in_the_middle_of_the_message(basic: Config, smtp: SmtpServer) -> None:
    smtp.at["body"] = ["close"]
    connector = BasicSMTPConnector(basic)
    with pytest.raises(ConnectionError) as caught:
        connector.send_email("bob@test.example", "s", "one line of text\n" * 500_000)
    assert smtp.mails == []
    assert not caught.value.may_have_been_sent
    assert "was not sent" in str(caught.value)
    connector.send_email("bob@test.example", "s", "x")
    assert len(smtp.mails) == 1


@pytest.mark.parametrize("what", ["close", "silent", "garbage"])
def test_closed_behind_the_message(basic: Config, smtp: SmtpServer, what: str) -> None:
    for attempt in attempts():
        with attempt as seconds:
            smtp.at["end"] = [what]
            smtp.commands.clear()
            connector = BasicSMTPConnector(basic | {"timeout": seconds if what == "silent" else 30})
            with pytest.raises(ConnectionError, match="may have been sent") as caught:
                connector.send_email("bob@test.example", "s", "x")
            assert caught.value.may_have_been_sent
            assert smtp.commands.count("data") + smtp.commands.count("DATA") == 1, "it is not sent again by itself"


def test_utf8_addresses(basic: Config, smtp: SmtpServer) -> None:
    connector = BasicSMTPConnector(basic)
    connector.send_email("Jürgen Größe <jürgen@bücher.example>, x@bücher.example", "s", "<p>x</p>")
    mail = smtp.mails[0]
    assert mail.recipients == ["jürgen@bücher.example", "x@xn--bcher-kva.example"]
    assert "SMTPUTF8" in mail.options
    assert "jürgen@bücher.example".encode() in mail.raw
    connector.quit_smtp()
    smtp.extensions.remove("SMTPUTF8")
    with pytest.raises(MessageError, match="does not offer SMTPUTF8"):
        connector.send_email("jürgen@test.example", "s", "x")
    connector.send_email("Jürgen <x@bücher.example>", "s", "x")
    assert "SMTPUTF8" not in smtp.mails[1].options
    assert smtp.mails[1].recipients == ["x@xn--bcher-kva.example"]


def test_servers_size_limit(basic: Config, smtp: SmtpServer) -> None:
    smtp.extensions = ["SIZE 1000"]
    with pytest.raises(MessageError, match=r"127.0.0.1 takes 1000"):
        BasicSMTPConnector(basic).send_email("bob@test.example", "s", "<p>x</p>" * 200)
    assert smtp.mails == []


def test_a_new_provider_is_one_class(basic: Config, smtp: SmtpServer) -> None:
    class NewConnector(BaseSMTPConnector):
        provider_type = "new_provider"

        def _authenticate(self) -> None:
            assert isinstance(self.smtp, smtplib.SMTP)
            assert isinstance(self.config, dict)
            self.smtp.login(self.config["user"], self.config["secret"])
            if self.config.get("region") == "moon":
                raise ERROR_SMTP_CONNECTION_FAILED("no service there")

    config = basic | {"provider": "new_provider", "region": "eu"}
    with BaseSMTPConnector.get_connector_by_provider("new_provider")(config) as connector:
        assert type(connector) is NewConnector
        connector.send_email("bob@test.example", "s", "<p>x</p>")
    assert len(smtp.mails) == 1
    with pytest.raises(AuthenticationError) as refused:
        NewConnector(config | {"secret": "wrong"}).connect()
    assert isinstance(refused.value, ERROR_SMTP_CONNECTION_FAILED)
    with pytest.raises(ERROR_SMTP_CONNECTION_FAILED, match="no service there") as caught:
        NewConnector(config | {"region": "moon"}).connect()
    assert isinstance(caught.value, ConnectionError)


def test_a_token_too_long_for_one_line(basic: Config, smtp: SmtpServer) -> None:
    class LongTokens(Tokens):
        def _fetch(self) -> tuple[str, float]:
            return "x" * 20_000, 3600.0

        @property
        def secrets(self) -> tuple[str, ...]:
            return ()

    class LongConnector(BaseSMTPConnector):
        provider_type = "long"

        def _authenticate(self) -> None:
            self._with_token(AccessToken("alice@test.example", LongTokens(("long",))))

    smtp.tokens.add("x" * 20_000)
    with LongConnector(basic | {"provider": "long"}):
        assert smtp.signed_in == ["alice@test.example"]
    assert "AUTH XOAUTH2" in smtp.commands, "it waits for the server's 334"
