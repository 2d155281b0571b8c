"""Postfix and Dovecot as a mail provider of the test's own, on loopback: submission with STARTTLS, IMAP, IMAPS.

Dovecot checks passwords itself, and access tokens by asking the test's token server; Postfix asks Dovecot (SASL) and
delivers to it (LMTP). Both are ended by their own stop commands, which know them by their own pid files.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL

from tests.connectors.certs import Certs
from tests.live import free_ports, until

USERS = ("alice", "bob", "carol")
PASSWORD = "correct_horse"


@dataclass(frozen=True)
class Host:
    """Its ports and the authority that its certificate is from."""

    submission: int
    imap: int
    imaps: int
    ca: Path


def _reachable(folder: Path) -> None:
    """Let the servers' users walk to the folder."""
    for parent in (folder, *folder.parents):
        if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)


def _answers(port: int, greeting: bytes) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as s:
            return s.recv(len(greeting)) == greeting
    except OSError:
        return False


@contextmanager
def dovecot(
    program: str, doveadm: str, folder: Path, certs: Certs, tokeninfo: str = "", capability: str = ""
) -> Iterator[tuple[int, int]]:
    """Its IMAP and IMAPS ports; capability replaces what it offers."""
    user = pwd.getpwnam("mail")
    home = folder / "home"
    home.mkdir(parents=True)
    folder.chmod(0o755)
    _reachable(folder)
    os.chown(home, user.pw_uid, user.pw_gid)
    imap, imaps = free_ports(2)
    oauth = ""
    if tokeninfo:
        (folder / "oauth2.conf").write_text(
            f"tokeninfo_url = {tokeninfo}\nusername_attribute = email\nactive_attribute = active\n"
            f"active_value = yes\ntls_ca_cert_file = {certs.ca}\n"
        )
        oauth = f"passdb {{\n driver = oauth2\n mechanisms = xoauth2 oauthbearer\n args = {folder}/oauth2.conf\n}}\n"
    config = folder / "dovecot.conf"
    config.write_text(f"""
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = imap lmtp
listen = 127.0.0.1
ssl = required
ssl_cert = <{certs.cert}
ssl_key = <{certs.key}
auth_mechanisms = plain login {"xoauth2 oauthbearer" if tokeninfo else ""}
auth_failure_delay = 0
first_valid_uid = 1
mail_location = maildir:{home}/%n
{f"imap_capability = {capability}" if capability else ""}
namespace inbox {{
  inbox = yes
  separator = /
}}
{oauth}
passdb {{
  driver = static
  mechanisms = plain login
  args = password={PASSWORD}
}}
userdb {{
  driver = static
  args = uid={user.pw_uid} gid={user.pw_gid} home={home} allow_all_users=yes
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service lmtp {{
  unix_listener lmtp {{
    mode = 0666
  }}
}}
service auth {{
  unix_listener auth-postfix {{
    mode = 0666
  }}
}}
protocol lmtp {{
  postmaster_address = postmaster@test.example
}}
""")
    # its daemon would keep a pipe open for ever
    subprocess.run([program, "-c", str(config)], check=True, timeout=20, stdout=DEVNULL, stderr=DEVNULL)
    try:
        until(lambda: _answers(imap, b"* OK"), 60, "Dovecot's greeting")
        yield imap, imaps
    finally:
        subprocess.run([doveadm, "-c", str(config), "stop"], timeout=20, check=True)


@contextmanager
def postfix(program: str, folder: Path, certs: Certs, sasl: Path, lmtp: Path) -> Iterator[int]:
    """Its submission port."""
    etc, queue, data = (folder / name for name in ("etc", "queue", "data"))
    for path in (etc, queue, data):
        path.mkdir(parents=True)
        path.chmod(0o755)
    folder.chmod(0o755)
    _reachable(folder)
    os.chown(data, pwd.getpwnam("postfix").pw_uid, -1)
    (port,) = free_ports(1)
    (etc / "main.cf").write_text(f"""
compatibility_level = 3.6
queue_directory = {queue}
data_directory = {data}
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
myhostname = mail.test.example
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 192.0.2.1/32
alias_maps =
alias_database =
smtpd_tls_cert_file = {certs.cert}
smtpd_tls_key_file = {certs.key}
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {sasl}
smtpd_recipient_restrictions = permit_sasl_authenticated reject
message_size_limit = 20000000
virtual_mailbox_domains = test.example
virtual_mailbox_maps = texthash:{etc}/users
virtual_transport = lmtp:unix:{lmtp}
maillog_file_prefixes = {folder}
maillog_file = {folder}/log
""")
    (etc / "users").write_text("".join(f"{name}@test.example x\n" for name in USERS))
    services = [
        "cleanup unix n - n - 0 cleanup",
        "qmgr unix n - n 300 1 qmgr",
        "rewrite unix - - n - - trivial-rewrite",
    ]
    services += ["bounce unix - - n - 0 bounce", "defer unix - - n - 0 bounce", "trace unix - - n - 0 bounce"]
    services += ["tlsmgr unix - - n 1000? 1 tlsmgr", "error unix - - n - - error", "retry unix - - n - - error"]
    services += ["lmtp unix - - n - - lmtp", "anvil unix - - n - 1 anvil", "proxymap unix - - n - - proxymap"]
    services += ["postlog unix-dgram n - n - 1 postlogd", f"127.0.0.1:{port} inet n - n - - smtpd"]
    (etc / "master.cf").write_text("\n".join(services) + "\n")
    command = [program, "-c", str(etc)]
    subprocess.run([*command, "start"], check=True, timeout=60, stdout=DEVNULL, stderr=DEVNULL)
    try:
        until(lambda: _answers(port, b"220 "), 60, "Postfix's greeting")
        yield port
    finally:
        subprocess.run([*command, "stop"], check=True, timeout=60, stdout=DEVNULL, stderr=DEVNULL)


@contextmanager
def mailhost(find: dict[str, str], folder: Path, certs: Certs, tokeninfo: str) -> Iterator[Host]:
    """Both together; find has the paths of dovecot, doveadm and postfix."""
    with contextlib.ExitStack() as stack:
        home = folder / "dovecot"
        imap, imaps = stack.enter_context(dovecot(find["dovecot"], find["doveadm"], home, certs, tokeninfo))
        run = home / "run"
        port = stack.enter_context(
            postfix(find["postfix"], folder / "postfix", certs, run / "auth-postfix", run / "lmtp")
        )
        yield Host(port, imap, imaps, certs.ca)
