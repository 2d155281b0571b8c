"""Letters, queries, and what a query means: a naive evaluator over what the letters say, for every store."""

from __future__ import annotations

import base64
import calendar
import quopri
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from hypothesis import strategies as st

from mail.text import fold
from storage.model import (
    All,
    And,
    BodyContains,
    DateField,
    DateRange,
    HasFlags,
    HasKeyword,
    HeaderContains,
    ModseqFrom,
    Not,
    Or,
    Query,
    SizeRange,
    TextContains,
    Uids,
)


@dataclass(frozen=True)
class Letter:
    """A message by what it says: decoded header fields and decoded text, and how they are to be encoded."""

    fields: tuple[tuple[str, str], ...]
    text: str
    encoding: str = "8bit"
    html: bool = False
    flags: int = 0
    keywords: tuple[str, ...] = ()
    internaldate: int = 0
    savedate: int = 0
    prefix: bytes = b""

    def raw(self) -> bytes:
        lines = [f"{name}: {self._word(value)}".encode() for name, value in self.fields]
        subtype = "html" if self.html else "plain"
        lines.append(f"Content-Type: text/{subtype}; charset=utf-8".encode())
        lines.append(f"Content-Transfer-Encoding: {self.encoding}".encode())
        body = self.text.encode()
        if self.encoding == "base64":
            body = base64.encodebytes(body)
        elif self.encoding == "quoted-printable":
            body = quopri.encodestring(body)
        return b"\r\n".join(lines) + b"\r\n\r\n" + body

    @staticmethod
    def _word(value: str) -> str:
        if value.isascii() and value.isprintable():
            return value
        return f"=?utf-8?B?{base64.b64encode(value.encode()).decode()}?="


DAY = 86400
WORDS = (
    "hello",
    "Straße",
    "İstanbul",
    "cafe\u0301",
    "café",
    'say "hi"',
    "100%_*",
    "AND OR NOT NEAR",
    "ﬁle",
    "日本語の",
    "a",
)
NAMES = ("Subject", "From", "To", "X-Thing", "Received")

phrase = st.lists(st.sampled_from(WORDS), max_size=3).map(" ".join)
needle = st.one_of(
    phrase,
    st.sampled_from(
        ["", "e", "a", "lo", "ell", 'hi"', '"', "%", "_", "*", "NEAR(", "本", "ß", "SS", "E\u0301", "\0", "o h", " "]
    ),
    phrase.flatmap(
        lambda words: st.tuples(st.integers(0, 8), st.integers(1, 9)).map(lambda at: words[at[0] :][: at[1]])
    ),
    st.just("hello" * 500),
)
day = st.integers(0, 4).map(lambda n: n * DAY)


@st.composite
def letters(draw: Any, make: Any) -> Any:
    fields = [(draw(st.sampled_from(NAMES)), draw(phrase)) for _ in range(draw(st.integers(0, 4)))]
    sent = draw(st.none() | day)
    if sent is not None:
        # The zone must not matter: only the day as it is written does.
        zone = draw(st.sampled_from(["+0000", "-1100", "+1300"]))
        fields.append(("Date", formatdate(sent + 3600, usegmt=True).replace("GMT", zone)))
    return make(
        fields=tuple(fields),
        text=draw(phrase) + draw(st.sampled_from(["", "\r\n" + "long line " * 30])),
        encoding=draw(st.sampled_from(["8bit", "base64", "quoted-printable"])),
        html=draw(st.booleans()),
        flags=draw(st.integers(0, 31)),
        keywords=tuple(draw(st.sets(st.sampled_from(["$Junk", "todo"])))),
        internaldate=draw(day),
        savedate=draw(day),
        prefix=draw(st.sampled_from([b"", b"Delivered-To: <caf\xc3\xa9@hello.example>\r\n"])),
    )


bound = st.none() | st.integers(-1, 5).map(lambda n: n * DAY)
leaf: st.SearchStrategy[Query] = st.one_of(
    st.just(All()),
    st.lists(st.integers(1, 20), max_size=6).map(
        lambda uids: Uids(tuple((uid * 2, uid * 2) for uid in sorted(set(uids))))
    ),
    st.just(Uids(tuple((uid, uid) for uid in range(1, 80, 2)))),
    st.integers(0, 31).map(HasFlags),
    st.sampled_from(["$junk", "TODO", "none"]).map(HasKeyword),
    st.builds(DateRange, st.sampled_from(DateField), bound, bound),
    st.builds(SizeRange, st.none() | st.integers(0, 800), st.none() | st.integers(0, 800)),
    st.builds(HeaderContains, st.sampled_from([*NAMES, "subject", "delivered-to", "None", "X"]), needle),
    st.builds(BodyContains, needle),
    st.builds(TextContains, needle),
    st.integers(0, 20).map(ModseqFrom),
)
queries: st.SearchStrategy[Query] = st.recursive(
    leaf,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda keys: And(tuple(keys))),
        st.lists(inner, max_size=3).map(lambda keys: Or(tuple(keys))),
        inner.map(Not),
    ),
    max_leaves=8,
)


def holds(key: Query, uid: int, modseq: int, size: int, letter: Any) -> bool:
    def fields() -> list[tuple[str, str]]:
        prefix = [("Delivered-To", "<café@hello.example>")] if letter.prefix else []
        subtype = "html" if letter.html else "plain"
        own = [("Content-Type", f"text/{subtype}; charset=utf-8"), ("Content-Transfer-Encoding", letter.encoding)]
        return [*prefix, *letter.fields, *own]

    def within(number: int, start: int | None, end: int | None) -> bool:
        return (start is None or start <= number) and (end is None or number < end)

    match key:
        case All():
            return True
        case And(keys):
            return all(holds(one, uid, modseq, size, letter) for one in keys)
        case Or(keys):
            return any(holds(one, uid, modseq, size, letter) for one in keys)
        case Not(one):
            return not holds(one, uid, modseq, size, letter)
        case Uids(uids):
            return any(first <= uid <= last for first, last in uids)
        case HasFlags(flags):
            return bool(letter.flags & flags == flags)
        case HasKeyword(keyword):
            return keyword.lower() in [name.lower() for name in letter.keywords]
        case DateRange(DateField.SENT, start, end):
            written = dict(fields()).get("Date")
            if written is None:
                return False
            months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
            _, d, month, year, *_ = written.split()
            return within(calendar.timegm((int(year), months.index(month) + 1, int(d), 0, 0, 0)), start, end)
        case DateRange(name, start, end):
            return within(letter.internaldate if name is DateField.INTERNAL else letter.savedate, start, end)
        case SizeRange(larger, smaller):
            return (larger is None or larger < size) and (smaller is None or size < smaller)
        case ModseqFrom(least):
            return modseq >= least
        case HeaderContains(name, text):
            return any(name.upper() == field.upper() and fold(text) in fold(" " + value) for field, value in fields())
        case BodyContains(text):
            return fold(text) in fold(letter.text)
        case TextContains(text):
            header = "\n".join(f"{name}: {value}" for name, value in fields())
            return fold(text) in fold(f"\n{header}\n") or fold(text) in fold(letter.text)
