"""Mail on an IMAP server: any with IMAP4rev1, Gmail with its labels.

Mailboxes are opened with EXAMINE and read with BODY.PEEK: nothing is changed there, no message becomes seen. A lost
connection is made again, a few times, and the work goes on where it was.

Gmail: a label is a folder, and a message with several labels is in each. All Mail is brought for those messages alone
that no other folder has. Starred is the flag \\Flagged, important the keyword $Important, and a label that Gmail does
not show over IMAP is a keyword.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

from imapclient import IMAPClient, imap_utf7  # type: ignore[import-untyped]  # it ships no types
from imapclient.response_parser import parse_response  # type: ignore[import-untyped]

from connectors import asked, reading
from connectors.exceptions import ConnectionError, MessageError
from connectors.pull.source import PAGE, PIECE, Folder, Item, joined, message_id, special_use
from connectors.reading import Mailbox, Server
from connectors.signin import Credential
from mail import flags as flag

T = TypeVar("T")
PAUSES: Final = (1.0, 2.0, 5.0, 10.0, 20.0)
"""Seconds before a lost connection is made again."""
EVERY: Final = 1 << 32
_FACTS = ("FLAGS", "INTERNALDATE", "RFC822.SIZE")
_ID = "BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)]"
_LABELS = "X-GM-LABELS"
_LITERAL8 = re.compile(rb"~(?=\{\d+\}\Z)")
OF_SERVERS: Final = ("/shared/vendor/cmu/cyrus-imapd/", "/private/vendor/cmu/cyrus-imapd/", "/private/specialuse")
"""What begins so nobody has noted: Cyrus tells of a mailbox what it knows itself, and RFC 6154 §4 what it is for."""
_OF_GMAIL = {"\\inbox": "INBOX", "\\sent": "\\sent", "\\draft": "\\drafts", "\\drafts": "\\drafts"}
"""Gmail's own labels, and the folder or attribute that each is."""


class Pulled(Mailbox):
    """A signed-in connection that looks and changes nothing."""

    def listed(self) -> list[tuple[frozenset[str], str, str]]:
        """Every mailbox that can be selected: attributes in lower case, delimiter, name."""
        rows = self._call("list mailboxes", IMAPClient.list_folders)
        return [row for row in map(_row, rows) if not row[0] & {"\\noselect", "\\nonexistent"}]

    def subscribed(self) -> set[str]:
        """The names subscribed to."""
        return {_row(row)[2] for row in self._call("list subscriptions", IMAPClient.list_sub_folders)}

    def namespaces(self) -> tuple[list[str], list[str]]:
        """The prefixes of the user's own mailboxes, and of others'."""
        if not self.has("NAMESPACE"):
            return [], []
        spaces = self._call("tell its namespaces", IMAPClient.namespace)
        own, *others = ([str(prefix) for prefix, _ in space or ()] for space in spaces)
        return own, [prefix for space in others for prefix in space if prefix]

    def validity(self, name: str) -> str:
        """The mailbox's UIDVALIDITY."""
        found = self._call("tell of a mailbox", IMAPClient.folder_status, name, ["UIDVALIDITY"])
        return str(found.get(b"UIDVALIDITY", ""))

    def examine(self, name: str) -> str:
        """Open a mailbox to read it; its UIDVALIDITY."""
        asked.mailbox_name(name)
        self._selected = None
        row = self._call(f"open the mailbox {name!r}", IMAPClient.select_folder, name, readonly=True)
        self._selected = name
        self._exists = int(row.get(b"EXISTS") or 0)
        return str(row.get(b"UIDVALIDITY", ""))

    def uids(self) -> list[int]:
        """Of all messages of the open mailbox, ascending."""
        return self.search(["ALL"], EVERY, newest_first=False)

    def annotations(self, name: str, kinds: Sequence[str]) -> dict[str, bytes]:
        """All that is noted of a mailbox, or ("") of the account and its server, below /shared or /private."""
        told = self._call(f"tell what is noted of {name!r}", _metadata, name, kinds)
        found = {entry.lower(): value for entry, value in told.items()}
        return {entry: value for entry, value in found.items() if not entry.startswith(OF_SERVERS)}

    def rows(self, uids: Sequence[int], items: Sequence[str]) -> dict[int, dict[bytes, Any]]:
        """What FETCH gives of these messages; those that are gone are left out."""
        found: dict[int, dict[bytes, Any]] = self._call("fetch messages", IMAPClient.fetch, uids, items)
        return found


class ImapSource:
    """See `connectors.pull.source.Source`. A message's key is its UID."""

    def __init__(self, server: Server, credential: Credential) -> None:
        """Nothing is connected yet."""
        self.name = f"imap://{credential.user}@{server.host.lower()}:{server.port}"
        self.notes: list[str] = []
        self._host = server.host
        self._mailbox = Pulled(server, credential)
        self._open: Folder | None = None
        self._all: str | None = None
        self._labels: dict[str, str] = {}

    def folders(self) -> list[Folder]:
        self.notes.clear()
        # What is wrong from the beginning is told at once.
        self._mailbox.connect()
        listed = self._again(self._mailbox.listed)
        subscribed = self._again(self._mailbox.subscribed)
        own, others = self._again(self._mailbox.namespaces)
        gmail = self._again(lambda: self._mailbox.has("X-GM-EXT-1"))
        made: list[Folder] = []
        used = {word for words, _, _ in listed for word in words}
        for words, delimiter, name in sorted(listed, key=lambda row: (row[2].upper() != "INBOX", row[2])):
            if any(name.startswith(prefix) for prefix in others):
                self.notes.append(f"{name}: belongs to others, and is not brought.")
                continue
            if gmail and "\\all" in words:
                self._all = name
                words |= {"\\archive"}
            elif words & {"\\all", "\\flagged", "\\important"}:
                # RFC 6154 §2: these show messages that are in other mailboxes
                self.notes.append(f"{name}: shows messages of other folders, and is not brought.")
                continue
            plain = joined(_levels(name, delimiter, own))
            use = special_use(plain, words, {one.title() for one in used})
            if use is not None:
                used.add(use.lower())
            try:
                validity = self._validity(name)
            except MessageError as error:
                self.notes.append(f"{name}: is not brought. {error}")
                continue
            made.append(Folder(name, plain, validity, use, plain == "INBOX" or name in subscribed))
            self._labels[name] = name
            self._labels |= {word: name for word in words if word in _OF_GMAIL.values()}
        # Messages of All Mail that are elsewhere too are known by their labels alone.
        return sorted(made, key=lambda folder: folder.place == self._all)

    def annotations(self, folder: Folder | None) -> Mapping[str, bytes]:
        # RFC 5464 §1: a server with METADATA-SERVER alone has none of mailboxes
        if not self._again(lambda: self._mailbox.has("METADATA")):
            return {}
        # What all are told of a server is not the account's.
        name, kinds = ("", ["/private"]) if folder is None else (folder.place, ["/shared", "/private"])
        return self._again(lambda: self._mailbox.annotations(name, kinds))

    def items(self, folder: Folder, *, closely: bool = False) -> Iterator[Sequence[Item]]:
        wanted = [*_FACTS, _ID] if closely else [*_FACTS]
        gmail = self._at(folder, lambda: self._mailbox.has("X-GM-EXT-1"))
        if gmail:
            wanted.append(_LABELS)
        uids = self._at(folder, self._mailbox.uids)
        for at in range(0, len(uids), PAGE):
            group = uids[at : at + PAGE]
            rows = self._at(folder, partial(self._mailbox.rows, group, wanted))
            found = [self._item(uid, rows[uid], closely) for uid in group if uid in rows]
            yield [one for one in found if folder.place != self._all or not self._elsewhere(rows[int(one.key)])]

    def load(self, folder: Folder, items: Sequence[Item]) -> list[bytes | None]:
        uids = [int(item.key) for item in items]
        rows = self._at(folder, lambda: self._mailbox.rows(uids, ["BODY.PEEK[]"]))
        return [reading.body_of(rows[uid], "") if uid in rows else None for uid in uids]

    def pieces(self, folder: Folder, item: Item) -> Iterator[bytes]:
        uid, at = int(item.key), 0
        while True:
            what = [f"BODY.PEEK[]<{at}.{PIECE}>"]
            row = self._at(folder, partial(self._mailbox.rows, [uid], what)).get(uid)
            octets = b"" if row is None else next((_octets(row[key]) for key in row if key.startswith(b"BODY[]")), b"")
            if row is None and at:
                raise MessageError(f"Message {uid} of {folder.place!r} was deleted while it was read. Run it again.")
            if octets:
                yield octets
            at += len(octets)
            # RFC 3501 §6.4.5: a shorter answer is the end
            if len(octets) < PIECE:
                return

    def close(self) -> None:
        self._mailbox.close()

    def _validity(self, name: str) -> str:
        return self._again(lambda: self._mailbox.validity(name))

    def _at(self, folder: Folder, work: Callable[[], T]) -> T:
        """Work in a folder, which is open then, and the same as when it was listed."""

        def there() -> T:
            if self._open != folder or not self._mailbox.has_selected:
                if self._mailbox.examine(folder.place) != folder.validity:
                    raise MessageError(f"{folder.place!r} was made anew on {self._host} meanwhile. Run it again.")
                self._open = folder
            return work()

        return self._again(there)

    def _again(self, work: Callable[[], T]) -> T:
        for pause in PAUSES:
            try:
                return work()
            except ConnectionError:
                time.sleep(pause)
        return work()

    def _item(self, uid: int, row: dict[bytes, Any], closely: bool) -> Item:
        words = [one.decode("ascii", "replace") for one in row.get(b"FLAGS", ()) if isinstance(one, bytes)]
        keywords = [one for one in words if flag.is_keyword(one)]
        for label in map(reading.label_of, row.get(_LABELS.encode()) or ()):
            if label.lower() == "\\important":
                keywords.append("$Important")
            elif self._folder_of(label) is None and flag.is_keyword(word := "_".join(label.split())):
                keywords.append(word)
        date = row.get(b"INTERNALDATE")
        header = next((_octets(row[key]) for key in row if key.startswith(b"BODY[HEADER")), b"")
        return Item(
            str(uid),
            int(row.get(b"RFC822.SIZE") or 0),
            flag.bits_of(words),
            tuple(sorted(set(keywords))),
            int(date.timestamp()) if isinstance(date, datetime) else None,
            message_id(header) if closely else None,
        )

    def _folder_of(self, label: str) -> str | None:
        """The folder that a label is; "" for a label that is no folder, and needs none."""
        own = label.lower()
        if own in ("\\important", "\\starred"):
            return ""
        return self._labels.get(_OF_GMAIL.get(own, label))

    def _elsewhere(self, row: dict[bytes, Any]) -> bool:
        return any(self._folder_of(one) for one in map(reading.label_of, row.get(_LABELS.encode()) or ()))


def _row(row: Any) -> tuple[frozenset[str], str, str]:
    attributes, delimiter, name = row
    words = frozenset(_octets(one).decode("latin-1").lower() for one in attributes)
    return words, _octets(delimiter).decode("latin-1") if delimiter else "", str(name)


def _metadata(client: Any, name: str, kinds: Sequence[str]) -> dict[str, bytes]:
    """RFC 5464 §4.2, which IMAPClient has no method for."""
    quoted = b'"%b"' % imap_utf7.encode(name).replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    words = [b"(DEPTH infinity)", quoted, b"(%b)" % " ".join(kinds).encode()]
    lines = client._raw_command_untagged(b"GETMETADATA", words, response_name="METADATA", uid=False)
    # RFC 5464 §5: a value may be a literal8, which IMAPClient does not know
    plain = [(_LITERAL8.sub(b"", line[0]), line[1]) if isinstance(line, tuple) else line for line in lines]
    found: dict[str, bytes] = {}
    for pairs in parse_response(plain):
        if isinstance(pairs, tuple):
            for entry, value in zip(pairs[::2], pairs[1::2], strict=False):
                if value is not None:
                    found[_octets(entry).decode("utf-8", "replace")] = _octets(value)
    return found


def _octets(value: Any) -> bytes:
    # IMAPClient makes a number of what is digits alone
    return value if isinstance(value, bytes) else str(value).encode()


def _levels(name: str, delimiter: str, own: Sequence[str]) -> list[str]:
    """The levels of a name, without the prefix that some servers (Courier, Cyrus) put before all but INBOX."""
    for prefix in own:
        if prefix and name.startswith(prefix) and len(name) > len(prefix):
            name = name[len(prefix) :]
            break
    return name.split(delimiter) if delimiter else [name]
