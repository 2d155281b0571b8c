"""Clients of a cluster: each speaks to one door until it dies or its share is done, then goes to another."""

from __future__ import annotations

import imaplib
import random
import re
import smtplib
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from tests.crash.records import Place, Records
from tests.live import DOMAIN, PASSWORD, Cluster

RECIPIENTS = ("alice", "bob", "dora")
WORKER = "carol"
FROM_BOX, TO_BOX, COPY_BOX = "Work-from", "Work-to", "Work-copies"
PATIENCE = 45.0
"""Seconds that a client waits for an answer: more than a door waits for its keepers."""
SHARE = 8
"""Operations over one connection."""
ROW = 4
"""Messages that one client appends without waiting between them."""
KEEP = 8
"""Messages that the worker's mailboxes keep before some are expunged. Few, for all is to be done on a busy machine too:
in twenty seconds of kills it may move no more than twenty."""
BROKEN = (OSError, EOFError, smtplib.SMTPException, imaplib.IMAP4.error)


class Load:
    """Runs until `end`; `pause` makes every client finish what it has in hand and wait."""

    def __init__(self, cluster: Cluster, records: Records, seed: int) -> None:
        self.cluster, self.records = cluster, records
        self._gate = threading.Condition()
        self._open, self._ended, self._parked = True, False, 0
        work: tuple[Callable[[Client], None], ...] = (
            deliver,
            deliver,
            submit,
            append,
            append,
            append_in_a_row,
            move,
            copy,
            store,
            expunge,
            read,
        )
        self.clients = [Client(self, talk, random.Random(f"{seed} {i}")) for i, talk in enumerate(work)]

    def start(self) -> None:
        for client in self.clients:
            client.start()

    def going(self) -> bool:
        return self._open

    def pause(self) -> None:
        """Returns when nobody has anything in hand."""
        with self._gate:
            self._open = False
            waited = self._gate.wait_for(lambda: self._parked == len(self.clients), 2 * PATIENCE)
        assert waited, f"clients hang: {[client.name for client in self.clients if not client.parked]}"

    def go_on(self) -> None:
        with self._gate:
            self._open = True
            self._gate.notify_all()

    def end(self) -> None:
        with self._gate:
            self._open, self._ended = False, True
            self._gate.notify_all()
        for client in self.clients:
            client.join(2 * PATIENCE)
            assert not client.is_alive(), f"a client hangs: {client.name}"

    def wait_for_turn(self, client: Client) -> bool:
        """Between two connections. False at the end."""
        with self._gate:
            if not self._open and not self._ended:
                client.parked = True
                self._parked += 1
                self._gate.notify_all()
                self._gate.wait_for(lambda: self._open or self._ended)
                client.parked = False
                self._parked -= 1
            return not self._ended


class Client(threading.Thread):
    """One thread that does one kind of work."""

    def __init__(self, load: Load, talk: Callable[[Client], None], rng: random.Random) -> None:
        super().__init__(name=talk.__name__, daemon=True)
        self.load, self.talk, self.rng = load, talk, rng
        self.cluster, self.records = load.cluster, load.records
        self.parked = False
        self._last: dict[str, int] = {}
        self.known: dict[int, str] = {}
        self.uidnext = 0

    def run(self) -> None:
        while self.load.wait_for_turn(self):
            try:
                self.talk(self)
            except BROKEN as error:
                self.records.heard(said(error))
                # As clients do: not at once, and not all at the same moment.
                time.sleep(self.rng.uniform(0.02, 0.2))
            except Exception:
                self.records.accuse(f"{self.name}:\n{traceback.format_exc()}")
                return

    def share(self) -> Iterator[int]:
        """Turns to work on this connection."""
        for turn in range(SHARE):
            if not self.load.going():
                return
            yield turn

    def port(self, service: str, listener: str) -> int:
        """A door of the kind, another one than last time where there is one."""
        members = self.cluster.of(service)
        choices = [n for n in range(len(members)) if n != self._last.get(service)] or [0]
        self._last[service] = self.rng.choice(choices)
        return members[self._last[service]].ports[listener]

    @contextmanager
    def imap(self, user: str, mailbox: str | None = None, readonly: bool = False) -> Iterator[imaplib.IMAP4]:
        """A signed-in connection."""
        connection = imaplib.IMAP4(self.cluster.host, self.port("imap", "IMAP"), timeout=PATIENCE)
        with connection:
            connection.login(user, PASSWORD)
            if mailbox is not None:
                ok(connection.select(mailbox, readonly))
            yield connection

    def pick(self, imap: imaplib.IMAP4, least: int = 1) -> tuple[int, str] | None:
        """(uid, op) of some message of the selected mailbox, when it has at least so many."""
        uids = uids_of(imap)
        if len(uids) < least:
            return None
        uid = self.rng.choice(uids)
        op = ops_of(imap, str(uid)).get(uid)
        return None if op is None else (uid, op)


def said(error: Exception) -> str:
    """An answer as it is counted: its code, or that the connection broke."""
    text = str(error)
    if isinstance(error, smtplib.SMTPResponseException):
        return f"SMTP {error.smtp_code}"
    if found := re.search(r"\[(UNAVAILABLE|INUSE|SERVERBUG|LIMIT|ALERT)\]", text):
        return f"IMAP [{found.group(1)}]"
    if isinstance(error, (imaplib.IMAP4.abort, smtplib.SMTPServerDisconnected, OSError, EOFError)):
        return "connection lost"
    return text[:80]


def ok(answer: tuple[str, list[Any]]) -> list[Any]:
    """The data of an OK; imaplib.IMAP4.error for any other answer."""
    status, data = answer
    if status != "OK":
        raise imaplib.IMAP4.error(f"{status} {data!r}")
    return data


def uids_of(imap: imaplib.IMAP4) -> list[int]:
    """All uids of the selected mailbox."""
    data = ok(imap.uid("search", "ALL"))
    return [int(uid) for uid in data[0].split()] if data and data[0] else []


def ops_of(imap: imaplib.IMAP4, uids: str) -> dict[int, str]:
    """uid → op."""
    rows = ok(imap.uid("fetch", uids, "(BODY.PEEK[HEADER.FIELDS (X-OP)])"))
    found: dict[int, str] = {}
    for row in rows:
        if isinstance(row, tuple):
            uid, op = re.search(rb"UID (\d+)", row[0]), re.search(rb"X-Op: (\w+)", row[1])
            assert uid, row
            assert op, row
            found[int(uid.group(1))] = op.group(1).decode()
    return found


def copyuid(imap: imaplib.IMAP4) -> tuple[int, int, int] | None:
    """(uidvalidity, source uid, target uid) of the last COPY or MOVE of one message; None when it was not there."""
    _, data = imap.response("COPYUID")
    if not data or not data[0]:
        return None
    uidvalidity, source, target = data[0].split()
    return int(uidvalidity), int(source), int(target)


# -- what the clients do


def deliver(client: Client) -> None:
    """From outside, to one or several of ours."""
    with smtplib.SMTP(client.cluster.host, client.port("smtp", "SMTP"), timeout=PATIENCE) as smtp:
        smtp.ehlo_or_helo_if_needed()
        for _ in client.share():
            send(client.records, client.rng, smtp, "x@elsewhere.example", some_recipients(client.rng))


def submit(client: Client) -> None:
    """By a signed-in user."""
    with smtplib.SMTP(client.cluster.host, client.port("smtp", "SUBMISSION"), timeout=PATIENCE) as smtp:
        smtp.login(WORKER, PASSWORD)
        for _ in client.share():
            send(client.records, client.rng, smtp, f"{WORKER}@{DOMAIN}", some_recipients(client.rng))


def send(records: Records, rng: random.Random, smtp: smtplib.SMTP, sender: str, to: Sequence[str]) -> None:
    """One message, acknowledged for all of these users or refused for all."""
    op, content = records.message(rng)
    records.recipients[op] = tuple(to)
    with records.asked("deliver", op):
        # Step by step: with a recipient refused for now nothing is sent, so that a message is for all of them or none.
        for step in (partial(smtp.mail, sender), *(partial(smtp.rcpt, f"{user}@{DOMAIN}") for user in to)):
            code, text = step()
            if code >= 400:
                smtp.rset()
                raise smtplib.SMTPResponseException(code, text)
        code, text = smtp.data(content)
        if code != 250:
            raise smtplib.SMTPResponseException(code, text)


def some_recipients(rng: random.Random) -> list[str]:
    return rng.sample(RECIPIENTS, rng.randint(1, len(RECIPIENTS)))


def append(client: Client) -> None:
    with client.imap(WORKER) as imap:
        for _ in client.share():
            op, content = client.records.message(client.rng)
            with client.records.asked("append", op):
                ok(imap.append(FROM_BOX, "", None, content))
                uidvalidity, uid = imap.response("APPENDUID")[1][0].split()
                client.records.sighted(Place(WORKER, FROM_BOX, int(uidvalidity), int(uid)), op)


def append_in_a_row(client: Client) -> None:
    """One sent behind the other, before the first is answered."""
    with client.imap(WORKER) as imap:
        for turn in client.share():
            messages = [client.records.message(client.rng) for _ in range(ROW)]
            with ExitStack() as row:
                asked = [row.enter_context(ExitStack()) for _ in messages]
                for one, (op, _) in zip(asked, messages, strict=True):
                    one.enter_context(client.records.asked("append", op))
                for n, (_, content) in enumerate(messages):
                    imap.send(f"r{turn}.{n} APPEND {FROM_BOX} {{{len(content)}+}}\r\n".encode() + content + b"\r\n")
                refused = b""
                # Each has its answer, also behind one that is refused.
                for n, (one, (op, _)) in enumerate(zip(asked, messages, strict=True)):
                    while not (line := imap.readline()).startswith(b"r"):
                        if not line:
                            raise EOFError
                    answer = re.match(rb"r%d\.%d OK \[APPENDUID (\d+) (\d+)\]" % (turn, n), line)
                    if answer is None:
                        refused = refused or line
                        continue
                    client.records.sighted(Place(WORKER, FROM_BOX, int(answer[1]), int(answer[2])), op)
                    one.close()
                if refused:
                    raise imaplib.IMAP4.error(refused.decode("latin-1"))


def move(client: Client) -> None:
    with client.imap(WORKER, FROM_BOX) as imap:
        for _ in client.share():
            if picked := client.pick(imap):
                uid, op = picked
                with client.records.asked("move", op) as answer:
                    ok(imap.uid("move", str(uid), TO_BOX))
                    if found := copyuid(imap):
                        client.records.sighted(Place(WORKER, TO_BOX, found[0], found[2]), op)
                    answer.nothing = found is None
            else:
                time.sleep(0.05)


def copy(client: Client) -> None:
    with client.imap(WORKER, TO_BOX) as imap:
        for turn in client.share():
            if picked := client.pick(imap):
                uid, op = picked
                key = f"{op} {time.monotonic_ns()} {turn}"
                client.records.copied[key] = op
                with client.records.asked("copy", key) as answer:
                    ok(imap.uid("copy", str(uid), COPY_BOX))
                    if found := copyuid(imap):
                        client.records.sighted(Place(WORKER, COPY_BOX, found[0], found[2]), op)
                    answer.nothing = found is None
            else:
                time.sleep(0.05)


def store(client: Client) -> None:
    with client.imap(WORKER, TO_BOX) as imap:
        for _ in client.share():
            if picked := client.pick(imap):
                uid, op = picked
                with client.records.asked("store", op) as answer:
                    data = ok(imap.uid("store", str(uid), "+FLAGS", "(\\Flagged $Kept)"))
                    answer.nothing = not any(row and b"FLAGS" in row for row in data)
            else:
                time.sleep(0.05)


def expunge(client: Client) -> None:
    with client.imap(WORKER, TO_BOX) as imap:
        for _ in client.share():
            if picked := client.pick(imap, KEEP):
                uid, op = picked
                ok(imap.uid("store", str(uid), "+FLAGS", "(\\Deleted)"))
                with client.records.asked("expunge", op):
                    ok(imap.uid("expunge", str(uid)))
            else:
                time.sleep(0.1)


def read(client: Client) -> None:
    """A mail client that comes back again and again, to any door, and remembers all that it has seen.

    Nothing is ever expunged from this mailbox: each uid it has seen stays, and no uid below the highest appears later.
    """
    with client.imap(RECIPIENTS[0], "INBOX", readonly=True) as imap:
        uidvalidity = int(imap.response("UIDVALIDITY")[1][0])
        uidnext = int(imap.response("UIDNEXT")[1][0])
        uids = uids_of(imap)
        highest = max(client.known, default=0)
        late = [uid for uid in uids if uid <= highest and uid not in client.known]
        if late:
            client.records.accuse(f"uids {late} appeared after {highest} was seen")
        if gone := client.known.keys() - set(uids):
            client.records.accuse(f"uids {sorted(gone)} were seen and are gone")
        if uidnext < client.uidnext or uidnext <= highest:
            client.records.accuse(f"UIDNEXT went from {client.uidnext} (uid {highest} was seen) to {uidnext}")
        client.uidnext = uidnext
        if uids != sorted(set(uids)):
            client.records.accuse(f"uids do not rise: {uids}")
        new = [uid for uid in uids if uid > highest]
        if new:
            found = ops_of(imap, f"{new[0]}:{new[-1]}")
            for uid, op in found.items():
                client.records.sighted(Place(RECIPIENTS[0], "INBOX", uidvalidity, uid), op)
            client.known.update(found)
            uid = client.rng.choice(new)
            rows = [row for row in ok(imap.uid("fetch", str(uid), "(BODY.PEEK[])")) if isinstance(row, tuple)]
            client.records.whole(client.known[uid], rows[0][1])
    time.sleep(0.05)
