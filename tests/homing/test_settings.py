from __future__ import annotations

import os
from pathlib import Path

import pytest

from homing.doors import smtp_settings
from homing.settings import PREFIX, Settings, load_settings
from runtime.config import ConfigError, entries, manual

PUBLIC = [
    "HOMING_DATA",
    "HOMING_DOMAIN",
    "HOMING_HOST",
    "HOMING_SMTP_PORT",
    "SMTP_SERVER_PORT",
    "HOMING_SUBMISSION_PORT",
    "HOMING_SUBMISSIONS_PORT",
    "HOMING_IMAP_PORT",
    "HOMING_IMAPS_PORT",
    "HOMING_LMTP_PORT",
    "HOMING_REST_PORT",
    "SMTP_PORT",
    "SMTP_HOSTNAME",
    "SMTP_MAX_WORKERS",
    "SMTP_POOL_SIZE",
    "SMTP_TIMEOUT",
    "HOMING_ADMIN_PASSWORD",
    "HOMING_TLS_CERT",
    "HOMING_TLS_KEY",
    "STORAGE_URL",
    "IDENTITY_URL",
    "MONGODB_URL",
    "QUEUE_URL",
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_public_variable_is_a_setting() -> None:
    known = [env.name for entry in entries(Settings, PREFIX) for env in entry.env]
    assert set(PUBLIC) <= set(known)
    # SMTP_PORT is of one setting or of another, as SMTP_HOST is set or not.
    assert sorted(known) == sorted([*set(known), "SMTP_PORT"])


def test_the_defaults() -> None:
    settings = load_settings({}).settings
    ports = (settings.smtp.port, settings.submission.port, settings.submissions.port)
    assert ports == (2525, 2587, 2465)
    assert (settings.imap.port, settings.imaps.port, settings.rest.port, settings.lmtp.port) == (2143, 2993, 8000, None)
    assert settings.data == Path("data")
    assert settings.signin.plaintext == "loopback"


def test_smtp_port_belongs_to_smtp_host_where_that_is_set() -> None:
    assert load_settings({"SMTP_PORT": "8080"}).settings.rest.port == 8080
    assert load_settings({"SMTP_PORT": "587", "SMTP_HOST": "mail.example.org"}).settings.rest.port == 8000
    both = {"SMTP_PORT": "8080", "HOMING_REST_PORT": "8090"}
    assert load_settings(both).settings.rest.port == 8090


@pytest.mark.parametrize("host", ["*", "0.0.0.0", "::", ""])
def test_all_addresses(host: str) -> None:
    assert load_settings({"SMTP_HOSTNAME": host}).settings.host == ""


def test_the_file() -> None:
    Path("homing.toml").write_text(
        'domain = "example.org"\n[smtp]\nport = 25\n[submission]\nport = 587\n[imap]\nport = ""\n'
    )
    settings = load_settings({"HOMING_SMTP_PORT": "26"}).settings
    assert (settings.domain, settings.smtp.port, settings.imap.port) == ("example.org", 26, None)
    assert smtp_settings(settings).submission_port == 587
    Path("other.toml").write_text('domain = "other.org"')
    assert load_settings({"HOMING_CONFIG": "other.toml"}).settings.domain == "other.org"
    with pytest.raises(ConfigError, match=r"absent\.toml, which is not a file"):
        load_settings({"HOMING_CONFIG": "absent.toml"})


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"HOMING_TLS_CERT": "x.pem"}, "set together or not at all"),
        ({"HOMING_LMTP_PORT": "25"}, "which is SMTP's"),
        ({"HOMING_PROXY_LISTENERS": "smtp"}, "smtp is behind a proxy: proxy.networks has to say"),
        ({"HOMING_PROXY_LISTENERS": "pop3"}, "'pop3' is none of smtp, submission"),
        ({"HOMING_PROXY_NETWORKS": "here"}, "list of networks"),
        ({"HOMING_SMTP_LISTENERS": "25"}, "smtp.listeners"),
        ({"HOMING_SMTP_LISTENERS": "[{"}, "is not JSON"),
        ({"HOMING_SMTP_LISTENERS": '[{"name": "a", "kind": "smtp"}]'}, "'a' needs either a port or a socket"),
        (
            {"HOMING_SMTP_LISTENERS": '[{"name": "a", "kind": "smtp", "port": 1}, {"name": "b", "kind": "pop"}]'},
            r"smtp\.listeners, number 2, kind \(environment HOMING_SMTP_LISTENERS\): Input should be 'smtp'",
        ),
        (
            {"HOMING_SMTP_LISTENERS": '[{"name": "a", "kind": "smtp", "port": 1, "colour": "red"}]'},
            r"smtp\.listeners, number 1, colour \(environment HOMING_SMTP_LISTENERS\)",
        ),
        (
            {"HOMING_SMTP_LISTENERS": '[{"name": "a", "kind": "lmtp", "port": 1, "sign_in": "offered"}]'},
            "nobody signs in",
        ),
        ({"HOMING_SMTP_LISTENERS": '[{"name": "a", "kind": "lmtp", "port": 25}]'}, "must not be served on port 25"),
        (
            {"HOMING_SMTP_LISTENERS": '[{"name": "a", "kind": "submissions", "port": 1, "tls": "none"}]'},
            "of kind submissions: its tls is tls",
        ),
        (
            {"HOMING_SMTP_LISTENERS": '[{"name": "a", "kind": "submission", "port": 1, "sign_in": "off"}]'},
            "its sign_in is required",
        ),
        (
            {"HOMING_SMTP_LISTENERS": '[{"name": "a", "kind": "smtp", "socket": "/x", "proxy": true}]'},
            "host and proxy do not go with it",
        ),
        (
            {"HOMING_SMTP_LISTENERS": '[{"name": "a", "kind": "smtp", "port": 1, "proxy": true}]'},
            "a is behind a proxy: proxy.networks has to say",
        ),
        (
            {"HOMING_SMTP_LISTENERS": '[{"name": "a", "kind": "smtp", "port": 1, "networks": "x"}]'},
            "does not appear to be an IPv4 or IPv6 network",
        ),
        (
            {
                "HOMING_SMTP_LISTENERS": '[{"name": "a", "kind": "smtp", "port": 1},'
                ' {"name": "a", "kind": "smtp", "port": 2}]'
            },
            "two listeners have the name 'a'",
        ),
        ({"HOMING_DOMAIN": "a b"}, "not a domain name"),
        ({"HOMING_SIGNIN_TRUSTED": "nonsense"}, "list of networks"),
        ({"HOMING_SMTP_PLAIN_AUTH": "always"}, "not a setting"),
    ],
)
def test_what_cannot_be(environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_settings(environ)


def test_trusted_networks_are_exempt_besides_loopback() -> None:
    settings = load_settings({"HOMING_SIGNIN_TRUSTED": "10.0.0.0/8, 2001:db8::/32"}).settings
    assert settings.exempt == ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "2001:db8::/32")


def test_listeners_as_tables() -> None:
    Path("homing.toml").write_text(
        "[smtp]\nport = 25\n"
        '[[smtp.listeners]]\nname = "inside"\nkind = "smtp"\nhost = "127.0.0.1"\nport = 26\nsize_max = "1 MiB"\n'
        '[[smtp.listeners]]\nname = "mx2"\nkind = "lmtp"\nsocket = "/run/lmtp"\n'
    )
    loaded = load_settings({})
    inside, lmtp = loaded.settings.smtp.listeners
    assert (inside.name, inside.port, inside.size_max, lmtp.socket) == ("inside", 26, 1024 * 1024, "/run/lmtp")
    shown = next(row for row in loaded.rows(PREFIX) if row.key == "smtp.listeners")
    assert shown.origin == "file homing.toml"
    # What is shown is what the environment would have.
    assert load_settings({"HOMING_SMTP_LISTENERS": shown.value}).settings.smtp.listeners == (inside, lmtp)


def test_the_manual_is_whole() -> None:
    text = manual(Settings, PREFIX)
    assert all(f"`{name}`" in text for name in PUBLIC)
    assert "plain_auth" not in text
    assert "(as JSON)" in text
    assert "- `recipients_max` (number, default empty): Recipients of one message." in text


CONNECTOR = """
[connectors.gmail]
provider = "gmail"
from_email = "alice@gmail.com"
user = "client"
secret = "geheim"
credential = "refresh"
[outbound.routes]
"*" = "connector:gmail"
"""


def test_connectors_as_tables() -> None:
    Path("homing.toml").write_text(CONNECTOR)
    found = load_settings({})
    (one,) = found.settings.connectors
    assert one.config == {
        "provider": "gmail",
        "from_email": "alice@gmail.com",
        "user": "client",
        "secret": "geheim",
        "credential": "refresh",
        "timeout": 30.0,
        "use_tls": True,
        "verify_ssl": True,
    }
    assert (one.sender, one.connections) == ("keep", 3)
    assert found.settings.connector_names == {"gmail"}
    shown = repr(found.settings) + repr(found.rows(PREFIX))
    assert "geheim" not in shown
    assert "refresh" not in shown


@pytest.mark.parametrize("value", ["smtp://u:geheim@h:25", "smtp://u:geheim=x@h:25", '{"*":"smtp://u:geheim@h"}'])
def test_a_route_that_is_not_written_as_one_is_not_shown(value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings({"HOMING_OUTBOUND_ROUTES": value})
    assert "outbound.routes" in str(caught.value)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("connector:gmail", "connector:gmial"), "there is no connector 'gmial': there are gmail."),
        (("connector:gmail", "smtp//u:pass@h"), "the route of '*' cannot be used: a route is mx, smtp://host:port"),
        (('"*"', '"a b"'), "'a b' is not a domain"),
        (('secret = "geheim"', ""), "connectors.gmail, secret"),
        (('"gmail"\nfrom', '"gmial"\nfrom'), "connectors.gmail, provider"),
        (("[connectors.gmail]", '[connectors."G m"]'), "connectors.G m, name"),
    ],
)
def test_connectors_that_cannot_be(change: tuple[str, str], sentence: str) -> None:
    Path("homing.toml").write_text(CONNECTOR.replace(*change))
    with pytest.raises(ConfigError) as caught:
        load_settings({})
    assert sentence in str(caught.value)
    assert not any(secret in str(caught.value) for secret in ("geheim", "refresh", "pass@"))


def test_a_file_of_variables_counts_below_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [*PUBLIC, *(name for name in os.environ if name.startswith("HOMING_"))]:
        monkeypatch.delenv(name, raising=False)
    Path(".env").write_text("SMTP_HOST=h.example\nSMTP_PORT=465\nSMTP_PASS='x y'\nUNRELATED=1\n")
    monkeypatch.setenv("SMTP_PORT", "2525")
    settings = load_settings().settings
    assert (settings.queue.smtp_host, settings.queue.smtp_port, settings.rest.port) == ("h.example", 2525, 8000)
    assert settings.queue.smtp_pass is not None
    assert settings.queue.smtp_pass.get_secret_value() == "x y"
    Path(".env").write_text("HOMING_DOMIAN=example.org\n")
    with pytest.raises(ConfigError, match="HOMING_DOMAIN"):
        load_settings()
