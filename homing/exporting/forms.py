"""The forms in which an account's mail is written: Maildir++, mbox files, one file a message."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol
from urllib.parse import quote

from homing.exporting.index import Place
from imap.wire import utf7
from mail import maildir, mbox
from storage.model import Entry, Mailbox

NAME_MAX: Final = 255
"""Octets of the name of a file or directory, which most file systems take."""
_MADE: Final = os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
"""Through a symbolic link nothing is written: the folder may be somebody else's."""
_SAFE: Final = "".join(chr(code) for code in range(32, 127) if chr(code) not in '%/\\:*?"<>|')


@dataclass(frozen=True, slots=True)
class Message:
    """One message on its way out. octets: its pieces, once."""

    entry: Entry
    size: int
    octets: AsyncIterable[bytes]


@dataclass(frozen=True, slots=True)
class Written:
    """Where a message is. lost: keywords that the form has no room for, which the index has alone."""

    place: Place
    octets: int
    sha256: str
    lost: int = 0


class Form(Protocol):
    """Writes into a folder. Errors: OSError."""

    def place(self, name: str) -> Path:
        """Where the mailbox of that name is: its directory, or the file of all of it."""

    def open(self, mailbox: Mailbox, end: int) -> None:
        """What comes now is of this mailbox; end: octets of its file that are whole, where the form has one file for
        all."""

    async def write(self, message: Message) -> Written:
        """Keep one message; what an attempt that was killed has left of it is written over."""

    def close(self, subscriptions: frozenset[str]) -> None:
        """All is written."""


class MaildirForm:
    """Maildir++, as Dovecot reads it: sizes in the names, keywords as letters, ``subscriptions``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root
        self._validity = 0
        self._keywords: list[str] = []

    def place(self, name: str) -> Path:
        return self._root if name == "INBOX" else self._root / _fitting(f".{_dotted(name)}", name)

    def open(self, mailbox: Mailbox, end: int) -> None:
        self._path = self.place(mailbox.name)
        for part in ("cur", "new", "tmp"):
            (self._path / part).mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._path != self._root:
            (self._path / "maildirfolder").touch(mode=0o600)
        self._validity = mailbox.uidvalidity
        known = self._path / "dovecot-keywords"
        self._keywords = [one for one in maildir.keywords(known.read_text("utf-8")) if one] if known.exists() else []

    async def write(self, message: Message) -> Written:
        entry = message.entry
        lost = self._name(entry.keywords)
        unique = f"{entry.internaldate}.M{entry.uid}V{self._validity}.homing,S={message.size},W={message.size}"
        places = {one: place for place, one in enumerate(self._keywords)}
        name = maildir.build(unique, entry.flags, entry.keywords, places)
        target = self._path / "cur" / name
        octets, digest = await _whole(self._path / "tmp" / unique, target, message)
        return Written(Place(_relative(target, self._root)), octets, digest, lost)

    def close(self, subscriptions: frozenset[str]) -> None:
        names = sorted(_levels(name, "\t") for name in subscriptions)
        (self._root / "subscriptions").write_text("V\t2\n\n" + "".join(f"{name}\n" for name in names), "utf-8")

    def _name(self, keywords: tuple[str, ...]) -> int:
        """Give the keywords letters; how many got none."""
        new = [one for one in keywords if one not in self._keywords]
        room = maildir.KEYWORDS_MAX - len(self._keywords)
        if new[:room]:
            self._keywords += new[:room]
            (self._path / "dovecot-keywords").write_text(maildir.keywords_text(self._keywords), "utf-8")
        return len(new[room:])


class EmlForm:
    """A directory a mailbox, a file a message; flags are in the index."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root

    def place(self, name: str) -> Path:
        return self._root.joinpath(*map(_safe, name.split("/")))

    def open(self, mailbox: Mailbox, end: int) -> None:
        self._path = self.place(mailbox.name)
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def write(self, message: Message) -> Written:
        target = self._path / f"{message.entry.uid}.eml"
        octets, digest = await _whole(self._path / f".{message.entry.uid}.part", target, message)
        return Written(Place(_relative(target, self._root)), octets, digest)

    def close(self, subscriptions: frozenset[str]) -> None:
        """Subscriptions are in the index."""


class MboxForm:
    """An mbox file a mailbox: ``Work.mbox``, and ``Work.sbd/Sub.mbox`` for what is below it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root
        self._file: BinaryIO | None = None

    def place(self, name: str) -> Path:
        *above, last = map(_safe, name.split("/"))
        return self._root.joinpath(*(f"{one}.sbd" for one in above), f"{last}.mbox")

    def open(self, mailbox: Mailbox, end: int) -> None:
        self._shut()
        self._path = self.place(mailbox.name)
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = open(os.open(self._path, os.O_RDWR | _MADE, 0o600), "r+b")  # noqa: SIM115  # `_shut` closes it
        # What a run that was killed has left of a message.
        self._file.truncate(end)
        self._file.seek(end)

    async def write(self, message: Message) -> Written:
        assert self._file is not None
        entry = message.entry
        start = self._file.tell()
        self._file.write(mbox.from_line(entry.internaldate) + mbox.status_lines(entry.flags, entry.keywords))
        begin = self._file.tell()
        digest, octets = hashlib.sha256(), 0
        quoting = mbox.Quoting()
        async for piece in message.octets:
            digest.update(piece)
            octets += len(piece)
            self._file.write(quoting.feed(piece))
        self._file.write(quoting.end() + b"\n")
        self._file.flush()
        place = Place(_relative(self._path, self._root), start, begin - start, self._file.tell() - start)
        return Written(place, octets, digest.hexdigest())

    def close(self, subscriptions: frozenset[str]) -> None:
        self._shut()

    def _shut(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


FORMS: Final[dict[str, type[MaildirForm] | type[EmlForm] | type[MboxForm]]] = {
    "maildir": MaildirForm,
    "mbox": MboxForm,
    "eml": EmlForm,
}


async def _whole(draft: Path, target: Path, message: Message) -> tuple[int, str]:
    """Write a file of its own, which is there whole or not at all."""
    digest, octets = hashlib.sha256(), 0
    with _written(draft) as file:
        async for piece in message.octets:
            digest.update(piece)
            octets += len(piece)
            file.write(piece)
    os.utime(draft, (message.entry.internaldate, message.entry.internaldate))
    os.replace(draft, target)
    return octets, digest.hexdigest()


@contextmanager
def _written(path: Path) -> Iterator[BinaryIO]:
    with open(os.open(path, os.O_WRONLY | os.O_TRUNC | _MADE, 0o600), "wb") as file:
        yield file


def _dotted(name: str) -> str:
    return _levels(name, ".")


def _levels(name: str, delimiter: str) -> str:
    """A mailbox's name in modified UTF-7; a dot within a level is written so that it divides nothing."""
    return delimiter.join(utf7.encode(one).decode("ascii").replace(".", "&AC4-") for one in name.split("/"))


def _safe(level: str) -> str:
    """A level as the name of a file or directory, anywhere."""
    name = "".join(quote(one, safe=_SAFE) if one.isascii() else one for one in level)
    return _fitting("%2E" + name[1:] if name.startswith(".") else name, level, len(".mbox"))


def _fitting(file: str, name: str, more: int = 0) -> str:
    """The name of a file, cut where it is too long, with a digest of the mailbox's name, which the index has whole.
    more: octets that come behind it."""
    octets = file.encode("utf-8")
    if len(octets) + more <= NAME_MAX:
        return file
    mark = "~" + hashlib.sha256(name.encode("utf-8")).hexdigest()[:16]
    start = octets[: NAME_MAX - more - len(mark)].decode("utf-8", "ignore")
    # Modified UTF-7 that is not ended is none.
    shift = start.rfind("&")
    return (start if shift < 0 or "-" in start[shift:] else start[:shift]) + mark


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
