"""The commands, with no server running."""

from __future__ import annotations

import csv
import io
import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from runtime.admin import FolderLock

Homing = Callable[..., Result]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the data folder is kept that the first test has made; there is nothing before that."""
    return tmp_path_factory.mktemp("first") / "data"


@pytest.fixture
def domain(homing: Homing, tmp_path: Path, first: Path) -> str:
    if first.exists():
        shutil.copytree(first, tmp_path / "data")
    else:
        homing("domain", "add", "example.org")
        shutil.copytree(tmp_path / "data", first)
    return "example.org"


def users(homing: Homing) -> dict[str, dict[str, object]]:
    return {one["address"]: one for one in json.loads(homing("user", "list", "--json").stdout)}


def test_domains(homing: Homing, domain: str) -> None:
    homing("domain", "add", "example.net", "--catch-all", "ann@example.org")
    found = json.loads(homing("domain", "list", "--json").stdout)
    assert [(one["name"], one["catch_all"]) for one in found] == [
        ("example.net", "ann@example.org"),
        ("example.org", None),
    ]
    assert "example.net" in homing("domain", "list").stdout
    homing("domain", "remove", "example.net")
    assert "already exists" in homing("domain", "add", "EXAMPLE.org", status=1).stderr
    assert "no such domain" in homing("domain", "remove", "example.net", status=1).stderr


def test_a_user_from_add_to_remove(homing: Homing, domain: str) -> None:
    homing(
        "user",
        "add",
        "ann@example.org",
        "--password-stdin",
        "--quota",
        "5 GiB",
        "--name",
        "Ann",
        "--admin",
        stdin="a good secret\n",
    )
    ann = users(homing)["ann@example.org"]
    assert (ann["quota"], ann["role"], ann["display_name"], ann["enabled"]) == (5 * 1024**3, "admin", "Ann", True)
    assert "5 GiB" in homing("user", "list").stdout
    homing("user", "add", "bob@example.org", "--generate")
    homing("user", "passwd", "bob@example.org", "--password-stdin", stdin="another secret\n")
    homing("user", "disable", "bob@example.org")
    assert users(homing)["bob@example.org"]["enabled"] is False
    homing("user", "enable", "bob@example.org")
    homing("user", "quota", "ann@example.org")
    assert users(homing)["ann@example.org"]["quota"] is None
    homing("user", "remove", "bob@example.org", "--yes")
    assert list(users(homing)) == ["ann@example.org"]


def test_what_is_used_when_the_mail_cannot_be_read(homing: Homing, domain: str, tmp_path: Path) -> None:
    homing("user", "add", "ann@example.org", "--generate", "--quota", "1 KiB")
    assert users(homing)["ann@example.org"]["used"] == 0
    assert "0 B (0 %)" in homing("user", "list").stdout
    (tmp_path / "data" / "storage.db").write_bytes(b"no database at all" * 100)
    told = homing("user", "list", "--json")
    assert json.loads(told.stdout)[0]["used"] is None
    assert "cannot be told now" in told.stderr
    assert "1 KiB" in homing("user", "list").stdout


def test_masks_and_app_passwords(homing: Homing, domain: str) -> None:
    homing("user", "add", "ann@example.org", "--generate")
    assert (
        "Masked for ann@example.org: MOVE UIDONLY."
        in homing("user", "mask", "ann@example.org", "uidonly", "MOVE").stdout
    )
    assert users(homing)["ann@example.org"]["mask"] == ["MOVE", "UIDONLY"]
    assert "nothing" in homing("user", "mask", "ann@example.org").stdout
    shown = homing("app-password", "add", "ann@example.org", "phone", "--mask", "ID").stdout
    assert len(shown.split("Password: ")[1].strip()) >= 20
    homing("app-password", "mask", "ann@example.org", "phone", "UIDONLY")
    (phone,) = json.loads(homing("app-password", "list", "ann@example.org", "--json").stdout)
    assert (phone["name"], phone["mask"], phone["last_used"]) == ("phone", ["UIDONLY"], None)
    assert "UIDONLY" in homing("app-password", "list", "ann@example.org").stdout
    homing("app-password", "revoke", "ann@example.org", phone["id"])
    assert "no app password" in homing("app-password", "revoke", "ann@example.org", "phone", status=1).stderr


def test_one_of_a_thing_is_one(homing: Homing, domain: str, tmp_path: Path) -> None:
    homing("user", "add", "ann@example.org", "--generate")
    assert homing("user", "export", "one.csv").stderr == "Exported 1 account.\n"
    (tmp_path / "mail").write_bytes(b"From a@b Thu Jan  1 00:00:00 2026\nSubject: one\n\nx\n")
    told = homing("import", "ann@example.org", "--from", f"mbox:{tmp_path}/mail")
    assert "Looking: 1 folder\n" in told.stderr
    assert "Brought 1 message," in told.stdout
    told = homing("export", "ann@example.org", "--to", f"eml:{tmp_path}/out")
    assert " 1 message, " in told.output
    homing("user", "add", "bob@example.org", "--generate")
    assert homing("user", "export", "two.csv").stderr == "Exported 2 accounts.\n"


def test_a_generated_password_is_shown(homing: Homing, domain: str) -> None:
    shown = homing("user", "add", "ann@example.org", "--generate").stdout
    assert len(shown.split("Password: ")[1].strip()) >= 20


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("user", "add", "ann@example.net", "--generate"), 1, "homing domain add"),
        (("user", "add", "@@", "--generate"), 1, "not a valid"),
        (("user", "add", "ann@example.org"), 2, "--password-stdin"),
        (("user", "add", "ann@example.org", "--generate", "--quota", "lots"), 2, "is not a size"),
        (("user", "remove", "ann@example.org"), 2, "--yes"),
        (("user", "mask", "ann@example.org", "UIDONLI"), 2, "'UIDONLI' is no capability that can be masked"),
        (("user", "mask", "ann@example.org", "ID", "IMAP4rev1"), 2, " ID IDLE "),
        (("app-password", "add", "ann@example.org", "phone", "--mask", "nonsense"), 2, "These can: ACL "),
        (("app-password", "mask", "ann@example.org", "phone", "THREAD=NONE"), 2, " THREAD=REFERENCES "),
        (("domain", "add", "example.net."), 1, "without a dot at its end"),
        (("user", "disable", "nobody@example.org"), 1, "homing user list"),
        (("alias", "remove", "nobody@example.org"), 1, "homing alias list"),
        (("user", "import", "absent.csv"), 1, "cannot be read"),
        (("serve", "smtp"), 78, "HOMING_SERVICE_TOKEN"),
        (("serve", "smtp", "imap"), 78, "HOMING_SERVICE_TOKEN"),
        (("serve", "smtp", "smtp"), 2, "named once"),
        (("serve", "all", "smtp"), 2, "by itself"),
        (("serve", "nonsense"), 2, "nonsense"),
        (("down",), 1, "no server runs"),
        (("restart",), 1, "no server runs"),
        (("restart", "imap"), 1, "no imap runs"),
        (("logs",), 69, "No server runs"),
        (("send",), 2, "to whom?"),
        (("send", "ann@example.org"), 69, "homing up"),
        (("send", "ann@example.org, bob@example.org"), 2, "is no address"),
        (("send", "ann@example.org\nbob@example.org"), 2, "is no address"),
        (("send", "ann@example.org", "--from", "bob"), 2, "'bob' is no address: no @ in it"),
        (("send", "ann@example.org", "--subject", "a\nBcc: b@c"), 2, "no message can have this subject"),
        (("send", "ann@example.org", "--body", "\udc80"), 2, "no message can have this subject or text"),
        (("nonsense",), 2, "nonsense"),
        (("config", "set", "smtp.max_wokers", "3"), 1, "smtp.max_workers"),
        (("config", "set", "smtp.max_workers", "none"), 1, "smtp.max_workers"),
        (("config", "set", "data", "/elsewhere"), 1, "file or environment only"),
        (("config", "clear", "smtp.max_workers"), 1, "No override"),
    ],
)
def test_errors_say_what_to_do(
    homing: Homing, domain: str, arguments: tuple[str, ...], status: int, sentence: str
) -> None:
    result = homing(*arguments, status=status)
    assert sentence in result.stderr
    assert "Traceback" not in result.output


def test_hashes_of_other_servers_are_never_taken_as_passwords(homing: Homing, domain: str, tmp_path: Path) -> None:
    bcrypt = "$2y$04$abcdefghijklmnopqrstuuH1MrLgqzLs4bG1Yn0Y9hEJrgMcTrZ5u"
    argon2 = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$" + "A" * 43
    good = {
        "a@example.org": (f"{{BLF-CRYPT}}{bcrypt}", bcrypt),
        # Without quotes, though it has commas.
        "b@example.org": (argon2, argon2),
        "c@example.org": (f"{{ARGON2ID}}{argon2},5 GiB", argon2),
        "d@example.org": (f'"{argon2}"', argon2),
    }
    bad = (
        "$y$j9T$saltsaltsaltsalt$hashhashhashhashhashhashhashhashhashhashhas",
        "$1$saltsalt$hashhashhashhashhashha",
        "$argon2i$v=19$m=8$saltsalt$hash",
        "{SSHA}aGFzaGhhc2hoYXNoaGFzaA==",
    )
    lines = [f"{address},{cell}" for address, (cell, _) in good.items()]
    lines += [f"bad{number}@example.org,{hash}" for number, hash in enumerate(bad)]
    lines.append("clear@example.org,{PLAIN}$2 a day is {not} a hash")
    (tmp_path / "people.csv").write_text("\n".join(lines))
    result = homing("user", "import", "people.csv", status=1)
    assert "Added 5 of 9 accounts." in result.stdout
    assert result.stderr.count("the hash is neither argon2id nor bcrypt nor sha512-crypt") == len(bad)
    kept = {one["address"]: one for one in csv.DictReader(io.StringIO(homing("user", "export").stdout))}
    assert {address: kept[address]["password"] for address in good} == {a: hash for a, (_, hash) in good.items()}
    assert kept["c@example.org"]["quota"] == str(5 * 1024**3)
    assert kept["clear@example.org"]["password"].startswith("$argon2id$")


def test_import_and_export(homing: Homing, domain: str, tmp_path: Path) -> None:
    bcrypt = "$2b$04$abcdefghijklmnopqrstuuH1MrLgqzLs4bG1Yn0Y9hEJrgMcTrZ5u"
    rows = [
        "ann@example.org,clear password,5 GiB",
        f"bob@example.org,{bcrypt}",
        "",
        "# a remark",
        '"carl@example.org"," with blanks "',
        "ann@example.org,twice",
        "dan@elsewhere.net,foreign",
        "eve@example.org,secret,lots",
        "fay@example.org,",
        "gil@example.org,secret,,,,,UIDONLY UIDONLI",
    ]
    (tmp_path / "people.csv").write_text("\n".join(rows))
    result = homing("user", "import", "people.csv", status=1)
    assert "Added 3 of 8 accounts." in result.stdout
    for line, address in ((6, "ann"), (7, "dan"), (8, "eve"), (9, "fay"), (10, "gil")):
        assert f"line {line}: {address}@" in result.stderr
    assert "'UIDONLI' is no capability that can be masked" in result.stderr
    homing("user", "disable", "carl@example.org")
    homing("user", "mask", "bob@example.org", "UIDONLY", "compress=deflate")

    homing("user", "export", "out.csv")
    assert stat.S_IMODE((tmp_path / "out.csv").stat().st_mode) == 0o600
    exported = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert [(one["address"], one["quota"], one["enabled"]) for one in exported] == [
        ("ann@example.org", str(5 * 1024**3), "true"),
        ("bob@example.org", "", "true"),
        ("carl@example.org", "", "false"),
    ]
    assert exported[1]["password"] == bcrypt
    assert [one["mask"] for one in exported] == ["", "COMPRESS=DEFLATE UIDONLY", ""]
    assert exported[0]["password"].startswith("$argon2id$")

    for one in exported:
        homing("user", "remove", one["address"], "--yes")
    text = (tmp_path / "out.csv").read_text().replace("@example.org", "@example.net")
    homing("domain", "add", "example.net")
    (tmp_path / "again.csv").write_text(text)
    assert "Added 3 of 3" in homing("user", "import", "again.csv").stdout
    assert homing("user", "export").stdout.replace("\r", "") == text


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"address,passwort\nann@example.org,x", "there is no column 'passwort'"),
        (b'ann@example.org,"open', "is not CSV"),
        (b"ann@example.org,caf\xe9", "not UTF-8"),
    ],
)
def test_a_file_that_is_no_list_of_accounts(
    homing: Homing, domain: str, tmp_path: Path, content: bytes, sentence: str
) -> None:
    (tmp_path / "bad.csv").write_bytes(content)
    assert sentence in homing("user", "import", "bad.csv", status=1).stderr


def test_thousands_at_once(homing: Homing, domain: str, tmp_path: Path) -> None:
    digest = "$2b$04$abcdefghijklmnopqrstuuH1MrLgqzLs4bG1Yn0Y9hEJrgMcTrZ5u"
    (tmp_path / "many.csv").write_text("".join(f"user{n:05}@example.org,{digest}\n" for n in range(3000)))
    assert "Added 3000 of 3000" in homing("user", "import", "many.csv").stdout
    assert len(users(homing)) == 3000


def test_aliases(homing: Homing, domain: str) -> None:
    told = homing("alias", "add", "sales@example.org", "ann@example.org", "bob@elsewhere.net").stderr
    assert told == "homing: ann@example.org leads nowhere yet: mail for it is refused until it is somebody's\n"
    homing("user", "add", "ann@example.org", "--generate")
    assert not homing("alias", "add", "sales@example.org", "ann@example.org", "bob@elsewhere.net").stderr
    assert "b@example.org leads nowhere" in homing("alias", "add", "a@example.org", "b@example.org").stderr
    assert "a@example.org leads nowhere" in homing("alias", "add", "b@example.org", "a@example.org").stderr
    for name in "ab":
        homing("alias", "remove", f"{name}@example.org")
    assert "homing alias list" in homing("user", "add", "ann@example.org", "--generate", status=1).stderr
    added = homing("domain", "add", "other.example", "--catch-all", "nobody@example.org")
    assert "nobody@example.org leads nowhere" in added.stderr
    assert json.loads(homing("alias", "list", "--json").stdout) == [
        {"address": "sales@example.org", "targets": ["ann@example.org", "bob@elsewhere.net"]}
    ]
    assert "sales@example.org" in homing("alias", "list", "--domain", "example.org").stdout
    homing("alias", "remove", "sales@example.org")
    assert json.loads(homing("alias", "list", "--json").stdout) == []


def test_shared_mailboxes(homing: Homing, domain: str) -> None:
    for name in ("ann", "bob"):
        homing("user", "add", f"{name}@example.org", "--generate")
    ann, bob = "ann@example.org", "bob@example.org"
    assert "is shared with" in homing("mailbox", "share", ann, "Sent", bob, "lrd").stdout
    homing("mailbox", "share", ann, "Archive", "anyone", "l")
    assert json.loads(homing("mailbox", "shares", ann, "--json").stdout) == [
        {"owner": ann, "mailbox": "Archive", "with": "anyone", "rights": "l"},
        {"owner": ann, "mailbox": "Sent", "with": bob, "rights": "lrted"},
    ]
    assert [one["mailbox"] for one in json.loads(homing("mailbox", "shares", bob, "--json").stdout)] == [
        "Archive",
        "Sent",
    ]
    assert "Archive" in homing("mailbox", "shares", bob).stdout
    assert "no longer shared" in homing("mailbox", "share", ann, "Sent", bob, "none").stdout
    assert "no rights" in homing("mailbox", "share", ann, "Sent", bob, "lrz", status=2).stderr
    assert "always has all rights" in homing("mailbox", "share", ann, "Sent", ann, "l", status=1).stderr
    assert "no such mailbox" in homing("mailbox", "share", ann, "nowhere", bob, "l", status=1).stderr
    assert "no such account" in homing("mailbox", "share", ann, "Sent", "zoe@example.org", "l", status=1).stderr


def test_overrides(homing: Homing, monkeypatch: pytest.MonkeyPatch) -> None:
    def row(key: str) -> tuple[str, str]:
        rows = {one["key"]: one for one in json.loads(homing("config", "--json").stdout)}
        return rows[key]["value"], rows[key]["origin"]

    monkeypatch.setenv("HOMING_ADMIN_PASSWORD", "tell-nobody")
    assert row("smtp.max_workers") == ("4", "default")
    assert "at the next start" in homing("config", "set", "smtp.max_workers", "7").stdout
    assert row("smtp.max_workers") == ("7", "override")
    assert "smtp.max_workers" in homing("config", "--changed").stdout
    homing("config", "clear", "smtp.max_workers")
    assert row("smtp.max_workers") == ("4", "default")
    assert "tell-nobody" not in homing("config").output


def test_an_override_that_no_longer_fits_can_be_cleared(
    homing: Homing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    homing("config", "set", "smtp.max_workers", "7")
    with sqlite3.connect(tmp_path / "data" / "config.db") as kept:
        kept.execute("INSERT INTO override VALUES ('smtp.of_old', '1')")
    kept.close()
    assert "homing config clear smtp.of_old" in homing("user", "list", status=78).stderr
    homing("config", "clear", "smtp.of_old")
    homing("user", "list")


def test_check(homing: Homing, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "wrong" not in homing("check").stdout
    monkeypatch.setenv("HOMING_TLS_CERT", "/absent.pem")
    monkeypatch.setenv("HOMING_TLS_KEY", "/absent.key")
    assert "/absent.pem does not exist" in homing("check", status=78).stdout
    monkeypatch.setenv("HOMING_DNS_SERVERS", "192.0.2.53,nonsense")
    assert "dns: 'nonsense' does not appear to be an IPv4 or IPv6 address" in homing("check", status=78).stdout
    monkeypatch.delenv("HOMING_DNS_SERVERS")
    monkeypatch.setenv("HOMING_SMPT_PORT", "1")
    assert "HOMING_SMTP_PORT" in homing("check", status=78).stdout


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("redis://elsewhere:none/0", False),
        ("rediss://elsewhere:70000", False),
        ("redis://elsewhere/0?socket_timeout=long", False),
        ("amqp://elsewhere", False),
        ("redis://user:secret@elsewhere/0", True),
    ],
)
def test_check_reads_the_url_of_the_queue(
    homing: Homing, monkeypatch: pytest.MonkeyPatch, url: str, good: bool
) -> None:
    monkeypatch.setenv("QUEUE_URL", url)
    told = homing("check", status=0 if good else 78).stdout
    assert ("wrong" in told) is not good
    assert "secret" not in told


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("QUEUE_URL", "amqp://elsewhere", "redis://host:6379/0"),
        ("MONGODB_URL", "http://elsewhere:8002", "looks like mongodb://"),
        ("MONGODB_URL", "mongodb://elsewhere:none/homing", "not a MongoDB URL"),
        ("STORAGE_URL", "ftp://elsewhere", "the scheme 'ftp'"),
        ("IDENTITY_URL", "elsewhere:8001", "the scheme"),
        ("STORAGE_URL", "http://elsewhere:8002", "homing serve smtp imap"),
        ("IDENTITY_URL", "http://elsewhere:8001", "homing serve smtp imap"),
    ],
)
def test_a_url_that_cannot_be_used_is_not_ignored(
    homing: Homing, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert sentence in homing("up", status=78).stderr


def test_a_damaged_database_is_not_waited_for(homing: Homing, tmp_path: Path) -> None:
    homing("user", "list")
    for name in ("identity.db", "storage.db", "config.db"):
        path = tmp_path / "data" / name
        whole = path.read_bytes()
        path.write_bytes(b"no database at all" * 100)
        told = homing("up", status=69).stderr
        assert f"{name} is damaged" in told
        assert "could not be had within" not in told
        path.write_bytes(whole)


@pytest.mark.parametrize("token", ["tiny-secret", "a secret with blanks in it", "ein langes Geheimnis: ä" * 2])
def test_a_service_token_that_cannot_be_used(homing: Homing, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("HOMING_SERVICE_TOKEN", token)
    told = homing("serve", "identity", status=78)
    assert "service.token" in told.stderr
    assert token not in told.output


def test_a_folder_in_use_by_what_does_not_answer(
    homing: Homing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homing.access.PATIENCE", 0.1)
    monkeypatch.setattr("homing.embedded.LOCK_SECONDS", 0.1)
    with FolderLock(tmp_path / "data"):
        assert "does not answer" in homing("user", "list", status=69).stderr
        assert "in use by process" in homing("up", status=69).stderr


def test_version_and_help(homing: Homing) -> None:
    assert homing("version").stdout.startswith("homing 0.")
    for command in ((), ("user",), ("domain",), ("alias",), ("config",)):
        assert "Usage" in homing(*command, "--help").stdout
    for command in (("user", "add"), ("user", "import"), ("domain", "add"), ("alias", "add"), ("send",), ("up",)):
        assert "Example" in homing(*command, "--help").stdout
