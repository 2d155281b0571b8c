"""Addresses as people write them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import recipients
from connectors.exceptions import MessageError


def shown(given: Any) -> list[tuple[str, str]]:
    return [(one.name, one.wire) for one in recipients.several(given)]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("a@b.example", [("", "a@b.example")]),
        (" a@b.example ,, c@d.example, ", [("", "a@b.example"), ("", "c@d.example")]),
        ('"Smith, John" <j@b.example>, c@d.example', [("Smith, John", "j@b.example"), ("", "c@d.example")]),
        ('"a \\"b\\", c" <j@b.example>', [('a "b", c', "j@b.example")]),
        ("O'Hara, x <o@b.example>", None),
        ("Jürgen Größe <j@b.example>", [("Jürgen Größe", "j@b.example")]),
        ("=?utf-8?q?J=C3=BCrgen?= <j@b.example>", [("Jürgen", "j@b.example")]),
        (["a@b.example", "Name <c@d.example>"], [("", "a@b.example"), ("Name", "c@d.example")]),
        (("a@b.example", "a@B.example"), [("", "a@b.example")]),
        ('"a,b <c>"@d.example', [("", '"a,b <c>"@d.example')]),
        ("<a@b.example>", [("", "a@b.example")]),
        ("x@bücher.example", [("", "x@xn--bcher-kva.example")]),
        ("ü@bücher.example", [("", "ü@bücher.example")]),
        ("a@b.example; c@d.example", None),
        ("a@b.example c@d.example", None),
        ("nobody", None),
        ("Name <a@b.example", None),
        ("Name a@b.example>", None),
        ("a@b.example\nBcc: c@d.example", None),
        ("", None),
        ([], None),
        ([None], None),
        (None, None),
        (5, None),
        (b"a@b.example", None),
        (["a@b.example", 5], None),
    ],
)
def test_lists(given: Any, wanted: list[tuple[str, str]] | None) -> None:
    if wanted is None:
        with pytest.raises(MessageError):
            recipients.several(given)
    else:
        assert shown(given) == wanted


def test_semicolons_are_told() -> None:
    with pytest.raises(MessageError, match="separated by commas"):
        recipients.several("a@b.example; c@d.example")


def test_limit() -> None:
    most = [f"u{n}@b.example" for n in range(recipients.MAX_RECIPIENTS)]
    assert len(recipients.several(most)) == recipients.MAX_RECIPIENTS
    with pytest.raises(MessageError, match="at most 1000"):
        recipients.several([*most, "one@more.example"])


@given(st.text(max_size=300))
def test_any_text_gives_people_or_an_error(text: str) -> None:
    try:
        people = recipients.several(text)
    except MessageError:
        return
    for person in people:
        assert not any(ord(char) < 0x20 for char in person.name + person.wire)


@given(
    st.lists(
        st.text(alphabet=st.characters(min_codepoint=0x20, exclude_categories=("Cs", "Cc", "Zl", "Zp"))), max_size=5
    )
)
def test_quoted_names_come_back(names: list[str]) -> None:
    names = [" ".join(name.split()) for name in names if "=?" not in name and len(name) <= recipients.MAX_NAME]
    text = ", ".join(
        '"' + name.replace("\\", "\\\\").replace('"', '\\"') + f'" <u{n}@b.example>' for n, name in enumerate(names)
    )
    if names:
        assert [one.name for one in recipients.several(text)] == names
