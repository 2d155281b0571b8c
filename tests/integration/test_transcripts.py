"""Every dialogue of tests/transcripts against a server started as a user starts it: IMAP over TLS from the first octet,
SMTP on the listener that it names, and over TLS; in whole lines and in packets of one octet."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hurry import THOROUGH
from tests.live import Live, free_ports, running
from tests.smtp.test_transcripts import LISTENERS, OVER_TLS
from tests.transcripts.imap.spoken import ADMINISTRATORS, MASKS, QUOTAS, is_for_two, spoken_by
from tests.transcripts.play import play, read

TRANSCRIPTS = Path(__file__).resolve().parents[1] / "transcripts"
IMAP = sorted((TRANSCRIPTS / "imap").glob("*.txt"))
SMTP = sorted((TRANSCRIPTS / "smtp").glob("*.txt"))

NOT_LIVE = {
    "message_limit": "a limit far below those that may be set",
    "sign_in_slowed": "an identity of its own, which asks for a pause after a certain password",
}
"""IMAP dialogue → what it needs that a running server does not have."""
FLOODS = ("literals", "literal_before_sign_in")
"""They end with a BYE over which the client may go on sending for some seconds: in whole lines alone."""
PLAYED = [
    pytest.param(path, cut, id=f"{path.stem}-{'octets' if cut else 'lines'}")
    for path in IMAP
    # Octet by octet they are played to a service in this process as well (tests/transcripts/imap).
    for cut in ((None, 1) if THOROUGH else (None,))
    if path.stem not in NOT_LIVE and not (cut and path.stem in FLOODS)
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The names and passwords that the dialogues have. Each IMAP dialogue begins with mailboxes as they are made, so it
    has an account of its own, with a name as long as the one that it says."""
    data = tmp_path_factory.mktemp("transcripts") / "data"
    names = ["lmtp", *(table["name"] for table in LISTENERS)]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    with running(
        data,
        HOMING_DOMAIN="example.org",
        HOMING_HOSTNAME="mx.example.org",
        HOMING_LMTP_PORT=str(ports["lmtp"]),
        HOMING_SMTP_LISTENERS=json.dumps([{**table, "port": ports[table["name"]]} for table in LISTENERS]),
    ) as live:
        live.ports.update((name.upper(), port) for name, port in ports.items())
        second = {at + 2 * len(IMAP) for path in IMAP if is_for_two(read(path)) for at in _users(path)}
        users = [user for at, user in enumerate(USERS) if at < 2 * len(IMAP) or at in second]
        live.add_users(*(f"{user}@example.org" for user in users), password="secret")
        for path in IMAP:
            _prepare(live, path.stem, *(f"{USERS[at]}@example.org" for at in _users(path)))
        live.add_users("alice@example.org", "bob@example.org", password="wonder")
        yield live


USERS = [f"{round}{at:04}" for round in "lopq" for at in range(len(IMAP))]


def _users(path: Path) -> tuple[int, int]:
    """Of a dialogue in lines, and in octets; the second user of each is so many dialogues behind twice over."""
    return IMAP.index(path), IMAP.index(path) + len(IMAP)


def _prepare(live: Live, dialogue: str, *addresses: str) -> None:
    """Make these accounts of the kind that the dialogue needs."""
    for address in addresses:
        if dialogue in QUOTAS:
            live.cli("user", "quota", address, str(QUOTAS[dialogue]))
        if dialogue in MASKS:
            live.cli("user", "mask", address, *MASKS[dialogue])
        if dialogue in ADMINISTRATORS:
            live.cli("user", "remove", address, "--yes")
            live.cli("user", "add", address, "--password-stdin", "--admin", stdin="secret\n")


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.mark.parametrize(("path", "cut"), PLAYED)
async def test_imap(server: Live, path: Path, cut: int | None) -> None:
    script = read(path)
    at = _users(path)[1 if cut else 0]
    user, other = USERS[at], USERS[at + 2 * len(IMAP)]
    implicit = not any(step.kind == "STARTTLS" for step in script.steps)
    port = server.ports["IMAPS" if implicit else "IMAP"]
    await play(spoken_by(user, script, other), port, tls=trusting(), implicit=implicit, cut=cut)


@pytest.mark.parametrize("cut", [None, 1], ids=["lines", "octets"])
@pytest.mark.parametrize("path", SMTP, ids=lambda path: path.stem)
async def test_smtp(server: Live, path: Path, cut: int | None) -> None:
    script = read(path)
    listener = script.listener or "smtp"
    implicit = listener == "submissions"
    await play(script, server.ports[listener.upper()], tls=trusting(), implicit=implicit, cut=cut)


@pytest.mark.parametrize("path", [path for path in SMTP if read(path).fits_tls], ids=lambda path: path.stem)
async def test_smtp_over_tls(server: Live, path: Path) -> None:
    script = read(path)
    await play(script, server.ports[OVER_TLS[script.listener].upper()], tls=trusting(), implicit=True)


def test_those_left_out_are_there() -> None:
    assert {path.stem for path in IMAP} >= {*NOT_LIVE, *FLOODS}
