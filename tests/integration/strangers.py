"""Run by `test_strangers` in a network of its own, in which 203.0.113.0/24 and 198.51.100.0/24 are this machine's.

There clients have addresses that are neither loopback nor trusted, as strangers on the internet have: what the server
does about guessing, sending and coming too often is looked at from outside.
"""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.live import DOMAIN, PASSWORD, Live, running, until

OWNER = "198.51.100.5"
AT_ONCE = 20.0
"""Seconds within which an owner who is not slowed has signed in, on a machine that is busy with guesses."""
SETTLED = 5.0
"""Seconds after which every door's counts are in the shared ones."""
KNOWN = 20.0
"""Seconds after which every door knows of a ban."""
PAUSE_MOST = 240.0
"""Seconds: no pause between guesses comes to so many here. The longer the guesses before took, the longer it is."""
OPEN = {"HOMING_SIGNIN_PLAINTEXT": "always", "HOMING_ADMIN_DRAIN_SECONDS": "5"}


class Client:
    """One connection from a chosen address, line by line."""

    def __init__(self, live: Live, port: str, source: str) -> None:
        self.socket = socket.create_connection((live.host, live.ports[port]), timeout=60, source_address=(source, 0))
        self.file = self.socket.makefile("rb")
        self.greeting = self.reply()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()

    def reply(self) -> str:
        while (line := self.file.readline())[3:4] == b"-":
            pass
        return line.decode().rstrip("\r\n")

    def ask(self, command: str) -> str:
        self.socket.sendall(command.encode() + b"\r\n")
        return self.reply()

    def tagged(self, command: str) -> str:
        self.socket.sendall(b"t " + command.encode() + b"\r\n")
        while (line := self.reply()) and not line.startswith("t "):
            pass
        return line


def smtp_sign_in(live: Live, source: str, name: str, password: str) -> str:
    """The reply to AUTH, or the greeting of a server that does not let us in."""
    with Client(live, "SUBMISSION", source) as client:
        if not client.greeting.startswith("220"):
            return client.greeting
        client.ask("EHLO client.example")
        secret = base64.b64encode(f"\0{name}\0{password}".encode()).decode()
        return client.ask(f"AUTH PLAIN {secret}")


def imap_sign_in(live: Live, source: str, name: str, password: str) -> str:
    with Client(live, "IMAP", source) as client:
        if not client.greeting.startswith("* OK"):
            return client.greeting
        return client.tagged(f'LOGIN {name} "{password}"')


def send(live: Live, source: str, sender: str = "a@remote.example") -> str:
    """The first reply that is not positive, or the one to the message."""
    with Client(live, "SMTP", source) as client:
        replies = [client.greeting]
        for command in ("EHLO client.example", f"MAIL FROM:<{sender}>", f"RCPT TO:<alice@{DOMAIN}>", "DATA"):
            if replies[-1][:1] in "45":
                return replies[-1]
            replies.append(client.ask(command))
        if replies[-1][:1] != "3":
            return replies[-1]
        return client.ask("Subject: hello\r\n\r\nhello\r\n.")


def owner_signs_in(live: Live) -> None:
    """At once, by both doors."""
    for sign_in, good in ((smtp_sign_in, "235"), (imap_sign_in, "t OK")):
        began = time.monotonic()
        assert sign_in(live, OWNER, f"alice@{DOMAIN}", PASSWORD).startswith(good)
        assert time.monotonic() - began < AT_ONCE


def verdict(reply: str) -> str:
    if reply.startswith("535") or "AUTHENTICATIONFAILED" in reply:
        return "checked"
    return "slowed" if reply.startswith(("454", "t NO")) else reply


class Guessing:
    """Guesses in threads while the owner signs in."""

    def __init__(self, live: Live, guesses: list[tuple[str, str, str]]) -> None:
        self._live, self._guesses = live, guesses
        self.verdicts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def one(self, at: int) -> None:
        source, name, password = self._guesses[at]
        found = verdict((smtp_sign_in if at % 2 else imap_sign_in)(self._live, source, name, password))
        with self._lock:
            self.verdicts[found] += 1

    def run(self, beside: int = 8) -> Counter[str]:
        with ThreadPoolExecutor(8) as pool:
            working = [pool.submit(self.one, at) for at in range(len(self._guesses))]
            for _ in range(beside):
                owner_signs_in(self._live)
            for one in working:
                one.result()
        owner_signs_in(self._live)
        return self.verdicts


def slowed_again(live: Live, guesser: tuple[str, str], owner: tuple[str, str]) -> None:
    """One more wrong guess, as soon as it is checked; in the pause behind it the right password does not open either.
    guesser, owner: (address, name)."""
    source, name = guesser
    tries = iter(range(10_000))
    until(
        lambda: verdict(smtp_sign_in(live, source, name, f"again {next(tries)}")) == "checked",
        PAUSE_MOST,
        "a guess",
        0.2,
    )
    assert verdict(imap_sign_in(live, owner[0], owner[1], PASSWORD)) == "slowed"


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    """Without bans: what slows guesses is looked at by itself."""
    with running(tmp_path / "data", "alice", "bob", **OPEN, HOMING_BANS_SIGN_INS="off") as server:
        # A device that the account is used from.
        assert imap_sign_in(server, OWNER, f"alice@{DOMAIN}", PASSWORD).startswith("t OK")
        yield server


def test_guesses_from_one_address_are_slowed_and_the_owner_is_not(live: Live) -> None:
    verdicts = Guessing(live, [("203.0.113.7", f"alice@{DOMAIN}", f"guess {n}") for n in range(200)]).run()
    assert set(verdicts) == {"checked", "slowed"}, verdicts
    assert verdicts["checked"] <= 10
    slowed_again(live, ("203.0.113.7", f"alice@{DOMAIN}"), ("203.0.113.7", f"alice@{DOMAIN}"))


def test_guesses_from_many_addresses_at_one_account_are_slowed_and_the_owner_is_not(live: Live) -> None:
    guesses = [(f"203.0.113.{n % 250 + 1}", f"alice@{DOMAIN}", f"guess {n}") for n in range(400)]
    verdicts = Guessing(live, guesses).run()
    assert set(verdicts) == {"checked", "slowed"}, verdicts
    assert verdicts["checked"] <= 40
    slowed_again(live, ("203.0.113.252", f"alice@{DOMAIN}"), ("203.0.113.251", f"alice@{DOMAIN}"))
    # nobody else is slowed
    assert imap_sign_in(live, "203.0.113.251", f"bob@{DOMAIN}", PASSWORD).startswith("t OK")


def test_guesses_at_many_names_from_one_address_are_slowed_and_the_owner_is_not(live: Live) -> None:
    verdicts = Guessing(live, [("203.0.113.7", f"name{n}@{DOMAIN}", "summer2026") for n in range(200)]).run()
    assert set(verdicts) == {"checked", "slowed"}, verdicts
    assert verdicts["checked"] <= 45
    slowed_again(live, ("203.0.113.7", f"another@{DOMAIN}"), ("203.0.113.7", f"bob@{DOMAIN}"))
    assert imap_sign_in(live, "203.0.113.8", f"bob@{DOMAIN}", PASSWORD).startswith("t OK")


def test_who_guesses_on_is_banned_from_both_doors_and_who_signed_in_well_from_there_is_not(tmp_path: Path) -> None:
    with running(tmp_path / "data", "alice", "bob", **OPEN, HOMING_BANS_SIGN_INS="6/1h") as live:
        shared, stranger = "203.0.113.20", "203.0.113.21"
        assert imap_sign_in(live, shared, f"alice@{DOMAIN}", PASSWORD).startswith("t OK")
        for source in (shared, stranger):
            for n in range(9):
                smtp_sign_in(live, source, f"bob@{DOMAIN}", f"guess {n}")
            until(lambda source=source: source in {one["target"] for one in bans(live)}, what="the ban")
        until(lambda: send(live, stranger).startswith("421 4.7.1"), KNOWN, "SMTP knows")
        until(lambda: imap_sign_in(live, stranger, f"bob@{DOMAIN}", PASSWORD).startswith("* BYE"), KNOWN, "IMAP knows")
        # The address where alice's device is: she signs in, and nobody sends without.
        assert smtp_sign_in(live, shared, f"alice@{DOMAIN}", PASSWORD).startswith("235")
        assert imap_sign_in(live, shared, f"alice@{DOMAIN}", PASSWORD).startswith("t OK")
        until(lambda: send(live, shared).startswith("421 4.7.1"), KNOWN, "mail is refused")
        assert send(live, "203.0.113.22").startswith("250")

        assert live.process is None or live.process.poll() is None
        before = begun_without_bans(live)
        live.kill()
        live.start()
        if begun_without_bans(live) > before:
            # Identity was not there in time, and a door that has said so takes them up later.
            until(lambda: send(live, stranger).startswith("421 4.7.1"), KNOWN, "a ban outlives the process")
        else:
            assert send(live, stranger).startswith("421 4.7.1"), "it holds from the first connection on"
            assert imap_sign_in(live, stranger, f"bob@{DOMAIN}", PASSWORD).startswith("* BYE")
        until(lambda: max(one["hits"] for one in bans(live)) >= 1, what="hits are counted")
        found = live.cli("ban", "lift", stranger)
        assert stranger in found.stdout
        until(lambda: send(live, stranger).startswith("250"), KNOWN, "the ban is lifted")
        assert live.cli("ban", "lift", stranger, check=False).returncode == 1


def test_an_administrator_bans_and_lifts(tmp_path: Path) -> None:
    with running(tmp_path / "data", "alice", **OPEN) as live:
        token = live.admin_token()
        assert send(live, "203.0.113.30").startswith("250")
        status, made = live.rest("POST", "/api/bans", {"target": "203.0.113.0/25", "reason": "asked for"}, token)
        assert (status, made["target"], made["by"], made["until"]) == (201, "203.0.113.0/25", "administrator", None)
        until(lambda: send(live, "203.0.113.30").startswith("554 5.7.1"), KNOWN)
        assert "asked for" not in send(live, "203.0.113.30")
        assert send(live, "203.0.113.130").startswith("250")
        until(lambda: imap_sign_in(live, "203.0.113.31", "alice", PASSWORD).startswith("* BYE [UNAVAILABLE]"), KNOWN)
        assert live.rest("GET", "/api/bans")[0] == 401
        assert live.rest("GET", "/api/bans", token=live.token("alice", PASSWORD))[0] == 403
        assert live.rest("POST", "/api/bans", {"target": "everybody"}, token)[0] == 422
        assert live.rest("DELETE", f"/api/bans/{made['id']}", token=token) == (200, {"status": "lifted"})
        assert live.rest("DELETE", f"/api/bans/{made['id']}", token=token)[0] == 404
        until(lambda: send(live, "203.0.113.30").startswith("250"), KNOWN)
        live.cli("ban", "add", "203.0.113.30", "--for", "2h", "--reason", "[too] much")
        assert "[too] much" in live.cli("ban", "list").stdout
        assert '"administrator"' in live.cli("ban", "list", "--json").stdout
        until(lambda: send(live, "203.0.113.30").startswith("421 4.7.1"), KNOWN)


def test_rates_hold_over_a_kill_and_change_while_running(tmp_path: Path) -> None:
    rates = {"HOMING_RATES_ADDRESS": "5/1h", "HOMING_RATES_NETWORK": "9/1h", "HOMING_RATES_SENDER": "12/1h"}
    with running(tmp_path / "data", "alice", **OPEN, **rates) as live:
        source = "203.0.113.40"
        sent = [send(live, source, f"s{n}@remote.example") for n in range(8)]
        assert [reply[:3] for reply in sent] == ["250"] * 5 + ["451"] * 3
        assert "5 in an hour are allowed, try again in" in sent[-1]
        assert send(live, "127.0.0.1").startswith("250"), "loopback is exempt"
        # What a kill may lose is a second old at most.
        time.sleep(SETTLED)
        live.kill()
        live.start()
        # Some come through before the door has asked for the count, and never more than the rate.
        late = 0
        while send(live, source).startswith("250"):
            late += 1
        assert late <= 5
        # By then the counts have been exchanged.
        time.sleep(SETTLED)
        others = [send(live, f"203.0.113.{n}", f"o{n}@remote.example")[:3] for n in range(50, 60)]
        assert others.count("250") == max(0, 9 - 5 - late), "of one network nine an hour"
        live.cli("config", "set", "rates.network", "off")
        until(lambda: send(live, "203.0.113.60").startswith("250"), KNOWN + 3, "the change is in force")
        elsewhere = [send(live, f"198.51.100.{n}", "one@remote.example")[:3] for n in range(10, 30)]
        assert elsewhere.count("250") == 12


def begun_without_bans(live: Live) -> int:
    """How many doors have said so, before they were ready."""
    return sum("beginning without the bans" in line for line in live.output)


def bans(live: Live) -> list[dict[str, object]]:
    status, body = live.rest("GET", "/api/bans", token=live.admin_token())
    assert status == 200
    return list(body["bans"])
