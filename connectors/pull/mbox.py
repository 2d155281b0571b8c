"""Mail in mbox files: one, or a directory of them (``Folder``, ``Folder.mbox``, Thunderbird's ``Folder.sbd/Sub``)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final

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
from mail import mbox
from mail.mbox import LINE_MAX, Span, Status

FILES_MAX: Final = 10_000
"""Files that are looked at."""
_ENDINGS = (".mbox", ".sbd")


class MboxSource:
    """See `connectors.pull.source.Source`. A message's key is the digest of what is in it (flags apart) and, where a
    folder has several of the same, which of them it is; its INTERNALDATE is the From_ line's."""

    def __init__(self, path: Path) -> None:
        """ConfigurationError where there are no mbox files."""
        self._root = path.absolute()
        self.name = f"mbox:{self._root}"
        self.notes: list[str] = []
        self._noted = Notes(self._root)
        if not self._root.exists():
            raise ConfigurationError(f"{path} is not there; name an mbox file, or a directory of them.")
        if not self._files():
            raise ConfigurationError(f"{path} has no mbox in it: such a file begins with 'From ', and a date.")

    def folders(self) -> list[Folder]:
        self.notes = self._noted.read()
        made: list[Folder] = []
        taken: set[str] = set()
        for path, levels in self._files():
            name = self._noted.name(os.fspath(path)) or joined(levels)
            use = special_use(name, (), taken)
            if use is not None:
                taken.add(use)
            made.append(Folder(os.fspath(path), name, "", use))
        return made

    def annotations(self, folder: Folder | None) -> Mapping[str, bytes]:
        return self._noted.annotations("" if folder is None else folder.place)

    def items(self, folder: Folder, *, closely: bool = False) -> Iterator[Sequence[Item]]:
        seen: dict[bytes, int] = {}
        found: list[Item] = []
        with self._open(folder) as lines, self._open(folder) as file:
            for span in mbox.spans(iter(lambda: lines.readline(LINE_MAX), b"")):
                digest, size, start = hashlib.sha256(), 0, b""
                status = Status()
                for piece in _content(file, span, status):
                    digest.update(piece)
                    size += len(piece)
                    if closely and len(start) < HEADER_MAX:
                        start += piece
                key = digest.digest()[:16]
                number = seen[key] = seen.get(key, 0) + 1
                own_id = message_id(header_of(start)) if closely else None
                found.append(
                    Item(f"{key.hex()}-{number}", size, status.flags, status.keywords, span.date, own_id, span)
                )
                if len(found) == PAGE:
                    yield found
                    found = []
        if found:
            yield found

    def load(self, folder: Folder, items: Sequence[Item]) -> list[bytes | None]:
        with self._open(folder) as file:
            return [b"".join(_content(file, item.at, Status())) for item in items]

    def pieces(self, folder: Folder, item: Item) -> Iterator[bytes]:
        with self._open(folder) as file:
            held = bytearray()
            for line in _content(file, item.at, Status()):
                if len(held) + len(line) > PIECE:
                    yield bytes(held)
                    held.clear()
                held += line
            if held:
                yield bytes(held)

    def close(self) -> None:
        """No file stays open."""

    def _open(self, folder: Folder) -> BinaryIO:
        return open(folder.place, "rb") if folder.place == os.fspath(self._root) else opened(folder.place)

    def _files(self) -> list[tuple[Path, list[str]]]:
        """The files, and their names' levels; INBOX first, then by name. A single file is INBOX."""
        if self._root.is_file():
            return [(self._root, ["INBOX"])] if _is_mbox(self._root) else []
        found: list[tuple[bool, list[str], Path]] = []
        seen = 0
        for parent, directories, names in os.walk(self._root):
            directories.sort()
            seen += len(names)
            if seen > FILES_MAX:
                raise ConfigurationError(f"{self._root} has more than {FILES_MAX} files; name the mbox itself.")
            for name in names:
                path = Path(parent) / name
                if name.startswith(".") or not path.is_file():
                    continue
                # A link is only followed where it was named.
                if path.is_symlink():
                    tell_once(self.notes, f"{path.relative_to(self._root)}: symbolic links are passed over.")
                elif _is_mbox(path):
                    levels = [_bare(one) for one in path.relative_to(self._root).parts]
                    found.append((levels != ["INBOX"] and levels != ["Inbox"], levels, path))
        return [(path, levels) for _, levels, path in sorted(found)]


def _bare(name: str) -> str:
    for ending in _ENDINGS:
        if name.lower().endswith(ending) and len(name) > len(ending):
            return name[: -len(ending)]
    return name


def _is_mbox(path: Path) -> bool:
    with open(path, "rb") as file:
        first = file.readline(LINE_MAX)
    return mbox.from_date(first) is not None or (not first and path.suffix.lower() == ".mbox")


def _content(file: BinaryIO, span: Span, status: Status) -> Iterator[bytes]:
    """The message at the span. The file may have changed since: what is read there then is what it is."""
    return mbox.content(_lines(file, span.begin, span.end), status)


def _lines(file: BinaryIO, at: int, end: int) -> Iterator[bytes]:
    file.seek(at)
    while at < end and (line := file.readline(min(LINE_MAX, end - at))):
        at += len(line)
        yield line
