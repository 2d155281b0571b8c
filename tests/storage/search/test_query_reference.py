"""Every answer equals that of a naive evaluator over what the messages say, wherever the index stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.adapters.sqlite import query_sql, search_lookup
from tests.hurry import examples
from tests.storage.search.reference import holds, letters, queries


@given(data=st.data())
@settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
async def test_equals_a_naive_evaluator(
    data: Any, letter: Any, store_at: Any, tmp_path_factory: Any, monkeypatch: Any
) -> None:
    folder: Path = tmp_path_factory.mktemp("store")
    # So few are compared one by one: with none, every text of three letters goes through the trigrams.
    monkeypatch.setattr(search_lookup, "FEW", data.draw(st.sampled_from([0, 2000])))
    # And so short are the pages of the statements that hand over uids.
    monkeypatch.setattr(query_sql, "PAGE", data.draw(st.sampled_from([1, 3, 50_000])))
    store = store_at(folder)
    await store.open()
    try:
        some = st.lists(letters(letter), max_size=8)
        first, second = data.draw(some), data.draw(some)
        numbers = await store.add(*first)
        if data.draw(st.booleans()):
            await store.index.catch_up()
        numbers += await store.add(*second, hand=data.draw(st.booleans()))
        if data.draw(st.booleans()):
            await store.index.catch_up()
        by_number = dict(zip(numbers, first + second, strict=True))
        removed = data.draw(st.lists(st.sampled_from(numbers), max_size=3, unique=True)) if numbers else []
        await store.wipe(removed, tell=data.draw(st.booleans()))
        if data.draw(st.booleans()):
            await store.reopen_index()
        entries = await store.entries()
        for what in data.draw(st.lists(queries, min_size=1, max_size=8)):
            expected = [uid for uid, modseq, email, size in entries if holds(what, uid, modseq, size, by_number[email])]
            assert await store.search(what) == expected, what
        assert (await store.index.lag()).error in (None, "being built anew: it was missing or empty")
    finally:
        await store.close()
