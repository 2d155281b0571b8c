"""What every source of mail gives, whatever it is kept in."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, NamedTuple, Protocol

from mail import headers, sortkeys

PAGE: Final = 500
"""Messages of which something is known at a time."""

PIECE: Final = 256 * 1024
"""Octets of a long message that are in memory at a time."""

HEADER_MAX: Final = 256 * 1024
"""Octets in which a Message-ID is looked for."""

# RFC 6154 §2, in the order in which an account's own mailboxes have them
SPECIAL_USE: Final = ("\\Drafts", "\\Sent", "\\Trash", "\\Junk", "\\Archive")

WELL_KNOWN: Final = {
    "drafts": "\\Drafts",
    "sent": "\\Sent",
    "sent items": "\\Sent",
    "sent mail": "\\Sent",
    "sent messages": "\\Sent",
    "trash": "\\Trash",
    "deleted items": "\\Trash",
    "deleted messages": "\\Trash",
    "junk": "\\Junk",
    "junk e-mail": "\\Junk",
    "junk email": "\\Junk",
    "spam": "\\Junk",
    "archive": "\\Archive",
    "archives": "\\Archive",
}
"""Folders that mean the same on servers and in programs that do not say what they are for."""


@dataclass(frozen=True, slots=True)
class Folder:
    """place: what the source calls it. name: in Unicode, levels divided by "/", INBOX in capitals. validity: while it
    is the same, a message's key means the same message. subscribed: None where the source does not say."""

    place: str
    name: str
    validity: str = ""
    special_use: str | None = None
    subscribed: bool | None = None


class Item(NamedTuple):
    """A message without its octets. key: the same in every run, within the folder and its validity. size: octets, as
    the source has it announced. internaldate: Unix seconds, None where it is not known. message_id: normalised as
    `mail.sortkeys` does, "" for none, None where it was not asked for. at: for the source itself."""

    key: str
    size: int
    flags: int
    keywords: tuple[str, ...]
    internaldate: int | None
    message_id: str | None = None
    at: Any = None


class Source(Protocol):
    """For one thread at a time. Errors: those of `connectors.exceptions`, and OSError of what is kept in files.

    name: the same in every run, without a secret. notes: what there is to know about what was left out, in sentences.
    """

    name: str
    notes: list[str]

    def folders(self) -> list[Folder]:
        """All that is to be brought."""

    def annotations(self, folder: Folder | None) -> Mapping[str, bytes]:
        """What is noted of a folder, or (None) of the account itself, by the name of the entry (RFC 5464); nothing
        where the source knows of no such things."""

    def items(self, folder: Folder, *, closely: bool = False) -> Iterator[Sequence[Item]]:
        """The folder's messages, oldest first, at most PAGE at a time. closely: with their Message-IDs, and with the
        sizes that they have when they are read."""

    def load(self, folder: Folder, items: Sequence[Item]) -> list[bytes | None]:
        """These messages whole, in order; None for one that has gone."""

    def pieces(self, folder: Folder, item: Item) -> Iterator[bytes]:
        """One message in pieces of at most PIECE octets; nothing where it has gone."""

    def close(self) -> None:
        """Let go of connections and files."""


def opened(path: str | os.PathLike[str]) -> BinaryIO:
    """A file to read. OSError for a symbolic link: who fills a folder that somebody else reads in could lead it to
    anything that the other may read."""
    return open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")


def tell_once(notes: list[str], sentence: str) -> None:
    """Add it to what there is to know, unless it is there."""
    if sentence not in notes:
        notes.append(sentence)


def level(text: str) -> str:
    """One level of a folder's name, in a form in which any mailbox can have it."""
    kept = "".join("_" if char == "/" or unicodedata.category(char) in _BAD else char for char in text)
    return kept or "_"


_BAD = frozenset({"Cc", "Cs", "Zl", "Zp"})


def joined(levels: Sequence[str]) -> str:
    """A folder's name of its levels."""
    first = "INBOX" if levels[0].isascii() and levels[0].upper() == "INBOX" else level(levels[0])
    return "/".join((first, *(level(one) for one in levels[1:])))


def special_use(name: str, attributes: Collection[str], taken: Collection[str]) -> str | None:
    """What a folder is for: what its attributes (in lower case) say, or what the first level's name has come to mean,
    unless another folder has it."""
    for use in SPECIAL_USE:
        if use.lower() in attributes:
            return use
    use = WELL_KNOWN.get(name.rpartition("/")[2].lower(), "") if name.count("/") < 2 else ""
    return use if use and use not in taken else None


def message_id(header: bytes) -> str:
    """The Message-ID in a header block, "" for none."""
    found = sortkeys.message_ids(headers.parse(header[:HEADER_MAX]).last(b"MESSAGE-ID") or b"")
    return found[0] if found else ""


def header_of(start: bytes) -> bytes:
    """The header block at the start of a message."""
    ends = [at for at in (start.find(b"\r\n\r\n"), start.find(b"\n\n")) if at >= 0]
    return b"" if start.startswith((b"\r\n", b"\n")) else start[: min(ends) + 2] if ends else start
