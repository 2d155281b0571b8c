"""URLs of messages and their parts (RFC 5092, RFC 2192), as far as CATENATE has them: those of this server, relative to
it or to the selected mailbox (RFC 4469 §3)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import unquote_to_bytes

from imap.wire.errors import BadSyntax
from imap.wire.forms import Section
from imap.wire.numset import LARGEST
from imap.wire.parse_fetch import parse_section
from imap.wire.tokens import INBOX

URL_MAX = 8 * 1024
"""Characters of a URL."""
_LARGEST_OFFSET = 2**63 - 1
# RFC 5092 §11: the characters that may stand there unencoded are US-ASCII without space, quote and percent alone; the
# parameters come in this order.
_URL = re.compile(
    r"(?:/(?P<mailbox>(?:[!$&'()*+,\-.0-9:=@A-Z_a-z~/]|%[0-9A-Fa-f]{2})+?)"
    r"(?:;UIDVALIDITY=(?P<uidvalidity>[1-9][0-9]{0,9}))?/)?"
    r";UID=(?P<uid>[1-9][0-9]{0,9})"
    r"(?:/;SECTION=(?P<section>(?:[!$&'()*+,\-.0-9:=@A-Z_a-z~/]|%[0-9A-Fa-f]{2})+?))?"
    r"(?:/;PARTIAL=(?P<start>[0-9]{1,19})(?:\.(?P<count>[1-9][0-9]{0,18}))?)?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class MessageUrl:
    """mailbox: None for the selected one. uidvalidity: None where the URL does not say it. section: of BODY[…]."""

    mailbox: str | None
    uidvalidity: int | None
    uid: int
    section: Section


def parse_url(text: str) -> MessageUrl:
    """Raises BadSyntax for any other URL."""
    match = _URL.fullmatch(text) if len(text) <= URL_MAX else None
    if match is None:
        raise BadSyntax("expected the relative URL of a message")
    uid, uidvalidity = int(match["uid"]), match["uidvalidity"]
    if max(uid, int(uidvalidity or 0)) > LARGEST:
        raise BadSyntax(f"a number over {LARGEST}")
    section = parse_section(_decoded(match["section"] or ""))
    if match["start"] is not None:
        count = min(int(match["count"] or _LARGEST_OFFSET), _LARGEST_OFFSET)
        section = replace(section, partial=(min(int(match["start"]), _LARGEST_OFFSET), count))
    mailbox = None if match["mailbox"] is None else _mailbox(match["mailbox"])
    return MessageUrl(mailbox, None if uidvalidity is None else int(uidvalidity), uid, section)


def _mailbox(text: str) -> str:
    try:
        # RFC 5092 §7: names are in UTF-8
        name = _decoded(text).decode()
    except UnicodeDecodeError:
        raise BadSyntax("a mailbox name that is not in UTF-8") from None
    # RFC 3501 §5.1
    return INBOX if name.isascii() and name.upper() == INBOX else name


def _decoded(text: str) -> bytes:
    octets = unquote_to_bytes(text)
    if b"\0" in octets or b"\r" in octets or b"\n" in octets:
        raise BadSyntax("a control character")
    return octets
