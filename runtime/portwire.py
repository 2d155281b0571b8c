"""What both sides of a port over HTTP hold to.

`POST /port/METHOD` with `Authorization: Bearer` and the service token. A call is the msgpack array of the arguments; a
method that takes a stream gets it in pieces, each its length (4 octets, big-endian) before it, ended by a length of 0,
or by ABORTED where the caller gives up. The answer is frames (`runtime.portframes`), an error of the port too. The
header `Homing-Port` names the port and the version of this way of speaking, in both directions.

Status: 200 frames; 400 a call that fits no method; 401 no good token, and nothing else told; 404 no such method; 405
not a POST; 409 another port or version; 413 too long; 500 a bug there; 503 with `Homing-Port` not begun, try again.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = 1
"""Goes up when an older reader would misread; a field added at the end with a default needs no other number."""
PATH: Final = "/port"
NAME_HEADER: Final = "Homing-Port"
CONTENT_TYPE: Final = "application/x-homing-frames"
TOKEN_MIN: Final = 16
"""Octets that a service token has at least."""
REQUEST_MAX: Final = 32 * 1024 * 1024
"""Octets of one call."""
PIECE_MAX: Final = 256 * 1024
"""Octets of one piece of a stream."""
ABORTED: Final = 0xFFFF_FFFF
"""In the place of a piece's length: the caller gives up, and nothing more comes."""


def port_name(name: str) -> bytes:
    """What the header says of a port: "storage/1"."""
    return f"{name}/{VERSION}".encode()


def check_token(token: str) -> None:
    """Raises ValueError for a service token that is too short, or cannot stand in a header."""
    if len(token) < TOKEN_MIN or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(f"a service token has at least {TOKEN_MIN} printable ASCII characters and no space")
