"""Everything at once, for the corpus and for any bytes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mail import parts
from mail.ingestform import describe, describe_all
from tests.corpus import make
from tests.hurry import examples


def test_the_corpus_is_fit_for_smtp_and_large_enough() -> None:
    made = make.generated()
    assert len(made) >= 300
    whole = make.messages()
    assert whole == make.messages()
    assert len({name for name, _ in whole}) == len(whole)
    for name, raw in whole:
        assert raw.endswith(b"\r\n"), name
        assert b"\0" not in raw, name
        assert not {b"\r", b"\n"} & {bytes([byte]) for byte in raw.replace(b"\r\n", b"")}, name
        assert all(len(line) <= 998 for line in raw.split(b"\r\n")), name


def test_every_message_of_the_corpus_is_described(corpus: list[tuple[str, bytes]]) -> None:
    for name, raw in corpus:
        found = describe(raw)
        assert parts.decode(found.parts) == parts.table(found.part), name
        assert len(found.preview) <= 200, name
        assert found.usual is None or all(line in raw for line in found.usual.split(b"\r\n")), name
        "".join(piece.text for piece in found.search_text()).encode()


@settings(max_examples=examples(200), deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_described(raw: bytes) -> None:
    found = describe(raw)
    assert found.part.body_end == len(raw)
    assert found.envelope.startswith(b"(")
    list(found.search_text())


def test_many_are_described_as_each_alone(corpus: list[tuple[str, bytes]]) -> None:
    raws = [raw for _, raw in corpus[:200]]
    assert describe_all(raws) == [describe(raw) for raw in raws]
    assert describe_all([]) == []
