"""MIME structure: any bytes, exact offsets, linear work, broken MIME."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mail.structure import MAX_BOUNDARY, Limits, Part, parse
from tests.hurry import examples

HEAD = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=%b\r\n\r\n"
PIECES = [
    b"--b",
    b"--bb",
    b"--b--",
    b"--",
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"x",
    b" ",
    b":",
    b"MIME-Version: 1.0\r\n",
    b"Content-Type: multipart/mixed; boundary=b\r\n",
    b"Content-Type: multipart/digest; boundary=bb\r\n",
    b'Content-Type: multipart/x; boundary="b--"\r\n',
    b"Content-Type: message/rfc822\r\n",
    b"Content-Type: text/html\r\n",
]
ANY = st.one_of(st.binary(max_size=300), st.lists(st.sampled_from(PIECES), max_size=60).map(b"".join))


def walk(part: Part) -> list[Part]:
    found, todo = [], [part]
    while todo:
        node = todo.pop()
        found.append(node)
        todo.extend(node.children)
    return found


@settings(max_examples=examples(200), deadline=None)
@given(ANY)
def test_any_bytes_have_a_structure_whose_offsets_nest(raw: bytes) -> None:
    root = parse(raw)
    assert (root.header_start, root.body_end) == (0, len(raw))
    for part in walk(root):
        assert part.header_start <= part.body_start <= part.body_end
        assert part.lines == raw.count(b"\n", part.body_start, part.body_end)
        at = part.body_start
        for child in part.children:
            assert at <= child.header_start
            assert child.body_end <= part.body_end
            at = child.body_end
        if part.is_message:
            (inner,) = part.children
            assert (inner.header_start, inner.body_end) == (part.body_start, part.body_end)
            assert inner.fields is not None
        elif not part.is_multipart:
            assert not part.children


@st.composite
def trees(draw: st.DrawFn, depth: int = 0) -> tuple[bytes, object]:
    """A well-formed message and what its structure is: text as bytes, a multipart as a list, a message as a tuple."""
    kind = draw(st.sampled_from(["text", "multi", "message"] if depth < 4 else ["text"]))
    if kind == "text":
        body = draw(st.lists(st.sampled_from([b"word", b"- dash", b"-- two", b"", b"."]), max_size=4).map(b"\r\n".join))
        return b"Content-Type: text/plain\r\n\r\n" + body, body
    if kind == "message":
        inner, shape = draw(trees(depth + 1))
        return b"Content-Type: message/rfc822\r\n\r\nSubject: x\r\n" + inner, (shape,)
    boundary = b"level%d" % depth
    children = [draw(trees(depth + 1)) for _ in range(draw(st.integers(1, 3)))]
    raw = b"Content-Type: multipart/mixed; boundary=" + boundary + b"\r\n\r\npreamble"
    for inner, _ in children:
        raw += b"\r\n--" + boundary + b"\r\n" + inner
    return raw + b"\r\n--" + boundary + b"--\r\nepilogue", [shape for _, shape in children]


@settings(max_examples=examples(100), deadline=None)
@given(trees())
def test_well_formed_mime_is_taken_apart_as_it_was_made(made: tuple[bytes, object]) -> None:
    raw, shape = made

    def seen(part: Part) -> object:
        if part.is_multipart:
            return [seen(child) for child in part.children]
        if part.is_message:
            return (seen(part.children[0]),)
        return raw[part.body_start : part.body_end]

    assert seen(parse(raw)) == shape


def shape(raw: bytes) -> object:
    def seen(part: Part) -> object:
        if part.children:
            return [f"{part.type}/{part.subtype}", *map(seen, part.children)]
        return raw[part.body_start : part.body_end]

    return seen(parse(raw))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"--b\r\n\r\none\r\n--b--\r\n", [b"one"]),
        (b"--b\n\none\n--b--\n", [b"one"]),
        (b"--b\r\n\r\none\r\n", [b"one\r\n"]),
        (b"--b\r\n\r\none\r\n--b\r\n", [b"one", b""]),
        (b"--b\r\n\r\none\r\n--b", [b"one"]),
        (b"--b\r\n--b--", [b""]),
        (b"--bgarbage\r\n\r\none\r\n--b--garbage\r\n\r\n--b\r\n", [b"one"]),
        (b" --b\r\n\r\none", []),
        (b"--b\r\nContent-Type: text/html\r\n--b--", [b""]),
    ],
)
def test_broken_multiparts(body: bytes, expected: list[bytes]) -> None:
    raw = HEAD % b"b" + body
    assert [raw[p.body_start : p.body_end] for p in parse(raw).children] == expected


def test_the_longest_boundary_wins_and_an_outer_one_ends_the_inner() -> None:
    inner = b"Content-Type: multipart/x; boundary=bb\r\n\r\n--bb\r\n\r\none\r\n"
    raw = HEAD % b"b" + b"--b\r\n" + inner + b"--b\r\n\r\ntwo\r\n--b--\r\n"
    assert shape(raw) == ["multipart/mixed", ["multipart/x", b"one"], b"two"]


def test_digest_parts_are_messages_by_default() -> None:
    raw = b"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: in\r\n\r\nbody\r\n--b--\r\n"
    (part,) = parse(raw).children
    assert part.is_message
    assert part.children[0].fields is not None
    assert part.children[0].fields.first(b"SUBJECT") == b"in"


def test_content_fields_count_only_with_mime_version_or_content_type() -> None:
    assert parse(b"Content-Disposition: attachment\r\n\r\nx").disposition is None
    assert parse(b"MIME-Version: 1.0\r\nContent-Disposition: attachment\r\n\r\nx").disposition == b"attachment"


@pytest.mark.parametrize(
    "value", [b"", b"text", b"text/", b"/plain", b"; charset=x", b"text/plain, text/html", b"a b/c"]
)
def test_a_broken_content_type_is_plain_text(value: bytes) -> None:
    part = parse(b"Content-Type: " + value + b"\r\n\r\nx")
    assert (part.type, part.subtype) in (("text", "plain"),)


def nested(depth: int) -> bytes:
    return b"".join(
        (b"--b%d\r\n" % (level - 1) if level else b"") + b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n" % level
        for level in range(depth)
    )


def depth_of(part: Part) -> int:
    depth = 1
    while part.children:
        part, depth = part.children[0], depth + 1
    return depth


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_depth_limit(limit: int) -> None:
    assert depth_of(parse(nested(limit - 1) + b"--b%d\r\n\r\nx" % (limit - 2), Limits(max_depth=limit))) == limit
    deepest = parse(nested(limit + 5), Limits(max_depth=limit))
    assert depth_of(deepest) == limit
    while deepest.children:
        deepest = deepest.children[0]
    assert (deepest.type, deepest.subtype) == ("application", "octet-stream")


def test_ten_thousand_nested_parts_end_in_one_opaque_leaf() -> None:
    assert depth_of(parse(nested(10_000))) == Limits().max_depth
    assert depth_of(parse(b"Content-Type: message/rfc822\r\n\r\n" * 10_000)) == Limits().max_depth


@pytest.mark.parametrize(("parts", "expected"), [(9, 9), (10, 10), (11, 10)])
def test_part_limit(parts: int, expected: int) -> None:
    raw = HEAD % b"b" + b"--b\r\n\r\nx\r\n" * (parts - 1) + b"--b--\r\nend"
    found = walk(parse(raw, Limits(max_parts=10)))
    assert len(found) == expected
    last = parse(raw, Limits(max_parts=10)).children[-1]
    assert raw[last.body_start : last.body_end] == (b"x" if parts <= 9 else raw[last.body_start :])


class Counting(bytes):
    """Bytes that count how many of them are searched."""

    work = 0

    def find(self, sub: object, start: int = 0, end: int | None = None) -> int:
        stop = len(self) if end is None else min(end, len(self))
        at = super().find(sub, start, stop)
        Counting.work += 50 + (at if at >= 0 else stop) - start
        return at

    def count(self, sub: object, start: int = 0, end: int | None = None) -> int:
        stop = len(self) if end is None else min(end, len(self))
        Counting.work += stop - start
        return super().count(sub, start, stop)


BOMBS = {
    "nested": nested,
    "nested then long": lambda n: nested(90) + b"x\r\n" * n,
    "boundaries that are prefixes": lambda n: (
        b"".join(
            (b"--" + b"a" * k + b"\r\n" if k else b"")
            + b"Content-Type: multipart/x; boundary="
            + b"a" * (k + 1)
            + b"\r\n\r\n"
            for k in range(MAX_BOUNDARY)
        )
        + b"--aaaaaaaaaaaab\r\n" * n
    ),
    "parts": lambda n: HEAD % b"b" + b"--b\r\n\r\n" * n,
    "parts without blank lines": lambda n: HEAD % b"b" + b"--b\r\nA: b\r\n" * n,
    "dashes": lambda n: nested(50) + b"--\r\n" * n,
    "messages": lambda n: b"Content-Type: message/rfc822\r\n\r\n" * n,
    "one header": lambda n: b"A: b\r\n" * n,
}


@pytest.mark.parametrize("name", BOMBS)
def test_every_byte_is_searched_a_few_times_at_most(name: str) -> None:
    def work(n: int) -> tuple[int, int]:
        raw = Counting(BOMBS[name](n))
        Counting.work = 0
        parse(raw)
        return Counting.work, len(raw)

    small, large = work(2_000), work(8_000)
    assert large[0] <= 30 * large[1] + 10_000
    assert large[0] <= 5 * small[0] + 10_000
