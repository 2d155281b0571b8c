"""SETACL, DELETEACL and LISTRIGHTS (RFC 4314 §7)."""

from __future__ import annotations

from typing import Literal

from imap.wire.errors import BadSyntax
from imap.wire.forms_acl import OnIdentifier, SetAcl
from imap.wire.tokens import Scanner

IDENTIFIER_MAX = 1024
"""Characters of an identifier."""

_MODES: dict[str, Literal["add", "remove"]] = {"+": "add", "-": "remove"}


def parse_setacl(scanner: Scanner) -> SetAcl:
    """``mailbox identifier [+-]rights``."""
    scanner.space()
    mailbox = scanner.mailbox()
    identifier = _identifier(scanner)
    scanner.space()
    rights = scanner.text("rights")
    mode = _MODES.get(rights[:1])
    return SetAcl(mailbox, identifier, "set", rights) if mode is None else SetAcl(mailbox, identifier, mode, rights[1:])


def parse_on_identifier(scanner: Scanner) -> OnIdentifier:
    """``mailbox identifier``."""
    scanner.space()
    return OnIdentifier(scanner.mailbox(), _identifier(scanner))


def _identifier(scanner: Scanner) -> str:
    scanner.space()
    identifier = scanner.text("an identifier")
    if not 0 < len(identifier) <= IDENTIFIER_MAX:
        # RFC 4314 §3
        raise BadSyntax(f"An identifier has 1 to {IDENTIFIER_MAX} characters")
    return identifier
