"""The names in a Maildir."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mail import flags, maildir

NAMES = ("work", "$Forwarded", "later", "NonJunk")
PLACES = {name: place for place, name in enumerate(NAMES)}


@given(
    st.text("abc.,=SW:12", min_size=1, max_size=30),
    st.integers(0, flags.ALL),
    st.lists(st.sampled_from(NAMES), unique=True),
)
def test_what_is_built_is_read(unique: str, bits: int, keywords: list[str]) -> None:
    name = maildir.parse(maildir.build(unique, bits, keywords, PLACES), NAMES)
    assert (name.unique, name.flags, set(name.keywords)) == (unique, bits, set(keywords))


@given(st.text(max_size=60), st.lists(st.text(max_size=5), max_size=30))
def test_any_name_gives_a_value(name: str, keywords: list[str]) -> None:
    found = maildir.parse(name, keywords)
    assert name.startswith(found.unique)


def test_sizes_flags_and_letters() -> None:
    name = maildir.parse("1700000000.M1P2.host,S=12,W=14:2,FSbc", NAMES)
    assert name == ("1700000000.M1P2.host,S=12,W=14", flags.FLAGGED | flags.SEEN, ("$Forwarded", "later"), 12, 14)
    assert not name.exact
    assert maildir.parse("a,S=3,W=3:2,").exact
    assert maildir.parse("a:2").flags == 0
    assert maildir.parse("a:1,S") == ("a:1,S", 0, (), None, None)


@given(st.lists(st.sampled_from(NAMES), unique=True))
def test_the_file_of_keywords(names: list[str]) -> None:
    assert [one for one in maildir.keywords(maildir.keywords_text(names)) if one] == names


def test_more_keywords_than_letters() -> None:
    many = [f"k{number}" for number in range(30)]
    assert len(maildir.keywords_text(many).splitlines()) == maildir.KEYWORDS_MAX
    places = {name: place for place, name in enumerate(many)}
    assert maildir.build("x", 0, ["k25", "k26"], places) == "x:2,z"
    assert maildir.keywords("3 a b\n26 z\nx y\n1 good\n")[:4] == ("", "good", "", "")
