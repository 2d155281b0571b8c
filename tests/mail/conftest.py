"""What the tests of this room share."""

from __future__ import annotations

import pytest

from tests.corpus.make import messages


@pytest.fixture(scope="session")
def corpus() -> list[tuple[str, bytes]]:
    """Every message of the corpus: (name, raw)."""
    return messages()
