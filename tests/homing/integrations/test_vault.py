"""Secrets at rest: sealed, bound to where they belong, under keys that follow one another."""

from __future__ import annotations

import asyncio
import base64
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.integrations.vault import FILE, Sealed, SecretsUnreadable, open_vault, parse_key
from runtime.lifecycle import StartError


def key() -> str:
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


K1, K2 = key(), key()


@given(
    secrets=st.dictionaries(st.text(), st.text(max_size=200), max_size=3), bound=st.text(st.characters(codec="utf-8"))
)
def test_what_is_sealed_comes_out_and_nothing_of_it_is_seen(secrets: dict[str, str], bound: str) -> None:
    vault = open_vault(K1, None, None)
    sealed = asyncio.run(vault.seal(secrets, bound))
    assert vault.open(sealed, bound) == secrets
    assert sealed.octets != asyncio.run(vault.seal(secrets, bound)).octets
    for text in secrets.values():
        assert len(text) < 4 or text.encode("utf-8", "surrogatepass") not in sealed.octets
    with pytest.raises(SecretsUnreadable, match="does not belong"):
        vault.open(sealed, bound + "x")


async def test_every_changed_octet_is_seen() -> None:
    vault = open_vault(K1, None, None)
    sealed = await vault.seal({"secret": "horse"}, "b")
    for place in range(len(sealed.octets)):
        octets = bytearray(sealed.octets)
        octets[place] ^= 1
        with pytest.raises(SecretsUnreadable):
            vault.open(Sealed(sealed.key, bytes(octets)), "b")
    for short in (b"", sealed.octets[:12], sealed.octets[:20]):
        with pytest.raises(SecretsUnreadable):
            vault.open(Sealed(sealed.key, short), "b")


async def test_keys_follow_one_another_and_a_missing_one_is_told() -> None:
    sealed = await open_vault(K1, None, None).seal({"secret": "horse"}, "b")
    rotated = open_vault(K2, f"{K1},", None)
    assert rotated.open(sealed, "b") == {"secret": "horse"}
    assert (await rotated.seal({}, "b")).key == rotated.present == parse_key(K2).id
    with pytest.raises(SecretsUnreadable, match=f"sealed with the key {sealed.key}.*HOMING_SECRETS_KEY") as caught:
        open_vault(K2, None, None).open(sealed, "b")
    assert K1 not in str(caught.value)
    assert K2 not in str(caught.value)
    with pytest.raises(SecretsUnreadable, match="it has none"):
        open_vault(None, None, None).open(sealed, "b")
    with pytest.raises(SecretsUnreadable, match="administrator sets HOMING_SECRETS_KEY"):
        await open_vault(None, None, None).seal({}, "b")


async def test_the_key_file_is_made_once_when_it_is_wanted(tmp_path: Path) -> None:
    first = open_vault(None, None, tmp_path)
    assert not (tmp_path / FILE).exists()
    second = open_vault(None, None, tmp_path)
    sealed = await asyncio.gather(*(vault.seal({"secret": "x"}, "b") for vault in (first, second) for _ in range(3)))
    assert len({one.key for one in sealed}) == 1
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == [FILE]
    assert open_vault(None, None, tmp_path).open(sealed[0], "b") == {"secret": "x"}
    # A key from the settings goes first then, and the file's goes on opening.
    moved = open_vault(K1, None, tmp_path)
    assert moved.open(sealed[0], "b") == {"secret": "x"}
    assert moved.present == parse_key(K1).id
    assert open_vault(None, K1, tmp_path).present == sealed[0].key
    text = (tmp_path / FILE).read_text()
    assert open_vault(text, None, None).open(sealed[0], "b") == {"secret": "x"}


@pytest.mark.parametrize(
    "bad", ["x", "ä" * 43, K1[:-4], K1 + "AAAA", "not base64 at all!"], ids=["x", "ä", "short", "long", "words"]
)
def test_a_bad_key_stops_the_start_and_is_not_repeated(bad: str, tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"secrets.key .*octets") as caught:
        open_vault(bad, None, None)
    assert bad not in str(caught.value)
    (tmp_path / FILE).write_bytes(bad.encode())
    (tmp_path / FILE).chmod(0o600)
    with pytest.raises(StartError, match=FILE) as caught:
        open_vault(None, None, tmp_path)
    assert bad not in str(caught.value)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o601])
def test_a_key_file_that_others_may_open_stops_the_start(mode: int, tmp_path: Path) -> None:
    file = tmp_path / FILE
    file.write_text(K1)
    file.chmod(mode)
    for present in (None, K2):
        with pytest.raises(StartError, match=f"mode {mode:04o}.*chmod 600 ") as caught:
            open_vault(present, None, tmp_path)
        assert K1 not in str(caught.value)
    file.chmod(0o400)
    assert open_vault(None, None, tmp_path).present == parse_key(K1).id


def test_old_keys_alone_seal_nothing() -> None:
    with pytest.raises(StartError, match=r"without secrets.key"):
        open_vault(None, K1, None)


def test_a_key_is_not_shown() -> None:
    made = parse_key(K1)
    assert repr(made) == f"Key({made.id!r})"
    assert parse_key(K1.replace("-", "+").replace("_", "/").rstrip("=")) == made
