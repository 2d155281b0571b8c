"""The stories: files of events, and what is said of them. Each is read as a person would: is it what helps?

`tests/homing/stories/NAME.jsonl` holds events as [seconds, kind, account, detail]; `NAME.txt` what an administrator and
what the account "ann" are told. `python -m tests.homing.test_story` writes the texts anew: read them before you keep
them.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.tracing.causes import Cause, cause_of, our_cause, replied
from homing.tracing.lines import Names
from homing.tracing.story import State, tell
from smtp.wire import replies
from storage.model import Event

HERE = Path(__file__).parent / "stories"
BEGAN = 1795248000.0
NAMES = Names({"A1": "ann@example.org", "A2": "bob@example.org"}, {"M1": "INBOX", "M2": "INBOX"})
NAMED = sorted(path.stem for path in HERE.glob("*.jsonl"))


def events(name: str) -> list[Event]:
    rows = [json.loads(line) for line in (HERE / f"{name}.jsonl").read_text("utf-8").splitlines()]
    found = []
    for at, kind, account, detail in rows:
        moved = {key: value + BEGAN if key in ("next", "until") else value for key, value in detail.items()}
        found.append(Event("0" * 32, BEGAN + at, kind, account, moved))
    return found


def text(name: str) -> str:
    """All that is said of the story."""
    every = events(name)
    now = BEGAN + 600
    story = tell(every, NAMES, now=now, admin=True)
    table = [f"{line.at - BEGAN:>9.1f}  {line.what:<20} {line.detail}".rstrip() for line in story.lines]
    own = [event for event in every if event.account == "A1"]
    shown = tell(own, NAMES, now=now).sentence if own else "(nothing is shown)"
    return "\n".join([*table, "", f"administrator: {story.sentence}", "", f"ann: {shown}", ""])


@pytest.mark.parametrize("name", NAMED)
def test_a_story_is_told_as_it_was_read_and_kept(name: str) -> None:
    assert text(name) == (HERE / f"{name}.txt").read_text("utf-8")


@pytest.mark.parametrize("name", NAMED)
def test_the_order_of_the_events_does_not_matter_nor_does_a_second_telling(name: str) -> None:
    every = events(name)
    assert tell(every, NAMES, now=BEGAN) == tell(sorted(every, key=lambda one: one.at), NAMES, now=BEGAN)


def test_there_are_the_stories_that_are_asked_for_most() -> None:
    assert len(NAMED) >= 10


@pytest.mark.parametrize(
    ("enhanced", "words", "code", "phase", "cause"),
    [
        ("4.7.1", "Greylisting in action, please come back later", 450, "rcpt", Cause.GREYLISTED),
        ("4.2.0", "Recipient address rejected: Greylisted, see http://postgrey.example", 450, "rcpt", Cause.GREYLISTED),
        ("5.7.1", "mail from 192.0.2.1 refused: listed by bl.example DNSBL", 550, "connect", Cause.BLOCKLISTED),
        ("5.1.1", "The email account that you tried to reach does not exist.", 550, "rcpt", Cause.NO_SUCH_USER),
        ("", "Requested action not taken: mailbox unavailable, user unknown", 550, "rcpt", Cause.NO_SUCH_USER),
        ("5.2.2", "The recipient's inbox is full", 552, "rcpt", Cause.MAILBOX_FULL),
        ("5.7.26", "This mail has been blocked because the sender is unauthenticated", 550, "text", Cause.UNPROVED),
        ("5.7.1", "Message rejected as spam by content filtering", 550, "text", Cause.SPAM),
        ("5.7.1", "Relay access denied", 554, "rcpt", Cause.RELAY),
        ("4.7.0", "Too many messages from your address, slow down", 421, "mail", Cause.TOO_FAST),
        ("5.7.10", "Encryption needed", 554, "mail", Cause.TLS),
        ("5.1.10", "Recipient address has null MX", 556, "rcpt", Cause.NO_MAIL_DOMAIN),
        ("4.4.3", "SERVFAIL", None, "route", Cause.DNS),
        ("4.4.1", "Connection refused", None, "connect", Cause.UNREACHABLE),
        ("5.4.6", "Too many hops", 554, "text", Cause.LOOP),
        ("5.7.1", "No", 550, "rcpt", Cause.POLICY),
        ("", "Local error", 451, "text", Cause.TROUBLE),
        ("", "No", 550, "rcpt", Cause.OTHER),
    ],
)
def test_the_cause_behind_a_reply(enhanced: str, words: str, code: int | None, phase: str, cause: Cause) -> None:
    assert cause_of(enhanced, words, phase=phase, code=code) is cause


@pytest.mark.parametrize(
    ("reply", "cause"),
    [
        (replies.AUTH_UNAVAILABLE, Cause.TROUBLE),
        (replies.TLS_NOT_AVAILABLE, Cause.TROUBLE),
        (replies.TLS_FIRST, Cause.TLS),
        (replies.SIGNED_OUT, Cause.SIGN_IN),
        (replies.SERVER_FULL, Cause.TOO_FAST),
        (replies.TOO_MANY_CONNECTIONS, Cause.TOO_FAST),
        (replies.NO_SUCH_USER, Cause.NO_SUCH_USER),
    ],
)
def test_the_cause_behind_a_reply_of_ours(reply: replies.Reply, cause: Cause) -> None:
    assert our_cause(replied(reply.said)) is cause


def test_a_reply_taken_apart() -> None:
    assert replied("550 5.1.1 No such user here") == replied("550-5.1.1 No such user here")
    assert replied("451 Later").for_now
    assert replied("given up").code is None


KINDS = (
    *("connect", "mail", "rcpt", "data", "stored", "spooled", "attempt", "unsettled", "dsn", "suppressed", "queue"),
    *("expired", "refused", "auth", "banned", "limited", "read", "task", "of a later release"),
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(KINDS),
            st.dictionaries(
                st.sampled_from(
                    ["address", "reply", "status", "item", "about", "peer", "next", "action", "code", "text", "queue"]
                ),
                st.none() | st.booleans() | st.integers(0, 2**40) | st.text(max_size=20),
            ),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_any_events_make_a_story(rows: list[tuple[str, dict[str, str | int | bool | None]]]) -> None:
    made = [Event("t", float(n), kind, None, detail) for n, (kind, detail) in enumerate(rows)]
    story = tell(made, now=100.0, admin=True)
    assert story.sentence
    assert len(story.lines) == len(made)
    assert all(isinstance(fate.state, State) and fate.sentence for fate in story.fates)


if __name__ == "__main__":
    for name in NAMED:
        (HERE / f"{name}.txt").write_text(text(name), "utf-8")
