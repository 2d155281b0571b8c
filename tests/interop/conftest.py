"""Programs of other people, driven against the running server. A missing one is named in the closing list."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest


@pytest.fixture
def program() -> Callable[[str], str]:
    """The path of a program; where it is missing the test is not run, which CI counts as a failure."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            reason = f"{name} is not on PATH"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        return path

    return find
