"""Capabilities that are taken from one sign-in: not told, and not taken when used all the same.

A mask names capabilities as CAPABILITY tells them, in any case; a name without a value stands for all values, so that
THREAD masks THREAD=REFERENCES, and QUOTA masks QUOTA=RES-STORAGE too; `NEEDS` says what else goes with a name. What a
client uses before it signs in cannot be masked, nor can IMAP4rev1; LITERAL+, CHILDREN, I18NLEVEL=1, OBJECTID's ids in
answers and the like, which take nothing from a client, are only not told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from imap.capability import BASE, FEATURES
from imap.wire import forms
from imap.wire.numset import NumSet
from imap.wire.parse_search import inner

OWN_RIGHT = frozenset(("APPEND", "CREATE", "LIST"))
"""Commands that the table names an extension with, and that are there without it."""

NEEDS = {
    "QRESYNC": ("CONDSTORE",),
    "SEARCHRES": ("ESEARCH",),
    "ESORT": ("SORT",),
    "QUOTASET": ("QUOTA",),
    "RIGHTS=TEXK": ("ACL",),
    "LIST-STATUS": ("LIST-EXTENDED",),
    "LIST-METADATA": ("LIST-EXTENDED", "METADATA"),
    "LIST-MYRIGHTS": ("LIST-EXTENDED", "ACL"),
}
"""Extensions that are nothing without these others: masked with them."""
_OF_SETTINGS = ("APPENDLIMIT", "MESSAGELIMIT")
"""Told with a value that settings give."""

_STATUS = {
    "SIZE": "STATUS=SIZE",
    "DELETED-STORAGE": "QUOTA",
    "HIGHESTMODSEQ": "CONDSTORE",
    "APPENDLIMIT": "APPENDLIMIT",
    "MAILBOXID": "OBJECTID",
}
_ATTRIBUTES = {
    "MODSEQ": "CONDSTORE",
    "EMAILID": "OBJECTID",
    "THREADID": "OBJECTID",
    "PREVIEW": "PREVIEW",
    "SAVEDATE": "SAVEDATE",
}
_RETURNS = {"SPECIAL-USE": "SPECIAL-USE", "MYRIGHTS": "LIST-MYRIGHTS"}


def maskable(of_commands: Iterable[str]) -> frozenset[str]:
    """All names that a mask can have, in capitals: those of capabilities, and those without their values. of_commands:
    as for `capability.capabilities`."""
    names = frozenset(name.upper() for name in (*FEATURES, *of_commands, *_OF_SETTINGS))
    return names | {name.partition("=")[0] for name in names}


class Mask:
    """names: in capitals."""

    def __init__(self, names: frozenset[str] = frozenset()) -> None:
        self._names = names

    def __bool__(self) -> bool:
        return bool(self._names)

    def hides(self, capability: str) -> bool:
        """Is it taken from this sign-in?"""
        if not self._names:
            # nearly always; and APPEND asks at each message
            return False
        name = capability.upper()
        return capability != BASE and any(
            one in self._names or one.partition("=")[0] in self._names for one in (name, *NEEDS.get(name, ()))
        )

    def refused(self, form: forms.Form) -> str | None:
        """A masked capability that the command's arguments make use of, if there is one."""
        return next((name for name in uses(form) if self.hides(name)), None)


def uses(form: forms.Form) -> Iterator[str]:
    """The extensions that these arguments are part of."""
    match form:
        case forms.Select(_, _, condstore, resync):
            if condstore:
                yield "CONDSTORE"
            if resync is not None:
                yield "QRESYNC"
        case forms.Create(_, special_uses):
            if special_uses:
                yield "CREATE-SPECIAL-USE"
        case forms.List(options=options):
            if options is not None:
                yield from _listing(options)
        case forms.Status(_, items):
            yield from _status(items)
        case forms.Append(_, part) | forms.Replace(part=part):
            yield from part_uses(part)
        case forms.Fetch():
            yield from _fetch(form)
        case forms.Store(numset, unchanged_since=unchanged_since):
            if unchanged_since is not None:
                yield "CONDSTORE"
            yield from _saved(numset)
        case forms.Copy(numset) | forms.Expunge(numset):
            yield from _saved(numset)
        case forms.Search():
            if form.returns is not None:
                yield "ESEARCH"
            yield from _search(form)
        case forms.Sort(search, criteria):
            if search.returns is not None:
                yield "ESORT"
            if any(criterion.name in ("DISPLAYFROM", "DISPLAYTO") for criterion in criteria):
                yield "SORT=DISPLAY"
            yield from _search(search)
        case forms.Thread(search, algorithm):
            yield f"THREAD={algorithm}"
            yield from _search(search)


def part_uses(part: forms.AppendPart) -> Iterator[str]:
    """As `uses`, of one message of APPEND."""
    if part.catenation is not None:
        yield "CATENATE"
        yield from catenation_uses(part.catenation)
    if part.utf8:
        yield "UTF8=ACCEPT"
    elif part.binary:
        yield "BINARY"


def catenation_uses(line: forms.Catenation) -> Iterator[str]:
    """As `uses`, of what a line says of a message that is put together."""
    if any(isinstance(piece, forms.CatLiteral) and piece.utf8 for piece in line.pieces):
        yield "UTF8=ACCEPT"


def _listing(options: forms.ListOptions) -> Iterator[str]:
    yield "LIST-EXTENDED"
    for name in options.selection | options.returns:
        if name in _RETURNS:
            yield _RETURNS[name]
    if options.metadata:
        yield "LIST-METADATA"
    if options.status:
        yield "LIST-STATUS"
        yield from _status(options.status)


def _status(items: tuple[str, ...]) -> Iterator[str]:
    for item in items:
        if item in _STATUS:
            yield _STATUS[item]


def _fetch(form: forms.Fetch) -> Iterator[str]:
    if form.changed_since is not None:
        yield "CONDSTORE"
    if form.vanished:
        yield "QRESYNC"
    if form.window is not None:
        yield "PARTIAL"
    for item in form.items:
        if isinstance(item, forms.Binary | forms.BinarySize):
            yield "BINARY"
        elif isinstance(item, forms.Attribute) and item.name in _ATTRIBUTES:
            yield _ATTRIBUTES[item.name]
    yield from _saved(form.numset)


def _search(search: forms.Search) -> Iterator[str]:
    if search.returns is not None:
        if search.returns.window is not None:
            yield "PARTIAL"
        if "SAVE" in search.returns.options:
            yield "SEARCHRES"
    for key in inner(search.key):
        match key:
            case forms.Within():
                yield "WITHIN"
            case forms.OnDate(of="saved"):
                yield "SAVEDATE"
            case forms.Modseq():
                yield "CONDSTORE"
            case forms.EmailId() | forms.ThreadId():
                yield "OBJECTID"
            case forms.Fuzzy():
                yield "SEARCH=FUZZY"
            case forms.InSet(numset):
                yield from _saved(numset)


def _saved(numset: NumSet) -> Iterator[str]:
    # RFC 5182 §2.1
    if numset.saved:
        yield "SEARCHRES"
