from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, SecretStr

from runtime.config import (
    MASK,
    ConfigError,
    Env,
    Group,
    Loaded,
    NamedTables,
    OptionalSecret,
    Port,
    Size,
    Words,
    entries,
    load,
    manual,
    setting,
    shown,
    without_passwords,
)


class Door(Group):
    """A door."""

    port: Port = setting(25, "Where it is.", env=["DOOR", Env("OLD_DOOR", unless="OTHER")])
    largest: Size = setting(1000, "Octets.")
    names: Words = setting((), "Names.")
    workers: int = setting(4, "Hands.", live=True, ge=1, le=9)


class Guest(Group):
    """Who stays."""

    name: str = Field(description="The table's own.", pattern="^[a-z]+$")
    key: SecretStr = Field(description="To the door.")
    nights: int = Field(default=1, description="How long.")
    home: str = Field(default="", description="Where from.")


class House(Group):
    name: str = setting("home", "What it is called.")
    secret: OptionalSecret = setting(None, "Not to be told.")
    mode: Literal["a", "b"] = setting("a", "How.")
    door: Door = Field(default=Door(), description="A door.")
    guests: NamedTables[Guest] = setting((), "Who stays.")
    path: str = setting("", "Not to be repeated.", secret=True, max_length=9)


def read(
    environ: dict[str, str] | None = None, toml: str | None = None, overrides: dict[str, str] | None = None
) -> Loaded[House]:
    file = None
    if toml is not None:
        file = Path("house.toml")
        file.write_text(toml)
    return load(House, prefix="H", file=file, environ=environ or {}, overrides=overrides or {}, also=["H_CONFIG"])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_order_of_precedence() -> None:
    toml = "name = 'file'\n[door]\nport = 1\nworkers = 1\nlargest = '2 KiB'"
    environ = {"H_DOOR_PORT": "2", "H_DOOR_WORKERS": "2", "DOOR": "7", "H_CONFIG": "x", "UNRELATED": "y"}
    found = read(environ, toml, {"door.workers": "3"})
    assert found.settings.name == "file"
    assert found.settings.door == Door(port=2, workers=3, largest=2048)
    assert {row.key: row.origin for row in found.rows("H")} == {
        "name": "file house.toml",
        "secret": "default",
        "mode": "default",
        "guests": "default",
        "path": "default",
        "door.port": "environment H_DOOR_PORT",
        "door.largest": "file house.toml",
        "door.names": "default",
        "door.workers": "override",
    }


def test_further_variables_and_their_condition() -> None:
    assert read({"DOOR": "7"}).settings.door.port == 7
    assert read({"OLD_DOOR": "8"}).settings.door.port == 8
    assert read({"OLD_DOOR": "8", "OTHER": ""}).settings.door.port == 25


@pytest.mark.parametrize(("text", "port"), [("", None), ("0", 0), ("65535", 65535)])
def test_ports(text: str, port: int | None) -> None:
    assert read({"H_DOOR_PORT": text}).settings.door.port == port


def test_a_port_is_off_in_the_file() -> None:
    assert read(toml="[door]\nport = ''").settings.door.port is None
    assert read(toml="[door]\nport = false").settings.door.port is None


@pytest.mark.parametrize(
    ("text", "octets"),
    [("7", 7), ("64 MiB", 64 << 20), ("64mb", 64_000_000), ("1G", 10**9), ("2kib", 2048), (" 5 B ", 5)],
)
def test_sizes(text: str, octets: int) -> None:
    assert read({"H_DOOR_LARGEST": text}).settings.door.largest == octets


def test_lists() -> None:
    assert read({"H_DOOR_NAMES": "a, b c"}).settings.door.names == ("a", "b", "c")
    assert read(toml="[door]\nnames = ['a', 'b c']").settings.door.names == ("a", "b c")


@pytest.mark.parametrize(
    ("environ", "toml", "sentence"),
    [
        ({"H_DOR_PORT": "1"}, None, "H_DOR_PORT, which is not a setting. Did you mean 'H_DOOR_PORT'?"),
        ({"H_QQQQQQQQQQQ": "1"}, None, "`homing config` lists"),
        ({}, "[door]\nprot = 1", "there is no setting 'door.prot'. Did you mean 'door.port'?"),
        ({}, "nmae = 'x'", "Did you mean 'name'?"),
        ({}, "door = 3", "door is a table"),
        ({}, "door = [", "is not TOML"),
        ({"H_DOOR_PORT": "65536"}, None, "door.port = '65536' (environment H_DOOR_PORT): Input should be less"),
        ({"H_DOOR_WORKERS": "0"}, None, "door.workers = '0'"),
        ({"H_MODE": "c"}, None, "Input should be 'a' or 'b'"),
        ({"H_DOOR_LARGEST": "many"}, None, "door.largest"),
        ({}, "[door.deeper]\nx = 1", "there is no setting 'door.deeper'"),
        ({}, "secret = 5", f"secret = {MASK}"),
        ({}, "path = '0123456789'", f"path = {MASK}"),
        ({}, "name = ['http://u@h:p@ss/w@x']", f"name = ['http://u@h:{MASK}@x'] (file"),
        ({}, "[guests.ann]\nnights = 2", "guests.ann, key (file house.toml): Field required"),
        ({}, "[guests.ann]\nkey = 'k'\nnight = 2", "guests.ann, night (file house.toml): Extra inputs"),
        ({}, "[guests]\nann = 'k'", f"guests = {MASK} (file house.toml): 'ann' is not a table"),
        ({}, "[guests.ann]\nname = 'k'", "'ann' is the table's name"),
        ({"H_GUESTS": "{"}, None, f"guests = {MASK} (environment H_GUESTS): is not JSON"),
        ({"H_GUESTS": '{"A": {"key": "k"}}'}, None, "guests, number 1, name"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(environ: dict[str, str], toml: str | None, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(environ, toml)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 78


def test_an_override_of_no_setting_says_how_to_clear_it() -> None:
    with pytest.raises(ConfigError, match=r"homing config clear door\.gone"):
        read(overrides={"door.gone": "1"})


def test_secrets_are_masked() -> None:
    found = read({"H_SECRET": "tell-nobody"})
    assert "tell-nobody" not in repr(found.settings) + repr(found.rows("H"))
    assert found.settings.secret is not None
    assert found.settings.secret.get_secret_value() == "tell-nobody"


def test_tables_by_name() -> None:
    found = read(toml="[guests.ann]\nkey = 'geheim'\nhome = 'x://u:geheim@h'\n[guests.bob]\nkey = 'b'\nnights = 3\n")
    ann, bob = found.settings.guests
    assert (ann.name, ann.key.get_secret_value(), ann.nights) == ("ann", "geheim", 1)
    assert (bob.name, bob.nights) == ("bob", 3)
    (row,) = (row for row in found.rows("H") if row.key == "guests")
    assert json.loads(row.value) == [
        {"name": "ann", "key": MASK, "home": f"x://u:{MASK}@h"},
        {"name": "bob", "key": MASK, "nights": 3},
    ]
    same = read({"H_GUESTS": '{"bob": {"key": "b", "nights": 3}}'}).settings.guests
    assert same == (bob,)
    assert read({"H_GUESTS": ""}).settings.guests == ()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("smtp://u:secret@h:25", f"smtp://u:{MASK}@h:25"),
        ("smtp://u@d.example:se@cr:et@h", f"smtp://u@d.example:{MASK}@h"),
        ("*=smtp://u:sec ret/@@h", f"*=smtp://u:{MASK}@h"),
        ("mongodb://u:secret@a,b/name", f"mongodb://u:{MASK}@a,b/name"),
        ("smtp://u@h:25", "smtp://u@h:25"),
        ("http://[::1]:8000/x", "http://[::1]:8000/x"),
    ],
)
def test_passwords_in_urls_are_masked(url: str, told: str) -> None:
    assert without_passwords(url) == told
    assert shown((url, "x")) == f"{told}, x"


def test_a_file_that_cannot_be_read() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(House, prefix="H", file=Path("absent"), environ={}, overrides={})


def test_the_manual_tells_every_setting() -> None:
    text = manual(House, "H")
    for entry in entries(House, "H"):
        assert f"`{entry.key}`" in text
        assert entry.description in text
        assert all(f"`{env.name}`" in text for env in entry.env)
    assert "(unless `OTHER` is set)" in text
    assert text.index("## General") < text.index("## [door]")
