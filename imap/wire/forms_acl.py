"""What a client said with the commands of ACL (RFC 4314 §3); conventions as in `imap.wire.forms`.

GETACL and MYRIGHTS have the form `OnMailbox`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class SetAcl:
    """identifier: as the client spells it. rights: letters, not looked at."""

    mailbox: str
    identifier: str
    mode: Literal["set", "add", "remove"]
    rights: str


@dataclass(frozen=True, slots=True)
class OnIdentifier:
    """DELETEACL and LISTRIGHTS."""

    mailbox: str
    identifier: str
