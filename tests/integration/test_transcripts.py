"""Every dialogue of tests/transcripts against a server started as a user starts it, embedded or distributed: IMAP over
TLS from the first octet, SMTP on the listener that it names, and over TLS; in whole lines, and octet by octet."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hurry import THOROUGH
from tests.live import Live, free_ports, running
from tests.smtp.test_transcripts import LISTENERS, OVER_TLS
from tests.transcripts.imap.spoken import ADMINISTRATORS, MASKS, NOT_LIVE, QUOTAS, has_token, is_for_two, spoken_by
from tests.transcripts.play import play, read

TRANSCRIPTS = Path(__file__).resolve().parents[1] / "transcripts"
IMAP = sorted((TRANSCRIPTS / "imap").glob("*.txt"))
SMTP = sorted((TRANSCRIPTS / "smtp").glob("*.txt"))

FLOODS = ("literals", "literal_before_sign_in")
"""They end with a BYE over which the client may go on sending for some seconds."""
CUTS: dict[str, int | None] = {"lines": None, "octets": 1}
"""How what a client says is cut into packets: octets of each. Where somebody waits, single octets are for the services
in this process alone (tests/transcripts/imap)."""
PLAYED = [
    (path, how)
    for path in IMAP
    for how in CUTS
    if path.stem not in NOT_LIVE and (THOROUGH or (how == "lines" and path.stem not in FLOODS))
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
        HOMING_DOMAIN=DOMAIN,
        HOMING_HOSTNAME=f"mx.{DOMAIN}",
        HOMING_SIGNIN_SCRAM="true",
        HOMING_SIGNIN_SCRAM_ITERATIONS="4096",
        HOMING_LMTP_PORT=str(ports["lmtp"]),
        HOMING_SMTP_LISTENERS=json.dumps([{**table, "port": ports[table["name"]]} for table in LISTENERS]),
    ) as live:
        live.ports.update((name.upper(), port) for name, port in ports.items())
        people = {played: _people(*played) for played in PLAYED}
        users = [user for user, _ in people.values()]
        users += [other for (path, _), (_, other) in people.items() if is_for_two(read(path))]
        live.add_users(*(f"{name}@{DOMAIN}" for name in users), password="secret")
        for (path, _), (user, _) in people.items():
            _prepare(live, path.stem, f"{user}@{DOMAIN}")
        live.add_users(*(f"{name}@{DOMAIN}" for name in ("alice", "bob")), password="wonder")
        yield live


DOMAIN = "example.org"


def _people(path: Path, how: str) -> tuple[str, str]:
    """The names of a dialogue's users, as long as those that it says."""
    number = f"{how[0]}{IMAP.index(path):03}"
    return f"{number}a", f"{number}b"


def _prepare(live: Live, dialogue: str, address: str) -> None:
    """Make the account of the kind that the dialogue needs."""
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


@pytest.mark.parametrize(("path", "how"), PLAYED, ids=[f"{path.stem}-{how}" for path, how in PLAYED])
async def test_imap(server: Live, path: Path, how: str) -> None:
    script = read(path)
    user, other = _people(path, how)
    token = server.token(f"{user}@{DOMAIN}", "secret") if has_token(script) else ""
    port = server.ports["IMAPS" if script.fits_tls else "IMAP"]
    await play(spoken_by(user, script, other, token), port, tls=trusting(), implicit=script.fits_tls, cut=CUTS[how])


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
