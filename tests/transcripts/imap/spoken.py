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

NO_PASSWORD_IN_CLEAR = frozenset(("sign_in_disabled",))
"""Dialogues with a server that never takes passwords without TLS."""
HURRIED = frozenset(("in_progress",))
"""Dialogues on a clock by which each look at it is later than the one before by the period of INPROGRESS, and on the
storage in memory, which gives messages in pages of seven."""
NOT_LIVE = {
    **dict.fromkeys(MESSAGE_LIMITS, "a limit far below those that may be set"),
    **dict.fromkeys(HURRIED, "a clock and a storage of its own"),
    **dict.fromkeys(NO_PASSWORD_IN_CLEAR, "a setting that would end most of the others"),
    "sign_in_slowed": "an identity of its own, which asks for a pause after a certain password",
}
"""Dialogue → what it needs that no running server for all of them has."""
LIVE_ALONE = {"sign_in_scram": "keys of passwords, which accounts in memory have not"}
"""The other way round."""
TOKEN = b"token-of-alice"
"""What the dialogues say for an access token, in base64."""

_BASE64 = re.compile(r"\b[A-Za-z0-9+/]{6,}={0,2}")


def is_for_two(script: Script) -> bool:
    """Has it a second user, robin?"""
    return any("robin" in step.text for step in script.steps)


def has_token(script: Script) -> bool:
    """Does a client sign in with an access token?"""
    return any(TOKEN in _plain(found[0]) for step in script.steps for found in _BASE64.finditer(step.text))


def has_two_clients(script: Script) -> bool:
    """Does the second user speak, too?"""
    return any(step.kind == "AS" for step in script.steps)


def spoken_by(user: str, script: Script, other: str = "robin", token: str = "") -> Script:
    """The dialogue with this user in alice's place, in base64 too, another in robin's, and this access token."""
    assert len(user) == len(other) == NAME_LENGTH

    def encoded(match: re.Match[str]) -> str:
        plain = _plain(match[0])
        if b"alice" not in plain:
            return match[0]
        return base64.b64encode(plain.replace(TOKEN, token.encode()).replace(b"alice", user.encode())).decode()

    def changed(text: str) -> str:
        return _BASE64.sub(encoded, text).replace("alice", user).replace("robin", other)

    return replace(script, steps=tuple(replace(step, text=changed(step.text)) for step in script.steps))


def _plain(text: str) -> bytes:
    """What it is the base64 of; b"" where it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""
