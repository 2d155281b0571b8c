"""[signatures; being filled]"""
from __future__ import annotations
from dataclasses import dataclass
from mail.headers import Headers
@dataclass(frozen=True, slots=True)
class SortKeys:
    subject: str          # base subject, RFC 5256 §2.1, folded
    is_reply: bool        # the subject had a reply or forward mark
    sender: str           # first mailbox (local part) of From, folded: RFC 5256 sort FROM
    to: str
    cc: str
    sent: int | None      # Date: in Unix seconds
    message_id: str | None
    references: tuple[str, ...]  # References, else first In-Reply-To; normalised, no angle brackets
    in_reply_to: tuple[str, ...]
def keys(fields: Headers) -> SortKeys: raise RuntimeError
