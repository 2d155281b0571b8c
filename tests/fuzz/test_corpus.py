"""Plays the kept corpus through the fuzz targets: what once broke a promise, or reached code that nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).resolve().parent / "corpus"


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_the_corpus_keeps_the_promise(target: str) -> None:
    inputs = sorted((CORPUS / target).iterdir())
    assert inputs
    for path in inputs:
        TARGETS[target](path.read_bytes())
