"""Each reason of the ports has a reply, and a bug has none."""

from __future__ import annotations

import pytest

import identity.port
import storage.port
from smtp.errors import QueueFull, WaitedTooLong, reply_to
from smtp.settings import SmtpSettings


@pytest.mark.parametrize("reason", storage.port.Reason)
def test_storage(reason: storage.port.Reason) -> None:
    reply = reply_to(storage.port.Refused(reason))
    assert reply is not None
    assert reply.code >= 400


@pytest.mark.parametrize("reason", identity.port.Reason)
def test_identity(reason: identity.port.Reason) -> None:
    reply = reply_to(identity.port.Refused(reason, "private words"))
    assert reply is not None
    assert reply.code >= 400
    assert "private" not in str(reply)


def test_what_passes_is_told_as_passing() -> None:
    full = storage.port.Unavailable("no", full=True)
    for error, code in (
        (storage.port.Unavailable("away"), 451),
        (full, 452),
        (identity.port.Unavailable("away"), 451),
        (QueueFull(), 452),
        (WaitedTooLong(), 451),
    ):
        reply = reply_to(error)
        assert reply is not None
        assert reply.code == code


def test_a_bug_has_no_reply() -> None:
    assert reply_to(ZeroDivisionError()) is None


def test_networks_are_read_at_the_start() -> None:
    with pytest.raises(ValueError, match="does not appear"):
        SmtpSettings(exempt_networks=("nowhere",))
