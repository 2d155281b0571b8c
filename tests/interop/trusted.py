"""A running server whose certificate an authority of the test has signed, for clients that check what they see."""

from __future__ import annotations

import imaplib
import os
import pwd
import smtplib
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.live import DOMAIN, PASSWORD, Live, running
from tests.smtp.outbound import pki

SECONDS = 60.0
"""How long one run of a client may take."""


@dataclass(frozen=True, slots=True)
class Trusted:
    """live: the server, with alice, bob, carol and dora. authority: the PEM file that a client is to trust."""

    live: Live
    authority: Path

    host = "localhost"
    """The name that the certificate is for."""

    @property
    def imaps(self) -> int:
        """The port with TLS from the first octet."""
        return self.live.ports["IMAPS"]

    def context(self) -> ssl.SSLContext:
        """TLS as a client should do it: the name and the authority are checked."""
        return ssl.create_default_context(cafile=str(self.authority))

    @contextmanager
    def imap(self, user: str) -> Iterator[imaplib.IMAP4_SSL]:
        """A session of imaplib's, signed in: the other side of what a client is seen to do."""
        with imaplib.IMAP4_SSL(self.host, self.imaps, ssl_context=self.context()) as imap:
            imap.login(user, PASSWORD)
            yield imap

    def deliver(self, user: str, mail: bytes) -> None:
        """Mail from elsewhere; when this returns it has been accepted, and is stored soon."""
        with smtplib.SMTP(self.host, self.live.ports["SMTP"]) as smtp:
            smtp.sendmail("x@elsewhere.example", [f"{user}@{DOMAIN}"], mail)

    def stored(self, user: str, mailbox: str = "INBOX") -> dict[bytes, frozenset[bytes]]:
        """Each message of a mailbox as it is, and its flags without \\Recent."""
        with self.imap(user) as imap:
            assert imap.select(mailbox, readonly=True)[0] == "OK"
            rows = imap.uid("FETCH", "1:*", "(FLAGS BODY.PEEK[])")[1]
        return {row[1]: frozenset(imaplib.ParseFlags(row[0])) - {b"\\Recent"} for row in rows if isinstance(row, tuple)}


@contextmanager
def trusted(folder: Path) -> Iterator[Trusted]:
    """A server in the folder, started and ended."""
    authority = pki.authority()
    chain, key = pki.server(Trusted.host, by=authority).files(folder)
    root = folder / "authority.pem"
    root.write_bytes(authority.pem)
    names = {"HOMING_TLS_CERT": str(chain), "HOMING_TLS_KEY": str(key)}
    with running(folder / "data", "alice", "bob", "carol", "dora", **names) as live:
        yield Trusted(live, root)


def ran(command: Sequence[str | Path], home: Path, *, exits: Sequence[int] = (0,), user: str | None = None) -> str:
    """Run a client whose home is this folder; what it printed, errors included. exits: the statuses that are right.
    user: as whom it runs, where not as the tests do."""
    who = {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": ()}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=home,
        env={"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=SECONDS,
        **who,
    )
    assert done.returncode in exits, f"{command[0]}: {done.returncode}\n{done.stdout}"
    return done.stdout


def maildir(folder: Path) -> list[Path]:
    """The messages of a Maildir, in the order of their names."""
    return sorted(path for part in ("cur", "new") for path in (folder / part).iterdir())


def letters(path: Path) -> str:
    """The flags of a Maildir's message."""
    return path.name.partition(":2,")[2]
