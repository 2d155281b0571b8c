"""The key of secrets as a setting: masked, checked at the start, and never kept in the store that it protects."""

from __future__ import annotations

from pathlib import Path

import pytest

from homing.adapters.sqlite import open_sqlite
from homing.overrides import OverrideRefused, SettingsKeeper
from homing.settings import PREFIX, load_settings
from runtime.config import MASK, ConfigError
from tests.homing.integrations.test_vault import K1, K2


def test_it_is_masked_and_checked() -> None:
    loaded = load_settings({"HOMING_SECRETS_KEY": K1, "HOMING_SECRETS_OLD": f"{K2}, {K1}"})
    rows = {row.key: row.value for row in loaded.rows(PREFIX)}
    assert rows["secrets.key"] == rows["secrets.old"] == MASK
    assert K1 not in repr(loaded.settings)
    for name in ("HOMING_SECRETS_KEY", "HOMING_SECRETS_OLD"):
        with pytest.raises(ConfigError, match=r"secrets\.(key|old) = .*octets") as caught:
            load_settings({name: "c2hvcnQ="})
        assert "c2hvcnQ" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"sending\.refused"):
        load_settings({"HOMING_SENDING_REFUSED": "nowhere"})
    assert load_settings({"HOMING_SENDING_REFUSED": ""}).settings.sending.rules.refused == ()


async def test_it_is_no_override(tmp_path: Path) -> None:
    overrides = await open_sqlite(tmp_path)
    keeper = SettingsKeeper(overrides, {})
    await keeper.open()
    for key in ("secrets.key", "secrets.old"):
        with pytest.raises(OverrideRefused, match="file or environment only"):
            await keeper.set_override(key, K1)
    await overrides.close()
