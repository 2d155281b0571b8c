"""A command's octets into its form: one table, one small function for each command (RFC 3501 §9).

    parse(data) -> Command          raises BadSyntax (with its tag)
    COMMANDS: Mapping[str, Callable[[Scanner], Form]]   "NOOP", "UID FETCH", …
    decode_base64(line) -> bytes    a continuation line of AUTHENTICATE; raises BadSyntax
"""

from __future__ import annotations

from imap.wire.forms import Command


def parse(data: bytes) -> Command:
    """Parse one whole command, literals inside, without its last line end. Raises BadSyntax."""
    raise NotImplementedError


def decode_base64(line: bytes) -> bytes:
    """Decode a client's base64 line (RFC 3501 §6.2.2). Raises BadSyntax."""
    raise NotImplementedError
