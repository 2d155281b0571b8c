"""A Postfix of its own, with a mail host's certificate, that asks the DNS server of a town.

Postfix asks whom /etc/resolv.conf names: it runs in a mount namespace in which that is a file of the test. Needs root.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.live import until
from tests.smtp.outbound.pki import Made
from tests.town import Town

LIBEXEC = Path("/usr/lib/postfix/sbin")
SHARE = Path("/usr/share/postfix")

MAIN_CF = """compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = {libexec}
maillog_file_prefixes = {folder}
maillog_file = {folder}/log
myhostname = {name}
mydomain = {domain}
mydestination =
inet_interfaces = 127.0.0.1
proxy_interfaces = {address}
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
biff = no
smtpd_relay_restrictions = permit_mynetworks, defer_unauth_destination
virtual_mailbox_domains = {domains}
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = static:box/
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
smtp_tcp_port = {port}
smtp_tls_security_level = dane
smtp_dns_support_level = dnssec
smtp_tls_loglevel = 1
smtp_tls_CAfile = {roots}
smtpd_tls_security_level = may
smtpd_tls_chain_files = {folder}/key.pem, {folder}/chain.pem
smtpd_tls_loglevel = 1
smtpd_tls_received_header = yes
smtputf8_enable = yes
"""


@dataclass
class Postfix:
    """address, port: where it takes mail."""

    folder: Path
    address: str
    port: int

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def delivered(self) -> list[bytes]:
        """All messages that it has put into the mailbox, with CRLF."""
        folder = self.folder / "mail" / "box" / "new"
        found = []
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            found.append(path.read_bytes().replace(b"\n", b"\r\n"))
        return found

    def waiting(self) -> str:
        """What it has not sent yet, and why."""
        done = subprocess.run(
            ["postqueue", "-c", str(self.folder / "etc"), "-j"], text=True, capture_output=True, timeout=60, check=True
        )
        return done.stdout


def usable(town: Town) -> str:
    """Why Postfix cannot be run here, "" where it can."""
    if os.geteuid() != 0:
        return "Postfix and a mount namespace need root"
    if not town.standard:
        return "Postfix asks port 53 of its resolver, which cannot be had here"
    done = subprocess.run(["unshare", "-m", "true"], capture_output=True)
    return "" if done.returncode == 0 else "there are no mount namespaces here"


@contextmanager
def postfix(town: Town, folder: Path, domains: list[str], certificate: Made, roots: Path) -> Iterator[Postfix]:
    """Running, the mail host of these domains (the first is its own); their records are made."""
    address = town.address()
    for name in ("etc", "queue", "data", "mail"):
        (folder / name).mkdir(parents=True)
    shutil.chown(folder / "data", "postfix")
    shutil.chown(folder / "mail", "nobody", "nogroup")
    owner = (folder / "mail").stat()
    chain, key = certificate.files(folder)
    chain.rename(folder / "chain.pem")
    key.rename(folder / "key.pem")
    (folder / "etc" / "main.cf").write_text(
        MAIN_CF.format(
            folder=folder,
            libexec=LIBEXEC,
            name=f"mx.{domains[0]}",
            domain=domains[0],
            domains=", ".join(domains),
            address=address,
            uid=owner.st_uid,
            gid=owner.st_gid,
            port=town.port,
            roots=roots,
        )
    )
    (folder / "etc" / "master.cf").write_text(_services(f"{address}:{town.port}"))
    # Postfix believes AD where the resolver's own options say that its way is to be trusted.
    (folder / "resolv.conf").write_text(f"nameserver {town.dns.address}\noptions trust-ad edns0 timeout:2\n")
    for domain in domains:
        town.names(domain, address)
    inside = 'mount --bind "$1" /etc/resolv.conf && exec postfix -c "$2" start-fg'
    command = ["unshare", "-m", "--propagation", "private", "sh", "-c", inside, "sh"]
    output = (folder / "output").open("wb")
    process = subprocess.Popen(
        [*command, str(folder / "resolv.conf"), str(folder / "etc")],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
    )
    here = Postfix(folder, address, town.port)
    try:
        until(lambda: _answers(process, here), 60, "Postfix answers")
        yield here
    finally:
        subprocess.run(["postfix", "-c", str(folder / "etc"), "stop"], capture_output=True, timeout=30)
        process.wait(20)
        output.close()


def _services(where: str) -> str:
    """The services as they are shipped, none of them in a chroot."""
    rows = []
    for row in (SHARE / "master.cf.dist").read_text().splitlines():
        words = row.split()
        if row[:1].isalnum() and len(words) >= 8:
            if words[:2] == ["smtp", "inet"]:
                words[0] = where
            words[4] = "n"
            row = " ".join(words)
        rows.append(row)
    return "\n".join(rows) + "\n"


def _answers(process: subprocess.Popen[bytes], here: Postfix) -> bool:
    if process.poll() is not None:
        raise AssertionError(f"Postfix ended: {(here.folder / 'output').read_text()}{here.log}")
    try:
        with socket.create_connection((here.address, here.port), 1) as connection:
            return connection.recv(4) == b"220 "
    except OSError:
        return False
