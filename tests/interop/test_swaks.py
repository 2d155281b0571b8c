"""swaks, the SMTP test client that postmasters use, against every listener and sign-in."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.live import DOMAIN, PASSWORD, Live

pytestmark = pytest.mark.interop

Find = Callable[[str], str]


def swaks(find: Find, live: Live, port: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [find("swaks"), "--server", live.host, "--port", str(live.ports[port]), "--helo", "client.example", *args],
        text=True,
        capture_output=True,
        timeout=30,
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
