"""Messages of a mailbox as storage tells them: page by page in columns, or one by one."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntFlag
from itertools import repeat
from typing import NamedTuple


class Entry(NamedTuple):
    """One message in one mailbox. flags: bits of mail.flags. keywords: sorted. internaldate, savedate: Unix seconds."""

    uid: int
    modseq: int
    flags: int
    keywords: tuple[str, ...]
    email: str
    internaldate: int
    savedate: int


class Flagged(NamedTuple):
    """The state of one message in one mailbox; as in ``Entry``."""

    uid: int
    modseq: int
    flags: int
    keywords: tuple[str, ...]


class Want(IntFlag):
    """Which columns a read of messages brings. FLAGS: keywords too. ENTRY: all that makes an Entry."""

    SIZE = 1
    PREFIX = 2
    ENVELOPE = 4
    BODY = 8
    BODYSTRUCTURE = 16
    PARTS = 32
    HEADERS = 64
    PREVIEW = 128
    KEYS = 256
    CONTENT = 512
    FLAGS = 1024
    MODSEQ = 2048
    EMAIL = 4096
    INTERNALDATE = 8192
    SAVEDATE = 16384
    ENTRY = FLAGS | MODSEQ | EMAIL | INTERNALDATE | SAVEDATE


class Row(NamedTuple):
    """One message of ``Columns``; what was not asked for is None.

    size: RFC822.SIZE = len(prefix) + octets of the blob. prefix: this account's own trace headers. envelope, body,
    bodystructure: RFC 3501 §7.4.2 forms, ready to send. parts: ``mail.parts`` table; its offsets count from the
    blob's start. headers: the usual header lines verbatim (``mail.headers.usual``), or None where they were over the
    bound, or are those of an earlier release (``ingest.USUAL_SINCE``): read the blob then. content: the whole blob when
    it has at most INLINE_MAX octets, else None: use ``read``. keys: sort and thread keys.
    """

    entry: Entry
    size: int | None
    prefix: bytes | None
    envelope: bytes | None
    body: bytes | None
    bodystructure: bytes | None
    parts: bytes | None
    headers: bytes | None
    preview: str | None
    keys: Keys | None
    content: bytes | None


class Keys(NamedTuple):
    """What SORT and THREAD compare (RFC 5256 §2): base subject, first mailboxes, sent date, message ids."""

    subject: str
    from_mailbox: str
    to_mailbox: str
    cc_mailbox: str
    from_display: str
    to_display: str
    sent: int
    message_id: str
    references: tuple[str, ...]


class Columns(NamedTuple):
    """Messages in uid order as columns: what was asked for has a value for each uid, what was not has none.

    more: there may be more of the set, from the last uid + 1 on. through: no message here has a modseq above this.
    keywords: of those messages alone that have any, by their uids. The rest is what ``Entry`` and ``Row`` say.
    """

    uids: Sequence[int]
    more: bool
    through: int
    flags: Sequence[int] = ()
    keywords: Sequence[tuple[int, tuple[str, ...]]] = ()
    modseqs: Sequence[int] = ()
    emails: Sequence[str] = ()
    internaldates: Sequence[int] = ()
    savedates: Sequence[int] = ()
    sizes: Sequence[int] = ()
    prefixes: Sequence[bytes] = ()
    envelopes: Sequence[bytes] = ()
    bodies: Sequence[bytes] = ()
    bodystructures: Sequence[bytes] = ()
    parts: Sequence[bytes] = ()
    headers: Sequence[bytes | None] = ()
    previews: Sequence[str] = ()
    keys: Sequence[Keys] = ()
    contents: Sequence[bytes | None] = ()

    def entries(self) -> tuple[Entry, ...]:
        """The same, message by message. ValueError unless all of Want.ENTRY was asked for."""
        words = map(dict(self.keywords).get, self.uids, repeat(()))
        columns = (self.uids, self.modseqs, self.flags, words, self.emails, self.internaldates, self.savedates)
        return tuple([Entry._make(values) for values in zip(*columns, strict=True)])

    def rows(self) -> tuple[Row, ...]:
        """The same, message by message, with what else was asked for. ValueError unless Want.ENTRY was."""
        count = len(self.uids)
        forms = [column or repeat(None, count) for column in self[self._fields.index("sizes") :]]
        return tuple([Row._make(values) for values in zip(self.entries(), *forms, strict=True)])
