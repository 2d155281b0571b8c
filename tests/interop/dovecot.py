"""A Dovecot of the test's own: maildir, loopback, one password for all accounts; from Debian's package. It offers all
that it can be made to offer without anything beside the package."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL

from runtime.tls import make_self_signed
from tests.live import PASSWORD, free_ports, until

USES = ("Drafts", "Sent", "Trash", "Junk", "Archive")
"""Mailboxes that are for a use that goes by the name, where they are made."""
USED_FOR = """  mailbox {0} {{
    special_use = \\{0}
  }}
"""
NOBODY = "nobody"
"""The name that has no account."""
DOMAIN = "example.org"
"""Of all accounts."""


@contextmanager
def dovecot(
    program: str, doveadm: str, folder: Path, quotas: Mapping[str, int] | None = None, *, tls: bool = False
) -> Iterator[int]:
    """Its IMAP port; the process is ended by the pid in its own pid file.

    quotas: user → octets that he may use; others use what they like. tls: STARTTLS is offered. folder: not below
    pytest's own, which the next pytest that begins closes to other users: its mail is another's.
    """
    user = pwd.getpwnam("mail")
    home = folder / "home"
    for path in (folder, home):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)
    parent = folder
    while parent != parent.parent:
        if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
        parent = parent.parent
    os.chown(home, user.pw_uid, user.pw_gid)
    (port,) = free_ports(1)
    cert, key = make_self_signed(folder, ["localhost"])
    denied, limited = folder / "denied", folder / "limited"
    denied.write_text(f"{NOBODY}@{DOMAIN}:\n")
    account = f"{user.pw_uid}:{user.pw_gid}::{home}"
    limited.write_text(
        "".join(
            f"{name}@{DOMAIN}::{account}::userdb_quota_rule=*:bytes={octets}\n"
            for name, octets in (quotas or {}).items()
        )
    )
    config = folder / "dovecot.conf"
    config.write_text(f"""
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = imap
listen = 127.0.0.1
ssl = {"yes" if tls else "no"}
ssl_cert = <{cert}
ssl_key = <{key}
disable_plaintext_auth = no
auth_mechanisms = plain login scram-sha-256
auth_failure_delay = 0
auth_default_realm = {DOMAIN}
first_valid_uid = 1
mail_location = maildir:{home}/%n
mail_plugins = acl quota
plugin {{
  acl = vfile::cache_secs=0
  acl_anyone = allow
  acl_shared_dict = file:{home}/shared
  quota = count:%u
  quota_vsizes = yes
}}
mail_attribute_dict = file:{home}/%n.attributes
protocol imap {{
  imap_metadata = yes
  mail_plugins = $mail_plugins imap_acl imap_quota imap_zlib
}}
namespace inbox {{
  inbox = yes
  separator = /
{"".join(USED_FOR.format(name) for name in USES)}}}
namespace others {{
  type = shared
  prefix = Other Users/%%u/
  separator = /
  location = maildir:{home}/%%n
  subscriptions = no
  list = children
}}
passdb {{
  driver = passwd-file
  args = {denied}
  deny = yes
}}
passdb {{
  driver = static
  args = password={PASSWORD.replace(" ", "_")}
}}
userdb {{
  driver = passwd-file
  args = {limited}
}}
userdb {{
  driver = static
  args = uid={user.pw_uid} gid={user.pw_gid} home={home}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
""")
    # its daemon would keep a pipe open for ever
    subprocess.run([program, "-c", str(config)], check=True, timeout=60, stdout=DEVNULL, stderr=DEVNULL)
    try:

        def answers() -> bool:
            try:
                with socket.create_connection(("127.0.0.1", port), 1) as s:
                    return s.recv(4) == b"* OK"
            except OSError:
                return False

        until(answers, 60, "Dovecot's greeting")
        yield port
    finally:
        subprocess.run([doveadm, "-c", str(config), "stop"], timeout=60, check=True)
