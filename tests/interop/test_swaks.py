"""swaks, the SMTP test client that postmasters use, against every listener and sign-in."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.live import DOMAIN, PASSWORD, Live, free_ports, running, until

pytestmark = pytest.mark.interop

Find = Callable[[str], str]


def swaks(find: Find, live: Live, port: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [find("swaks"), "--server", live.host, "--port", str(live.ports[port]), "--helo", "client.example", *args],
        text=True,
        capture_output=True,
        timeout=60,
    )


SIGN_IN = ("--auth-user", f"alice@{DOMAIN}", "--auth-password", PASSWORD)
MAIL = ("--from", f"alice@{DOMAIN}", "--to", f"bob@{DOMAIN}")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize(
    ("port", "security"),
    [("SMTP", ()), ("SMTP", ("--tls",)), ("SUBMISSION", ("--tls",)), ("SUBMISSIONS", ("--tls-on-connect",))],
)
def test_sign_in(program: Find, live: Live, mechanism: str, port: str, security: tuple[str, ...]) -> None:
    done = swaks(program, live, port, *security, "--auth", mechanism, *SIGN_IN, *MAIL)
    assert done.returncode == 0, done.stdout
    assert " 250 2.0.0 " in done.stdout or " 250 2.6.0 " in done.stdout


def test_submission_asks_for_sign_in(program: Find, live: Live) -> None:
    done = swaks(program, live, "SUBMISSION", "--tls", *MAIL)
    assert done.returncode != 0
    assert " 530 5.7.0 " in done.stdout


def test_wrong_password(program: Find, live: Live) -> None:
    user = ("--auth-user", f"carol@{DOMAIN}", "--auth-password", "wrong")
    done = swaks(program, live, "SMTP", "--tls", "--auth", "PLAIN", *user, *MAIL)
    assert done.returncode != 0
    assert " 535 5.7.8 " in done.stdout


def test_pipelining_and_several_recipients(program: Find, live: Live) -> None:
    done = swaks(
        program,
        live,
        "SMTP",
        "--pipeline",
        "--from",
        "x@elsewhere.example",
        "--to",
        f"alice@{DOMAIN},bob@{DOMAIN},nobody@{DOMAIN},carol@{DOMAIN}",
    )
    assert " 550 5.1.1 " in done.stdout
    assert " 250 2.0.0 " in done.stdout or " 250 2.6.0 " in done.stdout


def test_unknown_domain_is_not_relayed(program: Find, live: Live) -> None:
    done = swaks(program, live, "SMTP", "--from", "x@elsewhere.example", "--to", "y@third.example")
    assert done.returncode != 0
    assert " 550 5.7.1 " in done.stdout


def test_what_is_offered_under_tls_and_without(program: Find, live: Live) -> None:
    for security, expected in (((), {"STARTTLS"}), (("--tls",), {"REQUIRETLS"})):
        done = swaks(program, live, "SMTP", *security, *MAIL)
        assert done.returncode == 0, done.stdout
        # Under TLS the second answer to EHLO, whose lines swaks marks with a tilde.
        mark = "<~  250" if security else "<-  250"
        offered = {line[len(mark) + 1 :].split()[0] for line in done.stdout.splitlines() if line.startswith(mark)}
        assert {"CHUNKING", "DSN", "LIMITS", "SIZE", "PIPELINING", "SMTPUTF8", *expected} <= offered, done.stdout
        assert len(offered & {"STARTTLS", "REQUIRETLS"}) == 1


def test_lmtp(program: Find, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Over TCP and over a Unix socket, with a reply for each recipient."""
    folder = tmp_path_factory.mktemp("lmtp")
    path = folder / "socket"
    port = free_ports(1)[0]
    with running(folder / "data", "alice", "bob", HOMING_LMTP_PORT=str(port), HOMING_LMTP_SOCKET=str(path)) as server:
        to = f"alice@{DOMAIN},nobody@{DOMAIN},bob@{DOMAIN}"
        for place in (("--server", server.host, "--port", str(port)), ("--socket", str(path))):
            done = subprocess.run(
                [program("swaks"), "--protocol", "LMTP", *place, "--helo", "client.example", "--from", "", "--to", to],
                text=True,
                capture_output=True,
                timeout=60,
            )
            assert done.stdout.count(" 250 2.0.0 Ok: stored as ") == 2, done.stdout
            assert " 550 5.1.1 " in done.stdout
        token = server.admin_token()
        until(lambda: server.rest("GET", "/api/stats", token=token)[1]["total_emails"] == 4, what="all are stored")
