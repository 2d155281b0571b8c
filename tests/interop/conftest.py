"""Programs of other people, driven against the running server. A missing one is named in the closing list."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator

import pytest

from tests.interop.trusted import Trusted, trusted


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trusted]:
    """One running server for a module's tests, its certificate can be checked; with alice, bob, carol and dora."""
    with trusted(tmp_path_factory.mktemp("server")) as started:
        yield started


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
