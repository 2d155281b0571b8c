"""The dialogues in the mouth of another user: on a server that lives longer than one of them, each has its own."""

from __future__ import annotations

import base64
import re
from dataclasses import replace

from tests.transcripts.play import Script

NAME_LENGTH = len("alice")
"""What a user's name must have, for the literals in which names stand."""

QUOTAS = {"quota": 64 * 1024}
"""Dialogue → octets that its user may use."""
ADMINISTRATORS = frozenset(("quota_set",))
"""Dialogues whose user is an administrator."""
MASKS = {"masked": ("MOVE", "QUOTA", "UIDONLY", "ESEARCH", "CATENATE", "MULTIAPPEND", "CONDSTORE")}
"""Dialogue → capabilities that are masked for its user."""

MESSAGE_LIMITS = {"message_limit": 3}
"""Dialogue → messages that one command works on there."""

_BASE64 = re.compile(r"\b[A-Za-z0-9+/]{6,}={0,2}")


def is_for_two(script: Script) -> bool:
    """Has it a second user, robin?"""
    return any("robin" in step.text for step in script.steps)


def has_two_clients(script: Script) -> bool:
    """Does the second user speak, too?"""
    return any(step.kind == "AS" for step in script.steps)


def spoken_by(user: str, script: Script, other: str = "robin") -> Script:
    """The dialogue with this user in alice's place, in base64 too, and another in robin's."""
    assert len(user) == len(other) == NAME_LENGTH

    def encoded(match: re.Match[str]) -> str:
        try:
            plain = base64.b64decode(match[0], validate=True)
        except ValueError:
            return match[0]
        return base64.b64encode(plain.replace(b"alice", user.encode())).decode() if b"alice" in plain else match[0]

    def changed(text: str) -> str:
        return _BASE64.sub(encoded, text).replace("alice", user).replace("robin", other)

    return replace(script, steps=tuple(replace(step, text=changed(step.text)) for step in script.steps))
