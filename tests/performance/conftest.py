"""What is timed runs where it is asked for alone: `pytest -m performance`."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "performance" in config.option.markexpr and "not performance" not in config.option.markexpr:
        return
    left_out = [item for item in items if HERE in item.path.parents]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if HERE not in item.path.parents]
