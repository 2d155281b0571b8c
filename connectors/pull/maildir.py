"""Mail in a Maildir: Maildir++ (``.Folder.Sub`` beside the inbox's own) and Dovecot's layout of directories."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import imapclient  # type: ignore[import-untyped]  # it ships no types

from connectors.exceptions import ConfigurationError
from connectors.pull.noted import Notes
from connectors.pull.source import (
    HEADER_MAX,
    PAGE,
    PIECE,
    Folder,
    Item,
    header_of,
    joined,
    message_id,
    opened,
    special_use,
    tell_once,
)
from mail import maildir

FOLDERS_MAX: Final = 10_000
"""Directories that are looked at."""
DEPTH_MAX: Final = 64
_PARTS = ("cur", "new", "tmp")
_BARE = re.compile(rb"(?<!\r)\n")


class MaildirSource:
    """See `connectors.pull.source.Source`. A message's key is the part of its file's name that never changes; its
    INTERNALDATE is the file's time."""

    def __init__(self, path: Path) -> None:
        """ConfigurationError where there is no Maildir."""
        self._root = path.absolute()
        self.name = f"maildir:{self._root}"
        self.notes: list[str] = []
        self._noted = Notes(self._root)
        if not self._root.is_dir():
            raise ConfigurationError(f"{path} is no directory; name that of a Maildir.")
        if not self._found():
            raise ConfigurationError(f"{path} is no Maildir: neither it nor a directory in it has 'cur' and 'new'.")

    def folders(self) -> list[Folder]:
        subscribed = self._subscriptions()
        self.notes = self._noted.read()
        made: list[Folder] = []
        taken: set[str] = set()
        for path, levels in self._found():
            name = self._noted.name(os.fspath(path)) or joined(levels)
            use = special_use(name, (), taken)
            if use is not None:
                taken.add(use)
            told = None if subscribed is None else name == "INBOX" or name in subscribed
            made.append(Folder(os.fspath(path), name, "", use, told))
        return made

    def annotations(self, folder: Folder | None) -> Mapping[str, bytes]:
        return self._noted.annotations("" if folder is None else folder.place)

    def items(self, folder: Folder, *, closely: bool = False) -> Iterator[Sequence[Item]]:
        found: list[Item] = []
        keywords = _keywords(Path(folder.place))
        for name, part in sorted(self._names(folder)):
            item = _item(name, os.path.join(folder.place, part, name), keywords, closely)
            if item is not None:
                found.append(item)
            if len(found) == PAGE:
                yield found
                found = []
        if found:
            yield found

    def _names(self, folder: Folder) -> Iterator[tuple[str, str]]:
        """The files of its messages, and which directory each is in."""
        for part in ("cur", "new"):
            for entry in os.scandir(Path(folder.place) / part):
                if entry.name.startswith("."):
                    continue
                if entry.is_symlink():
                    tell_once(self.notes, f"{folder.name}: symbolic links are passed over.")
                elif entry.is_file():
                    yield entry.name, part

    def load(self, folder: Folder, items: Sequence[Item]) -> list[bytes | None]:
        found: list[bytes | None] = []
        for item in items:
            path = self._path(folder, item)
            found.append(None if path is None else b"".join(_content(path)))
        return found

    def pieces(self, folder: Folder, item: Item) -> Iterator[bytes]:
        path = self._path(folder, item)
        if path is not None:
            yield from _content(path)

    def close(self) -> None:
        """No file stays open."""

    def _path(self, folder: Folder, item: Item) -> str | None:
        """Where the message is now: its name changes with its flags."""
        if os.path.exists(item.at):
            return str(item.at)
        for part in ("cur", "new"):
            for entry in os.scandir(Path(folder.place) / part):
                if maildir.parse(entry.name).unique == item.key:
                    return entry.path
        return None

    def _found(self) -> list[tuple[Path, list[str]]]:
        """The directories of messages, and their names' levels; INBOX first, then by name."""
        found = [(self._root, ["INBOX"])] if _is_maildir(self._root) else []
        more: list[tuple[list[str], Path]] = []
        waiting: list[tuple[Path, list[str]]] = [(self._root, [])]
        seen = 0
        while waiting:
            parent, levels = waiting.pop()
            for entry in os.scandir(parent):
                if entry.name in _PARTS or not entry.is_dir(follow_symlinks=False):
                    continue
                seen += 1
                if seen > FOLDERS_MAX or len(levels) > DEPTH_MAX:
                    raise ConfigurationError(f"{self._root} has too many directories to be a Maildir.")
                path = Path(entry.path)
                if entry.name.startswith("."):
                    # Maildir++: flat, and only beside the inbox
                    if parent == self._root and _is_maildir(path):
                        more.append(([_decoded(one) for one in entry.name[1:].split(".")], path))
                    continue
                below = [*levels, _decoded(entry.name)]
                if _is_maildir(path):
                    more.append((below, path))
                waiting.append((path, below))
        return found + [(path, levels) for levels, path in sorted(more)]

    def _subscriptions(self) -> set[str] | None:
        """The names in Dovecot's file; None where there is none."""
        try:
            lines = _text(self._root / "subscriptions").splitlines()
        except FileNotFoundError:
            return None
        tabs = bool(lines) and lines[0] == "V\t2"
        names = [one for one in lines[1:] if one] if tabs else lines
        # A file of the first version has the separator of the names in the directories.
        separators = "\t" if tabs else "./" if any((self._root / f".{one}").is_dir() for one in names) else "/"
        return {joined([_decoded(part) for part in _split(one, separators)]) for one in names if one}


def _split(name: str, separators: str) -> list[str]:
    for one in separators[1:]:
        name = name.replace(one, separators[0])
    return name.split(separators[0])


def _is_maildir(path: Path) -> bool:
    return all((path / part).is_dir() and not (path / part).is_symlink() for part in ("cur", "new"))


def _text(path: Path) -> str:
    with opened(path) as file:
        return file.read().decode("utf-8", "replace")


def _decoded(name: str) -> str:
    """A directory's name out of modified UTF-7, as most programs write it, or as it is."""
    if name.isascii():
        try:
            return str(imapclient.imap_utf7.decode(name.encode()))
        except (UnicodeError, ValueError):
            return name
    return name


def _keywords(path: Path) -> tuple[str, ...]:
    try:
        return maildir.keywords(_text(path / "dovecot-keywords"))
    except FileNotFoundError:
        return ()


def _item(name: str, path: str, keywords: Sequence[str], closely: bool) -> Item | None:
    told = maildir.parse(name, keywords)
    try:
        status = os.lstat(path)
        size = told.crlf_size or told.size or status.st_size
        own_id: str | None = None
        if closely:
            start, size = b"", 0
            for piece in _content(path):
                size += len(piece)
                start = start + piece if len(start) < HEADER_MAX else start
            own_id = message_id(header_of(start))
    except FileNotFoundError:
        return None
    return Item(told.unique, size, told.flags, told.keywords, int(status.st_mtime), own_id, path)


def _content(path: str) -> Iterator[bytes]:
    """The message in a file: as it is where its name, or the end of its first line, says so; else with CRLF for LF."""
    exact = maildir.parse(os.path.basename(path)).exact
    with opened(path) as file:
        first = file.readline(PIECE)
        exact = exact or first.endswith(b"\r\n")
        file.seek(0)
        last = b""
        # Half of a piece: each LF may become two octets.
        while piece := file.read(PIECE if exact else PIECE // 2):
            yield piece if exact else _with_crlf(piece, last)
            last = piece[-1:]


def _with_crlf(piece: bytes, last: bytes) -> bytes:
    """CRLF for each bare LF; last: the octet before the piece."""
    if last == b"\r" and piece.startswith(b"\n"):
        return b"\n" + _BARE.sub(b"\r\n", piece[1:])
    return _BARE.sub(b"\r\n", piece)
