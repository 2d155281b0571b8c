"""What became of a message, out of the events of its trace: for each recipient what happened, why, and what to do next.

Pure: the same events give the same words. Who is shown some of the events alone is told what these say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo
from enum import Enum
from typing import Final

from homing.tracing.advice import HERE, PATIENCE, THERE
from homing.tracing.causes import Cause, Replied, Words, cause_of, our_cause, replied
from homing.tracing.lines import Line, Names, attempted, lines, number, text, when, who
from storage.model import SYSTEM, Event

LATE_SECONDS: Final = 600.0
"""A message that waits so long without an attempt makes one wonder."""
TOLD_FATES: Final = 5
"""Different fates that the sentence about all recipients tells, and addresses that it names for each."""


class State(Enum):
    """How it stands with one recipient. TAKEN: the address was accepted, and what follows is not seen."""

    DELIVERED = "delivered"
    SENT = "sent"
    WAITING = "waiting"
    HELD = "held"
    FAILED = "failed"
    REFUSED = "refused"
    PUT_OFF = "put off"
    DROPPED = "dropped"
    TAKEN = "taken"


@dataclass(frozen=True, slots=True)
class Fate:
    """One recipient. at: when it came to this. what, why, do: a sentence each, "" for none."""

    address: str
    state: State
    at: float
    what: str
    why: str = ""
    do: str = ""

    @property
    def sentence(self) -> str:
        return " ".join(part for part in (self.what, self.why, self.do) if part)


@dataclass(frozen=True, slots=True)
class Story:
    """sender: "" for the null reverse-path, None where no event says it. sentence: of all recipients together."""

    trace: str
    started: float
    ended: float
    sender: str | None
    message_id: str
    size: int | None
    fates: tuple[Fate, ...]
    lines: tuple[Line, ...]
    sentence: str


def tell(
    events: Sequence[Event], names: Names | None = None, *, now: float, admin: bool = False, zone: tzinfo = UTC
) -> Story:
    """The story of one trace. events: at least one. now: Unix seconds. admin: tell what administrators can do too.
    zone: for the times in sentences."""
    return _Telling(sorted(events, key=lambda one: one.at), names or Names(), now, admin, zone).story()


class _Telling:
    def __init__(self, events: Sequence[Event], names: Names, now: float, admin: bool, zone: tzinfo) -> None:
        self._events = events
        self._names = names
        self._now = now
        self._admin = admin
        self._zone = zone

    def story(self) -> Story:
        events = self._events
        message = self._of("stored", "spooled")
        mails = self._of("mail")
        senders = [text(one, "sender") for one in message if "sender" in one.detail]
        senders += [text(one, "address") for one in mails]
        sizes = [int(number(one, "size")) for one in self._of("data")]
        fates = self._fates()
        return Story(
            trace=events[0].trace,
            started=events[0].at,
            ended=events[-1].at,
            sender=senders[0] if senders else None,
            message_id=next((text(one, "message_id") for one in message if text(one, "message_id")), ""),
            size=sizes[0] if sizes else None,
            fates=fates,
            lines=lines(events, self._names, self._zone),
            sentence=self._together(fates) if fates else self._without_recipients(),
        )

    # -- all together

    def _together(self, fates: Sequence[Fate]) -> str:
        if len(fates) == 1:
            return fates[0].sentence
        counts: dict[State, int] = {}
        for fate in fates:
            counts[fate.state] = counts.get(fate.state, 0) + 1
        told = ", ".join(f"{number} {state.value}" for state, number in counts.items())
        start = f"Of {len(fates)} recipients: {told}."
        troubled = [fate for fate in fates if fate.state not in (State.DELIVERED, State.SENT, State.TAKEN)]
        shown = troubled or list(fates)
        # What is the same for several but for the address is said once.
        alike: dict[str, list[Fate]] = {}
        for fate in shown:
            alike.setdefault(fate.sentence.replace(fate.address, "\0"), []).append(fate)
        parts = [start]
        for together in list(alike.values())[:TOLD_FATES]:
            others = [fate.address for fate in together[1:]]
            more = f", and {len(others) - TOLD_FATES} more" if len(others) > TOLD_FATES else ""
            same = f"The same holds for {', '.join(others[:TOLD_FATES])}{more}." if others else ""
            parts.append(_joined(together[0].sentence, same))
        return " ".join(parts)

    def _without_recipients(self) -> str:
        """A refused attempt that named no recipient, or events that say little."""
        peer = next((text(one, "peer") for one in self._events if text(one, "peer")), "")
        who = f"at {peer}" if peer else "whose address is not shown here"
        for event in reversed(self._of("banned")):
            until = number(event, "until")
            upto = f" until {self._when(until)}" if until else ""
            reason = f", because of {text(event, 'reason')}" if text(event, "reason") else ""
            admin = f" `homing ban lift {text(event, 'peer')}` ends it now." if self._admin else ""
            return (
                f"Turned away: {text(event, 'peer') or peer} is banned{upto}{reason}. The ban ends by itself; a mail"
                f" program with an old password should get the new one first.{admin}"
            )
        for event in reversed(self._of("auth")):
            reply = replied(text(event, "reply"))
            name = f" as {text(event, 'name')}" if text(event, "name") else ""
            words = self._words(HERE, our_cause(reply), "", "")
            what = f"Sign-in refused: somebody {who} tried to sign in{name}{self._quoted(reply)}."
            again = "If that was you: " + words.do[:1].lower() + words.do[1:] if words.do else ""
            return _joined(
                what, self._because(words.why), again, "If it was not, the password has kept them out.", words.admin
            )
        mail = next((one for one in self._of("mail") if text(one, "reply") and not _good(text(one, "reply"))), None)
        for event in (*([mail] if mail else ()), *reversed(self._of("limited")), *reversed(self._of("refused"))):
            reply = replied(text(event, "reply"))
            words = self._words(HERE, our_cause(reply), "", "")
            if event is mail:
                start = "Turned away for now" if reply.for_now else "Refused"
                what = f"{start}: no message from {text(event, 'address') or 'the null sender'} was taken"
            elif reply.code == 421 and not mail:
                what = f"Connection refused: the sender {who} was turned away"
            else:
                what = f"Refused: somebody {who} was not let send a message"
            return _joined(f"{what}{self._quoted(reply)}.", self._because(words.why), words.do, words.admin)
        reads = self._of("read")
        if reads and len(reads) == len(self._events):
            return f"Read: a mail program fetched the message on {self._when(reads[-1].at)}."
        return "These events name no recipient: what became of the message is not shown here."

    # -- one by one

    def _fates(self) -> tuple[Fate, ...]:
        fates: dict[str, Fate] = {}
        taken: dict[str, Event] = {}
        for event in self._of("rcpt"):
            address, reply = text(event, "address"), text(event, "reply")
            if _good(reply):
                taken[address.casefold()] = event
                # It was taken at another try.
                fates.pop(address.casefold(), None)
            elif address.casefold() not in taken:
                fates[address.casefold()] = self._refused(address, event.at, replied(reply))
        for address, stored in _by(self._of("stored"), "address").items():
            fates[address] = self._delivered(stored)
        tasks = {text(event, "item") for event in self._of("task")}
        waiting, put = _parted(self._of("spooled"), lambda one: bool(text(one, "queue")) or text(one, "item") in tasks)
        for address, spooled in _by(put, "address").items():
            fates[address] = self._on_its_way(spooled[-1])
        for address, spooled in _by(waiting, "address").items():
            # What has become mail of the account is told as such.
            if address not in fates:
                fates[address] = self._of_task(spooled[-1])
        for event in self._of("attempt"):
            # Seen without what was before.
            address = text(event, "address")
            if address and address.casefold() not in fates:
                fates[address.casefold()] = self._on_its_way(event)
        if not self._of("stored", "spooled", "attempt"):
            end = self._of("refused")
            for address, event in taken.items():
                if end:
                    fates[address] = self._refused(text(event, "address"), end[-1].at, replied(text(end[-1], "reply")))
                else:
                    what = f"Accepted: this server agreed to take mail for {text(event, 'address')}"
                    more = "what became of it after that is not shown here"
                    fates[address] = Fate(text(event, "address"), State.TAKEN, event.at, f"{what}; {more}.")
        return tuple(sorted(fates.values(), key=lambda fate: fate.at))

    def _delivered(self, stored: Sequence[Event]) -> Fate:
        address, last = text(stored[-1], "address"), stored[-1]
        mailbox, owner = self._names.mailbox(text(last, "mailbox")), self._names.account(last.account)
        one = f"{mailbox} of {owner} (uid {text(last, 'uid')})"
        where = one if len(stored) == 1 else f"{len(stored)} mailboxes"
        behind = f"the message for {address}" if self._names.account(last.account) != address else "the message"
        accounts = {event.account for event in stored}
        reads = [event for event in self._of("read") if event.account in accounts]
        what = f"Delivered: {behind} is in {where} since {self._when(last.at)}."
        if reads:
            return Fate(
                address, State.DELIVERED, last.at, what, "", f"A mail program fetched it on {self._when(reads[0].at)}."
            )
        do = "If it is not to be seen there, a filter of the mail program may have moved it."
        return Fate(address, State.DELIVERED, last.at, what, "", do)

    def _refused(self, address: str, at: float, reply: Replied) -> Fate:
        cause = our_cause(reply)
        words = self._words(HERE, cause, "this server", address)
        state = State.PUT_OFF if reply.for_now or cause is Cause.BROKEN_OFF else State.REFUSED
        if cause is Cause.BROKEN_OFF:
            what = f"Not received: the message for {address} did not come in whole{self._quoted(reply)}."
        elif state is State.PUT_OFF:
            what = f"Turned away for now: the message for {address} was not taken{self._quoted(reply)}."
        else:
            before = "" if self._of("data") or number(self._end(), "size") else " before it was sent"
            what = f"Refused: this server did not take the message for {address}{before}{self._quoted(reply)}."
        return Fate(address, state, at, what, self._because(words.why), _joined(words.do, words.admin))

    def _end(self) -> Event:
        return (self._of("refused") or self._events)[-1]

    def _of_task(self, spooled: Event) -> Fate:
        """A message of the sending API, which a worker hands over."""
        address, item = text(spooled, "address"), text(spooled, "item")
        mine = [one for one in self._of("task") if text(one, "item") == item]
        dropped = self._dropped(address, item)
        if dropped is not None:
            return dropped
        if not mine:
            what = f"Waiting: the message for {address} waits for a worker since {self._when(spooled.at)}"
            if self._now - spooled.at < LATE_SECONDS:
                return Fate(address, State.WAITING, spooled.at, f"{what}.")
            do = "Does one run? `homing worker` starts one." if self._admin else "Ask the administrator."
            return Fate(address, State.WAITING, spooled.at, f"{what}, and no attempt was made yet.", "", do)
        last, status = mine[-1], text(mine[-1], "status")
        count = int(number(last, "attempt"))
        after = f" after {count} attempts" if count > 1 else ""
        reason = f"The reason: {text(last, 'text').rstrip('.')}." if text(last, "text") else ""
        if status == "success":
            what = f"Sent: a worker handed over the message for {address} on {self._when(last.at)}{after}."
            return Fate(address, State.SENT, last.at, what)
        if status == "retry":
            what, do = f"Waiting: {address} does not have the message yet.", "It is tried again by itself in a moment."
            return Fate(address, State.WAITING, last.at, what, reason, do)
        what = f"Not delivered: the message did not get to {address}{after}."
        do = "It is not tried again. Nobody was sent a notice: `GET /api/v1/email/result` tells who asks for the task."
        return Fate(address, State.FAILED, last.at, what, reason, do)

    def _dropped(self, address: str, item: str) -> Fate | None:
        for event in self._of("queue"):
            if text(event, "item") == item and text(event, "action") == "drop":
                by = who(text(event, "by") or SYSTEM, self._names)
                what = f"Dropped: {by} took the message for {address} out of the queue on {self._when(event.at)}."
                return Fate(address, State.DROPPED, event.at, what, "", "It was not sent, and the sender was not told.")
        return None

    def _on_its_way(self, spooled: Event) -> Fate:
        address, item = text(spooled, "address"), text(spooled, "item")
        mine = self._mine(address, item)
        attempts = [one for one in mine if one.kind == "attempt"]
        doubts = self._doubts(item, attempts)
        last = attempts[-1] if attempts else None
        queue = [one for one in self._of("queue") if text(one, "item") == item]
        told = self._told(address)
        if (dropped := self._dropped(address, item)) is not None:
            return dropped
        expired = next((one for one in mine if one.kind == "expired"), None)
        if last is not None and text(last, "status") == "sent":
            return self._sent(address, last, attempts, _joined(doubts, told))
        if expired is not None or (last is not None and text(last, "status") == "failed"):
            return self._failed(address, last, expired, doubts, told)
        hold = [one for one in queue if text(one, "action") in ("hold", "release")]
        if hold and text(hold[-1], "action") == "hold":
            what = (
                f"Held: an administrator keeps the message for {address} in the queue since {self._when(hold[-1].at)}."
            )
            do = f"`homing queue release {item}` sends it." if self._admin else "Ask the administrator why."
            return Fate(address, State.HELD, hold[-1].at, what, "", _joined(do, doubts))
        return self._waiting(address, item, spooled, last, _joined(doubts, told))

    def _mine(self, address: str, item: str) -> list[Event]:
        """The attempts at the recipient, and that it was given up."""
        found: list[Event] = []
        done = False
        for event in self._of("attempt", "expired"):
            others = text(event, "others").casefold().split("\n")
            named = address.casefold() in (text(event, "address").casefold(), *others)
            # Told of many together without their addresses: it holds for those that were still waiting.
            meant = event.kind == "attempt" and number(event, "addresses") and not text(event, "others")
            if named or (meant and not done and text(event, "item") == item):
                found.append(event)
                done = done or (named and text(event, "status") in ("sent", "failed"))
        return found

    def _sent(self, address: str, last: Event, attempts: Sequence[Event], more: str) -> Fate:
        host = text(last, "remote") or text(last, "domain") or "the other server"
        secured = text(last, "tls")
        verified = text(last, "verified")
        how = (
            f" over {secured}" + (f", its name proved by {verified}" if verified else "") if secured else " without TLS"
        )
        again = f" at attempt {len(attempts)}" if len(attempts) > 1 else ""
        what = (
            f"Sent: {host} took the message for {address} on {self._when(last.at)}{again}{how}{self._quoted_of(last)}."
        )
        do = (
            "What becomes of it there only that server knows: if it is missing, the recipient should look among spam,"
            " or show these words to their postmaster."
        )
        return Fate(address, State.SENT, last.at, what, "", _joined(more, do))

    def _failed(self, address: str, last: Event | None, expired: Event | None, doubts: str, told: str) -> Fate:
        ended = expired or last
        assert ended is not None
        if expired is not None:
            days = number(expired, "days")
            what = f"Given up: the message for {address} could not be handed over within {days:g} days."
        else:
            what = f"Not delivered: the message did not get to {address}."
        why = do = ""
        if last is not None:
            words = self._there(last, address)
            why, do = self._because(words.why, self._quoted_of(last)), words.do
            if do == PATIENCE:
                do = "Send it again later, or reach the recipient by other means."
            do = _joined(do, words.admin)
        return Fate(address, State.FAILED, ended.at, what, why, _joined(do, doubts, told))

    def _waiting(self, address: str, item: str, spooled: Event, last: Event | None, more: str) -> Fate:
        retry = f"`homing queue retry {item}` tries at once." if self._admin and item else ""
        if last is None:
            what = f"Waiting: the message for {address} is in the queue since {self._when(spooled.at)}"
            if self._now - spooled.at < LATE_SECONDS:
                return Fate(
                    address, State.WAITING, spooled.at, f"{what}; the first attempt comes in a moment.", "", more
                )
            late = "is the outgoing queue at work? `homing queue list` shows it." if self._admin else ""
            do = f"No attempt was made yet: {late}" if late else "No attempt was made yet: ask the administrator."
            return Fate(address, State.WAITING, spooled.at, f"{what}.", "", _joined(do, retry, more))
        words = self._there(last, address)
        next_at = number(last, "next")
        coming = f"The next attempt is on {self._when(next_at)}." if next_at else ""
        if next_at and next_at < self._now:
            coming = "The next attempt is due now."
        what = f"Waiting: {address} does not have the message yet."
        do = _joined(coming, words.do, words.admin, retry, more)
        return Fate(address, State.WAITING, last.at, what, self._because(words.why, self._quoted_of(last)), do)

    def _doubts(self, item: str, attempts: Iterable[Event]) -> str:
        lost = [one for one in attempts if one.detail.get("doubtful")]
        broken = [one for one in self._of("unsettled") if text(one, "item") == item]
        if not lost and not broken:
            return ""
        # RFC 1047
        cause = "the reply to an attempt was lost" if lost else "this server was interrupted during an attempt"
        return f"The recipient may get it twice: {cause}, after which nobody can know whether it had been taken."

    def _told(self, address: str) -> str:
        for event in reversed(self._events):
            about = text(event, "about").casefold()
            if event.kind == "dsn" and about in ("", address.casefold()):
                late = " of the delay" if text(event, "action") == "delayed" else ""
                return f"The sender {text(event, 'to')} was told{late} by a message on {self._when(event.at)}."
            if event.kind == "suppressed" and about in ("", address.casefold()):
                why = text(event, "why")
                return "The sender was not told" + (f": {why}." if why else ".")
        return ""

    # -- words

    def _there(self, attempt: Event, address: str) -> Words:
        cause = cause_of(
            text(attempt, "enhanced"),
            text(attempt, "text"),
            phase=text(attempt, "phase"),
            code=int(number(attempt, "code")) or None,
        )
        host = text(attempt, "remote").partition(" ")[0] or f"the server of {_domain(address)}"
        return self._words(THERE, cause, host, address)

    def _words(self, table: Mapping[Cause, Words], cause: Cause, host: str, address: str) -> Words:
        words = table[cause]
        fill = {"host": host, "address": address, "domain": _domain(address)}
        known = {name: value or f"the {name}" for name, value in fill.items()}
        why, do, admin = (part.format(**known) for part in (words.why, words.do, words.admin))
        return replace(words, why=why, do=do, admin=admin if self._admin else "")

    def _because(self, why: str, quoted: str = "") -> str:
        return f"The reason: {why}{quoted}." if why else ""

    def _quoted(self, reply: Replied) -> str:
        words = " ".join(part for part in (str(reply.code or ""), reply.enhanced, reply.text) if part)
        return f' ("{words}")' if words else ""

    def _quoted_of(self, attempt: Event) -> str:
        words = attempted(attempt)
        return f' ("{words}")' if words else ""

    def _when(self, at: float) -> str:
        return when(at, self._zone)

    def _of(self, *kinds: str) -> list[Event]:
        return [event for event in self._events if event.kind in kinds]


def _good(reply: str) -> bool:
    code = replied(reply).code
    return code is not None and code < 400


def _parted(events: Iterable[Event], is_one: Callable[[Event], bool]) -> tuple[list[Event], list[Event]]:
    """Those that are such, and the others."""
    such: list[Event] = []
    others: list[Event] = []
    for event in events:
        (such if is_one(event) else others).append(event)
    return such, others


def _by(events: Iterable[Event], name: str) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = {}
    for event in events:
        found.setdefault(text(event, name).casefold(), []).append(event)
    return found


def _domain(address: str) -> str:
    return address.rpartition("@")[2]


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)
